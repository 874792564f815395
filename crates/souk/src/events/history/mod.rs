//! `souk events history`: the story of one stream in words: when, what, who, why, and what there is to it.

mod relatives;
mod words;

use std::io::{self, Write};

use anyhow::bail;
use futures::StreamExt;
use serde_json::Value;
use souk_event_log::{Direction, EventLog, Recorded, StreamName};

use self::relatives::Relatives;

pub(super) async fn history(log: &dyn EventLog, stream: &str) -> anyhow::Result<()> {
    let stream = StreamName::parse(stream)?;
    let mut events = log.read_stream(&stream, 0, Direction::Forward, usize::MAX);
    let mut relatives = Relatives::default();
    let mut output = io::stdout().lock();
    let mut any = false;
    while let Some(event) = events.next().await {
        let event = event?;
        any = true;
        let data = serde_json::from_slice(&event.data).unwrap_or_default();
        let cause = relatives.cause(log, &event, &data).await?;
        tell(&mut output, &event, &data, cause.as_deref())?;
    }
    if !any {
        bail!("there is no stream {stream}");
    }
    Ok(())
}

fn tell(output: &mut dyn Write, event: &Recorded, data: &Value, cause: Option<&str>) -> io::Result<()> {
    let metadata = event.metadata();
    let at = metadata.occurred_at.unwrap_or(event.recorded_at).format("%Y-%m-%d %H:%M:%S%.3f UTC");
    writeln!(output, "{at}  {}", words::of_name(&event.event_type))?;
    let who = metadata.actor.as_deref().map_or_else(|| "somebody".to_owned(), words::of_actor);
    match cause {
        Some(cause) => writeln!(output, "    by {who}, because of: {cause}")?,
        None => writeln!(output, "    by {who}")?,
    }
    for line in words::of_data(data) {
        writeln!(output, "    {line}")?;
    }
    let request = metadata.correlation_id.map(|request| format!(", request {request}"));
    writeln!(
        output,
        "    (revision {}, position {}{})",
        event.revision,
        event.position,
        request.unwrap_or_default()
    )
}
