//! `souk events read`: events that are there. Also what of an event is shown to people.

use std::io::{self, IsTerminal, Write};

use futures::StreamExt;
use souk_event_log::{Direction, EventLog, EventStream, Filter, Recorded, line};

pub(super) struct Wanted {
    pub(super) filter: Filter,
    pub(super) from: u64,
    pub(super) backward: bool,
    pub(super) limit: usize,
    pub(super) json: bool,
}

pub(super) async fn read(log: &dyn EventLog, wanted: Wanted) -> anyhow::Result<()> {
    let mut output = io::stdout().lock();
    let json = wanted.json;
    let mut events = events(log, wanted);
    while let Some(event) = events.next().await {
        show(&mut output, &*event?, json)?;
    }
    Ok(())
}

fn events(log: &dyn EventLog, wanted: Wanted) -> EventStream {
    let Wanted { filter, from, backward, limit, .. } = wanted;
    let (from, direction) =
        if backward { (u64::MAX >> 1, Direction::Backward) } else { (from, Direction::Forward) };
    match &filter.stream {
        // Straight from the stream, unless a position says where to begin.
        Some(stream) if from == 0 && filter.categories.is_empty() && filter.event_types.is_empty() => {
            log.read_stream(stream, 0, direction, limit)
        }
        _ => log.read_all(from, filter, direction, limit),
    }
}

/// For people: where, when, what.
pub(super) fn show(output: &mut impl Write, event: &Recorded, json: bool) -> io::Result<()> {
    if json {
        return output.write_all(line(event).as_bytes());
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
