//! `souk events export`: events into a file or a folder, up to what was the end of the log when it began.
//!
//! Events are read in order and written in chunks, whose size is bounded and which are durable one by one ([`output`]).
//! After each, a small file beside the output says how far it came ([`state`]); `--resume` goes on from there.
//! A folder of days takes other days from one time to the next: what was interrupted the time before is ended first.

mod columns;
mod format;
mod output;
mod state;

use std::{path::Path, sync::Arc};

use anyhow::{Context, bail};
use chrono::{DateTime, NaiveDate, Utc};
use futures::StreamExt;
use souk_event_log::{Direction, EventLog, Filter, Position, Recorded};
use tokio::sync::mpsc;

pub(crate) use self::{format::Format, state::Partition};
use self::{
    output::{Chunk, Output, day, make_room},
    state::{Request, State},
};
use crate::{
    cli::ExportArgs,
    config::ConfigError,
    progress::{Progress, grouped},
};

/// Bytes after which a chunk ends early. One is read while another is written: so much is held in memory.
const CHUNK_BYTES: usize = 32 << 20;

pub(super) async fn export(log: &dyn EventLog, args: ExportArgs) -> anyhow::Result<()> {
    let request = request(&args)?;
    let export = Export {
        log,
        filter: args.filter.try_into()?,
        most: args.chunk.get(),
        output: args.output.as_deref(),
    };
    if args.resume
        && let Some(output) = export.output
    {
        match State::find(&request, output)? {
            Some(state) => {
                still_there(log, &state).await?;
                let asked_for = state.request == request;
                export.run(state).await?;
                if asked_for {
                    return Ok(());
                }
            }
            None if request.partition.is_none() && output.exists() => bail!(
                "{} is there, and no export of it was interrupted: whether it is what is asked for cannot be told; without --resume it is made anew",
                output.display()
            ),
            None => {}
        }
    }
    let state = begin(log, request, export.output).await?;
    export.run(state).await
}

/// What is exported, and where to.
struct Export<'a> {
    log: &'a dyn EventLog,
    filter: Filter,
    /// Events in a chunk.
    most: usize,
    output: Option<&'a Path>,
}

impl Export<'_> {
    /// From where the state says to its end.
    async fn run(&self, state: State) -> anyhow::Result<()> {
        let by_day = state.request.partition.is_some();
        let filter = self.filter.clone();
        let chunks = Chunks { filter, next: state.next, end: state.end, by_day, most: self.most };
        let place = Output::open(self.output, &state)?;
        let state = run(self.log, chunks, place, state).await.context(match self.output {
            Some(_) => "the export is not complete: --resume goes on where it ended",
            None => "the export is not complete",
        })?;
        if let Some(output) = self.output {
            println!("{} events in {}", grouped(state.events), output.display());
        }
        Ok(())
    }
}

fn request(args: &ExportArgs) -> Result<Request, ConfigError> {
    let named = args.output.as_deref().and_then(Format::of_name);
    let format = args.format.or(named).unwrap_or(Format::Ndjson);
    match &args.output {
        None if format == Format::Parquet => {
            return Err(ConfigError::new("--output", "Parquet goes into a file: say which"));
        }
        Some(output) if format::is_gz(output) && (format == Format::Parquet || args.partition.is_some()) => {
            return Err(ConfigError::new("--output", "only a single file of NDJSON or CSV can be a .gz"));
        }
        _ => {}
    }
    Ok(Request {
        format,
        partition: args.partition,
        stream: args.filter.stream.clone(),
        categories: args.filter.category.clone(),
        event_types: args.filter.event_type.clone(),
        from: args.from,
        to: args.to,
        since: args.since,
        until: args.until,
    })
}

/// Fixes what is exported: what is appended from now on is not.
async fn begin(log: &dyn EventLog, request: Request, output: Option<&Path>) -> anyhow::Result<State> {
    let mut from = request.from;
    if let Some(since) = request.since {
        from = from.max(log.last_before(since).await?.map_or(0, |last| last + 1));
    }
    let mut end = log.head().await?;
    if let Some(until) = request.until {
        end = end.min(log.last_before(until).await?);
    }
    if let Some(to) = request.to {
        end = end.map(|end| end.min(to));
    }
    let mut state = State::new(request, from, end.filter(|end| from <= *end), output);
    if let Some(end) = state.end {
        let first = first_at(log, from).await?.map(|event| day(&event));
        let last = first_at(log, end).await?.map(|event| day(&event));
        state.days = first.zip(last);
    }
    if let Some(output) = output {
        make_room(output, &state)?;
        state.save()?;
    }
    Ok(state)
}

async fn first_at(log: &dyn EventLog, position: Position) -> anyhow::Result<Option<Arc<Recorded>>> {
    let mut events = log.read_all(position, Filter::all(), Direction::Forward, 1);
    Ok(events.next().await.transpose()?)
}

/// The log is the one that the export began with.
async fn still_there(log: &dyn EventLog, state: &State) -> anyhow::Result<()> {
    let Some((position, id)) = state.last else { return Ok(()) };
    match first_at(log, position).await? {
        Some(event) if event.position == position && event.id == id => Ok(()),
        _ => bail!("the log has another event at position {position} than was exported: export it anew"),
    }
}

async fn run(
    log: &dyn EventLog,
    chunks: Chunks,
    mut output: Output,
    mut state: State,
) -> anyhow::Result<State> {
    let (sender, mut receiver) = mpsc::channel::<Chunk>(1);
    let writer = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = receiver.blocking_recv() {
            output.write(&chunk, &mut state)?;
        }
        anyhow::Ok((output, state))
    });
    let read = chunks.read(log, sender).await;
    // The writer's failure comes first: it is why nobody takes chunks any more.
    let (output, state) = writer.await??;
    read?;
    tokio::task::spawn_blocking(move || output.finish(state)).await?
}

/// The events that are exported, cut into pieces.
struct Chunks {
    filter: Filter,
    next: Position,
    end: Option<Position>,
    /// Events of different days are in different chunks.
    by_day: bool,
    /// So many in a chunk.
    most: usize,
}

impl Chunks {
    async fn read(self, log: &dyn EventLog, sender: mpsc::Sender<Chunk>) -> anyhow::Result<()> {
        let Some(end) = self.end.filter(|end| self.next <= *end) else { return Ok(()) };
        let progress = Progress::new("positions", end + 1 - self.next);
        let mut events = log.read_all(self.next, self.filter, Direction::Forward, usize::MAX);
        let (mut chunk, mut bytes, mut today) = (Vec::new(), 0, None::<NaiveDate>);
        while let Some(event) = events.next().await {
            let event = event?;
            if event.position > end {
                break;
            }
            progress.set(event.position - self.next);
            let size = event.data.len() + event.metadata.len();
            let full = chunk.len() == self.most || bytes + size > CHUNK_BYTES;
            let other_day =
                self.by_day && today.replace(day(&event)).is_some_and(|before| before != day(&event));
            if (full || other_day) && !chunk.is_empty() {
                let events = std::mem::take(&mut chunk);
                if sender.send(Chunk { events, next: event.position }).await.is_err() {
                    return Ok(());
                }
                bytes = 0;
            }
            bytes += size;
            chunk.push(event);
        }
        if !chunk.is_empty() {
            let _ = sender.send(Chunk { events: chunk, next: end + 1 }).await;
        }
        progress.finish();
        Ok(())
    }
}

/// A time as in RFC 3339; a day alone is its beginning in UTC.
pub(crate) fn time(text: &str) -> Result<DateTime<Utc>, String> {
    let midnight = || Some(text.parse::<NaiveDate>().ok()?.and_hms_opt(0, 0, 0)?.and_utc());
    let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).ok();
    time.or_else(midnight).ok_or_else(|| "expected a time like 2026-11-22T08:00:00Z, or a day".to_owned())
}
