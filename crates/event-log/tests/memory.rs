//! The in-memory adapter: the common properties, and its faults.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they rely on by panicking")]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use async_trait::async_trait;
use chrono::DateTime;
use futures::{FutureExt, StreamExt};
use souk_event_log::{
    AppendError, Envelope, EventLog, Expected, Filter, MemoryLog, Message, NewEvent, StreamName,
    conformance::Factory, memory::Fault,
};
use uuid::Uuid;

struct Memory(MemoryLog);

#[async_trait]
impl Factory for Memory {
    async fn open(&self) -> Arc<dyn EventLog> {
        Arc::new(self.0.clone())
    }
}

souk_event_log::conformance_tests!(Memory(MemoryLog::new(common::unsteady_clock())));

fn event(id: u128) -> Vec<NewEvent> {
    vec![NewEvent {
        id: Uuid::from_u128(id),
        event_type: "E".into(),
        data: vec![],
        metadata: Envelope::default(),
    }]
}

/// Nothing here waits, so no runtime is needed: each future is ready at once.
fn append(log: &MemoryLog, stream: &StreamName, id: u128) -> Result<u64, AppendError> {
    let appended = log.append(stream, Expected::Any, event(id)).now_or_never().expect("ready at once");
    appended.map(|appended| appended.last_revision)
}

#[test]
fn each_fault_is_met_once() {
    let log = MemoryLog::new(common::unsteady_clock());
    let stream = StreamName::new("order", 1);
    assert_eq!(append(&log, &stream, 1).unwrap(), 0);
    for fault in [Fault::Unavailable, Fault::UnknownNotWritten, Fault::Conflict, Fault::UnknownWritten] {
        log.inject(fault);
    }
    assert!(matches!(append(&log, &stream, 2), Err(AppendError::Unavailable(_))));
    assert!(matches!(append(&log, &stream, 2), Err(AppendError::Unknown(_))));
    assert!(matches!(append(&log, &stream, 2), Err(AppendError::Conflict { actual: Some(0) })));
    assert_eq!(log.events().len(), 1);
    assert!(matches!(append(&log, &stream, 2), Err(AppendError::Unknown(_))));
    assert_eq!(log.events().len(), 2);
    assert_eq!(log.faults_left(), 0);
    // Sent again after an unknown outcome, it is found.
    assert_eq!(append(&log, &stream, 2).unwrap(), 1);
    assert_eq!(log.events().len(), 2);
}

#[test]
fn a_fault_can_wait_for_a_category() {
    let log = MemoryLog::new(common::unsteady_clock());
    log.inject_into("payment", Fault::Unavailable);
    assert_eq!(append(&log, &StreamName::new("order", 1), 1).unwrap(), 0);
    assert_eq!(log.faults_left(), 1);
    assert!(append(&log, &StreamName::new("payment", 1), 2).is_err());
    assert_eq!(append(&log, &StreamName::new("payment", 1), 2).unwrap(), 0);
}

#[test]
fn a_subscription_is_ready_without_a_runtime() {
    let log = MemoryLog::new(common::unsteady_clock());
    let mut subscription = log.subscribe(None, Filter::all());
    assert!(matches!(subscription.next().now_or_never(), Some(Some(Ok(Message::CaughtUp)))));
    assert!(subscription.next().now_or_never().is_none());
    append(&log, &StreamName::new("order", 1), 1).unwrap();
    assert!(matches!(subscription.next().now_or_never(), Some(Some(Ok(Message::Event(_))))));
}

#[tokio::test]
async fn the_last_event_before_a_time_is_found() {
    let now = Arc::new(AtomicI64::new(0));
    let clock = Arc::clone(&now);
    let at = |seconds| DateTime::from_timestamp(seconds, 0).unwrap();
    let log = MemoryLog::new(Arc::new(move || at(clock.load(Ordering::Relaxed))));
    assert_eq!(log.last_before(at(5)).await.unwrap(), None);
    for second in 0..10_u32 {
        now.store(i64::from(second / 2 * 2), Ordering::Relaxed);
        append(&log, &StreamName::new("clock", 1), second.into()).unwrap();
    }
    // Recorded at 0, 0, 2, 2, 4, 4, 6, 6, 8, 8.
    for (time, position) in [(0, None), (1, Some(1)), (2, Some(1)), (5, Some(5)), (8, Some(7)), (9, Some(9))]
    {
        assert_eq!(log.last_before(at(time)).await.unwrap(), position, "before {time}");
    }
}
