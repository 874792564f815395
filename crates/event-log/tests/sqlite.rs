//! The SQLite adapter: the common properties, and what only a file can do.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they rely on by panicking")]

mod common;

use std::{path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::TryStreamExt;
use rusqlite::Connection;
use souk_event_log::{
    AppendError, Direction, EventLog, Expected, Filter, Message, NewEvent, ReadError, StreamName,
    Subscription,
    conformance::Factory,
    sqlite::{Damage, OpenError, Options, SqliteLog, VerifyReport, verify},
};
use tempfile::TempDir;
use uuid::Uuid;

struct File(TempDir);

impl File {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("events.sqlite")
    }

    fn log(&self) -> Arc<SqliteLog> {
        SqliteLog::open(&self.path(), options()).unwrap()
    }

    /// As any SQLite tool would open it, with nothing of ours in the way.
    fn tool(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

fn options() -> Options {
    Options {
        clock: common::unsteady_clock(),
        poll_interval: Duration::from_millis(5),
        busy_timeout: Duration::from_millis(200),
    }
}

#[async_trait]
impl Factory for File {
    async fn open(&self) -> Arc<dyn EventLog> {
        SqliteLog::open(&self.path(), Options { busy_timeout: Duration::from_secs(20), ..options() }).unwrap()
    }
}

impl Drop for File {
    /// Whatever a property did to the log, its chain holds.
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.path().with_extension("damaged").exists() {
            let report = verify(&self.path(), 0, |_| ()).unwrap();
            assert_eq!(report.bad, None);
        }
    }
}

souk_event_log::conformance_tests!(File::new());

fn events(from: u128, count: u128) -> Vec<NewEvent> {
    let event = |id| NewEvent {
        id: Uuid::from_u128(id),
        event_type: "Happened".into(),
        data: format!(r#"{{"n":{id}}}"#).into_bytes(),
        metadata: b"{}".to_vec().into(),
    };
    (from..from + count).map(event).collect()
}

async fn fill(log: &SqliteLog, count: u128) {
    for n in 0..count {
        let stream = StreamName::new(["order", "payment"][n as usize % 2], n % 5);
        log.append(&stream, Expected::Any, events(n, 1)).await.unwrap();
    }
}

async fn ids(log: &SqliteLog) -> Result<Vec<u128>, ReadError> {
    let events: Vec<_> = log.read_all(0, Filter::all(), Direction::Forward, usize::MAX).try_collect().await?;
    Ok(events.iter().map(|event| event.id.as_u128()).collect())
}

/// Makes an event of the log other than it was, as somebody with a tool might.
fn tamper(file: &File, sql: &str) {
    let tool = file.tool();
    tool.execute_batch("DROP TRIGGER events_are_never_changed; DROP TRIGGER events_are_never_deleted;")
        .unwrap();
    assert!(tool.execute(sql, []).unwrap() > 0);
    std::fs::write(file.path().with_extension("damaged"), "").unwrap();
}

/// Before the first event, where no chain reaches, and the next of its stream.
const INSERTED: &str = "INSERT INTO event_rows SELECT -7, stream_id, revision + 5, kind_id, recorded_at, zeroblob(16), \
    zeroblob(32), data, metadata FROM event_rows WHERE position = 19";

#[tokio::test]
async fn verify_names_the_first_bad_position() {
    let renamed = "UPDATE stream_rows SET name = 'order-9' WHERE name = 'order-2'";
    let cases = [
        ("UPDATE event_rows SET hash = x'00' WHERE position = 7", 7, Damage::Shape),
        ("UPDATE event_rows SET data = CAST('{\"n\":8}' AS BLOB) WHERE position IN (7, 9)", 7, Damage::Hash),
        ("UPDATE event_rows SET metadata = x'5b5d' WHERE position = 19", 19, Damage::Hash),
        ("UPDATE event_rows SET recorded_at = recorded_at + 1 WHERE position = 3", 3, Damage::Hash),
        ("UPDATE event_rows SET hash = zeroblob(32) WHERE position = 4", 4, Damage::Hash),
        ("UPDATE event_rows SET id = randomblob(16) WHERE position = 0", 0, Damage::Hash),
        ("UPDATE event_rows SET revision = 77 WHERE position = 11", 11, Damage::Hash),
        ("UPDATE kinds SET type = 'Other' WHERE category = 'payment'", 1, Damage::Hash),
        ("UPDATE kinds SET category = 'other' WHERE category = 'payment'", 1, Damage::Name),
        (INSERTED, 0, Damage::Inserted),
        (renamed, 2, Damage::Hash),
        ("DELETE FROM stream_rows WHERE name = 'order-2'", 2, Damage::Name),
        ("DELETE FROM event_rows WHERE position = 5", 5, Damage::Missing),
    ];
    for (sql, position, damage) in cases {
        let file = File::new();
        let log = file.log();
        fill(&log, 20).await;
        let good = log.verify(0, |_| ()).unwrap();
        assert_eq!((good.events, good.bad), (20, None));
        let VerifyReport { events, head, bad } = log.verify(6, |_| ()).unwrap();
        assert_eq!((events, head, bad), (14, good.head, None), "from the middle");
        tamper(&file, sql);
        let report = log.verify(0, |_| ()).unwrap();
        assert_eq!(report.bad, Some((position, damage)), "{sql}");
        assert_eq!(
            (report.events, report.head.map(|(last, _)| last)),
            (position, position.checked_sub(1)),
            "{sql}"
        );
    }
}

#[tokio::test]
async fn verify_tells_its_progress() {
    let file = File::new();
    let log = file.log();
    for n in 0..25 {
        let stream = StreamName::new("order", n);
        log.append(&stream, Expected::NoStream, events(n * 1_000, 1_000)).await.unwrap();
    }
    let mut told = Vec::new();
    let report = log.verify(0, |position| told.push(position)).unwrap();
    assert_eq!((report.events, told), (25_000, vec![9_999, 19_999]));
}

#[tokio::test]
async fn a_missing_event_is_never_read_over() {
    let file = File::new();
    let log = file.log();
    fill(&log, 20).await;
    drop(log);
    tamper(&file, "DELETE FROM event_rows WHERE position = 5");
    let log = file.log();
    assert!(matches!(ids(&log).await, Err(ReadError::Corrupt(_))));
    let outcome: Result<Vec<Message>, ReadError> = log.subscribe(None, Filter::all()).try_collect().await;
    assert!(matches!(outcome, Err(ReadError::Corrupt(_))));
}

#[tokio::test]
async fn a_damaged_end_is_not_written_to() {
    let file = File::new();
    let log = file.log();
    fill(&log, 5).await;
    drop(log);
    tamper(&file, "UPDATE event_rows SET data = x'7b7d' WHERE position = 4");
    let error = SqliteLog::open(&file.path(), options()).err().unwrap();
    assert!(matches!(error, OpenError::Damaged { position: 4, damage: Damage::Hash }), "{error}");
}

#[tokio::test]
async fn only_a_log_of_this_format_is_opened() {
    let file = File::new();
    drop(file.log());
    file.tool().pragma_update(None, "user_version", 3).unwrap();
    let error = SqliteLog::open(&file.path(), options()).err().unwrap();
    assert!(matches!(error, OpenError::Version { found: 3, known: 2 }), "{error}");
    let error = verify(&file.path(), 0, |_| ()).unwrap_err();
    assert!(error.to_string().contains("upgrade"), "{error}");
    file.tool().pragma_update(None, "user_version", 2).unwrap();

    let other = file.path().with_file_name("other.sqlite");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE other (id INTEGER)").unwrap();
    assert!(matches!(SqliteLog::open(&other, options()).err(), Some(OpenError::NotALog)));
    std::fs::write(&other, "something else altogether").unwrap();
    assert!(SqliteLog::open(&other, options()).is_err());
    assert!(SqliteLog::open(Path::new("/nowhere/at/all"), options()).is_err());
}

async fn append_one(log: &SqliteLog, id: u128) -> Result<u64, AppendError> {
    let appended = log.append(&StreamName::new("order", 1), Expected::Any, events(id, 1)).await;
    appended.map(|appended| appended.position)
}

#[tokio::test]
async fn a_file_held_by_another_is_unavailable_for_a_while() {
    let file = File::new();
    let log = file.log();
    append_one(&log, 0).await.unwrap();
    let tool = file.tool();
    tool.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = append_one(&log, 1).await.unwrap_err();
    assert!(matches!(error, AppendError::Unavailable(_)), "{error}");
    assert_eq!(ids(&log).await.unwrap(), [0], "reading goes on");
    tool.execute_batch("ROLLBACK").unwrap();
    assert_eq!(append_one(&log, 1).await.unwrap(), 1);
}

#[tokio::test]
async fn after_a_failed_write_it_takes_up_again() {
    let file = File::new();
    let log = file.log();
    append_one(&log, 0).await.unwrap();
    let tool = file.tool();
    tool.execute_batch(
        "CREATE TRIGGER broken BEFORE INSERT ON event_rows WHEN new.kind_id > 1 BEGIN SELECT RAISE(ABORT, 'disk on fire'); END",
    )
    .unwrap();
    // One of two appends that may share a transaction fails: then neither was written, or each has its own outcome.
    let other = StreamName::new("payment", 1);
    let (good, bad) = tokio::join!(append_one(&log, 1), log.append(&other, Expected::NoStream, events(9, 1)));
    let error = bad.unwrap_err();
    assert!(matches!(&error, AppendError::Unavailable(text) if text.contains("disk on fire")), "{error}");
    let stored = ids(&log).await.unwrap();
    assert_eq!(stored, if good.is_ok() { vec![0, 1] } else { vec![0] });
    tool.execute_batch("DROP TRIGGER broken").unwrap();
    assert_eq!(append_one(&log, 1).await.unwrap(), 1);
    // The stream that was to be made in the transaction that failed is made now, under whatever number is free.
    append_one(&log, 2).await.unwrap();
    log.append(&other, Expected::NoStream, events(9, 1)).await.unwrap();
    assert_eq!(ids(&log).await.unwrap(), [0, 1, 2, 9]);
}

#[tokio::test]
async fn a_failed_commit_is_an_unknown_outcome() {
    let file = File::new();
    let log = file.log();
    append_one(&log, 0).await.unwrap();
    let tool = file.tool();
    // A deferred constraint is looked at by COMMIT alone.
    tool.execute_batch(
        "CREATE TABLE parents (id INTEGER PRIMARY KEY);
         CREATE TABLE broken (id INTEGER REFERENCES parents DEFERRABLE INITIALLY DEFERRED);
         CREATE TRIGGER broken AFTER INSERT ON event_rows BEGIN INSERT INTO broken VALUES (1); END",
    )
    .unwrap();
    let error = append_one(&log, 1).await.unwrap_err();
    assert!(matches!(error, AppendError::Unknown(_)), "{error}");
    assert_eq!(ids(&log).await.unwrap(), [0]);
    tool.execute_batch("DROP TRIGGER broken").unwrap();
    assert_eq!(append_one(&log, 1).await.unwrap(), 1);
}

#[tokio::test]
async fn a_file_that_lost_its_end_is_not_written_to() {
    let file = File::new();
    let log = file.log();
    fill(&log, 3).await;
    tamper(&file, "DELETE FROM event_rows WHERE position = 2");
    for _ in 0..2 {
        let error = append_one(&log, 7).await.unwrap_err();
        assert!(matches!(error, AppendError::Unavailable(_)), "{error}");
    }
    assert_eq!(ids(&log).await.unwrap(), [0, 1]);
}

#[tokio::test]
async fn a_copy_taken_at_any_moment_opens() {
    let file = File::new();
    let log = file.log();
    let stream = StreamName::new("order", 1);
    for n in 0..30 {
        log.append(&stream, Expected::Any, events(n * 10, 10)).await.unwrap();
        // What a kill leaves: the file and its write-ahead log as they are, the last of it perhaps half written.
        let copy = File::new();
        for extension in ["sqlite", "sqlite-wal"] {
            std::fs::copy(file.path().with_extension(extension), copy.path().with_extension(extension))
                .unwrap();
        }
        let wal = copy.path().with_extension("sqlite-wal");
        let length = std::fs::metadata(&wal).unwrap().len();
        let cut = length.min(n as u64 * 500);
        std::fs::OpenOptions::new().write(true).open(&wal).unwrap().set_len(length - cut).unwrap();
        let reopened = copy.log();
        let stored = ids(&reopened).await.unwrap();
        assert_eq!(stored, (0..stored.len() as u128).collect::<Vec<_>>(), "a prefix of what was written");
        assert!(stored.len().is_multiple_of(10), "whole appends only");
        assert!(cut > 0 || stored.len() as u128 == (n + 1) * 10, "nothing that was acknowledged is missing");
        let next = stored.len() as u128;
        reopened.append(&stream, Expected::Any, events(next, 1)).await.unwrap();
        assert_eq!(ids(&reopened).await.unwrap().len() as u128, next + 1);
    }
}

/// Otherwise it would grow until the log is closed.
#[tokio::test]
async fn the_write_ahead_log_begins_anew_while_the_log_is_open() {
    let file = File::new();
    let log = file.log();
    let wal = file.path().with_extension("sqlite-wal");
    // How often it began anew is in its header, before the salt.
    let beginnings = || u32::from_be_bytes(std::fs::read(&wal).unwrap()[12..16].try_into().unwrap());
    let before = beginnings();
    let stream = StreamName::new("order", 1);
    let mut count = 0;
    while beginnings() < before + 2 {
        assert!(count < 100_000, "100,000 events, and all of them are still in the write-ahead log");
        log.append(&stream, Expected::Any, events(count, 500)).await.unwrap();
        count += 500;
    }
    assert_eq!(ids(&log).await.unwrap(), (0..count).collect::<Vec<_>>());
}

#[tokio::test]
async fn subscriptions_end_with_the_log() {
    let file = File::new();
    let log = file.log();
    fill(&log, 3).await;
    let subscription: Subscription = log.subscribe(None, Filter::all());
    drop(log);
    let mut seen = Vec::new();
    let end = subscription.try_for_each(|message| {
        seen.push(message);
        futures::future::ok(())
    });
    assert!(matches!(end.await, Err(ReadError::Unavailable(_))));
    assert!(matches!(seen[..], [Message::Event(_), Message::Event(_), Message::Event(_), Message::CaughtUp]));
}

#[test]
fn a_runtime_that_ends_takes_no_answers_with_it() {
    let file = File::new();
    let log = file.log();
    let stays = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_time().build().unwrap();
    let append = |id: u128| {
        let log = Arc::clone(&log);
        async move { log.append(&StreamName::new("order", id), Expected::NoStream, events(id, 1)).await }
    };
    for round in 0..20 {
        let ends = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let first = round * 100;
        let _gone: Vec<_> = (first..first + 20).map(|id| ends.spawn(append(id))).collect();
        let waiting: Vec<_> = (first + 20..first + 40).map(|id| stays.spawn(append(id))).collect();
        ends.shutdown_background();
        let answers = stays
            .block_on(async {
                tokio::time::timeout(Duration::from_mins(1), futures::future::join_all(waiting)).await
            })
            .expect("everybody is answered");
        assert!(answers.into_iter().all(|answer| answer.unwrap().is_ok()));
    }
}
