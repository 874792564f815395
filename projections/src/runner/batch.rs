//! Gathers what a subscription says into batches: as large as they come while catching up, and once live whatever has
//! arrived since the last batch, so that a lone event is applied at once and a burst in few transactions.

use std::{sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt};
use souk_event_log::{EventLog, Filter, Message, Position, ReadError, Recorded, Subscription};
use tokio::time::{Instant, sleep_until, timeout_at};

/// Events in one transaction at most.
const LARGEST: usize = 2_000;
/// While catching up, how long a batch waits to be full.
const FILL: Duration = Duration::from_millis(20);
/// Once live, how long at least from one batch to the next.
const PACE: Duration = Duration::from_millis(8);
/// And so many times as long as it took to apply the last one, up to [`SLOWEST`]: the busier the machine, the larger the
/// batches, and the less each event costs.
const REST: u32 = 4;
const SLOWEST: Duration = Duration::from_millis(100);

pub(crate) struct Batches {
    subscription: Subscription,
    /// The log's end when the subscription began.
    head: Option<Position>,
    live: bool,
    /// When the last batch was handed out.
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
    ) -> Result<Self, ReadError> {
        let head = log.head().await?;
        let subscription = log.subscribe(after, filter);
        Ok(Self { subscription, head, live: false, last: None, due: None, gathered: Batch::default() })
    }

    /// Waits for something to happen. May be cancelled: what was gathered comes with the next call.
    pub(crate) async fn next(&mut self) -> Result<Batch, ReadError> {
        if let Some(last) = self.last.take() {
            self.due = Some(last + (last.elapsed() * REST).clamp(PACE, SLOWEST));
        }
        if !self.gathered.begun {
            let first = self.subscription.next().await;
            self.take(first)?;
        }
        if self.live
            && let Some(due) = self.due
        {
            sleep_until(due).await;
        }
        let deadline = Instant::now() + FILL;
        while self.gathered.events.len() < LARGEST {
            // A task's budget would make a channel that is not empty look so.
            let ready = tokio::task::unconstrained(self.subscription.next()).now_or_never();
            let message = match ready {
                Some(message) => message,
                None if self.live => break,
                None => match timeout_at(deadline, self.subscription.next()).await {
                    Ok(message) => message,
                    Err(_) => break,
                },
            };
            self.take(message)?;
        }
        self.last = Some(Instant::now());
        let mut batch = std::mem::take(&mut self.gathered);
        batch.live = self.live && batch.events.len() < LARGEST;
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
