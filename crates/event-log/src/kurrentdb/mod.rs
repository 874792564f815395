//! The adapter for a KurrentDB cluster, and for the event server of another Souk, which speaks the same protocol.
//!
//! - [`connection`]: the client, built again when its node is gone;
//! - [`convert`]: their words and ours;
//! - [`subscription`]: following the log, each on a thread of its own;
//! - [`spin`]: what ends such a thread when the client runs in circles.
//!
//! What holds here and what does not:
//!
//! - Positions are KurrentDB's commit positions: strictly increasing, not gapless. A position between two events is none
//!   that a KurrentDB can read from; the one after an event is, as that is where a reader goes on.
//! - Expected revisions and repeated appends hold exactly as the port says, but for [`Expected::Any`], where a KurrentDB
//!   recognises a repeat only for as long as it remembers the event's id.
//! - `recorded_at` is the server's time; another leader's clock may be behind it. There is no chain of hashes.
//! - Streams of the system (`$…`) are left out. A category holds the streams `category-…`, not one called `category`.

mod connection;
mod convert;
mod read;
mod spin;
mod subscription;

use std::{fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use eventstore::{AppendToStreamOptions, ClientSettings};
use futures::StreamExt;

use crate::{
    AppendError, Appended, Direction, EventLog, EventStream, Expected, Filter, NewEvent, Position, ReadError,
    Revision, StreamName, Subscription,
};
use connection::{Connection, PATIENCE, Repeat};

/// A log that a server holds.
pub struct KurrentLog(Arc<Connection>);

#[derive(Debug, thiserror::Error)]
#[error("the event log's address: {0}")]
pub struct AddressError(String);

/// Where the log is, as KurrentDB's clients write it: `kurrentdb://user:password@host:2113?tls=false`, several hosts, or
/// `kurrentdb+discover://…`.
#[derive(Clone, PartialEq, Eq)]
pub struct Address(Box<ClientSettings>);

/// Without the password that may be in it.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(self.0.hosts()).finish()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let settings: Result<ClientSettings, eventstore::ClientSettingsParseError> = text.parse();
        settings
            .map(|settings| Self(Box::new(settings)))
            .map_err(|error| AddressError(error.message().to_owned()))
    }
}

impl KurrentLog {
    /// Waits until the server answers, though not for ever.
    pub async fn connect(address: Address) -> Result<Arc<Self>, ReadError> {
        let connection = Arc::new(Connection::new(*address.0));
        connection.head().await.map_err(convert::read_error)?;
        Ok(Arc::new(Self(connection)))
    }
}

#[async_trait]
impl EventLog for KurrentLog {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        if events.is_empty() {
            return self.check(stream, expected).await;
        }
        let options = AppendToStreamOptions::default().stream_state(convert::state(expected));
        let events: Vec<_> = events.into_iter().map(convert::proposed).collect();
        // Without an expectation a repeat might add a second copy.
        let repeat = if expected == Expected::Any { Repeat::IfNotSent } else { Repeat::Safe };
        let mut tries = self.0.tries(repeat, PATIENCE);
        let written = loop {
            let client = tries.client().map_err(convert::append_error)?;
            match client.append_to_stream(stream.as_str(), &options, events.clone()).await {
                Ok(written) => break written,
                Err(error) => tries.failed(error).await.map_err(convert::append_error)?,
            }
        };
        let last_revision = written.next_expected_version;
        let position = match written.position.commit {
            // A server that recognised a repeat may not say where the events are.
            0 | u64::MAX => self.position_of(stream, last_revision).await?,
            position => position,
        };
        Ok(Appended { last_revision, position })
    }

    fn read_stream(
        &self,
        stream: &StreamName,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> EventStream {
        read::stream(Arc::clone(&self.0), stream.clone(), from, direction, limit)
    }

    fn read_all(&self, from: Position, filter: Filter, direction: Direction, limit: usize) -> EventStream {
        read::all(Arc::clone(&self.0), from, filter, direction, limit)
    }

    fn subscribe(&self, after: Option<Position>, filter: Filter) -> Subscription {
        subscription::subscribe(Arc::clone(&self.0), after, filter)
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.0.head().await.map_err(convert::read_error)
    }

    /// Looking back from the end, as a server does not read from just any position.
    async fn last_before(&self, time: DateTime<Utc>) -> Result<Option<Position>, ReadError> {
        let mut events = self.read_all(u64::MAX, Filter::all(), Direction::Backward, usize::MAX);
        while let Some(event) = events.next().await.transpose()? {
            if event.recorded_at < time {
                return Ok(Some(event.position));
            }
        }
        Ok(None)
    }

    async fn stream_head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadError> {
        let last = self.last(stream, u64::MAX).await?;
        Ok(last.map(|(revision, _)| revision))
    }
}

impl KurrentLog {
    /// Compares what is expected with what is there.
    async fn check(&self, stream: &StreamName, expected: Expected) -> Result<Appended, AppendError> {
        let last =
            self.last(stream, u64::MAX).await.map_err(|error| AppendError::Unavailable(error.to_string()))?;
        let actual = last.map(|(revision, _)| revision);
        let wanted = match expected {
            Expected::Any => actual,
            Expected::NoStream => None,
            Expected::Exact(revision) => Some(revision),
        };
        if wanted != actual {
            return Err(AppendError::Conflict { actual });
        }
        let (last_revision, position) = last.unwrap_or_default();
        Ok(Appended { last_revision, position })
    }

    async fn position_of(&self, stream: &StreamName, revision: Revision) -> Result<Position, AppendError> {
        let unknown = |reason: String| AppendError::Unknown(format!("written, but not found: {reason}"));
        match self.last(stream, revision).await {
            Ok(Some((found, position))) if found == revision => Ok(position),
            Ok(found) => Err(unknown(format!("{stream} ends at {found:?}"))),
            Err(error) => Err(unknown(error.to_string())),
        }
    }

    /// Revision and position of the stream's last event, looking back from there.
    async fn last(
        &self,
        stream: &StreamName,
        from: Revision,
    ) -> Result<Option<(Revision, Position)>, ReadError> {
        let mut events = self.read_stream(stream, from, Direction::Backward, 1);
        let last = events.next().await.transpose()?;
        Ok(last.map(|event| (event.revision, event.position)))
    }
}
