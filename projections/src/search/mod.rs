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
use souk_event_log::{Direction, EventLog, Filter, Position, ReadError, Recorded, Revision, StreamName};
use souk_search::{IndexWriter, Quantities, SearchError, SearchIndex, SynonymSource, clicked, worth};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    event,
    runner::{ApplyError, Batches, Progress, ProjectorState, ProjectorStatus},
    stock,
};

/// How long a change waits to be seen at most, beyond what the commit itself takes.
const COMMIT_AFTER: Duration = Duration::from_millis(150);
/// Changed items after which a commit does not wait.
const COMMIT_ITEMS: usize = 5_000;
/// How often positions and quantities are written down although no item changed.
const SAVE_EVERY: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(1);

/// The writing side of the search index.
pub struct SearchProjector {
    index: Arc<SearchIndex>,
    /// Item events up to here are in the index, or with its writer.
    items_at: Option<Position>,
    /// Inventory events up to here are in the availability.
    stock_at: Option<Position>,
    generation: u32,
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Event(ApplyError),
    #[error("the index: {0}")]
    Index(#[from] SearchError),
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

impl SearchProjector {
    pub const NAME: &'static str = "search";

    pub fn new(index: Arc<SearchIndex>) -> Self {
        let stock_at = index.availability().position();
        Self { index, items_at: None, stock_at, generation: 1 }
    }

    pub(crate) async fn run(
        mut self,
        log: Arc<dyn EventLog>,
        progress: Arc<Progress>,
        stop: CancellationToken,
    ) {
        let mut rebuild = false;
        while !stop.is_cancelled() {
            // A writer that failed has lost what it had not committed.
            self.items_at = self.index.position();
            let result = Session::new(&mut self, &*log, &progress).run(rebuild, &stop).await;
            rebuild = false;
            match result {
                Ok(Ended::Stopped) => return,
                Ok(Ended::Rebuild) => rebuild = true,
                Err(Failure::Event(error)) => {
                    let error = error.to_string();
                    tracing::error!(name = Self::NAME, error, "projector stopped");
                    progress.stopped(self.generation, &error);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = progress.rebuild.notified() => rebuild = true,
                    }
                }
                Err(failure) => {
                    tracing::warn!(name = Self::NAME, error = %failure, "projector interrupted, trying again");
                    progress.troubled(&failure.to_string());
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = sleep(RETRY) => {}
                    }
                }
            }
        }
    }
}

/// From one opening of the writer to its end.
struct Session<'a> {
    projector: &'a mut SearchProjector,
    log: &'a dyn EventLog,
    progress: &'a Progress,
    /// Quantities counted anew by a rebuild, which is shown when it has caught up, in one commit.
    rebuild: Option<Recount>,
    /// Whether the index has ever caught up.
    served: bool,
    /// Everything up to here has been given to the writer and the availability.
    seen: Option<Position>,
    commit_at: Option<Instant>,
    save_at: Option<Instant>,
}

impl<'a> Session<'a> {
    fn new(projector: &'a mut SearchProjector, log: &'a dyn EventLog, progress: &'a Progress) -> Self {
        let served = projector.items_at.is_some();
        Self { projector, log, progress, rebuild: None, served, seen: None, commit_at: None, save_at: None }
    }

    async fn run(mut self, rebuild: bool, stop: &CancellationToken) -> Result<Ended, Failure> {
        let index = Arc::clone(&self.projector.index);
        let mut writer = index.writer()?;
        // An index that knows more than the log was made from one that is gone, and counts for nothing.
        let ahead = self.projector.items_at.max(self.projector.stock_at) > self.log.head().await?;
        if ahead || rebuild {
            self.projector.generation += 1;
        }
        // Before the first commit there is nothing to build beside.
        if ahead || (rebuild && self.served) {
            self.rebuild = Some(Recount::default());
            tracing::info!(name = SearchProjector::NAME, "building the index anew");
            writer.clear()?;
        }
        self.seen = self.start();
        self.tell();
        self.read_synonyms().await?;
        let filter = Filter::categories([Item::CATEGORY, Inventory::CATEGORY, SEARCHES, Synonyms::CATEGORY]);
        let mut batches = Batches::begin(self.log, self.seen, filter).await?;
        loop {
            let wake = self.commit_at.into_iter().chain(self.save_at).min();
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    if self.rebuild.is_none() {
                        self.commit(&mut writer)?;
                        self.save();
                    }
                    return Ok(Ended::Stopped);
                }
                () = self.progress.rebuild.notified() => return Ok(Ended::Rebuild),
                batch = batches.next() => {
                    let batch = batch?;
                    self.apply(&mut writer, &batch.events).await?;
                    self.seen = self.seen.max(batch.position);
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
            self.progress.moved(self.projector.generation, self.seen);
            return Ok(());
        }
        if writer.pending() > 0 {
            self.commit_at.get_or_insert(now + COMMIT_AFTER);
        }
        if self.seen > self.projector.index.position() {
            self.save_at.get_or_insert(now + SAVE_EVERY);
        }
        if due(self.commit_at) || writer.pending() >= COMMIT_ITEMS {
            self.commit(writer)?;
        }
        if due(self.save_at) {
            self.save_at = None;
            self.commit(writer)?;
            self.save();
        }
        if writer.pending() == 0 {
            self.progress.moved(self.projector.generation, self.seen);
        }
        Ok(())
    }

    fn commit(&mut self, writer: &mut IndexWriter) -> Result<(), Failure> {
        self.commit_at = None;
        let reached = self.seen.max(self.projector.items_at);
        if let Some(position) = reached
            && (reached > self.projector.index.position() || writer.pending() > 0)
        {
            Self::write(writer, position)?;
        }
        Ok(())
    }

    fn write(writer: &mut IndexWriter, position: Position) -> Result<(), Failure> {
        let name = SearchProjector::NAME;
        let (started, items) = (Instant::now(), writer.pending());
        writer.commit(position)?;
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
        let first = !self.served;
        // A rebuild from an empty log has no position to be at; it waits for the first event.
        if let Some(seen) = self.seen
            && let Some(Recount { quantities, latest }) = self.rebuild.take()
        {
            for (sku, counted) in quantities {
                self.projector.index.availability().replace(sku, counted, latest);
            }
            self.projector.items_at = self.seen;
            self.projector.stock_at = self.seen;
            Self::write(writer, seen)?;
            self.save();
            self.tell();
            tracing::info!(name = SearchProjector::NAME, "the new index is served");
        } else if first {
            self.commit(writer)?;
            self.save();
            self.served = true;
            self.tell();
        }
        if writer.pending() == 0 {
            self.progress.idle(self.projector.generation);
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
        let mut newest = self.log.read_stream(&stream, Revision::MAX, Direction::Backward, 1);
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
                self.log.read_stream(&first.stream, 0, Direction::Forward, first.revision as usize);
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
        let SearchProjector { generation, index, .. } = &*self.projector;
        let status = |generation, served, position| ProjectorStatus {
            name: SearchProjector::NAME.to_owned(),
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
        let statuses = if self.rebuild.is_some() {
            vec![status(generation - 1, true, index.position()), status(*generation, false, None)]
        } else {
            vec![status(*generation, self.served, self.seen)]
        };
        self.progress.take_lead(statuses, true);
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
