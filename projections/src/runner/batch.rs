//! Gathers what a subscription says into batches: as large as they come while catching up, and once live whatever has
//! arrived since the last batch, so that a lone event is applied at once and a burst in few transactions.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use souk_event_log::{EventLog, Filter, Message, Position, ReadError, Recorded, Subscription};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Events in one transaction at most.
const LARGEST: usize = 4_000;
/// While catching up, how long a batch waits to be full.
const FILL: Duration = Duration::from_millis(20);

/// Once live, how often a batch takes what has come: not at each event, but before the log has to be read for it.
const STEP: Duration = Duration::from_millis(20);

/// How long a batch gathers once live, from the one before: the larger the batches, the less each event costs.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub(crate) least: Duration,
    pub(crate) most: Duration,
    /// Between these, so many times as long as it took to apply the last batch: the busier the machine, the larger they are.
    pub(crate) rest: u32,
}

impl Pace {
    /// What somebody may be waiting for.
    pub(crate) const USUAL: Self =
        Self { least: Duration::from_millis(8), most: Duration::from_millis(100), rest: 4 };
    /// What nobody is waiting for.
    pub(crate) const fn every(pace: Duration) -> Self {
        Self { least: pace, most: pace, rest: 0 }
    }
}

pub(crate) struct Batches {
    subscription: Subscription,
    pace: Pace,
    /// The log's end when the subscription began.
    head: Option<Position>,
    live: bool,
    /// When the last batch was handed out, if there was no more.
    last: Option<Instant>,
    /// When the next one may be.
    due: Option<Instant>,
    gathered: Batch,
}

#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Arc<Recorded>>,
    /// Everything up to here has been seen when the events are applied; `None`: nothing new.
    pub(crate) position: Option<Position>,
    /// Whether this was all there is at present.
    pub(crate) live: bool,
    begun: bool,
}

impl Batches {
    pub(crate) async fn begin(
        log: &dyn EventLog,
        after: Option<Position>,
        filter: Filter,
        pace: Pace,
    ) -> Result<Self, ReadError> {
        let head = log.head().await?;
        let subscription = log.subscribe(after, filter);
        let gathered = Batch::default();
        Ok(Self { subscription, pace, head, live: false, last: None, due: None, gathered })
    }

    /// Waits for something to happen. May be cancelled: what was gathered comes with the next call.
    pub(crate) async fn next(&mut self) -> Result<Batch, ReadError> {
        if let Some(last) = self.last.take() {
            let Pace { least, most, rest } = self.pace;
            self.due = Some(last + (last.elapsed() * rest).clamp(least, most));
        }
        if !self.gathered.begun {
            let first = self.subscription.next().await;
            self.take(first)?;
        }
        let deadline = Instant::now() + FILL;
        while self.gathered.events.len() < LARGEST {
            // A task's budget would make a channel that is not empty look so.
            let ready = tokio::task::unconstrained(self.subscription.next()).now_or_never();
            let message = match ready {
                Some(message) => message,
                None if self.live => match self.due.filter(|due| Instant::now() < *due) {
                    Some(due) => {
                        sleep_until(due.min(Instant::now() + STEP)).await;
                        continue;
                    }
                    None => break,
                },
                None => match timeout_at(deadline, self.subscription.next()).await {
                    Ok(message) => message,
                    Err(_) => break,
                },
            };
            self.take(message)?;
        }
        let mut batch = std::mem::take(&mut self.gathered);
        let whole = batch.events.len() < LARGEST;
        batch.live = self.live && whole;
        self.due = None;
        self.last = whole.then(Instant::now);
        Ok(batch)
    }

    fn take(&mut self, message: Option<Result<Message, ReadError>>) -> Result<(), ReadError> {
        let seen = match message {
            Some(Ok(Message::Event(event))) => {
                let position = event.position;
                self.gathered.events.push(event);
                Some(position)
            }
            Some(Ok(Message::Checkpoint(position))) => Some(position),
            Some(Ok(Message::CaughtUp)) => {
                self.live = true;
                // This was the end of the log, so all that it held before has been seen.
                self.head
            }
            Some(Err(error)) => return Err(error),
            None => return Err(ReadError::Unavailable("the subscription ended".into())),
        };
        self.gathered.begun = true;
        self.gathered.position = self.gathered.position.max(seen);
        Ok(())
    }
}
