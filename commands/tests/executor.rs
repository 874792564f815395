//! Command execution against logs that misbehave, and against others who write to the same streams.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    path::Path,
    sync::{Arc, Barrier},
    thread,
};

use chrono::{DateTime, Utc};
use futures::future::join_all;
use souk_commands::{Aggregates, Context, ExecuteError, clock::Clock, executor::Snapshots};
use souk_domain::{
    AccountId, OrderId, SkuId,
    inventory::{InventoryCommand, InventoryError, InventoryState},
    testing::examples::{ITEM, SELLER, order_id, sku, sku_id},
};
use souk_event_log::{EventLog, Expected, MemoryLog, NewEvent, SqliteLog, StreamName, memory::Fault};
use uuid::Uuid;

fn clock() -> Clock {
    Clock::from_fn(|| DateTime::<Utc>::UNIX_EPOCH)
}

fn memory() -> Arc<MemoryLog> {
    Arc::new(MemoryLog::new(Arc::new(|| DateTime::<Utc>::UNIX_EPOCH)))
}

fn over(log: &Arc<MemoryLog>) -> Aggregates {
    let log: Arc<dyn EventLog> = log.clone();
    Aggregates::new(log, clock(), None)
}

fn context(n: u128) -> Context {
    Context::new(Uuid::from_u128(n), "test")
}

fn mug() -> SkuId {
    sku_id("MUG")
}

fn receive(quantity: u32) -> InventoryCommand {
    let (item_id, seller_id): (_, AccountId) = (ITEM, SELLER);
    InventoryCommand::Receive { item_id, seller_id, sku: sku("MUG"), quantity, reason: None }
}

fn reserve(order: OrderId) -> InventoryCommand {
    InventoryCommand::Reserve { order_id: order, quantity: 1 }
}

async fn on_hand(aggregates: &Aggregates) -> (u64, u64) {
    let read = |state: &InventoryState| (state.on_hand, state.reserved);
    aggregates.inventory.read(mug(), read).await.unwrap().value
}

#[tokio::test]
async fn a_command_that_is_repeated_is_carried_out_once() {
    let log = memory();
    let aggregates = over(&log);
    let first = aggregates.inventory.execute(mug(), receive(5), &context(1)).await.unwrap();
    let again = aggregates.inventory.execute(mug(), receive(5), &context(1)).await.unwrap();
    assert_eq!((first.events.len(), again.events.len()), (1, 0));
    assert_eq!((again.revision, again.position), (first.revision, first.position));
    // Also by somebody who finds it in the log.
    let elsewhere = over(&log).inventory.execute(mug(), receive(5), &context(1)).await.unwrap();
    assert_eq!((elsewhere.events.len(), elsewhere.position), (0, first.position));
    assert_eq!(on_hand(&aggregates).await, (5, 0));
}

#[tokio::test]
async fn the_same_command_sent_many_times_at_once_is_carried_out_once() {
    let log = memory();
    let aggregates = over(&log);
    let contexts = vec![context(1); 50];
    let sent = contexts.iter().map(|context| aggregates.inventory.execute(mug(), receive(5), context));
    let done = join_all(sent).await;
    assert_eq!(done.iter().filter(|done| !done.as_ref().unwrap().events.is_empty()).count(), 1);
    assert!(done.iter().all(|done| done.as_ref().unwrap().position == Some(0)), "{done:?}");
    assert_eq!(on_hand(&aggregates).await, (5, 0));
}

#[tokio::test]
async fn a_command_id_that_comes_with_another_body_is_refused() {
    let log = memory();
    let aggregates = over(&log);
    let with = |body: &str| Context { fingerprint: Some(body.into()), ..context(1) };
    aggregates.inventory.execute(mug(), receive(5), &with("five")).await.unwrap();
    let other = aggregates.inventory.execute(mug(), receive(6), &with("six")).await;
    assert!(matches!(other, Err(ExecuteError::KeyReused)), "{other:?}");
    assert!(matches!(aggregates.inventory.recall(mug(), &with("six")).await, Err(ExecuteError::KeyReused)));
    assert!(aggregates.inventory.recall(mug(), &with("five")).await.is_ok());
    assert_eq!(on_hand(&aggregates).await, (5, 0));
}

#[tokio::test]
async fn two_processes_that_write_to_one_stream_never_oversell() {
    let log = memory();
    let (one, other) = (over(&log), over(&log));
    one.inventory.execute(mug(), receive(10), &context(0)).await.unwrap();
    let contexts: Vec<_> = (1..=60).map(context).collect();
    let orders = contexts.iter().enumerate().map(|(n, context)| {
        let aggregates = if n % 2 == 0 { &one } else { &other };
        aggregates.inventory.execute(mug(), reserve(order_id(n as u128)), context)
    });
    for done in join_all(orders).await {
        assert_eq!(done.unwrap().events.len(), 1);
    }
    let reserved = log.events().iter().filter(|event| &*event.event_type == "StockReserved").count();
    let rejected = log.events().iter().filter(|event| &*event.event_type == "ReservationRejected").count();
    assert_eq!((reserved, rejected), (10, 50));
    assert_eq!(on_hand(&one).await, (10, 10));
    assert_eq!(on_hand(&other).await, (10, 10));
}

#[tokio::test]
async fn a_refusal_is_never_decided_on_an_old_state() {
    let log = memory();
    let (one, other) = (over(&log), over(&log));
    one.inventory.execute(mug(), receive(1), &context(1)).await.unwrap();
    // The other process sells what this one still believes to be there, and brings more than this one knows of.
    other.inventory.execute(mug(), receive(4), &context(2)).await.unwrap();
    let lost = InventoryCommand::Adjust { change: -5, reason: None };
    assert!(one.inventory.execute(mug(), lost, &context(3)).await.is_ok());
    let lost = InventoryCommand::Adjust { change: -1, reason: None };
    let refused = other.inventory.execute(mug(), lost, &context(4)).await;
    assert!(matches!(refused, Err(ExecuteError::Refused(InventoryError::Insufficient { available: 0 }))));
}

#[tokio::test]
async fn an_append_whose_outcome_is_unknown_ends_as_one_event() {
    for fault in [Fault::UnknownWritten, Fault::UnknownNotWritten] {
        let log = memory();
        let aggregates = over(&log);
        log.inject(fault);
        aggregates.inventory.execute(mug(), receive(5), &context(1)).await.unwrap();
        assert_eq!(log.events().len(), 1);
        assert_eq!(on_hand(&aggregates).await, (5, 0));
    }
}

#[tokio::test]
async fn a_log_that_is_unavailable_is_an_error_and_changes_nothing() {
    let log = memory();
    let aggregates = over(&log);
    log.inject(Fault::Unavailable);
    let failed = aggregates.inventory.execute(mug(), receive(5), &context(1)).await;
    assert!(matches!(failed, Err(ExecuteError::Unavailable(_))), "{failed:?}");
    assert_eq!(on_hand(&aggregates).await, (0, 0));
    aggregates.inventory.execute(mug(), receive(5), &context(1)).await.unwrap();
    assert_eq!(on_hand(&aggregates).await, (5, 0));
}

#[tokio::test]
async fn a_command_for_a_certain_revision_finds_out_that_it_is_stale() {
    let log = memory();
    let aggregates = over(&log);
    aggregates.inventory.execute(mug(), receive(5), &context(1)).await.unwrap();
    let stale = aggregates.inventory.execute_at(mug(), Some(7), receive(1), &context(2)).await;
    assert!(matches!(stale, Err(ExecuteError::Stale { actual: Some(0) })), "{stale:?}");
    assert!(aggregates.inventory.execute_at(mug(), Some(0), receive(1), &context(2)).await.is_ok());
    // Sent again it is the same command, not a stale one.
    assert!(aggregates.inventory.execute_at(mug(), Some(0), receive(1), &context(2)).await.is_ok());
    assert_eq!(on_hand(&aggregates).await, (6, 0));
}

#[tokio::test]
async fn many_commands_for_one_stream_share_an_append() {
    let folder = tempfile::tempdir().unwrap();
    let log = SqliteLog::open(&folder.path().join("log.sqlite"), souk_event_log::sqlite::Options::default())
        .unwrap();
    let aggregates = Aggregates::new(log.clone(), clock(), None);
    aggregates.inventory.execute(mug(), receive(1_000), &context(0)).await.unwrap();
    let contexts: Vec<_> = (1..=1_000).map(context).collect();
    let orders = contexts
        .iter()
        .enumerate()
        .map(|(n, context)| aggregates.inventory.execute(mug(), reserve(order_id(n as u128)), context));
    let done = join_all(orders).await;
    // All events of one append answer with the position of its last: the number of appends shows.
    let mut positions: Vec<_> = done.iter().map(|done| done.as_ref().unwrap().position).collect();
    positions.sort();
    positions.dedup();
    assert!(positions.len() <= 20, "{} appends for 1,000 commands", positions.len());
    assert_eq!(on_hand(&aggregates).await, (1_000, 1_000));
}

#[test]
fn two_that_make_the_file_of_snapshots_at_once_both_have_it() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = folder.path().join(round.to_string());
        let at_once = Barrier::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    at_once.wait();
                    Snapshots::open(&path).unwrap();
                });
            }
        });
    }
}

#[tokio::test]
async fn a_long_stream_is_loaded_from_its_snapshot_and_not_from_a_wrong_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshots.sqlite");
    let snapshots = Snapshots::open(&path).unwrap();
    let log = memory();
    let with = |log: &Arc<MemoryLog>| {
        let log: Arc<dyn EventLog> = log.clone();
        Aggregates::new(log, clock(), Some(snapshots.clone()))
    };
    let aggregates = with(&log);
    for n in 0..2_100 {
        aggregates.inventory.execute(mug(), receive(1), &context(n)).await.unwrap();
    }
    assert_eq!(snapshot_revision(&path), 1_999);
    assert_eq!(on_hand(&with(&log)).await, (2_100, 0));
    // A command from before the snapshot is still known.
    let again = with(&log).inventory.execute(mug(), receive(1), &context(1_500)).await.unwrap();
    assert!(again.events.is_empty());

    // Another log, in which that stream went another way: the snapshot is not trusted over it.
    let other = memory();
    let aggregates = over(&other);
    for n in 0..2_050 {
        aggregates.inventory.execute(mug(), receive(2), &context(10_000 + n)).await.unwrap();
    }
    assert_eq!(on_hand(&with(&other)).await, (4_100, 0));
}

fn snapshot_revision(path: &Path) -> u64 {
    let file = rusqlite::Connection::open(path).unwrap();
    let state: Vec<u8> = file.query_row("SELECT state FROM snapshots", [], |row| row.get(0)).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    state["head"]["revision"].as_u64().unwrap()
}

/// A program of yesterday on the log of one of today.
#[tokio::test]
async fn a_stream_with_an_event_of_tomorrow_is_neither_read_nor_written() {
    for (event_type, version) in [("StockReceived", 99), ("StockTeleported", 1)] {
        let log = memory();
        over(&log).inventory.execute(mug(), receive(5), &context(1)).await.unwrap();
        let stream = StreamName::new("inventory", mug());
        let newer = NewEvent {
            id: Uuid::from_u128(9),
            event_type: event_type.into(),
            data: b"{}".to_vec(),
            metadata: format!(r#"{{"schemaVersion":{version}}}"#).into_bytes().into(),
        };
        let appended = log.append(&stream, Expected::Exact(0), vec![newer]).await.unwrap();
        let aggregates = over(&log);
        let refused =
            aggregates.inventory.execute(mug(), reserve(order_id(1)), &context(2)).await.unwrap_err();
        let ExecuteError::Unreadable(message) = refused else { panic!("{refused:?}") };
        assert!(message.contains(event_type) && message.contains("upgrade"), "{message}");
        assert!(aggregates.inventory.read(mug(), |_| ()).await.is_err());
        assert_eq!(log.head().await.unwrap(), Some(appended.position), "nothing was appended");
    }
}
