//! The events that a webhook is at: which may be sent now, and up to where everything is delivered. Pure.
//!
//! Events of different streams may be under way at once, those of one stream go one after the other. So a receiver that
//! takes 50 ms is sent more than 20 events a second, and still sees each stream in order.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use souk_event_log::{Position, Recorded};

/// How far it looks ahead of the first event that is not delivered.
const LARGEST: usize = 64;

#[derive(Debug)]
pub(crate) struct Window {
    slots: VecDeque<Slot>,
    /// Everything up to here is delivered.
    delivered: Option<Position>,
    /// Everything up to here is delivered or in the slots.
    seen: Option<Position>,
    /// Of the first event, made before this window was.
    former_tries: u32,
}

#[derive(Debug)]
struct Slot {
    event: Arc<Recorded>,
    state: State,
    tries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Sending,
    Delivered,
}

/// An event to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Due {
    pub(crate) event: Arc<Recorded>,
    /// 1 is the first try.
    pub(crate) attempt: u32,
}

impl Window {
    pub(crate) fn new(after: Option<Position>, former_tries: u32) -> Self {
        Self { slots: VecDeque::new(), delivered: after, seen: after, former_tries }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.slots.len() < LARGEST
    }

    pub(crate) fn push(&mut self, event: Arc<Recorded>) {
        self.seen = Some(event.position);
        let tries = std::mem::take(&mut self.former_tries);
        self.slots.push_back(Slot { event, state: State::Waiting, tries });
    }

    /// Nothing up to here is for this consumer but what was pushed.
    pub(crate) fn pass(&mut self, position: Position) {
        self.seen = self.seen.max(Some(position));
        self.settle();
    }

    /// The earliest that waits and follows none of its stream that is not delivered.
    pub(crate) fn next(&mut self) -> Option<Due> {
        let mut held = HashSet::new();
        let free = self.slots.iter_mut().find(|slot| {
            if slot.state == State::Delivered {
                return false;
            }
            held.insert(slot.event.stream.clone()) && slot.state == State::Waiting
        })?;
        free.state = State::Sending;
        free.tries += 1;
        Some(Due { event: Arc::clone(&free.event), attempt: free.tries })
    }

    pub(crate) fn delivered(&mut self, position: Position) {
        self.set(position, State::Delivered);
        self.settle();
    }

    /// To be sent again.
    pub(crate) fn failed(&mut self, position: Position) {
        self.set(position, State::Waiting);
    }

    /// Everything up to here is delivered.
    pub(crate) fn cursor(&self) -> Option<Position> {
        self.delivered
    }

    fn set(&mut self, position: Position, state: State) {
        if let Ok(index) = self.slots.binary_search_by_key(&position, |slot| slot.event.position) {
            self.slots[index].state = state;
        }
    }

    fn settle(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.state == State::Delivered) {
            self.delivered = self.slots.pop_front().map(|slot| slot.event.position);
        }
        if self.slots.is_empty() {
            self.delivered = self.seen;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use chrono::DateTime;
    use proptest::prelude::*;
    use souk_event_log::StreamName;
    use uuid::Uuid;

    use super::*;

    fn event(position: Position, stream: u8) -> Arc<Recorded> {
        Arc::new(Recorded {
            id: Uuid::from_u128(u128::from(position)),
            stream: StreamName::new("s", stream),
            revision: 0,
            position,
            event_type: "E".into(),
            recorded_at: DateTime::UNIX_EPOCH,
            data: Vec::new(),
            metadata: Vec::new().into(),
            hash: None,
        })
    }

    fn next(window: &mut Window) -> Option<(Position, u32)> {
        window.next().map(|due| (due.event.position, due.attempt))
    }

    #[test]
    fn a_stream_waits_for_its_own_and_for_no_other() {
        let mut window = Window::new(Some(9), 0);
        for (position, stream) in [(10, 1), (11, 1), (12, 2), (20, 1)] {
            window.push(event(position, stream));
        }
        assert_eq!(
            (next(&mut window), next(&mut window), next(&mut window)),
            (Some((10, 1)), Some((12, 1)), None)
        );
        window.delivered(12);
        assert_eq!((window.cursor(), next(&mut window)), (Some(9), None));
        window.failed(10);
        assert_eq!(next(&mut window), Some((10, 2)));
        window.delivered(10);
        assert_eq!((window.cursor(), next(&mut window)), (Some(10), Some((11, 1))));
        window.pass(25);
        window.delivered(11);
        assert_eq!((window.cursor(), next(&mut window)), (Some(12), Some((20, 1))));
        window.delivered(20);
        assert_eq!(window.cursor(), Some(25));
        window.pass(30);
        assert_eq!(window.cursor(), Some(30));
    }

    #[test]
    fn tries_of_a_former_life_count() {
        let mut window = Window::new(None, 3);
        window.push(event(0, 1));
        window.push(event(1, 2));
        assert_eq!((next(&mut window), next(&mut window)), (Some((0, 4)), Some((1, 1))));
    }

    proptest! {
        /// However answers come in: each stream goes out in order with at most one under way, and the cursor never
        /// passes what is not delivered.
        #[test]
        fn streams_stay_in_order(
            streams in prop::collection::vec(0_u8..4, 1..100),
            answers in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 400),
        ) {
            let mut window = Window::new(None, 0);
            let mut coming = streams.iter().enumerate().map(|(position, stream)| event(position as u64, *stream)).peekable();
            let (mut under_way, mut delivered) = (Vec::<Arc<Recorded>>::new(), HashSet::new());
            let mut last: HashMap<StreamName, Position> = HashMap::new();
            for (which, ok) in answers {
                while window.has_room() && let Some(event) = coming.next() {
                    window.push(event);
                }
                while under_way.len() < 8 && let Some(Due { event, .. }) = window.next() {
                    prop_assert!(under_way.iter().all(|other| other.stream != event.stream));
                    prop_assert!(last.get(&event.stream).is_none_or(|last| *last < event.position));
                    under_way.push(event);
                }
                if under_way.is_empty() {
                    break;
                }
                let event = under_way.swap_remove(which.index(under_way.len()));
                if ok {
                    last.insert(event.stream.clone(), event.position);
                    delivered.insert(event.position);
                    window.delivered(event.position);
                } else {
                    window.failed(event.position);
                }
                let cursor = window.cursor().map_or(0, |cursor| cursor + 1);
                prop_assert!((0..cursor).all(|position| delivered.contains(&position)));
                prop_assert!(!delivered.contains(&cursor));
            }
        }
    }
}
