//! How far each projector is: what tasks here tell of themselves, and what `views.projections` says of the rest.

use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;
use souk_event_log::Position;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ProjectorState {
    /// Being filled; what it replaces, if anything, is still served.
    Building,
    Active,
    /// By an event that cannot be applied: `error` says which. A restart or a rebuild tries again.
    Stopped,
}

/// One generation of a projector.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProjectorStatus {
    pub name: String,
    pub version: u32,
    pub generation: u32,
    /// Whether queries are answered from it.
    pub served: bool,
    pub state: ProjectorState,
    /// Everything up to here is applied.
    pub position: Option<Position>,
    /// The log's last event; `None` when it is empty or out of reach.
    pub head: Option<Position>,
    pub lag_events: u64,
    /// Since when there has been something to apply; `None` if the projector runs in another process.
    pub lag_seconds: Option<f64>,
    pub error: Option<String>,
}

/// The position was not reached in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the view did not reach the position in time")]
pub struct Timeout;

/// What a projector's task tells of itself.
pub(crate) struct Progress {
    pub(crate) name: &'static str,
    served: watch::Sender<Served>,
    generations: Mutex<Vec<Known>>,
    /// Somebody asked for a rebuild.
    pub(crate) rebuild: Notify,
}

#[derive(Clone, Copy, Default)]
struct Served {
    /// Whether this process is the one that writes.
    here: bool,
    position: Option<Position>,
}

#[derive(Clone)]
struct Known {
    status: ProjectorStatus,
    /// When it last had nothing left to apply.
    idle_at: Instant,
}

impl Progress {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            served: watch::Sender::new(Served::default()),
            generations: Mutex::default(),
            rebuild: Notify::new(),
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Whether this process writes the projector's tables.
    pub(crate) fn is_here(&self) -> bool {
        self.served.borrow().here
    }

    /// This process has taken the lead over what there is; `here`: it also writes what is served.
    pub(crate) fn take_lead(&self, generations: Vec<ProjectorStatus>, here: bool) {
        let position = generations.iter().find(|status| status.served).and_then(|status| status.position);
        let idle_at = Instant::now();
        *self.generations.lock() = generations.into_iter().map(|status| Known { status, idle_at }).collect();
        self.served.send_replace(Served { here, position });
        metrics::gauge!("souk_projector_stopped", "name" => self.name).set(0.0);
    }

    /// Another process has the lead.
    pub(crate) fn wait(&self) {
        self.take_lead(Vec::new(), false);
    }

    /// This process has stopped writing; others may.
    pub(crate) fn leave(&self) {
        self.served.send_modify(|served| served.here = false);
    }

    pub(crate) fn moved(&self, generation: u32, position: Option<Position>) {
        let served = self.change(generation, |known| known.status.position = position);
        if served {
            self.served.send_if_modified(|served| {
                let moved = served.position != position;
                served.position = position;
                moved
            });
        }
    }

    pub(crate) fn idle(&self, generation: u32) {
        self.change(generation, |known| known.idle_at = Instant::now());
    }

    pub(crate) fn stopped(&self, generation: u32, error: &str) {
        self.change(generation, |known| {
            known.status.state = ProjectorState::Stopped;
            known.status.error = Some(error.to_owned());
        });
        metrics::gauge!("souk_projector_stopped", "name" => self.name).set(1.0);
    }

    /// Why nothing moves at present, for as long as that lasts.
    pub(crate) fn troubled(&self, error: &str) {
        for known in &mut *self.generations.lock() {
            if known.status.state != ProjectorState::Stopped {
                known.status.error = Some(error.to_owned());
            }
        }
    }

    fn change(&self, generation: u32, change: impl FnOnce(&mut Known)) -> bool {
        let mut generations = self.generations.lock();
        let Some(known) = generations.iter_mut().find(|known| known.status.generation == generation) else {
            return false;
        };
        change(known);
        known.status.served
    }

    pub(crate) fn statuses(&self, head: Option<Position>) -> Vec<ProjectorStatus> {
        let known = self.generations.lock().clone();
        known
            .into_iter()
            .map(|Known { mut status, idle_at }| {
                status.measure(head);
                let behind = if status.lag_events == 0 { Duration::ZERO } else { idle_at.elapsed() };
                status.lag_seconds = Some(behind.as_secs_f64());
                status
            })
            .collect()
    }

    /// Returns when the position is reached (true) or this process no longer writes (false).
    pub(crate) async fn reached(&self, position: Position) -> bool {
        let mut served = self.served.subscribe();
        let reached = served.wait_for(|served| !served.here || served.position >= Some(position)).await;
        reached.is_ok_and(|served| served.position >= Some(position))
    }
}

impl ProjectorStatus {
    pub(crate) fn measure(&mut self, head: Option<Position>) {
        self.head = head;
        // Counts of events, so `None` is 0.
        let count = |position: Option<Position>| position.map_or(0, |position| position + 1);
        self.lag_events = count(head).saturating_sub(count(self.position));
    }
}
