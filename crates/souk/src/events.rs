//! `souk events`: the log for those who want to look into it. Nothing here needs PostgreSQL, and all of it works beside a
//! running server: the log is opened as a second process may open it.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Write},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, bail};
use chrono::{DateTime, Utc};
use flate2::{Compression, write::GzEncoder};
use futures::StreamExt;
use serde::Serialize;
use serde_json::value::RawValue;
use souk_commands::checkout::Checkout;
use souk_domain::{
    Decider, DomainEvent, account::Account, cart::Cart, inventory::Inventory, item::Item, order::Orders,
    payment::Payment, shipment::Shipment,
};
use souk_event_log::{Direction, EventLog, Filter, Message, Recorded, SqliteLog, StreamName, sqlite};
use uuid::Uuid;

use crate::{
    cli::{EventsCommand, FilterArgs},
    config::Config,
    data_dir::DataDir,
    history::history,
    progress::{Progress, grouped},
};

pub(crate) async fn run(config: Config, command: EventsCommand) -> anyhow::Result<()> {
    let path = DataDir::new(&config.data_dir).log();
    if !path.is_file() {
        bail!("there is no event log at {}", path.display());
    }
    if let EventsCommand::Verify { from } = command {
        return tokio::task::spawn_blocking(move || verify(&path, from)).await?;
    }
    let log: Arc<dyn EventLog> = SqliteLog::open(&path, sqlite::Options::default())
        .with_context(|| format!("the event log {}", path.display()))?;
    let result = match command {
        EventsCommand::Read { filter, from, limit, backward, json } => {
            let (from, direction) =
                if backward { (u64::MAX >> 1, Direction::Backward) } else { (from, Direction::Forward) };
            let mut output = io::stdout().lock();
            write_all(&*log, from, filter.try_into()?, direction, limit, |event| {
                show(&mut output, event, json)
            })
            .await
        }
        EventsCommand::Tail { filter, after, json } => tail(&*log, filter.try_into()?, after, json).await,
        EventsCommand::Export { filter, from, output } => {
            export(&*log, filter.try_into()?, from, output.as_deref()).await
        }
        EventsCommand::State { stream, at } => state(&*log, &stream, at).await,
        EventsCommand::History { stream } => history(&*log, &stream).await,
        EventsCommand::Verify { .. } | EventsCommand::Serve { .. } => Ok(()),
    };
    match result {
        // Whoever read has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        result => result,
    }
}

impl TryFrom<FilterArgs> for Filter {
    type Error = anyhow::Error;

    fn try_from(args: FilterArgs) -> anyhow::Result<Self> {
        let stream = args.stream.as_deref().map(StreamName::parse).transpose().context("--stream")?;
        Ok(Self { stream, categories: args.category, event_types: args.event_type })
    }
}

async fn write_all(
    log: &dyn EventLog,
    from: u64,
    filter: Filter,
    direction: Direction,
    limit: usize,
    mut write: impl FnMut(&Recorded) -> io::Result<()>,
) -> anyhow::Result<()> {
    let mut events = match &filter.stream {
        // Straight from the stream, unless a position says where to begin.
        Some(stream) if from == 0 && filter.categories.is_empty() && filter.event_types.is_empty() => {
            log.read_stream(stream, 0, direction, limit)
        }
        _ => log.read_all(from, filter, direction, limit),
    };
    while let Some(event) = events.next().await {
        write(&*event?)?;
    }
    Ok(())
}

async fn tail(log: &dyn EventLog, filter: Filter, after: Option<u64>, json: bool) -> anyhow::Result<()> {
    let after = match after {
        Some(after) => Some(after),
        None => log.head().await?,
    };
    let mut messages = log.subscribe(after, filter);
    let mut output = io::stdout().lock();
    loop {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => return Ok(()),
            message = messages.next() => match message {
                Some(Ok(Message::Event(event))) => {
                    show(&mut output, &event, json)?;
                    output.flush()?;
                }
                Some(Ok(Message::Checkpoint(_) | Message::CaughtUp)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the log ended"),
            },
        }
    }
}

async fn export(log: &dyn EventLog, filter: Filter, from: u64, output: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = output else {
        let mut output = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        write_all(log, from, filter, Direction::Forward, usize::MAX, |event| line(&mut output, event))
            .await?;
        return Ok(output.flush()?);
    };
    let file =
        BufWriter::with_capacity(1 << 16, File::create(path).with_context(|| path.display().to_string())?);
    let progress = Progress::new("events", 0);
    let write = async |output: &mut dyn Write| {
        write_all(log, from, filter.clone(), Direction::Forward, usize::MAX, |event| {
            progress.add(1);
            line(&mut *output, event)
        })
        .await
    };
    let mut file = if path.extension().is_some_and(|extension| extension == "gz") {
        let mut gz = GzEncoder::new(file, Compression::default());
        write(&mut gz).await?;
        gz.finish()?
    } else {
        let mut file = file;
        write(&mut file).await?;
        file
    };
    file.flush()?;
    file.get_ref().sync_all()?;
    progress.finish();
    Ok(())
}

/// One event as analysts read it: the same line as `GET /v1/events` answers.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    position: u64,
    stream: &'a str,
    revision: u64,
    id: Uuid,
    #[serde(rename = "type")]
    kind: &'a str,
    version: u32,
    recorded_at: DateTime<Utc>,
    occurred_at: DateTime<Utc>,
    correlation_id: Option<Uuid>,
    causation_id: Option<Uuid>,
    command_id: Option<Uuid>,
    actor: Option<&'a str>,
    data: &'a RawValue,
    hash: Option<String>,
}

fn line(output: &mut (impl Write + ?Sized), event: &Recorded) -> io::Result<()> {
    let metadata = event.metadata();
    let line = Line {
        position: event.position,
        stream: event.stream.as_str(),
        revision: event.revision,
        id: event.id,
        kind: &event.event_type,
        version: metadata.schema_version.max(1),
        recorded_at: event.recorded_at,
        occurred_at: metadata.occurred_at.unwrap_or(event.recorded_at),
        correlation_id: metadata.correlation_id,
        causation_id: metadata.causation_id,
        command_id: metadata.command_id,
        actor: metadata.actor.as_deref(),
        data: serde_json::from_slice(&event.data)?,
        hash: event.hash.as_ref().map(hex),
    };
    serde_json::to_writer(&mut *output, &line)?;
    output.write_all(b"\n")
}

/// For people: where, when, what.
fn show(output: &mut impl Write, event: &Recorded, json: bool) -> io::Result<()> {
    if json {
        return line(output, event);
    }
    let data = String::from_utf8_lossy(&event.data);
    let short: String =
        if io::stdout().is_terminal() { data.chars().take(120).collect() } else { data.into_owned() };
    let cut = if short.len() < event.data.len() { "…" } else { "" };
    writeln!(
        output,
        "{:>8}  {}  {:<22} {}@{}  {short}{cut}",
        event.position,
        event.recorded_at.format("%Y-%m-%d %H:%M:%S%.3f"),
        event.event_type,
        event.stream,
        event.revision
    )
}

async fn state(log: &dyn EventLog, stream: &str, at: Option<At>) -> anyhow::Result<()> {
    let stream = StreamName::parse(stream)?;
    match stream.category() {
        Item::CATEGORY => fold::<Item>(log, &stream, at).await,
        Inventory::CATEGORY => fold::<Inventory>(log, &stream, at).await,
        Cart::CATEGORY => fold::<Cart>(log, &stream, at).await,
        Orders::CATEGORY => fold::<Orders>(log, &stream, at).await,
        Payment::CATEGORY => fold::<Payment>(log, &stream, at).await,
        Shipment::CATEGORY => fold::<Shipment>(log, &stream, at).await,
        Account::CATEGORY => fold::<Account>(log, &stream, at).await,
        Checkout::CATEGORY => fold::<Checkout>(log, &stream, at).await,
        other => bail!("there is no category {other}"),
    }
}

/// A moment in the life of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    Position(u64),
    Time(DateTime<Utc>),
}

impl At {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(position) = text.parse() {
            return Ok(Self::Position(position));
        }
        let time = DateTime::parse_from_rfc3339(text)
            .map_err(|_| "neither a position nor a time like 2026-11-22T08:00:00Z")?;
        Ok(Self::Time(time.to_utc()))
    }

    /// Whether the log had taken the event by then.
    fn has(self, event: &Recorded) -> bool {
        match self {
            Self::Position(position) => event.position <= position,
            Self::Time(time) => event.recorded_at <= time,
        }
    }
}

/// What a stream's events add up to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Folded<S> {
    stream: String,
    revision: u64,
    position: u64,
    recorded_at: DateTime<Utc>,
    state: S,
}

async fn fold<D: Decider>(log: &dyn EventLog, stream: &StreamName, at: Option<At>) -> anyhow::Result<()> {
    let mut events = log.read_stream(stream, 0, Direction::Forward, usize::MAX);
    let (mut state, mut last) = (D::State::default(), None);
    while let Some(event) = events.next().await {
        let event = event?;
        if at.is_some_and(|at| !at.has(&event)) {
            break;
        }
        let version = event.metadata().schema_version.max(1);
        state = D::evolve(state, &D::Event::from_json(&event.event_type, version, &event.data)?);
        last = Some(event);
    }
    let Some(last) = last else {
        bail!("there is no stream {stream}{}", at.map_or("", |_| " yet at that time"))
    };
    let state = Folded {
        stream: stream.to_string(),
        revision: last.revision,
        position: last.position,
        recorded_at: last.recorded_at,
        state,
    };
    let mut output = io::stdout().lock();
    serde_json::to_writer_pretty(&mut output, &state)?;
    Ok(writeln!(output)?)
}

fn verify(path: &Path, from: u64) -> anyhow::Result<()> {
    let progress = Progress::new("events", 0);
    let report = sqlite::verify(path, from, |position| progress.set(position))?;
    progress.finish();
    if let Some((position, damage)) = report.bad {
        bail!("the log is damaged at position {position}: {damage}");
    }
    println!("{} events, no damage", grouped(report.events));
    if let Some((position, hash)) = report.head {
        println!("head {position} {}", hex(&hash));
    }
    Ok(())
}

fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_string()
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}
