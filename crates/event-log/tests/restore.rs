//! A log's file made anew of copied events.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they rely on by panicking")]

mod common;

use std::{path::PathBuf, sync::Arc};

use futures::TryStreamExt;
use souk_event_log::{
    Direction, EventLog, Expected, Filter, NewEvent, Recorded, StreamName,
    sqlite::{Damage, Options, RestoreError, Restorer, SqliteLog, verify},
};
use tempfile::TempDir;
use uuid::Uuid;

fn open(folder: &TempDir, name: &str) -> (Arc<SqliteLog>, PathBuf) {
    let path = folder.path().join(name);
    let options = Options { clock: common::unsteady_clock(), ..Options::default() };
    (SqliteLog::open(&path, options).unwrap(), path)
}

async fn append(log: &SqliteLog, n: u128) {
    let stream = StreamName::new(["order", "cart", "no hyphen: ü"][n as usize % 3], n % 7);
    let event = NewEvent {
        id: Uuid::from_u128(n),
        event_type: ["Placed", "Paid"][n as usize % 2].into(),
        // Others may append what is no JSON, and no text.
        data: if n.is_multiple_of(5) { vec![0, 159, 146, 150, b'\n'] } else { b"{\"n\": 1}".to_vec() },
        metadata: if n.is_multiple_of(4) { Vec::new() } else { b"{}".to_vec() }.into(),
    };
    log.append(&stream, Expected::Any, vec![event]).await.unwrap();
}

async fn all(log: &SqliteLog) -> Vec<Arc<Recorded>> {
    log.read_all(0, Filter::all(), Direction::Forward, usize::MAX).try_collect().await.unwrap()
}

#[tokio::test]
async fn a_restored_log_is_the_same_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(&folder, "events.sqlite");
    for n in 0..100 {
        append(&log, n).await;
    }
    let events = all(&log).await;
    let path = folder.path().join("copy.sqlite");
    let mut restorer = Restorer::create(&path).unwrap();
    for part in events.chunks(30) {
        restorer.insert(part.iter().map(|event| &**event)).unwrap();
    }
    assert_eq!(restorer.head(), events.last().map(|last| (99, last.hash.unwrap())));
    restorer.finish().unwrap();

    assert_eq!(verify(&path, 0, |_| ()).unwrap(), log.verify(0, |_| ()).unwrap());
    let (copy, path) = open(&folder, "copy.sqlite");
    assert_eq!(all(&copy).await, events);
    append(&copy, 100).await;
    let report = verify(&path, 0, |_| ()).unwrap();
    assert_eq!((report.events, report.bad), (101, None));
    assert!(Restorer::create(&path).is_err(), "a file that is there is left alone");
}

#[tokio::test]
async fn nothing_but_the_next_event_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = open(&folder, "events.sqlite");
    for n in 0..10 {
        append(&log, n).await;
    }
    let events: Vec<Recorded> = all(&log).await.iter().map(|event| Recorded::clone(event)).collect();
    let refused = |name: &str, change: &dyn Fn(&mut Vec<Recorded>)| {
        let mut events = events.clone();
        change(&mut events);
        let mut restorer = Restorer::create(&folder.path().join(name)).unwrap();
        match restorer.insert(&events) {
            Err(RestoreError::Damaged { position, damage }) => (position, damage),
            other => panic!("{name}: {other:?}"),
        }
    };
    assert_eq!(refused("changed", &|events| events[4].data.push(b' ')), (4, Damage::Hash));
    assert_eq!(refused("missing", &|events| drop(events.remove(3))), (4, Damage::Missing));
    assert_eq!(refused("twice", &|events| events.insert(3, events[3].clone())), (3, Damage::Missing));
    assert_eq!(refused("without a hash", &|events| events[2].hash = None), (2, Damage::Shape));
    assert_eq!(
        refused("another stream", &|events| events[9].stream = events[8].stream.clone()),
        (9, Damage::Hash)
    );
}
