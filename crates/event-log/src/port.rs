//! The port. Every adapter passes the same conformance suite.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::{StreamExt, stream::BoxStream};

use crate::{Filter, NewEvent, Position, Recorded, Revision, StreamName};

/// What the writer believes about the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    NoStream,
    /// The last event has this revision.
    Exact(Revision),
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Revision of the last event appended.
    pub last_revision: Revision,
    /// Position of the last event appended.
    pub position: Position,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// Nothing was written.
    #[error("the stream is at {actual:?}, not where the writer expected it")]
    Conflict { actual: Option<Revision> },
    /// Nothing was written; worth another try later.
    #[error("the event log is unavailable: {0}")]
    Unavailable(String),
    /// It may have been written. The same append may be sent again: it succeeds without a second copy.
    #[error("the outcome of an append is unknown: {0}")]
    Unknown(String),
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    #[error("the event log is unavailable: {0}")]
    Unavailable(String),
    #[error("the event log is damaged: {0}")]
    Corrupt(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    Backward,
}

/// What a subscription says.
#[derive(Clone, Debug)]
pub enum Message {
    Event(Arc<Recorded>),
    /// Every event up to here was seen; those that the filter left out too.
    Checkpoint(Position),
    /// The reader has reached what was the end of the log; from here on events are live. Said each time it goes live.
    CaughtUp,
}

pub type EventStream = BoxStream<'static, Result<Arc<Recorded>, ReadError>>;
pub type Subscription = BoxStream<'static, Result<Message, ReadError>>;

#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Appends all events or none, and answers once they are durable.
    ///
    /// Repeats safely: if the events that follow `expected` have the same ids, the append succeeds again without a
    /// second copy, and answers the places they have. With [`Expected::Any`] that is known only while they are the last of
    /// their stream. An empty list is a conflict check only; it answers where the stream's last event is (zeros if there
    /// is none).
    async fn append(
        &self,
        stream: &StreamName,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError>;

    /// Events of a stream from `from` on (inclusive), `limit` at most. A stream that does not exist is empty.
    fn read_stream(
        &self,
        stream: &StreamName,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> EventStream;

    /// Events of all streams from `from` on (inclusive) in commit order, or backwards; `limit` counts matches.
    fn read_all(&self, from: Position, filter: Filter, direction: Direction, limit: usize) -> EventStream;

    /// Events after the position (`None`: from the very first), first those that are there, then live ones, without
    /// a gap or a double. It ends only with an error; a reader takes up again after the last position it saw. A
    /// position beyond the end of the log is [`ReadError::Corrupt`]: that reader followed another log.
    fn subscribe(&self, after: Option<Position>, filter: Filter) -> Subscription;

    /// Position of the last event of the log.
    async fn head(&self) -> Result<Option<Position>, ReadError>;

    /// The last position that was recorded before that time. Times do not decrease along the log, so halving finds it where
    /// a reader may begin at any position.
    async fn last_before(&self, time: DateTime<Utc>) -> Result<Option<Position>, ReadError> {
        let Some(head) = self.head().await? else { return Ok(None) };
        let (mut low, mut high) = (0, head + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let next =
                self.read_all(middle, Filter::all(), Direction::Forward, 1).next().await.transpose()?;
            match next {
                Some(event) if event.recorded_at < time => low = event.position + 1,
                _ => high = middle,
            }
        }
        Ok(low.checked_sub(1))
    }

    /// Revision of the last event of a stream.
    async fn stream_head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadError>;
}
