//! The one place of the command side that reads the wall clock and draws fresh ids; everybody else is handed them.

use std::sync::Arc;

use chrono::{DateTime, SubsecRound, Utc};
use uuid::Uuid;

#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl Clock {
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this file owns the clock")]
        Self(Arc::new(Utc::now))
    }

    /// A clock of the caller's making, for tests and replays.
    pub fn from_fn(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// In whole microseconds, which is what the log and PostgreSQL keep.
    pub fn now(&self) -> DateTime<Utc> {
        (self.0)().trunc_subsecs(6)
    }
}

/// An id for a request that brought none of its own.
#[expect(clippy::disallowed_methods, reason = "this file owns fresh ids")]
pub fn fresh_id() -> Uuid {
    Uuid::now_v7()
}
