//! Keeps one projector going: takes its lock, decides which generations to follow, and starts over when PostgreSQL or
//! the log was away.

use std::{sync::Arc, time::Duration};

use souk_event_log::EventLog;
use sqlx::{PgConnection, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    Projector,
    follow::{Failure, Follower},
    generation::{self, Generation, Inventory, LOCK_POLL},
    status::{Progress, ProjectorState, ProjectorStatus},
};

/// How often a program that is older than what is served looks whether that is still so.
const SUPERSEDED_POLL: Duration = Duration::from_secs(5);

pub(super) struct Supervisor {
    pub(super) log: Arc<dyn EventLog>,
    pub(super) database: PgConnectOptions,
    pub(super) projector: Arc<dyn Projector>,
    pub(super) progress: Arc<Progress>,
    pub(super) stop: CancellationToken,
}

impl Supervisor {
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let result = self.lead().await;
            self.progress.leave();
            let Err(failure) = result else { return };
            let name = self.projector.name();
            if let Failure::Displaced = failure {
                tracing::info!(name, "{failure}");
            } else {
                tracing::warn!(name, error = %failure, "projector interrupted, trying again");
                self.progress.troubled(&failure.to_string());
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(backoff.next(began.elapsed())) => {}
            }
        }
    }

    async fn lead(&self) -> Result<(), Failure> {
        let mut connection = generation::connect(&self.database).await?;
        generation::prepare(&mut connection).await?;
        while !generation::try_lock(&mut connection, &*self.projector).await? {
            // Another process writes; what it says of itself is in the table.
            self.progress.wait();
            tokio::select! {
                () = self.stop.cancelled() => return Ok(()),
                () = sleep(LOCK_POLL) => {}
            }
        }
        while !self.stop.is_cancelled() {
            let Inventory { served, building, rebuild_requested } =
                generation::take_stock(&mut connection, &*self.projector).await?;
            let version = self.projector.version();
            // The log is the truth: a view that knows more was made from a log that is gone, and counts for nothing.
            let head = self.log.head().await?;
            let ahead = |generation: &Generation| generation.position > head;
            let outdated = served.as_ref().is_none_or(|served| served.version < version || ahead(served));
            let building = building.filter(|building| !rebuild_requested && !ahead(building));
            let building = if rebuild_requested || (outdated && building.is_none()) {
                let begun = generation::begin(&mut connection, &*self.projector).await?;
                tracing::info!(name = begun.name, version, generation = begun.number, "building a view");
                Some(begun)
            } else {
                building
            };
            // Only the program of that version knows how to write it.
            let follow =
                served.as_ref().filter(|served| served.version == version && !ahead(served)).cloned();
            self.tell(served.as_ref(), building.as_ref(), follow.is_some());
            if follow.is_none() && building.is_none() {
                tracing::warn!(
                    name = self.projector.name(),
                    "a newer version of this view is served; waiting"
                );
            }
            let served = follow;
            self.round(&mut connection, served, building).await?;
        }
        Ok(())
    }

    /// Follows the log until something changes: a take-over, a request for a rebuild, the end.
    async fn round(
        &self,
        connection: &mut PgConnection,
        served: Option<Generation>,
        building: Option<Generation>,
    ) -> Result<(), Failure> {
        let round = self.stop.child_token();
        let idle = served.is_none() && building.is_none();
        let end = async {
            tokio::select! {
                () = round.cancelled() => {}
                () = self.progress.rebuild.notified() => {}
                () = sleep(SUPERSEDED_POLL), if idle => {}
            }
            round.cancel();
        };
        let follow_served = async {
            let Some(generation) = served else { return Ok(()) };
            let result = self.follower(connection, generation, true).follow(&round).await;
            round.cancel();
            result
        };
        let follow_building = async {
            let Some(generation) = building else { return Ok(()) };
            let result = self.build(generation, &round).await;
            round.cancel();
            result
        };
        let (served, building, ()) = tokio::join!(follow_served, follow_building, end);
        // Being replaced by what was built here is what was meant to happen.
        match (served, building) {
            (Err(Failure::Displaced), Ok(())) => Ok(()),
            (served, building) => served.and(building),
        }
    }

    async fn build(&self, generation: Generation, round: &CancellationToken) -> Result<(), Failure> {
        let mut connection = generation::connect(&self.database).await?;
        self.follower(&mut connection, generation, false).follow(round).await
    }

    fn follower<'a>(
        &'a self,
        connection: &'a mut PgConnection,
        generation: Generation,
        served: bool,
    ) -> Follower<'a> {
        Follower {
            log: &*self.log,
            projector: &*self.projector,
            progress: &self.progress,
            connection,
            generation,
            served,
        }
    }

    /// Makes known what there is.
    fn tell(&self, served: Option<&Generation>, building: Option<&Generation>, here: bool) {
        let mut statuses = Vec::new();
        for (generation, is_served) in [(served, true), (building, false)] {
            let Some(generation) = generation else { continue };
            statuses.push(ProjectorStatus {
                name: generation.name.to_owned(),
                version: generation.version,
                generation: generation.number as u32,
                served: is_served,
                state: if is_served { ProjectorState::Active } else { ProjectorState::Building },
                position: generation.position,
                head: None,
                lag_events: 0,
                lag_seconds: None,
                error: None,
            });
        }
        self.progress.take_lead(statuses, here);
    }
}

/// Waits longer each time, up to a few seconds, and starts small again after things went well for a while.
#[derive(Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    fn next(&mut self, went_well: Duration) -> Duration {
        self.failures = if went_well > Duration::from_secs(10) { 0 } else { (self.failures + 1).min(6) };
        Duration::from_millis(50) * 2_u32.pow(self.failures)
    }
}
