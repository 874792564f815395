//! Projectors that keep files of their own beside PostgreSQL, and so need none. Writing these blocks, so each has a thread
//! of its own.

use std::{sync::Arc, time::Duration};

use souk_event_log::{EventLog, Position, ReadError};
use souk_recommendations::BookError;
use souk_search::SearchError;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{ApplyError, Progress, ProjectorState, ProjectorStatus};

const RETRY: Duration = Duration::from_secs(1);

pub(crate) trait Beside: Send + 'static {
    /// From one opening of the files to a stop, a wish to build them anew, or a failure.
    fn session(&mut self, course: &mut Course) -> impl Future<Output = Result<Ended, Failure>>;
}

/// How a session ended without a failure.
pub(crate) enum Ended {
    Stopped,
    Rebuild,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Event(ApplyError),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("the index: {0}")]
    Index(#[from] SearchError),
    #[error(transparent)]
    Book(#[from] BookError),
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        Self::Event(error)
    }
}

/// What sessions that follow each other have in common.
pub(crate) struct Course {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) progress: Arc<Progress>,
    pub(crate) stop: CancellationToken,
    /// Asked for, or interrupted before it was served.
    pub(crate) rebuild: bool,
    name: &'static str,
    generation: u32,
    served: u32,
}

impl Course {
    pub(super) fn new(log: Arc<dyn EventLog>, progress: Arc<Progress>, stop: CancellationToken) -> Self {
        let name = progress.name();
        Self { log, progress, stop, rebuild: false, name, generation: 1, served: 1 }
    }

    /// A new generation is begun, `beside` the one that is served if there is any.
    pub(crate) fn begin_anew(&mut self, beside: bool) {
        tracing::info!(name = self.name, "building anew");
        self.generation += 1;
        if !beside {
            self.served = self.generation;
        }
    }

    /// What was begun anew is served from now on.
    pub(crate) fn serve(&mut self) {
        self.served = self.generation;
        tracing::info!(name = self.name, "what was built anew is served");
    }

    /// Makes known what there is: whether it is `ready` to be asked, and up to where it is served.
    pub(crate) fn tell(&self, ready: bool, position: Option<Position>) {
        let status = |generation, served, position| ProjectorStatus {
            name: self.name.to_owned(),
            version: 1,
            generation,
            served,
            state: if served { ProjectorState::Active } else { ProjectorState::Building },
            position,
            head: None,
            lag_events: 0,
            lag_seconds: None,
            error: None,
        };
        let mut statuses = vec![status(self.served, ready, position)];
        if self.is_building() {
            statuses.push(status(self.generation, false, None));
        }
        self.progress.take_lead(statuses, true);
    }

    pub(crate) fn moved(&self, position: Option<Position>) {
        self.progress.moved(self.generation, position);
    }

    pub(crate) fn idle(&self) {
        self.progress.idle(self.generation);
    }

    fn is_building(&self) -> bool {
        self.served < self.generation
    }
}

/// Until told to stop. What fails is tried again; an event that cannot be applied waits for a rebuild.
pub(super) async fn run(mut projector: impl Beside, mut course: Course) {
    while !course.stop.is_cancelled() {
        course.rebuild = match projector.session(&mut course).await {
            Ok(Ended::Stopped) => return,
            Ok(Ended::Rebuild) => true,
            Err(Failure::Event(error)) => {
                let error = error.to_string();
                tracing::error!(name = course.name, error, "projector stopped");
                course.progress.stopped(course.generation, &error);
                tokio::select! {
                    () = course.stop.cancelled() => return,
                    () = course.progress.rebuild.notified() => true,
                }
            }
            Err(failure) => {
                tracing::warn!(name = course.name, error = %failure, "projector interrupted, trying again");
                course.progress.troubled(&failure.to_string());
                tokio::select! {
                    () = course.stop.cancelled() => return,
                    () = sleep(RETRY) => {}
                }
                course.is_building() || matches!(&failure, Failure::Book(error) if error.is_damaged())
            }
        };
    }
}
