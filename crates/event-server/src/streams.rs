//! Streams as KurrentDB has them, over those of the port: with metadata that hides old events, soft deletion, after which
//! a stream may begin again, and tombstones, after which it may not.
//!
//! All of it is events: the metadata of `s` are the events of type `$metadata` in the stream `$$s`, of which the last
//! holds; a soft deletion is such an event; a tombstone is an event of type `$streamDeleted` at the end of `s`. Streams
//! of protected categories have none of it, and cost no look for it.
//!
//! Appends and deletions exclude each other within this process; deletions race with other processes' appends.

use std::{collections::BTreeSet, sync::Arc};

use chrono::TimeDelta;
use futures::StreamExt;
use serde_json::{Map, Value};
use souk_event_log::{
    AppendError, Appended, Clock, Direction, EventLog, Expected, NewEvent, Recorded, Revision, StreamName,
};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};
use uuid::Uuid;

use crate::refusal::Refusal;

pub(crate) const METADATA: &str = "$metadata";
pub(crate) const TOMBSTONE: &str = "$streamDeleted";
const TRUNCATE_BEFORE: &str = "$tb";
const MAX_AGE: &str = "$maxAge";
const MAX_COUNT: &str = "$maxCount";
/// `$tb` of a stream that was deleted softly.
const DELETED: u64 = i64::MAX as u64;
/// Tries of what another process was in the way of.
const TRIES: usize = 16;
/// Ids of the events that are made here derive from it.
const IDS: Uuid = Uuid::from_u128(0x9e16_94e1_5a7c_4f6f_8f3c_6a1c_2d0b_7e55);

/// What a writer believes about a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expectation {
    Any,
    NoStream,
    Exists,
    Exact(Revision),
}

impl Expectation {
    /// As the protocol counts them in texts.
    pub(crate) fn number(self) -> i64 {
        match self {
            Self::Any => -2,
            Self::NoStream => -1,
            Self::Exists => -4,
            Self::Exact(revision) => revision as i64,
        }
    }

    fn holds(self, last: Option<Revision>) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => last.is_none(),
            Self::Exists => last.is_some(),
            Self::Exact(revision) => last == Some(revision),
        }
    }
}

pub(crate) struct Streams {
    pub(crate) log: Arc<dyn EventLog>,
    protected: BTreeSet<String>,
    clock: Clock,
    deletions: Arc<RwLock<()>>,
}

/// How a stream is now.
#[derive(Default)]
pub(crate) struct Standing {
    /// Revision of its last event, hidden or not.
    pub(crate) last: Option<Revision>,
    tombstoned: bool,
    metadata: Map<String, Value>,
    metadata_last: Option<Revision>,
}

impl Standing {
    fn number(&self, name: &str) -> Option<u64> {
        self.metadata.get(name).and_then(Value::as_u64)
    }

    fn softly_deleted(&self) -> bool {
        self.number(TRUNCATE_BEFORE).is_some_and(|before| before >= DELETED)
    }

    /// Before which event a stream begins whose earlier ones are hidden.
    fn beginning(&self) -> Option<Expected> {
        let hidden = self.number(TRUNCATE_BEFORE)?;
        let begun = self.last.is_some_and(|last| last >= hidden);
        hidden.checked_sub(1).filter(|_| begun).map(Expected::Exact)
    }

    /// The last revision of a stream that is there to be read.
    pub(crate) fn readable(&self) -> Option<Revision> {
        self.last.filter(|_| !self.softly_deleted())
    }
}

/// The stream that this one is the metadata of.
fn described(stream: &StreamName) -> Option<StreamName> {
    stream.as_str().strip_prefix("$$").and_then(|name| StreamName::parse(name).ok())
}

/// The stream of its metadata. Too long a name has none.
fn description(stream: &StreamName) -> Option<StreamName> {
    StreamName::parse(&format!("$${stream}")).ok()
}

fn expected(last: Option<Revision>) -> Expected {
    last.map_or(Expected::NoStream, Expected::Exact)
}

impl Streams {
    pub(crate) fn new(log: Arc<dyn EventLog>, protected: BTreeSet<String>, clock: Clock) -> Self {
        Self { log, protected, clock, deletions: Arc::default() }
    }

    fn is_protected(&self, stream: &StreamName) -> bool {
        self.protected.contains(stream.category())
    }

    /// The stream as it is now; a tombstoned one is refused.
    pub(crate) async fn standing(&self, stream: &StreamName) -> Result<Standing, Refusal> {
        let standing = self.look(stream).await?;
        if standing.tombstoned { Err(Refusal::StreamDeleted(stream.clone())) } else { Ok(standing) }
    }

    async fn look(&self, stream: &StreamName) -> Result<Standing, Refusal> {
        if self.is_protected(stream) {
            return Ok(Standing { last: self.log.stream_head(stream).await?, ..Standing::default() });
        }
        if let Some(described) = described(stream) {
            let tombstoned = self.last(&described).await?.is_some_and(|last| is_tombstone(&last));
            // Of descriptions only the last one is ever of use.
            let metadata = Map::from_iter([(MAX_COUNT.to_owned(), Value::from(1))]);
            let last = self.log.stream_head(stream).await?;
            return Ok(Standing { last, tombstoned, metadata, metadata_last: None });
        }
        let last = self.last(stream).await?;
        let described = match description(stream) {
            Some(description) => self.last(&description).await?,
            None => None,
        };
        Ok(Standing {
            tombstoned: last.as_ref().is_some_and(|last| is_tombstone(last)),
            last: last.map(|last| last.revision),
            metadata_last: described.as_ref().map(|described| described.revision),
            metadata: described.map(|described| metadata(&described)).unwrap_or_default(),
        })
    }

    async fn last(&self, stream: &StreamName) -> Result<Option<Arc<Recorded>>, Refusal> {
        let mut last = self.log.read_stream(stream, u64::MAX, Direction::Backward, 1);
        Ok(last.next().await.transpose()?)
    }

    /// The first revision that the stream's metadata lets be seen; it may be beyond the last.
    pub(crate) async fn first_visible(
        &self,
        stream: &StreamName,
        standing: &Standing,
    ) -> Result<Revision, Refusal> {
        let Some(last) = standing.last else { return Ok(0) };
        let counted = standing.number(MAX_COUNT).map_or(0, |count| (last + 1).saturating_sub(count));
        let kept = standing.number(TRUNCATE_BEFORE).unwrap_or(0);
        let young = match standing.number(MAX_AGE).and_then(|age| TimeDelta::try_seconds(age as i64)) {
            Some(age) => self.first_younger(stream, last, age).await?,
            None => 0,
        };
        Ok(counted.max(kept).max(young))
    }

    /// Times never decrease along a stream, so halving finds the place.
    async fn first_younger(
        &self,
        stream: &StreamName,
        last: Revision,
        age: TimeDelta,
    ) -> Result<Revision, Refusal> {
        let Some(since) = (self.clock)().checked_sub_signed(age) else { return Ok(0) };
        let (mut low, mut high) = (0, last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let mut event = self.log.read_stream(stream, middle, Direction::Forward, 1);
            match event.next().await.transpose()? {
                Some(event) if event.recorded_at < since => low = middle + 1,
                _ => high = middle,
            }
        }
        Ok(low)
    }

    /// Makes sure that the events may be appended, and says how: then the port's part is all that is left.
    pub(crate) async fn admit(
        &self,
        stream: &StreamName,
        expectation: Expectation,
        events: &[NewEvent],
    ) -> Result<Admitted, Refusal> {
        if events.iter().any(|event| &*event.event_type == TOMBSTONE) {
            return Err(Refusal::Denied(format!("{TOMBSTONE} is written by Tombstone alone")));
        }
        if self.is_protected(stream) {
            let expected = self.plainly(stream, expectation).await?;
            return Ok(Admitted { expected, again: None, hides: None, guard: Guard::None });
        }
        if let Some(described) = described(stream) {
            self.refuse_protected(&described, "has no metadata")?;
            let guard = Arc::clone(&self.deletions).write_owned().await;
            let standing = self.standing(&described).await?;
            let expected = self.plainly(stream, expectation).await?;
            let hides = standing.softly_deleted().then_some(described);
            return Ok(Admitted { expected, again: None, hides, guard: Guard::Alone(guard) });
        }
        let guard = Arc::clone(&self.deletions).read_owned().await;
        let standing = self.standing(stream).await?;
        let expected = if standing.softly_deleted() {
            self.begin_again(stream, expectation, &standing).await?
        } else {
            self.plainly(stream, expectation).await?
        };
        let again = standing.beginning().filter(|_| expectation == Expectation::NoStream);
        Ok(Admitted { expected, again, hides: None, guard: Guard::Shared(guard) })
    }

    /// Appends what was admitted. The port is asked when this is polled for the first time.
    pub(crate) async fn append(
        &self,
        stream: &StreamName,
        expectation: Expectation,
        events: Vec<NewEvent>,
        admitted: Admitted,
    ) -> Result<Appended, Refusal> {
        let again = admitted.again.map(|again| (again, events.clone()));
        let mut appended = self.log.append(stream, admitted.expected, events).await;
        if let (Err(AppendError::Conflict { .. }), Some((again, events))) = (&appended, again) {
            appended = self.log.append(stream, again, events).await;
        }
        let appended = appended.map_err(|error| Refusal::of_append(error, stream, expectation))?;
        if let Some(described) = &admitted.hides {
            // New metadata let a stream begin again, but what was deleted stays hidden.
            let standing = self.standing(described).await?;
            if standing.number(TRUNCATE_BEFORE).is_none() {
                self.show_from(described, &standing).await?;
            }
        }
        drop(admitted);
        Ok(appended)
    }

    /// A stream that exists never stops existing for the port, so to have seen it is enough.
    async fn plainly(&self, stream: &StreamName, expectation: Expectation) -> Result<Expected, Refusal> {
        Ok(match expectation {
            Expectation::Any => Expected::Any,
            Expectation::NoStream => Expected::NoStream,
            Expectation::Exact(revision) => Expected::Exact(revision),
            Expectation::Exists if self.log.stream_head(stream).await?.is_some() => Expected::Any,
            Expectation::Exists => return Err(conflict("Append", stream, expectation, None)),
        })
    }

    /// A stream that was deleted softly begins again behind its hidden events.
    async fn begin_again(
        &self,
        stream: &StreamName,
        expectation: Expectation,
        standing: &Standing,
    ) -> Result<Expected, Refusal> {
        let last = standing.last;
        let holds = match expectation {
            Expectation::Any | Expectation::NoStream => true,
            Expectation::Exists => false,
            Expectation::Exact(revision) => last == Some(revision),
        };
        if !holds {
            return Err(conflict("Append", stream, expectation, None));
        }
        self.show_from(stream, standing).await?;
        Ok(match expectation {
            Expectation::Any => Expected::Any,
            _ => expected(last),
        })
    }

    /// Shows what comes after all that is there now.
    async fn show_from(&self, stream: &StreamName, standing: &Standing) -> Result<Appended, Refusal> {
        let mut metadata = standing.metadata.clone();
        let next = standing.last.map_or(0, |last| last + 1);
        metadata.insert(TRUNCATE_BEFORE.to_owned(), next.into());
        self.describe(stream, standing, metadata).await
    }

    /// Appends to the stream's metadata. A conflict is another process's doing.
    async fn describe(
        &self,
        stream: &StreamName,
        standing: &Standing,
        metadata: Map<String, Value>,
    ) -> Result<Appended, Refusal> {
        let Some(description) = description(stream) else {
            return Err(Refusal::Invalid("the name is too long for a stream with metadata".into()));
        };
        let event = made(&description, standing.metadata_last, METADATA, &Value::Object(metadata));
        let expected = expected(standing.metadata_last);
        self.log
            .append(&description, expected, vec![event])
            .await
            .map_err(|error| Refusal::of_append(error, &description, Expectation::Any))
    }

    /// Hides every event of the stream. It may begin again.
    pub(crate) async fn delete(
        &self,
        stream: &StreamName,
        expectation: Expectation,
    ) -> Result<Appended, Refusal> {
        self.refuse_protected(stream, "is never deleted")?;
        let _alone = self.deletions.write().await;
        for _ in 0..TRIES {
            let standing = self.standing(stream).await?;
            let gone = standing.softly_deleted() && expectation == Expectation::Exists;
            if gone || !expectation.holds(standing.last) {
                return Err(conflict("Delete", stream, expectation, standing.readable()));
            }
            let hidden = Map::from_iter([(TRUNCATE_BEFORE.to_owned(), DELETED.into())]);
            match self.describe(stream, &standing, hidden).await {
                Err(Refusal::Conflict { .. }) => {}
                done => return done,
            }
        }
        Err(in_the_way(stream))
    }

    /// Ends the stream for good.
    pub(crate) async fn tombstone(
        &self,
        stream: &StreamName,
        expectation: Expectation,
    ) -> Result<Appended, Refusal> {
        self.refuse_protected(stream, "is never deleted")?;
        if described(stream).is_some() {
            return Err(Refusal::Invalid("metadata go with the stream they describe".into()));
        }
        let _alone = self.deletions.write().await;
        for _ in 0..TRIES {
            let standing = self.standing(stream).await?;
            if !expectation.holds(standing.last) {
                return Err(conflict("Delete", stream, expectation, standing.last));
            }
            let event = made(stream, standing.last, TOMBSTONE, &Value::Object(Map::new()));
            match self.log.append(stream, expected(standing.last), vec![event]).await {
                Err(AppendError::Conflict { .. }) => {}
                done => return done.map_err(|error| Refusal::of_append(error, stream, expectation)),
            }
        }
        Err(in_the_way(stream))
    }

    /// `stream` may be one of metadata.
    fn refuse_protected(&self, stream: &StreamName, what: &str) -> Result<(), Refusal> {
        let described = described(stream);
        let stream = described.as_ref().unwrap_or(stream);
        if !self.is_protected(stream) {
            return Ok(());
        }
        let category = stream.category();
        Err(Refusal::Denied(format!(
            "{stream} {what}: streams of the category {category} are the market's own"
        )))
    }
}

/// What the port is to be told.
pub(crate) struct Admitted {
    expected: Expected,
    /// What it is to be told if that conflicts: where the same append would be found that has been made already.
    again: Option<Expected>,
    /// The stream that is described by what is appended, if its events are hidden.
    hides: Option<StreamName>,
    /// Keeps deletions off until the append is done.
    #[expect(dead_code, reason = "held, not used")]
    guard: Guard,
}

#[expect(dead_code, reason = "held, not used")]
enum Guard {
    None,
    Shared(OwnedRwLockReadGuard<()>),
    Alone(OwnedRwLockWriteGuard<()>),
}

pub(crate) fn is_tombstone(event: &Recorded) -> bool {
    &*event.event_type == TOMBSTONE
}

fn metadata(event: &Recorded) -> Map<String, Value> {
    serde_json::from_slice(&event.data).unwrap_or_default()
}

/// An event of this server's own. Its id derives from its place, so that it is the same when it is tried again.
fn made(stream: &StreamName, last: Option<Revision>, event_type: &str, data: &Value) -> NewEvent {
    let revision = last.map_or(0, |last| last + 1);
    NewEvent {
        id: Uuid::new_v5(&IDS, format!("{stream}@{revision}").as_bytes()),
        event_type: event_type.into(),
        data: data.to_string().into_bytes(),
        metadata: b"{}".to_vec().into(),
    }
}

fn conflict(
    operation: &'static str,
    stream: &StreamName,
    expected: Expectation,
    actual: Option<Revision>,
) -> Refusal {
    Refusal::Conflict { operation, stream: stream.clone(), expected, actual }
}

fn in_the_way(stream: &StreamName) -> Refusal {
    Refusal::Unavailable(format!("another process keeps writing to {stream}: try again"))
}
