//! Runs commands. Each live stream has a mailbox: commands for it are decided one after another on the state in
//! memory and appended together, so that one fsync acknowledges many.
//!
//! Relies on the log's exact expected revision for correctness, and on nothing else: a mailbox may be evicted, exist
//! twice, or find that another process has written. It then reads what is missing and decides again.

mod context;
mod loaded;
mod mailbox;
mod snapshots;

use std::{num::NonZeroUsize, sync::Arc, time::Instant};

use lru::LruCache;
use metrics::{Histogram, histogram};
use parking_lot::Mutex;
use souk_domain::Decider;
use souk_event_log::{EventLog, Position, ReadError, Revision, StreamName};

pub(crate) use self::mailbox::Freshness;
pub use self::{
    context::Context,
    snapshots::{SnapshotError, Snapshots},
};
use self::{loaded::LoadError, mailbox::Mailbox};
use crate::clock::Clock;

/// What came of a command.
#[derive(Clone, Debug)]
pub struct Done<E> {
    /// What was appended; empty if there was nothing to change, or if the command was carried out before.
    pub events: Vec<E>,
    /// The command was carried out before: by a request that was sent twice, or by this one, if it was left unknown for a
    /// while whether its events were written.
    pub repeated: bool,
    /// Of the last event that the command led to, or of the stream's last event if it led to none.
    pub revision: Option<Revision>,
    pub position: Option<Position>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ExecuteError<R> {
    #[error(transparent)]
    Refused(R),
    /// The stream is not at the revision that the caller expected.
    #[error("the resource has changed since: it is at revision {actual:?}")]
    Stale { actual: Option<Revision> },
    #[error("this command id was used for another command")]
    KeyReused,
    #[error("{0}")]
    Unavailable(String),
    /// An event that this program cannot read.
    #[error("{0}")]
    Unreadable(String),
}

impl<R> ExecuteError<R> {
    /// The same failure for a caller who maps refusals to his own.
    pub fn map_refused<S>(self, map: impl FnOnce(R) -> S) -> ExecuteError<S> {
        match self {
            Self::Refused(refusal) => ExecuteError::Refused(map(refusal)),
            Self::Stale { actual } => ExecuteError::Stale { actual },
            Self::KeyReused => ExecuteError::KeyReused,
            Self::Unavailable(message) => ExecuteError::Unavailable(message),
            Self::Unreadable(message) => ExecuteError::Unreadable(message),
        }
    }
}

impl<R> From<LoadError> for ExecuteError<R> {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Log(error) => Self::Unavailable(error.to_string()),
            LoadError::Unreadable(error) => Self::Unreadable(error.to_string()),
        }
    }
}

/// A value read from a stream's state, as of the stream's head at the time of asking.
#[derive(Clone, Debug)]
pub struct Fresh<R> {
    pub value: R,
    /// `None` of a stream that does not exist.
    pub revision: Option<Revision>,
    pub position: Option<Position>,
}

/// What all mailboxes share.
pub(crate) struct Shared {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) clock: Clock,
    pub(crate) snapshots: Option<Snapshots>,
}

/// The streams of one category.
pub struct Category<D: Decider> {
    shared: Arc<Shared>,
    meters: Meters,
    mailboxes: Mutex<LruCache<D::Id, Arc<Mailbox<D>>>>,
}

/// Looked up once, since every command is measured.
struct Meters {
    batch: Histogram,
    done: Histogram,
    nothing: Histogram,
    refused: Histogram,
    failed: Histogram,
}

impl Meters {
    fn of(category: &'static str) -> Self {
        let seconds = |outcome: &'static str| histogram!("souk_command_seconds", "category" => category, "outcome" => outcome);
        Self {
            batch: histogram!("souk_mailbox_batch_commands", "category" => category),
            done: seconds("done"),
            nothing: seconds("nothing"),
            refused: seconds("refused"),
            failed: seconds("failed"),
        }
    }
}

impl<D: Decider> Category<D> {
    /// Keeps the state of at most `live` streams in memory: the latest, since most streams are busy for a moment and then
    /// never again.
    pub(crate) fn new(shared: Arc<Shared>, live: NonZeroUsize) -> Self {
        Self { shared, meters: Meters::of(D::CATEGORY), mailboxes: Mutex::new(LruCache::new(live)) }
    }

    pub fn stream(id: D::Id) -> StreamName {
        StreamName::new(D::CATEGORY, id)
    }

    fn mailbox(&self, id: D::Id) -> Arc<Mailbox<D>> {
        let make =
            || Arc::new(Mailbox::new(Self::stream(id), Arc::clone(&self.shared), self.meters.batch.clone()));
        Arc::clone(self.mailboxes.lock().get_or_insert(id, make))
    }

    pub async fn execute(
        &self,
        id: D::Id,
        command: D::Command,
        context: &Context,
    ) -> Result<Done<D::Event>, ExecuteError<D::Error>> {
        self.execute_at(id, None, command, context).await
    }

    /// As [`Self::execute`], if the stream is at the given revision; [`ExecuteError::Stale`] otherwise.
    pub async fn execute_at(
        &self,
        id: D::Id,
        expected: Option<Revision>,
        command: D::Command,
        context: &Context,
    ) -> Result<Done<D::Event>, ExecuteError<D::Error>> {
        let started = Instant::now();
        let result = self.mailbox(id).execute(command, context.clone(), expected).await;
        let meters = &self.meters;
        let meter = match &result {
            Ok(done) if done.events.is_empty() => &meters.nothing,
            Ok(_) => &meters.done,
            Err(ExecuteError::Refused(_) | ExecuteError::Stale { .. } | ExecuteError::KeyReused) => {
                &meters.refused
            }
            Err(ExecuteError::Unavailable(_) | ExecuteError::Unreadable(_)) => &meters.failed,
        };
        meter.record(started.elapsed());
        result
    }

    /// Whether the command was carried out before. Refuses a command id that was used on this stream for a request with
    /// another body.
    pub async fn recall(&self, id: D::Id, context: &Context) -> Result<bool, ExecuteError<D::Error>> {
        self.mailbox(id).recall(context).await
    }

    /// Looks at the state as it is now, in whichever process it was changed last.
    pub async fn read<R>(
        &self,
        id: D::Id,
        view: impl FnOnce(&D::State) -> R,
    ) -> Result<Fresh<R>, ReadFailure> {
        self.look(id, Freshness::Confirmed, view).await
    }

    /// Looks at the state as this process has seen it last, at least as new as its own commands: enough to decide what
    /// to send next, since a command that follows finds out if it was late.
    pub async fn seen<R>(
        &self,
        id: D::Id,
        view: impl FnOnce(&D::State) -> R,
    ) -> Result<Fresh<R>, ReadFailure> {
        self.look(id, Freshness::AsSeen, view).await
    }

    pub(crate) async fn look<R>(
        &self,
        id: D::Id,
        freshness: Freshness,
        view: impl FnOnce(&D::State) -> R,
    ) -> Result<Fresh<R>, ReadFailure> {
        Ok(self.mailbox(id).read(freshness, view).await?)
    }
}

/// Why a state could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailure {
    #[error("{0}")]
    Unavailable(String),
    /// An event that this program cannot read.
    #[error("{0}")]
    Unreadable(String),
}

impl From<LoadError> for ReadFailure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Log(error) => error.into(),
            LoadError::Unreadable(error) => Self::Unreadable(error.to_string()),
        }
    }
}

impl From<ReadError> for ReadFailure {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl<R> From<ReadFailure> for ExecuteError<R> {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Unavailable(message) => Self::Unavailable(message),
            ReadFailure::Unreadable(message) => Self::Unreadable(message),
        }
    }
}
