//! The file as people with an SQLite tool see it, and files of older formats.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests say what they rely on by panicking")]

use std::{path::PathBuf, sync::Arc, thread, time::Duration};

use chrono::DateTime;
use futures::TryStreamExt;
use rusqlite::{Connection, types::Value};
use souk_event_log::{
    AppendError, Direction, Envelope, EventLog, Expected, Filter, NewEvent, StreamName,
    sqlite::{Options, SqliteLog, verify},
};
use tempfile::TempDir;
use uuid::Uuid;

struct File(TempDir);

impl File {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("events.sqlite")
    }

    fn log(&self) -> Arc<SqliteLog> {
        let clock = Arc::new(|| DateTime::from_timestamp(1_700_000_000, 5_000).unwrap());
        let options = Options { clock, busy_timeout: Duration::from_secs(20), ..Options::default() };
        SqliteLog::open(&self.path(), options).unwrap()
    }

    /// As any SQLite tool would open it, with nothing of ours in the way.
    fn tool(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    /// A file of the first format with these events: the rows are the same in every format.
    async fn of_format_1(count: u128) -> Self {
        let (newer, older) = (Self::new(), Self::new());
        let log = newer.log();
        for n in 0..count {
            append(&log, "order-a", n).await.unwrap();
        }
        drop(log);
        let tool = older.tool();
        tool.pragma_update(None, "journal_mode", "WAL").unwrap();
        tool.execute_batch(include_str!("formats/1.sql")).unwrap();
        tool.execute("ATTACH ?1 AS newer", [newer.path().to_str().unwrap()]).unwrap();
        tool.execute_batch(
            "INSERT INTO main.streams SELECT * FROM newer.stream_rows;
             INSERT INTO main.kinds SELECT * FROM newer.kinds;
             INSERT INTO main.events SELECT * FROM newer.event_rows;",
        )
        .unwrap();
        older
    }
}

fn event(id: u128) -> NewEvent {
    NewEvent {
        id: Uuid::from_u128(id),
        event_type: "Happened".into(),
        data: b"{}".to_vec(),
        metadata: b"{}".to_vec().into(),
    }
}

async fn append(log: &SqliteLog, stream: &str, id: u128) -> Result<u64, AppendError> {
    let stream = StreamName::parse(stream).unwrap();
    Ok(log.append(&stream, Expected::Any, vec![event(id)]).await?.position)
}

async fn ids(log: &SqliteLog) -> Vec<u128> {
    let events: Vec<_> =
        log.read_all(0, Filter::all(), Direction::Forward, usize::MAX).try_collect().await.unwrap();
    events.iter().map(|event| event.id.as_u128()).collect()
}

/// The rows of a query, each as its values.
fn rows(tool: &Connection, sql: &str) -> Vec<Vec<Value>> {
    let mut statement = tool.prepare(sql).unwrap();
    let columns = statement.column_count();
    let rows = statement.query_map([], |row| (0..columns).map(|column| row.get(column)).collect()).unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[tokio::test]
async fn events_and_streams_are_readable_with_any_tool() {
    let file = File::new();
    let log = file.log();
    let full = NewEvent {
        id: "0189aaaa-bbbb-7ccc-8ddd-eeeeffff0001".parse().unwrap(),
        event_type: "OrderPlaced".into(),
        data: r#"{"total":{"amount":1599,"currency":"USD"}}"#.into(),
        metadata: br#"{"schemaVersion":2,"occurredAt":"2010-12-01T08:26:00Z","actor":"import","correlationId":"c","causationId":"d","commandId":"e"}"#.to_vec().into(),
    };
    let (order, market) = (StreamName::new("order", "a-b"), StreamName::parse("market").unwrap());
    log.append(&order, Expected::NoStream, vec![full]).await.unwrap();
    // What another program may append.
    let foreign = NewEvent { data: vec![0, 255], metadata: Envelope::default(), ..event(2) };
    log.append(&market, Expected::NoStream, vec![foreign, event(3)]).await.unwrap();

    let tool = file.tool();
    let recorded = text("2023-11-14T22:13:20.000005Z");
    let first = rows(&tool, "SELECT * FROM events WHERE position = 0").remove(0);
    assert_eq!(
        first[..18],
        [
            Value::Integer(0),
            text("order-a-b"),
            text("order"),
            text("a-b"),
            Value::Integer(0),
            text("OrderPlaced"),
            Value::Integer(2),
            recorded.clone(),
            text("2010-12-01T08:26:00Z"),
            Value::Integer(1_700_000_000_000_005),
            text("import"),
            Value::Integer(1599),
            text("USD"),
            text("c"),
            text("d"),
            text("e"),
            text(r#"{"total":{"amount":1599,"currency":"USD"}}"#),
            text(
                r#"{"schemaVersion":2,"occurredAt":"2010-12-01T08:26:00Z","actor":"import","correlationId":"c","causationId":"d","commandId":"e"}"#
            ),
        ]
    );
    assert_eq!(first[18], text("0189aaaa-bbbb-7ccc-8ddd-eeeeffff0001"));
    let totals = rows(&tool, "SELECT json_extract(data, '$.total.amount') FROM events ORDER BY position");
    assert_eq!(totals, [[Value::Integer(1599)], [Value::Null], [Value::Null]]);
    let foreign = "SELECT category, stream_id, version, occurred_at, actor, data, metadata FROM events WHERE position = 1";
    assert_eq!(
        rows(&tool, foreign),
        [[
            text("market"),
            text(""),
            Value::Integer(1),
            recorded,
            Value::Null,
            text("\"00ff\""),
            text("\"\"")
        ]]
    );
    assert_eq!(
        rows(&tool, "SELECT * FROM streams ORDER BY first_position"),
        [
            [text("order-a-b"), text("order"), text("a-b"), 1.into(), 0.into(), 0.into()],
            [text("market"), text("market"), text(""), 2.into(), 1.into(), 2.into()],
        ]
    );
}

#[tokio::test]
async fn nobody_changes_an_event_by_accident() {
    let file = File::new();
    append(&file.log(), "order-1", 0).await.unwrap();
    let tool = file.tool();
    for sql in ["UPDATE event_rows SET data = x'00'", "DELETE FROM event_rows"] {
        let error = tool.execute(sql, []).unwrap_err();
        assert!(error.to_string().contains("append-only"), "{error}");
    }
    for sql in ["UPDATE events SET data = x'00'", "DELETE FROM events", "DELETE FROM streams"] {
        let error = tool.execute(sql, []).unwrap_err();
        assert!(error.to_string().contains("is a view"), "{error}");
    }
}

/// What is asked of a view is asked of the indexes below it.
#[tokio::test]
async fn the_views_read_no_more_than_they_must() {
    let file = File::new();
    append(&file.log(), "order-1", 0).await.unwrap();
    let tool = file.tool();
    for sql in [
        "SELECT data FROM events WHERE stream = 'order-1' ORDER BY revision",
        "SELECT data FROM events WHERE position BETWEEN 5 AND 9",
        "SELECT events, last_position FROM streams WHERE stream = 'order-1'",
    ] {
        let plan = rows(&tool, &format!("EXPLAIN QUERY PLAN {sql}"));
        let steps: Vec<_> = plan.into_iter().map(|mut step| step.remove(3)).collect();
        let scans = |step: &Value| matches!(step, Value::Text(step) if step.starts_with("SCAN"));
        assert!(!steps.iter().any(scans), "{sql}: {steps:?}");
    }
}

#[tokio::test]
async fn a_file_of_the_first_format_goes_on() {
    let file = File::of_format_1(3).await;
    let log = file.log();
    assert_eq!(ids(&log).await, [0, 1, 2]);
    assert_eq!(append(&log, "order-a", 3).await.unwrap(), 3);
    assert_eq!(append(&log, "order-b", 4).await.unwrap(), 4);
    assert_eq!(ids(&log).await, [0, 1, 2, 3, 4]);
    drop(log);
    let report = verify(&file.path(), 0, |_| ()).unwrap();
    assert_eq!((report.events, report.bad), (5, None));
    // The same tables, index, triggers and views as in a file that was made today.
    let schema = |file: &File| {
        let objects =
            rows(&file.tool(), "SELECT type, name, tbl_name FROM sqlite_schema ORDER BY type, name");
        (objects, rows(&file.tool(), "SELECT sql FROM sqlite_schema WHERE type = 'view' ORDER BY name"))
    };
    let today = File::new();
    drop(today.log());
    assert_eq!(schema(&file), schema(&today));
    let error = file.tool().execute("DELETE FROM event_rows", []).unwrap_err();
    assert!(error.to_string().contains("append-only"), "{error}");
}

#[tokio::test]
async fn a_file_of_the_first_format_is_verified_without_being_opened_before() {
    let file = File::of_format_1(3).await;
    let report = verify(&file.path(), 0, |_| ()).unwrap();
    assert_eq!((report.events, report.bad), (3, None));
    assert_eq!(append(&file.log(), "order-a", 3).await.unwrap(), 3);
}

/// A program that knows the first format alone, in the middle of reading and about to append.
#[tokio::test]
async fn a_file_is_brought_up_beside_programs_of_yesterday() {
    let file = File::of_format_1(3).await;
    let yesterday = file.tool();
    yesterday.execute_batch("BEGIN").unwrap();
    let count = "SELECT count(*) FROM streams";
    assert_eq!(rows(&yesterday, count), [[Value::Integer(1)]]);
    let mut insert = yesterday.prepare("INSERT INTO events SELECT 3, stream_id, 3, kind_id, recorded_at, id, hash, data, metadata FROM events WHERE position = 2").unwrap();

    let log = file.log();
    assert_eq!(append(&log, "order-b", 3).await.unwrap(), 3);
    assert_eq!(rows(&yesterday, count), [[Value::Integer(1)]], "its snapshot is what it was");
    yesterday.execute_batch("ROLLBACK").unwrap();
    assert!(insert.execute([]).is_err(), "it appends nothing that it does not understand");
    drop(insert);
    let version: i32 = yesterday.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 2, "at its next look it sees why");
    assert_eq!(ids(&log).await, [0, 1, 2, 3]);
}

#[tokio::test]
async fn several_programs_may_bring_a_file_up_at_once() {
    let file = File::of_format_1(3).await;
    thread::scope(|scope| {
        let opened: Vec<_> = (0..6).map(|_| scope.spawn(|| file.log())).collect();
        for log in opened {
            drop(log.join().unwrap());
        }
    });
    assert_eq!(append(&file.log(), "order-a", 3).await.unwrap(), 3);
    assert_eq!(verify(&file.path(), 0, |_| ()).unwrap().events, 4);
}
