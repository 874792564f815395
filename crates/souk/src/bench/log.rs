//! `souk bench log`: how fast the embedded log appends, and how that compares with what the machine can do, all in one
//! run on one disk: a bare SQLite loop that writes the same bytes in batches of the same size, hashes included, and a
//! bare write with `fdatasync`.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use clap::Args;
use futures::{StreamExt, future::try_join_all};
use hdrhistogram::Histogram;
use serde::Serialize;
use souk_commands::clock::fresh_id;
use souk_event_log::{EventLog, Expected, Filter, Message, NewEvent, SqliteLog, StreamName, sqlite::Options};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinSet};
use uuid::Uuid;

use super::{
    report::{Conditions, Latency, histogram, record},
    target::place,
};
use crate::{
    config::duration,
    progress::{Progress, grouped},
};

#[derive(Clone, Debug, Args)]
pub(crate) struct LogArgs {
    /// Who append at the same time, each waiting for its append before the next
    #[arg(long, env = "SOUK_BENCH_WRITERS", value_name = "N", default_value_t = 256)]
    writers: usize,
    /// Events of a stream before its writer begins another; a market's streams have some ten
    #[arg(long, env = "SOUK_BENCH_STREAM_EVENTS", value_name = "N", default_value_t = 10)]
    stream_events: u64,
    /// Bytes of an event's data
    #[arg(long, env = "SOUK_BENCH_EVENT_BYTES", value_name = "BYTES", default_value_t = 400)]
    event_bytes: usize,
    /// Also: measures at 1,000,000 events, goes on to so many, and measures again
    #[arg(long, env = "SOUK_BENCH_GROW_TO", value_name = "EVENTS")]
    grow_to: Option<u64>,
    /// How long each measurement takes
    #[arg(long, env = "SOUK_BENCH_DURATION", value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// One JSON object instead of a table
    #[arg(long, env = "SOUK_JSON")]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    writers: usize,
    stream_events: u64,
    event_bytes: usize,
    seconds: f64,
    /// Each writer on streams of its own.
    many_streams: Appends,
    /// All writers on one stream.
    one_stream: Appends,
    /// One writer alone.
    alone: Appends,
    /// Milliseconds from when a lone writer is answered until a subscriber has the event.
    live_delivery_ms: Latency,
    /// Many streams again, in a log of 1,000,000 events and in a large one.
    #[serde(skip_serializing_if = "Option::is_none")]
    grown: Option<Grown>,
    bare_sqlite: Bare,
    /// Milliseconds of a write of the same bytes with `fdatasync`.
    bare_sync_ms: Latency,
    many_streams_to_bare_sqlite: f64,
    one_stream_to_many: f64,
    alone_to_bare_sync: f64,
    conditions: Conditions,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Appends {
    events: u64,
    per_second: f64,
    latency_ms: Latency,
    /// Events of one transaction, on average.
    batch: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Grown {
    small: Appends,
    large_events: u64,
    large: Appends,
    /// What an append costs in the large one, in terms of the small one.
    cost: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bare {
    per_second: f64,
    batch: usize,
}

pub(crate) async fn run(args: LogArgs) -> anyhow::Result<()> {
    ensure!(args.writers > 0, "--writers is above zero");
    ensure!(args.stream_events > 0, "--stream-events is above zero");
    let folder = tempfile::Builder::new().prefix("souk-bench-").tempdir_in(place())?;
    eprintln!("five measurements of {} s each", args.duration.as_secs_f64());
    let many_streams = appends(&open(&folder, "many")?, args.writers, false, &args).await?;
    let one_stream = appends(&open(&folder, "one")?, args.writers, true, &args).await?;
    let alone = appends(&open(&folder, "alone")?, 1, false, &args).await?;
    let live_delivery_ms = live(open(&folder, "live")?, &args).await?;
    let batch = (many_streams.batch.round() as usize).max(1);
    let (place, bytes, time) = (folder.path().to_owned(), args.event_bytes, args.duration);
    let stream_events = args.stream_events;
    let (bare_sqlite, bare_sync) = tokio::task::spawn_blocking(move || -> anyhow::Result<_> {
        let bare = bare_sqlite(&place.join("bare.sqlite"), batch, stream_events, bytes, time)?;
        Ok((bare, bare_sync(&place.join("bare"), bytes, time.min(Duration::from_secs(3)))?))
    })
    .await??;
    let grown = match args.grow_to {
        Some(events) => Some(grow(&open(&folder, "grown")?, events, &args).await?),
        None => None,
    };
    let report = Report {
        bench: "log",
        writers: args.writers,
        stream_events: args.stream_events,
        event_bytes: args.event_bytes,
        seconds: args.duration.as_secs_f64(),
        many_streams_to_bare_sqlite: many_streams.per_second / bare_sqlite.per_second,
        one_stream_to_many: one_stream.per_second / many_streams.per_second,
        alone_to_bare_sync: alone.latency_ms.p50 / bare_sync.p50,
        many_streams,
        one_stream,
        alone,
        live_delivery_ms,
        grown,
        bare_sqlite,
        bare_sync_ms: bare_sync,
        conditions: Conditions::of_this_machine(Some(folder.path()), "the embedded log alone".to_owned()),
    };
    report.print(args.json)
}

fn open(folder: &TempDir, name: &str) -> anyhow::Result<Arc<SqliteLog>> {
    Ok(SqliteLog::open(&folder.path().join(name).with_extension("sqlite"), Options::default())?)
}

const SMALL: u64 = 1_000_000;
/// Streams of an append that fills.
const FILLED_AT_ONCE: usize = 256;

async fn grow(log: &Arc<SqliteLog>, events: u64, args: &LogArgs) -> anyhow::Result<Grown> {
    let progress = Progress::new("events", events);
    fill(log, SMALL, args, &progress).await?;
    let small = appends(log, args.writers, false, args).await?;
    fill(log, events, args, &progress).await?;
    let large_events = log.head().await?.map_or(0, |head| head + 1);
    progress.finish();
    let large = appends(log, args.writers, false, args).await?;
    Ok(Grown { cost: small.per_second / large.per_second, small, large_events, large })
}

/// Appends whole streams until there are so many events.
async fn fill(log: &Arc<SqliteLog>, events: u64, args: &LogArgs, progress: &Progress) -> anyhow::Result<()> {
    loop {
        let done = log.head().await?.map_or(0, |head| head + 1);
        progress.set(done);
        if done >= events {
            return Ok(());
        }
        let streams = (0..FILLED_AT_ONCE).map(async |_| {
            let events = (0..args.stream_events).map(|_| event(args.event_bytes)).collect();
            log.append(&new_stream(), Expected::NoStream, events).await
        });
        try_join_all(streams).await?;
    }
}

async fn appends(
    log: &Arc<SqliteLog>,
    writers: usize,
    one_stream: bool,
    args: &LogArgs,
) -> anyhow::Result<Appends> {
    let transactions = log.transactions();
    let from = Instant::now();
    let to = from + args.duration;
    let mut running = JoinSet::new();
    for _ in 0..writers {
        let log = Arc::clone(log);
        let (bytes, stream_events) = (args.event_bytes, args.stream_events);
        running.spawn(async move {
            let mut took = histogram();
            let mut stream = StreamName::new("bench", 0);
            while Instant::now() < to {
                if !one_stream && took.len().is_multiple_of(stream_events) {
                    stream = new_stream();
                }
                let began = Instant::now();
                log.append(&stream, Expected::Any, vec![event(bytes)]).await?;
                record(&mut took, began.elapsed());
            }
            anyhow::Ok(took)
        });
    }
    let mut all: Histogram<u64> = histogram();
    while let Some(took) = running.join_next().await {
        all.add(took??)?;
    }
    let seconds = from.elapsed().as_secs_f64();
    let transactions = (log.transactions() - transactions).max(1);
    Ok(Appends {
        events: all.len(),
        per_second: all.len() as f64 / seconds,
        latency_ms: Latency::of(&all),
        batch: all.len() as f64 / transactions as f64,
    })
}

/// Named as most streams of a market are: by an id that is derived, and so in no order.
fn new_stream() -> StreamName {
    StreamName::new("bench", Uuid::new_v5(&Uuid::NAMESPACE_OID, fresh_id().as_bytes()))
}

/// One writer, one subscriber.
async fn live(log: Arc<SqliteLog>, args: &LogArgs) -> anyhow::Result<Latency> {
    let mut messages = log.subscribe(None, Filter::all());
    let (answered, mut answers) = mpsc::unbounded_channel();
    let (to, bytes) = (Instant::now() + args.duration, args.event_bytes);
    let writing = tokio::spawn(async move {
        let stream = new_stream();
        while Instant::now() < to {
            log.append(&stream, Expected::Any, vec![event(bytes)]).await?;
            let _ = answered.send(Instant::now());
        }
        anyhow::Ok(log)
    });
    let reading = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(Ok(message)) = messages.next().await {
            if let Message::Event(_) = message {
                seen.push(Instant::now());
            }
        }
        seen
    });
    // The subscription ends with the log.
    drop(writing.await??);
    let mut took = histogram();
    for seen in reading.await? {
        // The last answers may not have been sent when their events were seen.
        let Some(answered) = answers.recv().await else { break };
        record(&mut took, seen.saturating_duration_since(answered));
    }
    Ok(Latency::of(&took))
}

fn event(bytes: usize) -> NewEvent {
    NewEvent {
        id: fresh_id(),
        event_type: "Measured".into(),
        data: data(bytes),
        metadata: br#"{"schemaVersion":1}"#.to_vec().into(),
    }
}

fn data(bytes: usize) -> Vec<u8> {
    let filler = "x".repeat(bytes.saturating_sub(8));
    format!(r#"{{"x":"{filler}"}}"#).into_bytes()
}

/// One thread that hashes and inserts, `batch` rows to a transaction, each of another stream, and the names of new streams,
/// under the same settings as the log's.
fn bare_sqlite(
    path: &Path,
    batch: usize,
    stream_events: u64,
    bytes: usize,
    time: Duration,
) -> anyhow::Result<Bare> {
    let mut connection = rusqlite::Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE events (position INTEGER PRIMARY KEY, stream INTEGER NOT NULL, revision INTEGER NOT NULL,
             id BLOB NOT NULL, hash BLOB NOT NULL, data BLOB NOT NULL, metadata BLOB NOT NULL) STRICT;
         CREATE UNIQUE INDEX by_stream ON events (stream, revision);
         CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;",
    )?;
    let (mut hash, mut position) = ([0; 32], 0);
    let (batch, stream_events) = (i64::try_from(batch)?, i64::try_from(stream_events)?);
    let began = Instant::now();
    while began.elapsed() < time {
        let transaction = connection.transaction()?;
        {
            let mut insert =
                transaction.prepare_cached("INSERT INTO events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
            let mut name = transaction.prepare_cached("INSERT INTO streams VALUES (?1, ?2)")?;
            for _ in 0..batch {
                let NewEvent { id, data, metadata, .. } = event(bytes);
                let mut hasher = blake3::Hasher::new();
                hasher.update(&hash).update(id.as_bytes()).update(&data).update(&metadata);
                hash = *hasher.finalize().as_bytes();
                let (row, round) = (position % batch, position / batch);
                let (stream, revision) = (round / stream_events * batch + row, round % stream_events);
                if revision == 0 {
                    name.execute((stream, new_stream().as_str()))?;
                }
                insert.execute((position, stream, revision, id.as_bytes(), hash, data, &*metadata))?;
                position += 1;
            }
        }
        transaction.commit()?;
    }
    Ok(Bare { per_second: position as f64 / began.elapsed().as_secs_f64(), batch: batch as usize })
}

fn bare_sync(path: &Path, bytes: usize, time: Duration) -> anyhow::Result<Latency> {
    let mut file = File::create(path)?;
    let (data, mut took) = (data(bytes), histogram());
    let to = Instant::now() + time;
    while Instant::now() < to {
        let began = Instant::now();
        file.write_all(&data)?;
        file.sync_data()?;
        record(&mut took, began.elapsed());
    }
    Ok(Latency::of(&took))
}

fn print(name: &str, appends: &Appends) {
    let Appends { per_second, batch, latency_ms: Latency { p50, p99, max, .. }, .. } = appends;
    let per_second = grouped(per_second.round() as u64);
    println!("{name:<24}{per_second:>12}{batch:>10.1}{p50:>10.2}{p99:>10.2}{max:>10.2}");
}

impl Report {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        println!(
            "durable appends of one event of {} bytes, {} writers, {} events a stream, {:.0} s each",
            self.event_bytes, self.writers, self.stream_events, self.seconds
        );
        println!();
        println!(
            "{:<24}{:>12}{:>10}{:>10}{:>10}{:>10}",
            "", "events/s", "batch", "p50 ms", "p99 ms", "max ms"
        );
        for (name, appends) in [
            ("many streams", &self.many_streams),
            ("one stream", &self.one_stream),
            ("one writer", &self.alone),
        ] {
            print(name, appends);
        }
        if let Some(Grown { small, large_events, large, .. }) = &self.grown {
            for (events, appends) in [(SMALL, small), (*large_events, large)] {
                print(&format!("at {} events", grouped(events)), appends);
            }
        }
        let Bare { per_second, batch } = &self.bare_sqlite;
        println!("{:<24}{:>12}{batch:>10}", "bare SQLite", grouped(per_second.round() as u64));
        let Latency { p50, p99, max, .. } = &self.bare_sync_ms;
        println!("{:<24}{:>12}{:>10}{p50:>10.2}{p99:>10.2}{max:>10.2}", "bare write and sync", "", "");
        let Latency { p50, p99, max, .. } = &self.live_delivery_ms;
        println!("{:<24}{:>12}{:>10}{p50:>10.2}{p99:>10.2}{max:>10.2}", "answered to delivered", "", "");
        println!();
        println!("many streams / bare SQLite {:>8.2}", self.many_streams_to_bare_sqlite);
        println!("one stream / many streams  {:>8.2}", self.one_stream_to_many);
        println!("one writer / bare sync, p50{:>8.2}", self.alone_to_bare_sync);
        if let Some(Grown { cost, .. }) = &self.grown {
            println!("small / large log          {cost:>8.2}");
        }
        println!();
        self.conditions.print_machine();
        Ok(())
    }
}
