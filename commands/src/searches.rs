//! What people search for, on its way to the log: gathered in memory and appended together, about once a second. A search
//! is answered before, and is answered as well when the log is away: then as much as fits is kept for later, and what comes
//! beyond that is dropped and counted. It is not a command: nothing was promised to anybody.

use std::{future::Future, sync::Arc, time::Duration};

use chrono::{DateTime, NaiveDate, Utc};
use souk_domain::{
    AccountId,
    search::{CATEGORY, SearchEvent},
};
use souk_event_log::{Expected, NewEvent, StreamName};
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{Context, Market, clock::fresh_id};

/// How many wait for the log at most; the next ones are dropped.
const WAITING: usize = 10_000;
/// Events of one append at most.
const TOGETHER: usize = 1_000;
/// A KurrentDB takes a megabyte.
const TOGETHER_BYTES: usize = 512 * 1024;
const EVERY: Duration = Duration::from_secs(1);
/// How long the log may take for the last ones, when the process ends.
const FAREWELL: Duration = Duration::from_secs(3);
const COUNTER: &str = "souk_search_events_total";

/// Something that happened around a search.
#[derive(Debug)]
pub struct Noted {
    pub event: SearchEvent,
    pub at: DateTime<Utc>,
    /// Who did it, if they agreed to be known.
    pub searcher: Option<AccountId>,
}

/// Where searches are handed in.
pub struct Searches(Sender<Noted>);

impl Searches {
    /// The second is what writes them. It ends some time after `stop`, with what was handed in until then.
    pub fn begin(market: Arc<Market>, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send) {
        metrics::describe_counter!(COUNTER, "Searches and clicks, recorded or dropped");
        let (sender, noted) = mpsc::channel(WAITING);
        let writer = Writer { market, noted, batch: None };
        (Self(sender), writer.run(stop))
    }

    /// Does not wait. False if it was dropped.
    pub fn note(&self, noted: Noted) -> bool {
        let kept = self.0.try_send(noted).is_ok();
        if !kept {
            metrics::counter!(COUNTER, "outcome" => "dropped").increment(1);
        }
        kept
    }
}

struct Writer {
    market: Arc<Market>,
    noted: Receiver<Noted>,
    /// What the log has not taken yet: the same again, so that it is not there twice.
    batch: Option<(StreamName, Vec<NewEvent>)>,
}

impl Writer {
    async fn run(mut self, stop: CancellationToken) {
        let mut troubled = false;
        loop {
            let last = tokio::select! {
                () = stop.cancelled() => true,
                () = sleep(EVERY) => false,
            };
            if last {
                let written = matches!(timeout(FAREWELL, self.write()).await, Ok(Ok(())));
                let left = self.noted.len() + self.batch.as_ref().map_or(0, |(_, events)| events.len());
                if !written && left > 0 {
                    metrics::counter!(COUNTER, "outcome" => "dropped").increment(left as u64);
                    tracing::warn!(left, "searches were not recorded");
                }
                return;
            }
            match self.write().await {
                Err(error) if !troubled => tracing::warn!(error, "searches are not recorded for now"),
                _ => {}
            }
            troubled = self.batch.is_some();
        }
    }

    /// Everything that waits.
    async fn write(&mut self) -> Result<(), String> {
        loop {
            if self.batch.is_none() {
                self.batch = self.gather().await;
            }
            let Some((stream, events)) = &self.batch else { return Ok(()) };
            // A second copy could come of this only if another process has written the same stream in between, and
            // would be a search counted twice.
            let appended = self.market.log.append(stream, Expected::Any, events.clone()).await;
            appended.map_err(|error| error.to_string())?;
            metrics::counter!(COUNTER, "outcome" => "recorded").increment(events.len() as u64);
            self.batch = None;
        }
    }

    async fn gather(&mut self) -> Option<(StreamName, Vec<NewEvent>)> {
        let command_id = fresh_id();
        let now = self.market.clock.now();
        let (mut events, mut bytes, mut vault_answers) = (Vec::new(), 0, true);
        while events.len() < TOGETHER
            && bytes < TOGETHER_BYTES
            && let Ok(Noted { mut event, at, searcher }) = self.noted.try_recv()
        {
            // Without the vault, or of one who is forgotten, it is nobody's.
            if let Some(account) = searcher.filter(|_| vault_answers) {
                match self.market.vault.seal(account, account.0.as_bytes()).await {
                    Ok(sealed) => event.by(sealed.sealed),
                    Err(error) => vault_answers = !error.is_unavailable(),
                }
            }
            // Not the request's correlation id: a client may use that for what it does in somebody's name, too.
            let context = Context { occurred_at: Some(at), ..Context::new(command_id, "search") };
            let sealed = context.seal(&event, events.len(), now);
            bytes += sealed.data.len() + sealed.metadata.len();
            events.push(sealed);
        }
        (!events.is_empty()).then(|| (stream_of(now.date_naive()), events))
    }
}

fn stream_of(day: NaiveDate) -> StreamName {
    StreamName::new(CATEGORY, day)
}
