//! The in-memory adapter: the common properties, and its faults.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they rely on by panicking")]

mod common;

use std::sync::Arc;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use souk_event_log::{
    AppendError, EventLog, Expected, Filter, MemoryLog, Message, NewEvent, StreamName, conformance::Factory,
    memory::Fault,
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
    vec![NewEvent { id: Uuid::from_u128(id), event_type: "E".into(), data: vec![], metadata: vec![] }]
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
