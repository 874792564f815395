//! Following the log: from the file as far as it must, from the memory of what was just committed where it can.
//!
//! The writer keeps the last events it committed in [`Tail`] and tells the new head through a watch channel. A subscriber
//! asks the tail for what follows the last position it has seen, and the file when the tail does not reach back that
//! far: at the start, when it was slow, and where another process wrote in between. So it cannot miss or double an
//! event, however the three are interleaved, and a slow subscriber costs no memory.

use std::{collections::VecDeque, sync::Arc};

use async_stream::try_stream;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::reader::{self, PAGE, Reader};
use crate::{Direction, Filter, Message, Position, ReadError, Recorded, Subscription};

/// Bounds of the tail: what a subscriber may be behind without reading the file.
const TAIL_EVENTS: usize = 16_384;
const TAIL_BYTES: usize = 16 << 20;
/// Events that a subscriber takes from the tail at once.
const TAKE: usize = 1_024;

/// An event just committed, with the number of its kind (see [`super::schema`]).
#[derive(Clone)]
pub(super) struct Live {
    pub(super) kind: usize,
    pub(super) event: Arc<Recorded>,
}

impl Live {
    fn bytes(&self) -> usize {
        self.event.data.len() + self.event.metadata.len()
    }
}

/// The last events that this process committed; their positions have no gaps.
#[derive(Default)]
pub(super) struct Tail(RwLock<Recent>);

#[derive(Default)]
struct Recent {
    events: VecDeque<Live>,
    bytes: usize,
}

impl Tail {
    /// Takes the events of a commit, in order, and forgets the oldest.
    pub(super) fn extend(&self, events: Vec<Live>) {
        let Some(first) = events.first().map(|live| live.event.position) else { return };
        let mut recent = self.0.write();
        if recent.events.back().is_some_and(|last| last.event.position + 1 != first) {
            *recent = Recent::default();
        }
        recent.bytes += events.iter().map(Live::bytes).sum::<usize>();
        recent.events.extend(events);
        while recent.events.len() > TAIL_EVENTS || recent.bytes > TAIL_BYTES {
            let Some(oldest) = recent.events.pop_front() else { break };
            recent.bytes -= oldest.bytes();
        }
    }

    /// Appends what matches of the events from the position on, and says up to which position it looked; `None` if
    /// the tail does not hold that position.
    fn take(
        &self,
        from: Position,
        matcher: &mut Matcher,
        found: &mut Vec<Arc<Recorded>>,
    ) -> Option<Position> {
        let recent = self.0.read();
        let first = recent.events.front()?.event.position;
        let start = usize::try_from(from.checked_sub(first)?).ok()?;
        if start >= recent.events.len() {
            return None;
        }
        let end = recent.events.len().min(start + TAKE);
        for live in recent.events.range(start..end) {
            if matcher.matches(live) {
                found.push(Arc::clone(&live.event));
            }
        }
        Some(first + end as Position - 1)
    }
}

/// A filter that remembers its answer for each kind of event.
struct Matcher {
    filter: Filter,
    kinds: Vec<Option<bool>>,
}

impl Matcher {
    fn matches(&mut self, live: &Live) -> bool {
        if self.kinds.len() <= live.kind {
            self.kinds.resize(live.kind + 1, None);
        }
        let event = &live.event;
        let kind = *self.kinds[live.kind]
            .get_or_insert_with(|| self.filter.matches_kind(event.stream.category(), &event.event_type));
        kind && self.filter.stream.as_ref().is_none_or(|stream| *stream == event.stream)
    }
}

pub(super) fn subscribe(
    reader: Arc<Reader>,
    tail: Arc<Tail>,
    mut heads: watch::Receiver<Option<Position>>,
    after: Option<Position>,
    filter: Filter,
) -> Subscription {
    Box::pin(try_stream! {
        // A reader that saw more than there is followed another log: one that was restored to an earlier state, say.
        if after > *heads.borrow() {
            let head = reader.head()?;
            if after > head {
                Err(ReadError::Corrupt(format!("the log ends at {head:?}, before the reader's position {after:?}")))?;
            }
        }
        let mut matcher = Matcher { filter: filter.clone(), kinds: Vec::new() };
        let filter = Arc::new(filter);
        let mut seen = after;
        let mut live = false;
        loop {
            let head = *heads.borrow_and_update();
            while seen < head {
                let from = seen.map_or(0, |seen| seen + 1);
                let mut events = Vec::new();
                let covered = if let Some(covered) = tail.take(from, &mut matcher, &mut events) {
                    covered
                } else {
                    live = false;
                    let filter = Arc::clone(&filter);
                    let page = reader::blocking(&reader, move |reader| {
                        reader.page(from, &filter, Direction::Forward, PAGE)
                    });
                    let page = page.await.map_err(reader::interrupted)??;
                    events = page.events;
                    page.covered.ok_or_else(|| {
                        ReadError::Corrupt(format!("the log ends before position {from}, which it had"))
                    })?
                };
                let told = events.last().map(|event| event.position);
                for event in events {
                    yield Message::Event(event);
                }
                if told != Some(covered) {
                    yield Message::Checkpoint(covered);
                }
                seen = Some(covered);
            }
            if !live {
                live = true;
                yield Message::CaughtUp;
            }
            heads.changed().await.map_err(|_| ReadError::Unavailable("the log was closed".into()))?;
        }
    })
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::StreamName;

    fn live(position: Position, bytes: usize) -> Live {
        let event = Recorded {
            id: Uuid::nil(),
            stream: StreamName::new("a", "b"),
            revision: position,
            position,
            event_type: "E".into(),
            recorded_at: DateTime::UNIX_EPOCH,
            data: vec![0; bytes],
            metadata: Vec::new().into(),
            hash: None,
        };
        Live { kind: 1, event: Arc::new(event) }
    }

    fn take(tail: &Tail, from: Position) -> Option<(usize, Position)> {
        let mut matcher = Matcher { filter: Filter::all(), kinds: Vec::new() };
        let mut found = Vec::new();
        let covered = tail.take(from, &mut matcher, &mut found)?;
        Some((found.len(), covered))
    }

    #[test]
    fn the_tail_answers_only_for_what_it_holds() {
        let tail = Tail::default();
        assert_eq!(take(&tail, 0), None);
        tail.extend((5..8).map(|position| live(position, 1)).collect());
        assert_eq!(take(&tail, 4), None);
        assert_eq!(take(&tail, 5), Some((3, 7)));
        assert_eq!(take(&tail, 7), Some((1, 7)));
        assert_eq!(take(&tail, 8), None);
        // Another process wrote 8 and 9: what was before the gap is no longer offered.
        tail.extend(vec![live(10, 1)]);
        assert_eq!(take(&tail, 7), None);
        assert_eq!(take(&tail, 10), Some((1, 10)));
    }

    #[test]
    fn the_tail_is_bounded() {
        let tail = Tail::default();
        tail.extend((0..20_000).map(|position| live(position, 1)).collect());
        assert_eq!(tail.0.read().events.len(), TAIL_EVENTS);
        tail.extend(vec![live(20_000, TAIL_BYTES)]);
        assert_eq!(take(&tail, 20_000), Some((1, 20_000)));
        assert_eq!(take(&tail, 19_999), None);
        tail.extend(vec![live(20_001, TAIL_BYTES + 1)]);
        assert_eq!(tail.0.read().bytes, 0);
    }
}
