//! Snapshots of long streams, in a SQLite file of their own: a cache that may be deleted at any time.
//!
//! A snapshot is keyed by what its state's shape depends on, so that one written by another version is not read; and it
//! is not trusted over the log: the event it ends with must be the one the log holds there.

use std::{
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use futures::StreamExt;
use parking_lot::Mutex;
use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use serde::de::DeserializeOwned;
use souk_domain::{Decider, DomainEvent};
use souk_event_log::{Direction, EventLog, StreamName};

use super::loaded::Loaded;

/// How long to wait for another process that opens the file.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Snapshots(Arc<Mutex<Connection>>);

#[derive(Debug, thiserror::Error)]
#[error("the cache of snapshots cannot be opened: {0}")]
pub struct SnapshotError(#[from] rusqlite::Error);

impl Snapshots {
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let connection = Connection::open(path)?;
        let deadline = Instant::now() + PATIENCE;
        // Losing the latest snapshots costs a little time at the next start, nothing else.
        while let Err(error) = connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
             CREATE TABLE IF NOT EXISTS snapshots (stream TEXT PRIMARY KEY, shape TEXT NOT NULL, state BLOB NOT NULL);",
        ) {
            // Two processes that make the file at once are in each other's way, and SQLite does not wait by itself.
            if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || Instant::now() > deadline {
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(Self(Arc::new(Mutex::new(connection))))
    }

    /// Milliseconds, once in a thousand events.
    pub(super) fn save<D: Decider>(&self, stream: &StreamName, loaded: &Loaded<D::State>) {
        let Ok(state) = serde_json::to_vec(loaded) else { return };
        let written = self.0.lock().execute(
            "INSERT INTO snapshots (stream, shape, state) VALUES (?1, ?2, ?3)
             ON CONFLICT (stream) DO UPDATE SET shape = excluded.shape, state = excluded.state",
            params![stream.as_str(), shape::<D>(), state],
        );
        if let Err(error) = written {
            tracing::warn!(%stream, %error, "a snapshot could not be written");
        }
    }

    pub(super) async fn load<D: Decider>(
        &self,
        stream: &StreamName,
        log: &dyn EventLog,
    ) -> Option<Loaded<D::State>>
    where
        D::State: DeserializeOwned,
    {
        let state: Vec<u8> = self
            .0
            .lock()
            .query_row(
                "SELECT state FROM snapshots WHERE stream = ?1 AND shape = ?2",
                params![stream.as_str(), shape::<D>()],
                |row| row.get(0),
            )
            .optional()
            .ok()??;
        let loaded: Loaded<D::State> = serde_json::from_slice(&state).ok()?;
        let head = loaded.head?;
        let last = log.read_stream(stream, head.revision, Direction::Forward, 1).next().await?.ok()?;
        (last.id == head.event_id).then_some(loaded)
    }
}

/// Changes with the version of the state and of every event it is made from.
fn shape<D: Decider>() -> String {
    let types: Vec<_> = D::Event::TYPES.iter().map(|(name, version)| format!("{name}.{version}")).collect();
    format!("{} {} {}", D::CATEGORY, D::STATE_VERSION, types.join(" "))
}
