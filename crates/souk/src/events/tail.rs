//! `souk events tail`: events as they happen.

use std::io::{self, Write};

use anyhow::bail;
use futures::StreamExt;
use souk_event_log::{EventLog, Filter, Message};

use super::read::show;

pub(super) async fn tail(
    log: &dyn EventLog,
    filter: Filter,
    after: Option<u64>,
    json: bool,
) -> anyhow::Result<()> {
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
