//! The projector of recommendations: follows orders as they complete, and those who ask to be forgotten.
//!
//! What was learnt lies in a file of its own beside the search index ([`souk_recommendations::Book`]), and not in
//! PostgreSQL: like the index it answers while PostgreSQL or the log is away. It is written as it is learnt, so a start
//! reads nothing but what has come since, and memory does not grow with the shop. It can be dropped and built again from the log.
//! [`Recommender`] answers from it and from the search index.
//!
//! Everything here may block: it runs on a thread of its own.

mod query;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use futures::StreamExt;
use lru::LruCache;
use souk_domain::{AccountId, Decider, OrderId, account::AccountEvent, order::OrderEvent, order::Orders};
use souk_event_log::{Direction, EventLog, Filter, Recorded, StreamName};
use souk_recommendations::{Book, Change, Purchase};
use tokio::time::Instant;

pub use self::query::{Because, Recommendation, RecommendationError, Recommender, Related};
use crate::{
    event,
    runner::{ApplyError, Batches, Beside, Course, Ended, Failure, Pace},
};

/// How often the position is written down although nothing was learnt.
const SAVE_EVERY: Duration = Duration::from_secs(30);
/// What was bought a moment ago changes few recommendations.
const PACE: Duration = Duration::from_millis(250);
/// Orders that are remembered from when they were placed until they complete; others are read again.
const UNDER_WAY: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The writing side of recommendations.
pub struct RecommendationsProjector {
    book: Arc<Book>,
}

impl RecommendationsProjector {
    pub const NAME: &'static str = "recommendations";

    pub fn new(book: Arc<Book>) -> Self {
        Self { book }
    }
}

impl Beside for RecommendationsProjector {
    async fn session(&mut self, course: &mut Course) -> Result<Ended, Failure> {
        let (log, progress) = (Arc::clone(&course.log), Arc::clone(&course.progress));
        let stop = course.stop.clone();
        // A book that knows more than the log was learnt from one that is gone, and counts for nothing.
        let anew = course.rebuild || self.book.position() > log.head().await?;
        // Before anything was learnt there is nothing to build beside.
        let beside = anew && self.book.position().is_some();
        if anew {
            course.begin_anew(beside);
        }
        let mut draft = if beside { Some(self.book.draft()?) } else { None };
        let mut seen = if beside { None } else { self.book.position() };
        // What was learnt so far is worth something before it is all.
        course.tell(true, self.book.position());
        let mut learner = Learner { log: &*log, under_way: LruCache::new(UNDER_WAY) };
        // Events of other types say nothing here, whatever program wrote them.
        let filter = Filter::event_types(["OrderPlaced", "OrderCompleted", "AccountForgotten"]);
        let mut batches = Batches::begin(&*log, seen, filter, Pace::every(PACE)).await?;
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
                draft.apply(&[], position)?;
                self.book.publish(draft)?;
                course.serve();
                course.tell(true, seen);
            }
            course.moved(seen);
            if batch.live {
                course.idle();
            }
        }
    }
}

/// From events to what they teach.
struct Learner<'a> {
    log: &'a dyn EventLog,
    /// As they were placed.
    under_way: LruCache<OrderId, Purchase>,
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
        if let Some(purchase) = self.under_way.pop(&id) {
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
