//! The state of one stream in memory, and how it is brought up to date.

use std::collections::{HashMap, VecDeque};

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use souk_domain::{Decider, DomainEvent, UnreadableEvent};
use souk_event_log::{Direction, EventLog, Position, ReadError, Recorded, Revision, StreamName};
use uuid::Uuid;

/// Latest commands remembered per stream; a command is repeated within seconds, not after a thousand others.
const COMMANDS_KEPT: usize = 1_000;

#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error(transparent)]
    Unreadable(#[from] UnreadableEvent),
}

/// A command that was carried out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    pub(crate) revision: Revision,
    pub(crate) position: Position,
    pub(crate) fingerprint: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Commands {
    known: HashMap<Uuid, Known>,
    oldest_first: VecDeque<Uuid>,
}

impl Commands {
    pub(crate) fn get(&self, id: Uuid) -> Option<&Known> {
        self.known.get(&id)
    }

    pub(crate) fn remember(&mut self, id: Uuid, known: Known) {
        if self.known.insert(id, known).is_none() {
            self.oldest_first.push_back(id);
        }
        if self.oldest_first.len() > COMMANDS_KEPT
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Where a stream's last event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) revision: Revision,
    pub(crate) position: Position,
    pub(crate) event_id: Uuid,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Loaded<S> {
    pub(crate) state: S,
    /// `None`: no event yet.
    pub(crate) head: Option<Head>,
    pub(crate) commands: Commands,
}

impl<S: Default> Default for Loaded<S> {
    fn default() -> Self {
        Self { state: S::default(), head: None, commands: Commands::default() }
    }
}

impl<S: Default> Loaded<S> {
    pub(crate) fn revision(&self) -> Option<Revision> {
        self.head.map(|head| head.revision)
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.head.map(|head| head.position)
    }

    /// Reads what the stream has beyond this state.
    pub(crate) async fn catch_up<D: Decider<State = S>>(
        &mut self,
        log: &dyn EventLog,
        stream: &StreamName,
    ) -> Result<(), LoadError> {
        let from = self.revision().map_or(0, |revision| revision + 1);
        let mut events = log.read_stream(stream, from, Direction::Forward, usize::MAX);
        while let Some(recorded) = events.next().await {
            self.apply::<D>(&*recorded?)?;
        }
        Ok(())
    }

    fn apply<D: Decider<State = S>>(&mut self, recorded: &Recorded) -> Result<(), LoadError> {
        let metadata = recorded.metadata();
        let event =
            D::Event::from_json(&recorded.event_type, metadata.schema_version.max(1), &recorded.data)?;
        self.evolve::<D>(&event);
        let head = Head { revision: recorded.revision, position: recorded.position, event_id: recorded.id };
        self.head = Some(head);
        if let Some(id) = metadata.command_id {
            let known = Known {
                revision: head.revision,
                position: head.position,
                fingerprint: metadata.fingerprint.clone(),
            };
            self.commands.remember(id, known);
        }
        Ok(())
    }

    pub(crate) fn evolve<D: Decider<State = S>>(&mut self, event: &D::Event) {
        self.state = D::evolve(std::mem::take(&mut self.state), event);
    }
}
