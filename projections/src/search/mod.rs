//! The projector of the search index: follows `item-*`, `inventory-*`, `search-*` and `synonyms-*`.
//!
//! Items go to the index, with the position in each commit; what can be sold, what was and what was clicked goes to the availability beside
//! it, which is saved now and then with a position of its own. After a start it goes on from the lower of the two, and applies
//! each kind of event only above the position of its own kind.
//!
//! Synonyms are kept in memory: what the log says of them is read at the start of each session.
//!
//! It needs no PostgreSQL. Everything here may block: it runs on a thread of its own.

mod document;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::StreamExt;
use souk_domain::{
    Decider, ItemId, SynonymsId,
    inventory::{Inventory, InventoryEvent},
    item::{Item, ItemEvent, ItemState},
    search::{CATEGORY as SEARCHES, SearchEvent},
    synonyms::{Synonyms, SynonymsEvent},
};
use souk_event_log::{Direction, Filter, Position, ReadError, Recorded, Revision, StreamName};
use souk_search::{IndexWriter, Quantities, SearchError, SearchIndex, SynonymSource, clicked, worth};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use crate::{
    event,
    runner::{ApplyError, Batches, Beside, Course, Ended, Failure, Pace},
    stock,
};

/// How long a change waits to be seen at most, beyond what the commit itself takes.
const COMMIT_AFTER: Duration = Duration::from_millis(150);
/// Changed items after which a commit does not wait.
const COMMIT_ITEMS: usize = 5_000;
/// The same while the end of the log is not in sight, as after a start or in a rebuild: nobody waits for the newest then, and
/// a few large commits leave less to merge than many small ones.
const FAR_COMMIT_AFTER: Duration = Duration::from_secs(10);
const FAR_COMMIT_ITEMS: usize = 50_000;
/// How often positions and quantities are written down although no item changed.
const SAVE_EVERY: Duration = Duration::from_secs(30);

/// The writing side of the search index.
pub struct SearchProjector {
    index: Arc<SearchIndex>,
    /// Item events up to here are in the index, or with its writer.
    items_at: Option<Position>,
    /// Inventory events up to here are in the availability.
    stock_at: Option<Position>,
}

impl SearchProjector {
    pub const NAME: &'static str = "search";

    pub fn new(index: Arc<SearchIndex>) -> Self {
        let stock_at = index.availability().position();
        Self { index, items_at: None, stock_at }
    }
}

impl Beside for SearchProjector {
    async fn session(&mut self, course: &mut Course) -> Result<Ended, Failure> {
        // A writer that failed has lost what it had not committed.
        self.items_at = self.index.position();
        Session::new(self, course).run().await
    }
}

/// From one opening of the writer to its end.
struct Session<'a> {
    projector: &'a mut SearchProjector,
    course: &'a mut Course,
    /// Quantities counted anew by a rebuild, which is shown when it has caught up, in one commit.
    rebuild: Option<Recount>,
    /// Whether there is an index that can be asked.
    served: bool,
    /// Whether the index of an earlier format answers until this one is whole.
    older: bool,
    /// Everything up to here has been given to the writer and the availability.
    seen: Option<Position>,
    /// Whether the last batch went to the end of the log.
    live: bool,
    /// When the first change came that waits for a commit.
    waiting_since: Option<Instant>,
    save_at: Option<Instant>,
}

impl<'a> Session<'a> {
    fn new(projector: &'a mut SearchProjector, course: &'a mut Course) -> Self {
        let (served, older) = (projector.index.is_ready(), projector.index.is_older_shown());
        Self {
            projector,
            course,
            rebuild: None,
            served,
            older,
            seen: None,
            live: false,
            waiting_since: None,
            save_at: None,
        }
    }

    async fn run(mut self) -> Result<Ended, Failure> {
        let (log, progress) = (Arc::clone(&self.course.log), Arc::clone(&self.course.progress));
        let stop = self.course.stop.clone();
        let index = Arc::clone(&self.projector.index);
        let mut writer = index.writer()?;
        // An index that knows more than the log was made from one that is gone, and counts for nothing.
        let ahead = self.projector.items_at.max(self.projector.stock_at) > log.head().await?;
        if ahead || self.course.rebuild {
            // Before anything is written there is nothing to build beside, but for an index of an earlier format.
            let beside = ahead || (self.served && self.projector.items_at.is_some());
            self.course.begin_anew(beside || self.older);
            if beside {
                self.rebuild = Some(Recount::default());
                writer.clear()?;
            }
        } else if self.older {
            self.course.begin_anew(true);
        }
        self.seen = self.start();
        self.tell();
        self.read_synonyms().await?;
        let filter = Filter::categories([Item::CATEGORY, Inventory::CATEGORY, SEARCHES, Synonyms::CATEGORY]);
        let mut batches = Batches::begin(&*log, self.seen, filter, Pace::USUAL).await?;
        loop {
            let wake = self.commit_at().into_iter().chain(self.save_at).min();
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    if self.rebuild.is_none() {
                        self.commit(&mut writer)?;
                        self.save();
                    }
                    return Ok(Ended::Stopped);
                }
                () = progress.rebuild.notified() => return Ok(Ended::Rebuild),
                batch = batches.next() => {
                    let batch = batch?;
                    self.apply(&mut writer, &batch.events).await?;
                    self.seen = self.seen.max(batch.position);
                    self.live = batch.live;
                    if batch.live {
                        self.caught_up(&mut writer)?;
                    }
                }
                () = at(wake) => {}
            }
            self.keep_up(&mut writer)?;
        }
    }

    fn start(&self) -> Option<Position> {
        if self.rebuild.is_some() { None } else { self.projector.items_at.min(self.projector.stock_at) }
    }

    /// Commits and saves what is due, and tells how far it is.
    fn keep_up(&mut self, writer: &mut IndexWriter) -> Result<(), Failure> {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.rebuild.is_some() {
            self.course.moved(self.seen);
            return Ok(());
        }
        if writer.pending() > 0 {
            self.waiting_since.get_or_insert(now);
        }
        if self.seen > self.projector.index.position() {
            self.save_at.get_or_insert(now + SAVE_EVERY);
        }
        let most = if self.live { COMMIT_ITEMS } else { FAR_COMMIT_ITEMS };
        if due(self.commit_at()) || writer.pending() >= most {
            self.commit(writer)?;
        }
        if due(self.save_at) {
            self.save_at = None;
            self.commit(writer)?;
            self.save();
        }
        if writer.pending() == 0 {
            self.course.moved(self.seen);
        }
        Ok(())
    }

    fn commit_at(&self) -> Option<Instant> {
        let after = if self.live { COMMIT_AFTER } else { FAR_COMMIT_AFTER };
        self.waiting_since.map(|since| since + after)
    }

    fn commit(&mut self, writer: &mut IndexWriter) -> Result<(), Failure> {
        self.waiting_since = None;
        let reached = self.seen.max(self.projector.items_at);
        if let Some(position) = reached
            && (reached > self.projector.index.position() || writer.pending() > 0)
        {
            Self::write(writer, |writer| writer.commit(position))?;
        }
        Ok(())
    }

    /// Nothing is missing up to there.
    fn complete(&mut self, writer: &mut IndexWriter, position: Option<Position>) -> Result<(), Failure> {
        self.waiting_since = None;
        Self::write(writer, |writer| writer.commit_whole(position))?;
        self.save();
        self.served = true;
        Ok(())
    }

    fn write(
        writer: &mut IndexWriter,
        commit: impl FnOnce(&mut IndexWriter) -> Result<(), SearchError>,
    ) -> Result<(), Failure> {
        let name = SearchProjector::NAME;
        let (started, items) = (Instant::now(), writer.pending());
        commit(writer)?;
        metrics::histogram!("souk_projector_apply_seconds", "name" => name).record(started.elapsed());
        metrics::histogram!("souk_projector_batch_events", "name" => name).record(items as f64);
        Ok(())
    }

    /// Without it the next start reads more of the log again, nothing worse.
    fn save(&self) {
        if let Some(position) = self.projector.stock_at.max(self.seen)
            && let Err(error) = self.projector.index.availability().save(position)
        {
            tracing::warn!(%error, "availability not saved");
        }
    }

    /// The end of the log was reached.
    fn caught_up(&mut self, writer: &mut IndexWriter) -> Result<(), Failure> {
        // A rebuild from an empty log has no position to be at; it waits for the first event.
        if let Some(seen) = self.seen
            && let Some(Recount { quantities, latest }) = self.rebuild.take()
        {
            for (sku, counted) in quantities {
                self.projector.index.availability().replace(sku, counted, latest);
            }
            self.projector.items_at = self.seen;
            self.projector.stock_at = self.seen;
            self.complete(writer, Some(seen))?;
            self.course.serve();
            self.tell();
        } else if self.rebuild.is_none() && !self.projector.index.is_whole() {
            self.complete(writer, self.seen.max(self.projector.items_at))?;
            if self.older {
                self.older = false;
                self.course.serve();
            }
            self.tell();
        }
        if writer.pending() == 0 {
            self.course.idle();
        }
        Ok(())
    }

    async fn apply(&mut self, writer: &mut IndexWriter, events: &[Arc<Recorded>]) -> Result<(), Failure> {
        // Only the last of what a batch says about an item matters.
        let mut items: BTreeMap<ItemId, Vec<&Arc<Recorded>>> = BTreeMap::new();
        for event in events {
            if event.stream.category() == Item::CATEGORY {
                if self.rebuild.is_some() || Some(event.position) > self.projector.items_at {
                    items.entry(event::id(event)?).or_default().push(event);
                }
            } else if event.stream.category() == Synonyms::CATEGORY {
                self.take_synonyms(event)?;
            } else if self.rebuild.is_some() || Some(event.position) > self.projector.stock_at {
                if event.stream.category() == SEARCHES {
                    self.count_click(event)?;
                } else {
                    self.count(event)?;
                }
            }
        }
        for (id, events) in items {
            self.index_item(writer, id, &events).await?;
        }
        if self.rebuild.is_none() {
            let last = events.last().map(|event| event.position);
            self.projector.items_at = self.projector.items_at.max(last);
            self.projector.stock_at = self.projector.stock_at.max(last);
        }
        Ok(())
    }

    /// The newest of the shop's synonyms, which may lie far back.
    async fn read_synonyms(&self) -> Result<(), Failure> {
        let stream = StreamName::new(Synonyms::CATEGORY, SynonymsId::SHOP.0);
        let mut newest = self.course.log.read_stream(&stream, Revision::MAX, Direction::Backward, 1);
        if let Some(event) = newest.next().await {
            let event = event?;
            self.take_synonyms(&event)?;
        }
        Ok(())
    }

    fn take_synonyms(&self, event: &Recorded) -> Result<(), ApplyError> {
        let (SynonymsEvent::SynonymsReplaced(replaced), _) = event::read(event)?;
        if let Err(error) =
            self.projector.index.set_synonyms(SynonymSource::Admin, &replaced.rules.join("\n"))
        {
            // Who set them was told of what cannot be read; these are another version's.
            tracing::error!(%error, "synonyms not read, those of before stay");
        }
        Ok(())
    }

    fn count(&mut self, event: &Recorded) -> Result<(), ApplyError> {
        let (inventory_event, at) = event::read::<InventoryEvent>(event)?;
        let (on_hand, reserved) = stock::change(&inventory_event);
        let sold = match inventory_event {
            InventoryEvent::ReservationCommitted(committed) => committed.quantity,
            _ => 0,
        };
        let sku: souk_domain::SkuId = event::id(event)?;
        if let Some(recount) = &mut self.rebuild {
            let counted = recount.quantities.entry(sku.0).or_default();
            counted.available += on_hand - reserved;
            if sold > 0 {
                counted.sold += f64::from(sold) * worth(at);
                recount.latest = recount.latest.max(Some(at));
            }
            return Ok(());
        }
        let availability = self.projector.index.availability();
        availability.set(sku.0, availability.available(sku.0).unwrap_or(0) + on_hand - reserved);
        if sold > 0 {
            availability.sell(sku.0, sold, at);
        }
        Ok(())
    }

    fn count_click(&mut self, event: &Recorded) -> Result<(), ApplyError> {
        let (SearchEvent::ResultClicked(click), at) = event::read::<SearchEvent>(event)? else {
            return Ok(());
        };
        if let Some(recount) = &mut self.rebuild {
            recount.quantities.entry(click.item_id.0).or_default().sold += clicked(at);
            recount.latest = recount.latest.max(Some(at));
        } else {
            self.projector.index.availability().click(click.item_id.0, at);
        }
        Ok(())
    }

    async fn index_item(
        &self,
        writer: &mut IndexWriter,
        id: ItemId,
        events: &[&Arc<Recorded>],
    ) -> Result<(), Failure> {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(()) };
        let mut folded = Folded::default();
        if first.revision > 0 {
            // What the item was before is in its stream, and streams of items are short.
            let mut before =
                self.course.log.read_stream(&first.stream, 0, Direction::Forward, first.revision as usize);
            while let Some(event) = before.next().await {
                let event = event?;
                folded.push(&event)?;
            }
        }
        for event in events {
            folded.push(event)?;
        }
        if folded.next != last.revision + 1 {
            return Err(missing(&first.stream, folded.next));
        }
        let listing = folded.state.filter(|listing| !listing.withdrawn);
        match listing.zip(folded.listed_at).and_then(|(listing, at)| document::document(id, listing, at)) {
            Some(document) => writer.upsert(document)?,
            None => writer.delete(id.0),
        }
        Ok(())
    }

    /// Makes known what there is.
    fn tell(&self) {
        let beside = self.rebuild.is_some() || self.older;
        let position = if beside { self.projector.index.shown_position() } else { self.seen };
        self.course.tell(self.served, position);
    }
}

/// What a rebuild counts beside what is served.
#[derive(Default)]
struct Recount {
    quantities: HashMap<Uuid, Quantities>,
    /// The latest sale.
    latest: Option<DateTime<Utc>>,
}

/// An item folded from its stream.
#[derive(Default)]
struct Folded {
    state: ItemState,
    listed_at: Option<DateTime<Utc>>,
    /// The revision that comes next.
    next: Revision,
}

impl Folded {
    fn push(&mut self, event: &Recorded) -> Result<(), Failure> {
        let (item_event, at) = event::read::<ItemEvent>(event)?;
        if event.revision != self.next {
            return Err(missing(&event.stream, self.next));
        }
        self.next += 1;
        self.listed_at.get_or_insert(at);
        self.state = Item::evolve(self.state.take(), &item_event);
        Ok(())
    }
}

fn missing(stream: &StreamName, revision: Revision) -> Failure {
    Failure::Log(ReadError::Corrupt(format!("revision {revision} of {stream} is missing")))
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
