//! The projector of recommendations: follows orders as they complete, and those who ask to be forgotten.
//!
//! What was learnt lies in a file of its own beside the search index ([`souk_recommendations::Book`]), and not in
//! PostgreSQL: like the index it answers while PostgreSQL or the log is away. It is written as it is learnt, so a start
//! reads nothing but what has come since, and memory does not grow with the shop. It can be dropped and built again from the log.
//! [`Recommender`] answers from it and from the search index.
//!
//! Everything here may block: it runs on a thread of its own.

mod query;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use souk_domain::{AccountId, Decider, OrderId, account::AccountEvent, order::OrderEvent, order::Orders};
use souk_event_log::{Direction, EventLog, Filter, Position, ReadError, Recorded, StreamName};
use souk_recommendations::{Book, BookError, Change, Draft, Purchase};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

pub use self::query::{Because, Recommendation, RecommendationError, Recommender, Related};
use crate::{
    event,
    runner::{ApplyError, Batches, Progress, ProjectorState, ProjectorStatus},
};

/// How often the position is written down although nothing was learnt.
const SAVE_EVERY: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);
/// Orders that are remembered from when they were placed until they complete; others are read again.
const UNDER_WAY: usize = 10_000;

/// The writing side of recommendations.
pub struct RecommendationsProjector {
    book: Arc<Book>,
    generation: u32,
    /// Whether that one is still being learnt: what interrupts it begins it again.
    building: bool,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Event(ApplyError),
    #[error(transparent)]
    Book(#[from] BookError),
    #[error(transparent)]
    Log(#[from] ReadError),
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        Self::Event(error)
    }
}

/// How a session ended without a failure.
enum Ended {
    Stopped,
    Rebuild,
}

impl RecommendationsProjector {
    pub const NAME: &'static str = "recommendations";

    pub fn new(book: Arc<Book>) -> Self {
        Self { book, generation: 1, building: false }
    }

    pub(crate) async fn run(
        mut self,
        log: Arc<dyn EventLog>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) {
        let mut rebuild = false;
        while !stop.is_cancelled() {
            rebuild = match self.session(&*log, &progress, rebuild, &stop).await {
                Ok(Ended::Stopped) => return,
                Ok(Ended::Rebuild) => true,
                Err(Failure::Event(error)) => {
                    let error = error.to_string();
                    tracing::error!(name = Self::NAME, error, "projector stopped");
                    progress.stopped(self.generation, &error);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = progress.rebuild.notified() => true,
                    }
                }
                Err(failure) => {
                    tracing::warn!(name = Self::NAME, error = %failure, "projector interrupted, trying again");
                    progress.troubled(&failure.to_string());
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(RETRY) => {}
                    }
                    self.building || matches!(&failure, Failure::Book(error) if error.is_damaged())
                }
            };
        }
    }

    async fn session(
        &mut self,
        log: &dyn EventLog,
        progress: &Progress,
        rebuild: bool,
        stop: &CancellationToken,
    ) -> Result<Ended, Failure> {
        // A book that knows more than the log was learnt from one that is gone, and counts for nothing.
        let anew = rebuild || self.book.position() > log.head().await?;
        // Before anything was learnt there is nothing to build beside.
        let beside = anew && self.book.position().is_some();
        if anew {
            self.generation += u32::from(!self.building);
            self.building = beside;
            tracing::info!(name = Self::NAME, "learning everything anew");
        }
        let mut draft = if beside { Some(self.book.draft()?) } else { None };
        let mut seen = if beside { None } else { self.book.position() };
        self.tell(progress, beside, seen);
        let mut learner = Learner { log, under_way: UnderWay::default() };
        // Events of other types say nothing here, whatever program wrote them.
        let filter = Filter::event_types(["OrderPlaced", "OrderCompleted", "AccountForgotten"]);
        let mut batches = Batches::begin(log, seen, filter).await?;
        let mut saved = Instant::now();
        loop {
            let batch = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Ended::Stopped),
                () = progress.rebuild.notified() => return Ok(Ended::Rebuild),
                batch = batches.next() => batch?,
            };
            let changes = learner.changes(&batch.events).await?;
            let before = seen;
            seen = seen.max(batch.position);
            if let Some(position) = seen
                && (!changes.is_empty() || (seen > before && saved.elapsed() > SAVE_EVERY))
            {
                saved = Instant::now();
                match &draft {
                    Some(draft) => draft.apply(&changes, position)?,
                    None => self.book.apply(&changes, position)?,
                }
                let name = Self::NAME;
                metrics::histogram!("souk_projector_apply_seconds", "name" => name).record(saved.elapsed());
                metrics::histogram!("souk_projector_batch_events", "name" => name)
                    .record(batch.events.len() as f64);
            }
            // A draft from an empty log has no position to be at; it waits for the first event.
            if batch.live
                && let Some(position) = seen
                && let Some(draft) = draft.take()
            {
                self.publish(draft, position)?;
                self.building = false;
                self.tell(progress, false, seen);
            }
            progress.moved(self.generation, seen);
            if batch.live {
                progress.idle(self.generation);
            }
        }
    }

    fn publish(&self, draft: Draft, position: Position) -> Result<(), BookError> {
        draft.apply(&[], position)?;
        self.book.publish(draft)?;
        tracing::info!(name = Self::NAME, "the new recommendations are served");
        Ok(())
    }

    /// Makes known what there is.
    fn tell(&self, progress: &Progress, beside: bool, seen: Option<Position>) {
        let status = |generation, served, position| ProjectorStatus {
            name: Self::NAME.to_owned(),
            version: 1,
            generation,
            served,
            state: if served { ProjectorState::Active } else { ProjectorState::Building },
            position,
            head: None,
            lag_events: 0,
            lag_seconds: None,
            error: None,
        };
        let statuses = if beside {
            let served = status(self.generation - 1, true, self.book.position());
            vec![served, status(self.generation, false, None)]
        } else {
            // What was learnt so far is worth something before it is all.
            vec![status(self.generation, true, seen)]
        };
        progress.take_lead(statuses, true);
    }
}

/// Orders as they were placed, the latest of them.
#[derive(Default)]
struct UnderWay {
    placed: HashMap<OrderId, Purchase>,
    order: VecDeque<OrderId>,
}

impl UnderWay {
    fn put(&mut self, id: OrderId, purchase: Purchase) {
        self.placed.insert(id, purchase);
        self.order.push_back(id);
        if self.order.len() > UNDER_WAY
            && let Some(oldest) = self.order.pop_front()
        {
            self.placed.remove(&oldest);
        }
    }
}

/// From events to what they teach.
struct Learner<'a> {
    log: &'a dyn EventLog,
    under_way: UnderWay,
}

impl Learner<'_> {
    async fn changes(&mut self, events: &[Arc<Recorded>]) -> Result<Vec<Change>, Failure> {
        let mut changes = Vec::new();
        for event in events {
            if event.stream.category() == Orders::CATEGORY {
                let id: OrderId = event::id(event)?;
                if let Some(purchase) = placed(event)? {
                    self.under_way.put(id, purchase);
                } else if let Some(purchase) = self.completed(id, &event.stream).await? {
                    changes.push(Change::Bought(purchase));
                }
            } else {
                event::check::<AccountEvent>(event)?;
                let account: AccountId = event::id(event)?;
                changes.push(Change::Forgotten(account.0));
            }
        }
        Ok(changes)
    }

    async fn completed(&mut self, id: OrderId, stream: &StreamName) -> Result<Option<Purchase>, Failure> {
        if let Some(purchase) = self.under_way.placed.remove(&id) {
            return Ok(Some(purchase));
        }
        let mut first = self.log.read_stream(stream, 0, Direction::Forward, 1);
        match first.next().await {
            Some(event) => {
                let event = event?;
                Ok(placed(&event)?)
            }
            None => Ok(None),
        }
    }
}

/// What was bought, if the event is the placing of an order.
fn placed(event: &Recorded) -> Result<Option<Purchase>, ApplyError> {
    if &*event.event_type != "OrderPlaced" {
        event::check::<OrderEvent>(event)?;
        return Ok(None);
    }
    let (OrderEvent::OrderPlaced(placed), at) = event::read(event)? else { return Ok(None) };
    let items = placed.lines.iter().map(|line| line.item_id.0).collect();
    Ok(Some(Purchase { buyer: placed.buyer_id.0, items, at }))
}
