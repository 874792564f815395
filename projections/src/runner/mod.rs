//! The runner: one task per projector, each on a connection of its own, from the event log to PostgreSQL.
//!
//! - [`projector`]: what a read model brings along;
//! - [`beside`]: projectors that keep files of their own instead;
//! - [`batch`]: events gathered from a subscription;
//! - [`follow`]: rows and checkpoint in one transaction; an event that cannot be applied stops that projector alone;
//! - [`generation`]: the tables of a version, built beside the old ones and swapped when caught up;
//! - [`supervise`]: locks, rebuilds, and starting over after PostgreSQL or the log was away;
//! - [`status`]: how far each projector is.

mod batch;
mod beside;
mod follow;
mod generation;
mod projector;
mod status;
mod supervise;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use souk_event_log::{EventLog, Position};
use sqlx::{
    PgPool, Row,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use batch::Batches;
pub use batch::Pace;
pub(crate) use beside::{Beside, Course, Ended, Failure};
pub(crate) use projector::EventError;
pub use projector::{ApplyError, Projector};
pub(crate) use status::Progress;
pub use status::{ProjectorState, ProjectorStatus, Timeout};

use crate::{QueryError, recommendations::RecommendationsProjector, search::SearchProjector};
use supervise::Supervisor;

/// The projectors that keep files of their own beside PostgreSQL.
pub const BESIDE: [&str; 2] = [SearchProjector::NAME, RecommendationsProjector::NAME];

/// How often requests for rebuilds are looked for, and metrics set.
const CONTROL_EVERY: Duration = Duration::from_millis(500);
/// How often the table is asked for a projector that runs in another process.
const POLL_EVERY: Duration = Duration::from_millis(25);
/// How long a status waits for the log and PostgreSQL before it tells what is known here.
const STATUS_PATIENCE: Duration = Duration::from_secs(1);

/// The projectors that run in this process, and what is known of the others. Clones are the same; when the last one is
/// dropped the projectors end, [`Projections::shutdown`] also waits for that.
#[derive(Clone)]
pub struct Projections(Arc<Inner>);

struct Inner {
    log: Arc<dyn EventLog>,
    pool: PgPool,
    here: BTreeMap<&'static str, Arc<Progress>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("there is no projector {0:?}")]
    Unknown(String),
    #[error("the rebuild stopped: {0}")]
    Stopped(String),
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl Projections {
    /// Starts these projectors; none is fine for a process that only asks. PostgreSQL need not be there yet. Needs a
    /// tokio runtime.
    pub fn start(
        log: Arc<dyn EventLog>,
        database: PgConnectOptions,
        projectors: Vec<Arc<dyn Projector>>,
        search: Option<SearchProjector>,
        recommendations: Option<RecommendationsProjector>,
    ) -> Self {
        let pool = PgPoolOptions::new().max_connections(2).connect_lazy_with(database.clone());
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let mut here = BTreeMap::new();
        for projector in projectors {
            let progress = Arc::new(Progress::new(projector.name()));
            here.insert(projector.name(), Arc::clone(&progress));
            let supervisor = Supervisor {
                log: Arc::clone(&log),
                database: database.clone(),
                projector,
                progress,
                stop: stop.clone(),
            };
            tasks.spawn(supervisor.run());
        }
        if let Some(search) = search {
            let (progress, writing) = beside(SearchProjector::NAME, search, &log, &stop);
            here.insert(SearchProjector::NAME, progress);
            tasks.spawn_blocking(writing);
        }
        if let Some(recommendations) = recommendations {
            let (progress, writing) = beside(RecommendationsProjector::NAME, recommendations, &log, &stop);
            here.insert(RecommendationsProjector::NAME, progress);
            tasks.spawn_blocking(writing);
        }
        let control =
            Control { log: Arc::clone(&log), pool: pool.clone(), here: here.clone(), stop: stop.clone() };
        tasks.spawn(control.run());
        tasks.close();
        Self(Arc::new(Inner { log, pool, here, stop, tasks }))
    }

    /// Every generation of every projector, of this process and others. Without PostgreSQL: those of this process.
    pub async fn status(&self) -> Vec<ProjectorStatus> {
        let deadline = Instant::now() + STATUS_PATIENCE;
        let head = timeout_at(deadline, self.0.log.head()).await.ok().and_then(Result::ok).flatten();
        let mut statuses = match timeout_at(deadline, written(&self.0.pool)).await {
            Ok(Ok(statuses)) => statuses,
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        for status in &mut statuses {
            status.measure(head);
        }
        for (name, progress) in &self.0.here {
            let here = progress.statuses(head);
            if !here.is_empty() {
                statuses.retain(|status| status.name != *name);
                statuses.extend(here);
            }
        }
        statuses.sort_by(|a, b| (&a.name, a.generation).cmp(&(&b.name, b.generation)));
        statuses
    }

    /// Waits until what is served of a projector holds everything up to the position.
    pub async fn wait_for(&self, name: &str, position: Position, patience: Duration) -> Result<(), Timeout> {
        let deadline = Instant::now() + patience;
        let reached = async {
            loop {
                if let Some(progress) = self.0.here.get(name).filter(|progress| progress.is_here()) {
                    if progress.reached(position).await {
                        return;
                    }
                    continue;
                }
                if matches!(served_position(&self.0.pool, name).await, Ok(at) if at >= Some(position)) {
                    return;
                }
                sleep(POLL_EVERY).await;
            }
        };
        timeout_at(deadline, reached).await.map_err(|_| Timeout)
    }

    /// Waits until every projector of this process is served, here or elsewhere, or has stopped.
    pub async fn ready(&self, patience: Duration) -> Result<(), Timeout> {
        let deadline = Instant::now() + patience;
        let ready = async {
            loop {
                let statuses = self.status().await;
                let mut names = self.0.here.keys();
                if names.all(|name| statuses.iter().any(|status| status.name == *name && status.is_settled()))
                {
                    return;
                }
                sleep(POLL_EVERY).await;
            }
        };
        timeout_at(deadline, ready).await.map_err(|_| Timeout)
    }

    /// Asks for a projector to be built again from the first event, beside what is served. Whichever process runs it
    /// does so.
    pub async fn rebuild(&self, name: &str) -> Result<(), RebuildError> {
        let known = self.0.here.contains_key(name)
            || BESIDE.contains(&name)
            || self.status().await.iter().any(|status| status.name == name);
        if !known {
            return Err(RebuildError::Unknown(name.to_owned()));
        }
        if BESIDE.contains(&name) && self.0.here.contains_key(name) {
            // It is here, and needs no PostgreSQL.
        } else {
            sqlx::query("INSERT INTO views.rebuild_requests (name) VALUES ($1) ON CONFLICT DO NOTHING")
                .bind(name)
                .execute(&self.0.pool)
                .await
                .map_err(QueryError::from)?;
        }
        if let Some(progress) = self.0.here.get(name) {
            progress.rebuild.notify_one();
        }
        Ok(())
    }

    /// As [`Projections::rebuild`], and waits until the new generation is served; `progress` is told now and then.
    pub async fn rebuild_and_wait(
        &self,
        name: &str,
        mut progress: impl FnMut(&ProjectorStatus),
    ) -> Result<(), RebuildError> {
        let newest = |statuses: &[ProjectorStatus]| {
            statuses.iter().filter(|status| status.name == name).map(|status| status.generation).max()
        };
        let before = newest(&self.status().await);
        self.rebuild(name).await?;
        loop {
            let statuses = self.status().await;
            let new = statuses.iter().find(|status| status.name == name && Some(status.generation) > before);
            if let Some(status) = new {
                progress(status);
                match status.state {
                    ProjectorState::Active if status.served => return Ok(()),
                    ProjectorState::Stopped => {
                        return Err(RebuildError::Stopped(status.error.clone().unwrap_or_default()));
                    }
                    ProjectorState::Active | ProjectorState::Building => {}
                }
            }
            sleep(POLL_EVERY * 4).await;
        }
    }

    /// Lets every projector finish its batch and write its checkpoint, and waits for that.
    pub async fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.tasks.wait().await;
        self.0.pool.close().await;
    }
}

/// What it is to be known by, and what its thread does.
fn beside(
    name: &'static str,
    projector: impl Beside,
    log: &Arc<dyn EventLog>,
    stop: &CancellationToken,
) -> (Arc<Progress>, impl FnOnce() + Send + 'static) {
    let progress = Arc::new(Progress::new(name));
    let course = Course::new(Arc::clone(log), Arc::clone(&progress), stop.clone());
    let runtime = tokio::runtime::Handle::current();
    (progress, move || runtime.block_on(beside::run(projector, course)))
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl ProjectorStatus {
    fn is_settled(&self) -> bool {
        self.served || self.state == ProjectorState::Stopped
    }
}

/// What `views.projections` says.
async fn written(pool: &PgPool) -> Result<Vec<ProjectorStatus>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT name, generation, version, served, state, position, error FROM views.projections",
    )
    .fetch_all(pool)
    .await?;
    let read = |row: &sqlx::postgres::PgRow| {
        Ok(ProjectorStatus {
            name: row.try_get("name")?,
            version: row.try_get::<i32, _>("version")? as u32,
            generation: row.try_get::<i32, _>("generation")? as u32,
            served: row.try_get("served")?,
            state: match row.try_get("state")? {
                "building" => ProjectorState::Building,
                "stopped" => ProjectorState::Stopped,
                _ => ProjectorState::Active,
            },
            position: row.try_get::<Option<i64>, _>("position")?.map(|position| position as Position),
            head: None,
            lag_events: 0,
            lag_seconds: None,
            error: row.try_get("error")?,
        })
    };
    rows.iter().map(read).collect()
}

async fn served_position(pool: &PgPool, name: &str) -> Result<Option<Position>, sqlx::Error> {
    let position: Option<Option<i64>> =
        sqlx::query_scalar("SELECT position FROM views.projections WHERE name = $1 AND served")
            .bind(name)
            .fetch_optional(pool)
            .await?;
    Ok(position.flatten().map(|position| position as Position))
}

/// Looks for what other processes ask for, and keeps the metrics that need the log's head.
struct Control {
    log: Arc<dyn EventLog>,
    pool: PgPool,
    here: BTreeMap<&'static str, Arc<Progress>>,
    stop: CancellationToken,
}

impl Control {
    async fn run(self) {
        loop {
            self.measure().await;
            if let Err(error) = self.pass_requests_on().await {
                tracing::debug!(%error, "requests for rebuilds cannot be read");
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(CONTROL_EVERY) => {}
            }
        }
    }

    async fn measure(&self) {
        let Ok(head) = self.log.head().await else { return };
        for (name, progress) in &self.here {
            let statuses = progress.statuses(head);
            if statuses.is_empty() {
                // Another process writes this view, or none does yet.
                continue;
            }
            // A view that is not served yet has everything before it.
            let served = statuses.iter().find(|status| status.served);
            let position = served.and_then(|status| status.position).map_or(-1.0, |position| position as f64);
            let everything = head.map_or(0, |head| head + 1);
            let lag = served.map_or(everything, |status| status.lag_events) as f64;
            metrics::gauge!("souk_projector_position", "name" => *name).set(position);
            metrics::gauge!("souk_projector_lag_events", "name" => *name).set(lag);
        }
    }

    async fn pass_requests_on(&self) -> Result<(), sqlx::Error> {
        let names: Vec<String> =
            sqlx::query_scalar("SELECT name FROM views.rebuild_requests").fetch_all(&self.pool).await?;
        for name in names {
            let Some(progress) = self.here.get(&*name) else { continue };
            if BESIDE.contains(&&*name) {
                // The others delete their request as they begin; these keep nothing in PostgreSQL.
                sqlx::query("DELETE FROM views.rebuild_requests WHERE name = $1")
                    .bind(&name)
                    .execute(&self.pool)
                    .await?;
            }
            progress.rebuild.notify_one();
        }
        Ok(())
    }
}
