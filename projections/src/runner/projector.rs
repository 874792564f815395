//! What a read model in PostgreSQL has to say for itself.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use souk_event_log::{Filter, Position, Recorded};
use sqlx::PgConnection;

use super::Pace;

/// A read model's writing side. It keeps nothing in memory between batches: what it knows is in its tables.
#[async_trait]
pub trait Projector: Send + Sync + 'static {
    /// Names the projector to operators; lower case letters and `_`.
    fn name(&self) -> &'static str;

    /// Raised when the tables or what they hold change. The new version is built from the first event on beside the
    /// one that is served.
    fn version(&self) -> u32;

    /// Which events it wants: whole categories, so that a type newer than this program is met and not passed over.
    fn filter(&self) -> Filter;

    /// Makes the tables, named plainly: each generation has a schema of its own. Queries find every table as a view of
    /// the same name in schema `views`, so no two read models may share a table's name.
    fn migration(&self) -> &'static str;

    /// How soon what happened is to be seen.
    fn pace(&self) -> Pace {
        Pace { most: Duration::from_millis(300), rest: 8, ..Pace::USUAL }
    }

    /// Writes what the events say. Called within the transaction that also moves the checkpoint, so each event is
    /// applied exactly once.
    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError>;
}

/// Why events could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// This event cannot be applied, now or ever, by this program.
    #[error("{0}")]
    Event(EventError),
    #[error("{0}")]
    Database(#[from] sqlx::Error),
}

#[derive(Debug)]
pub struct EventError {
    pub position: Position,
    pub event_type: String,
    pub stream: String,
    pub reason: String,
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, event_type, stream, reason } = self;
        write!(f, "event {position} ({event_type} in {stream}) cannot be applied: {reason}")
    }
}

impl ApplyError {
    pub fn event(event: &Recorded, reason: impl fmt::Display) -> Self {
        Self::Event(EventError::new(event, reason))
    }
}

impl EventError {
    pub(crate) fn new(event: &Recorded, reason: impl fmt::Display) -> Self {
        Self {
            position: event.position,
            event_type: event.event_type.to_string(),
            stream: event.stream.to_string(),
            reason: reason.to_string(),
        }
    }
}

/// Whether the fault is in the surroundings (connection, disk, a lock), not in what was written.
///
/// Errors that come of what was written are data exceptions (class 22), broken constraints (23) and statements that do
/// not fit the tables (42); everything else may pass. A table that is gone (42P01, 3F000) was dropped by an operator,
/// and starting over makes it again.
pub(super) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => match error.code().as_deref() {
            Some("42P01" | "3F000") | None => true,
            Some(code) => !["22", "23", "42", "54"].iter().any(|class| code.starts_with(class)),
        },
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => false,
        _ => true,
    }
}
