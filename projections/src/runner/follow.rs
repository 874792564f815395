//! Follows the log for one generation of one projector: rows and checkpoint in one transaction, batch by batch.

use std::{sync::Arc, time::Duration};

use souk_event_log::{EventLog, Position, ReadError, Recorded};
use sqlx::{Connection, PgConnection};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    ApplyError, EventError, Projector,
    batch::{Batch, Batches},
    generation::Generation,
    projector::is_transient,
    status::Progress,
};

/// How often the checkpoint is written at most while no event matters to the projector.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// How long a generation that is ready waits for something to happen before it tries to take over again.
const TAKE_OVER_EVERY: Duration = Duration::from_millis(250);
const REPORT_EVERY: Duration = Duration::from_secs(5);

/// Why following ended before it was told to. Worth another try.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("PostgreSQL: {0}")]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("another writer has moved the checkpoint, or another generation has taken over")]
    Displaced,
}

pub(super) struct Follower<'a> {
    pub(super) log: &'a dyn EventLog,
    pub(super) projector: &'a dyn Projector,
    pub(super) progress: &'a Progress,
    pub(super) connection: &'a mut PgConnection,
    /// Its position is that of the last checkpoint written.
    pub(super) generation: Generation,
    /// Otherwise it is being built, and takes over when it has caught up.
    pub(super) served: bool,
}

enum Applied {
    Yes,
    /// An event stands in the way; said so everywhere it should be.
    Stopped,
}

impl Follower<'_> {
    /// Returns when `round` is over or the generation has taken over.
    pub(super) async fn follow(mut self, round: &CancellationToken) -> Result<(), Failure> {
        self.generation.select(self.connection).await?;
        let mut batches = self.subscribe(self.generation.position).await?;
        let mut seen = self.generation.position;
        let mut report = Report::new();
        let mut analyzed = false;
        // When to act although nothing happens.
        let mut wake: Option<Instant> = None;
        loop {
            let batch = tokio::select! {
                biased;
                () = round.cancelled() => {
                    return if self.served { self.write_checkpoint(seen).await } else { Ok(()) };
                }
                batch = batches.next() => batch?,
                () = at(wake) => {
                    wake = None;
                    if self.served {
                        self.write_checkpoint(seen).await?;
                        continue;
                    }
                    // Ready, but behind what is served: a new subscription says where the log ends now.
                    batches = self.subscribe(seen).await?;
                    continue;
                }
            };
            if let Applied::Stopped = self.apply(&batch).await? {
                round.cancelled().await;
                return Ok(());
            }
            seen = seen.max(batch.position);
            self.progress.moved(self.generation.number as u32, seen);
            if batch.live {
                self.progress.idle(self.generation.number as u32);
            }
            if self.served {
                wake = (seen != self.generation.position)
                    .then(|| wake.unwrap_or_else(|| Instant::now() + CHECKPOINT_EVERY));
                continue;
            }
            if batch.live {
                if !std::mem::replace(&mut analyzed, true) {
                    self.generation.analyze(self.connection).await?;
                }
                if self.generation.take_over(self.connection, seen, self.log).await? {
                    return Ok(());
                }
                wake = Some(Instant::now() + TAKE_OVER_EVERY);
            } else {
                report.progress(&self, seen).await;
            }
        }
    }

    async fn subscribe(&self, after: Option<Position>) -> Result<Batches, ReadError> {
        Batches::begin(self.log, after, self.projector.filter(), self.projector.pace()).await
    }

    async fn apply(&mut self, batch: &Batch) -> Result<Applied, Failure> {
        if batch.events.is_empty() {
            return Ok(Applied::Yes);
        }
        let started = Instant::now();
        let Err(error) = self.commit(&batch.events, batch.position).await? else {
            let name = self.projector.name();
            metrics::histogram!("souk_projector_batch_events", "name" => name)
                .record(batch.events.len() as f64);
            metrics::histogram!("souk_projector_apply_seconds", "name" => name).record(started.elapsed());
            return Ok(Applied::Yes);
        };
        tracing::debug!(name = self.projector.name(), %error, "a batch was not applied, trying its events one by one");
        for event in &batch.events {
            if let Err(error) = self.commit(std::slice::from_ref(event), Some(event.position)).await? {
                let error = match error {
                    ApplyError::Event(error) => error,
                    ApplyError::Database(error) => EventError::new(event, error),
                };
                self.stop(&error.to_string()).await?;
                return Ok(Applied::Stopped);
            }
            self.progress.moved(self.generation.number as u32, Some(event.position));
        }
        Ok(Applied::Yes)
    }

    /// Writes rows and checkpoint together. The inner error is the events' own fault; then nothing was written.
    async fn commit(
        &mut self,
        events: &[Arc<Recorded>],
        position: Option<Position>,
    ) -> Result<Result<(), ApplyError>, Failure> {
        let mut transaction = self.connection.begin().await?;
        match self.projector.apply(&mut transaction, events).await {
            Ok(()) => {}
            Err(ApplyError::Database(error)) if is_transient(&error) => return Err(error.into()),
            Err(error) => {
                transaction.rollback().await?;
                return Ok(Err(error));
            }
        }
        if !self.generation.checkpoint(&mut transaction, position).await? {
            return Err(Failure::Displaced);
        }
        transaction.commit().await?;
        self.generation.position = position;
        Ok(Ok(()))
    }

    /// Moves the checkpoint over events that do not matter here.
    async fn write_checkpoint(&mut self, position: Option<Position>) -> Result<(), Failure> {
        if position != self.generation.position {
            if !self.generation.checkpoint(self.connection, position).await? {
                return Err(Failure::Displaced);
            }
            self.generation.position = position;
        }
        Ok(())
    }

    async fn stop(&mut self, error: &str) -> Result<(), Failure> {
        let Generation { name, number, version, .. } = self.generation;
        tracing::error!(name, version, generation = number, error, "projector stopped");
        self.progress.stopped(number as u32, error);
        self.generation.mark_stopped(self.connection, error).await?;
        Ok(())
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Says now and then how far a build is.
struct Report {
    next: Instant,
}

impl Report {
    fn new() -> Self {
        Self { next: Instant::now() + REPORT_EVERY }
    }

    async fn progress(&mut self, follower: &Follower<'_>, position: Option<Position>) {
        if Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + REPORT_EVERY;
        let head = follower.log.head().await.ok().flatten().unwrap_or(0);
        let position = position.unwrap_or(0);
        let percent = (position * 100).checked_div(head).unwrap_or(100);
        tracing::info!(name = follower.projector.name(), position, head, "building the view: {percent} %");
    }
}
