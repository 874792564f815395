//! A log in memory, for tests of pure flows. Same semantics as the other adapters, and faults on demand.
//!
//! It never waits and starts no thread: a single-threaded test that hands in its own clock runs the same way each time.

use std::{collections::HashMap, collections::VecDeque, pin::pin, sync::Arc};

use async_stream::try_stream;
use async_trait::async_trait;
use chrono::{DateTime, SubsecRound, Utc};
use futures::stream;
use parking_lot::RwLock;
use tokio::sync::Notify;

use crate::{
    AppendError, Appended, Clock, Direction, EventLog, EventStream, Expected, Filter, Message, NewEvent,
    Position, ReadError, Recorded, Revision, StreamName, Subscription,
};

/// What an append can be made to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is written.
    Unavailable,
    /// Everything is written, but the writer is not told so.
    UnknownWritten,
    /// Nothing is written, and the writer is not told so.
    UnknownNotWritten,
    /// Nothing is written; the stream is said to be where it is.
    Conflict,
}

/// A log in memory. Clones share it.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    state: RwLock<State>,
    /// Wakes readers in the order in which they came, so that a run can be repeated.
    news: Notify,
}

#[derive(Default)]
struct State {
    events: Vec<Arc<Recorded>>,
    streams: HashMap<StreamName, Vec<Arc<Recorded>>>,
    /// Each for the next append to the category, or to any stream.
    faults: VecDeque<(Option<String>, Fault)>,
}

impl MemoryLog {
    pub fn new(clock: Clock) -> Self {
        Self { shared: Arc::new(Shared { clock, state: RwLock::default(), news: Notify::new() }) }
    }

    /// The next append meets this fault. Faults queue up.
    pub fn inject(&self, fault: Fault) {
        self.shared.state.write().faults.push_back((None, fault));
    }

    /// The next append to a stream of the category meets this fault.
    pub fn inject_into(&self, category: &str, fault: Fault) {
        self.shared.state.write().faults.push_back((Some(category.into()), fault));
    }

    /// Faults that no append has met yet.
    pub fn faults_left(&self) -> usize {
        self.shared.state.read().faults.len()
    }

    /// Every event, in order.
    pub fn events(&self) -> Vec<Arc<Recorded>> {
        self.shared.state.read().events.clone()
    }
}

impl State {
    fn take_fault(&mut self, category: &str) -> Option<Fault> {
        let index =
            self.faults.iter().position(|(only, _)| only.as_ref().is_none_or(|only| only == category))?;
        self.faults.remove(index).map(|(_, fault)| fault)
    }

    fn append(
        &mut self,
        now: DateTime<Utc>,
        name: &StreamName,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        let stored = self.streams.get(name).map_or(&[][..], Vec::as_slice);
        let wanted = match expected {
            Expected::NoStream => 0,
            Expected::Exact(revision) => usize::try_from(revision).unwrap_or(usize::MAX).saturating_add(1),
            Expected::Any if events.is_empty() => stored.len(),
            Expected::Any => stored.len().saturating_sub(events.len()),
        };
        let appended =
            |event: &Recorded| Appended { last_revision: event.revision, position: event.position };
        if !events.is_empty()
            && let Some(same) = stored.get(wanted..wanted.saturating_add(events.len()))
            && same.iter().map(|event| event.id).eq(events.iter().map(|event| event.id))
            && let Some(last) = same.last()
        {
            return Ok(appended(last));
        }
        if expected != Expected::Any && wanted != stored.len() {
            return Err(AppendError::Conflict { actual: stored.last().map(|event| event.revision) });
        }
        if events.is_empty() {
            return Ok(stored
                .last()
                .map_or(Appended { last_revision: 0, position: 0 }, |last| appended(last)));
        }
        let now = now.trunc_subsecs(6);
        let recorded_at = self.events.last().map_or(now, |last| last.recorded_at.max(now));
        let stream = self.streams.entry(name.clone()).or_default();
        for event in events {
            let event = Arc::new(Recorded {
                id: event.id,
                stream: name.clone(),
                revision: stream.len() as Revision,
                position: self.events.len() as Position,
                event_type: event.event_type,
                recorded_at,
                data: event.data,
                metadata: event.metadata,
                hash: None,
            });
            stream.push(Arc::clone(&event));
            self.events.push(event);
        }
        let (last_revision, position) = (stream.len() as Revision - 1, self.events.len() as Position - 1);
        Ok(Appended { last_revision, position })
    }
}

/// The part of the events that is at or beyond `from`, in the order asked for.
fn select(
    events: &[Arc<Recorded>],
    from: u64,
    direction: Direction,
    limit: usize,
    wanted: impl Fn(&Recorded) -> bool,
) -> EventStream {
    let from = usize::try_from(from).unwrap_or(usize::MAX);
    let wanted = |event: &&Arc<Recorded>| wanted(event);
    let found: Vec<_> = match direction {
        Direction::Forward => events.iter().skip(from).filter(wanted).take(limit).cloned().map(Ok).collect(),
        Direction::Backward => {
            let end = from.saturating_add(1).min(events.len());
            events[..end].iter().rev().filter(wanted).take(limit).cloned().map(Ok).collect()
        }
    };
    Box::pin(stream::iter(found))
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        let mut state = self.shared.state.write();
        let injected = || "injected".to_owned();
        let fault = state.take_fault(stream.category());
        match fault {
            Some(Fault::Unavailable) => return Err(AppendError::Unavailable(injected())),
            Some(Fault::UnknownNotWritten) => return Err(AppendError::Unknown(injected())),
            Some(Fault::Conflict) => {
                let actual =
                    state.streams.get(stream).and_then(|events| events.last()).map(|event| event.revision);
                return Err(AppendError::Conflict { actual });
            }
            Some(Fault::UnknownWritten) | None => {}
        }
        let appended = state.append((self.shared.clock)(), stream, expected, events)?;
        drop(state);
        self.shared.news.notify_waiters();
        if fault.is_some() { Err(AppendError::Unknown(injected())) } else { Ok(appended) }
    }

    fn read_stream(
        &self,
        stream: &StreamName,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> EventStream {
        let state = self.shared.state.read();
        let events = state.streams.get(stream).map_or(&[][..], Vec::as_slice);
        select(events, from, direction, limit, |_| true)
    }

    fn read_all(&self, from: Position, filter: Filter, direction: Direction, limit: usize) -> EventStream {
        select(&self.shared.state.read().events, from, direction, limit, |event| filter.matches(event))
    }

    fn subscribe(&self, after: Option<Position>, filter: Filter) -> Subscription {
        let shared = Arc::clone(&self.shared);
        Box::pin(try_stream! {
            let head = shared.state.read().events.last().map(|event| event.position);
            if after > head {
                Err(ReadError::Corrupt(format!("the log ends at {head:?}, before the reader's position {after:?}")))?;
            }
            let mut seen = after.map_or(0, |after| after as usize + 1);
            let mut live = false;
            loop {
                let mut news = pin!(shared.news.notified());
                news.as_mut().enable();
                let head = shared.state.read().events.last().map(|event| event.position);
                let end = head.map_or(0, |head| head as usize + 1);
                if seen < end {
                    let events = shared.state.read().events[seen..end].to_vec();
                    let mut told = None;
                    for event in events.into_iter().filter(|event| filter.matches(event)) {
                        told = Some(event.position);
                        yield Message::Event(event);
                    }
                    if let Some(head) = head && told != Some(head) {
                        yield Message::Checkpoint(head);
                    }
                    seen = end;
                }
                if !live {
                    live = true;
                    yield Message::CaughtUp;
                }
                news.await;
            }
        })
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        Ok(self.shared.state.read().events.last().map(|event| event.position))
    }

    async fn stream_head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadError> {
        let state = self.shared.state.read();
        Ok(state.streams.get(stream).and_then(|events| events.last()).map(|event| event.revision))
    }
}
