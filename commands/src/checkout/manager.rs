//! Follows the log, feeds each checkout what concerns it, keeps the deadlines, and takes up again after a crash.
//!
//! Nothing here is a source of truth. What a checkout knows and decided is in its stream; which checkouts are in flight
//! is found again from a small snapshot file and the tail of the log, or from the log alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt, future::join_all, stream::FuturesOrdered};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use souk_domain::{OrderId, UnreadableEvent, order::Order};
use souk_event_log::{Message, Position, ReadError, Recorded};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::{
    ACTOR, LONGEST_WAIT,
    decider::CheckoutCommand,
    dispatcher::{Dispatcher, Failed, Origin, backdated},
    events::{CheckoutEvent, Effect, Fact},
    pause,
    process::Process,
    route::{Routed, filter, route},
};
use crate::{Context, Done, ExecuteError, Market, executor::ReadFailure};

/// Messages of the log taken at once at most.
const CHUNK: usize = 1_024;
/// Chunks under way at once.
const RECORDING: usize = 8;
const TICK: Duration = Duration::from_secs(1);
/// Until it is looked whether what was recorded by another has been sent.
const SECOND_LOOK: Duration = Duration::from_secs(1);
const SNAPSHOT_EVERY: Duration = Duration::from_secs(5);
/// What happened long ago cannot be late: an import may be interrupted, and go on another day.
const IMPORT_DEADLINE: Duration = Duration::from_hours(365 * 24);

#[derive(Clone, Debug)]
pub struct Settings {
    /// From checkout until it is given up, unless it is ready to ship by then.
    pub deadline: Duration,
    /// Tries of one effect, with growing pauses (up to 30 s), before the checkout is parked. While the log or
    /// the vault is away none is counted.
    pub attempts: u32,
    /// Where the checkouts in flight are noted.
    pub snapshot: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error(transparent)]
    Unreadable(#[from] UnreadableEvent),
}

/// A note of where the manager was: everything up to `position` is in the streams of the checkouts.
#[derive(Default, Serialize, Deserialize)]
struct Snapshot {
    position: Option<Position>,
    in_flight: BTreeSet<OrderId>,
}

struct InFlight {
    origin: Arc<Origin>,
    /// None once it has passed, or has nothing left to guard.
    deadline: Option<DateTime<Utc>>,
    phase: &'static str,
}

/// What one chunk of the log says to one checkout.
#[derive(Default)]
struct News {
    start: Option<CheckoutCommand>,
    facts: Vec<Fact>,
    /// The latest of the events that say so.
    cause: Option<Uuid>,
    ended: bool,
    resumed: bool,
    decided: bool,
}

pub struct ProcessManager {
    market: Arc<Market>,
    dispatcher: Dispatcher,
    settings: Settings,
    in_flight: Mutex<BTreeMap<OrderId, InFlight>>,
    tasks: TaskTracker,
    position: watch::Sender<Option<Position>>,
}

impl ProcessManager {
    pub fn new(market: Arc<Market>, settings: Settings) -> Arc<Self> {
        let dispatcher = Dispatcher { market: Arc::clone(&market), attempts: settings.attempts };
        Arc::new(Self {
            market,
            dispatcher,
            settings,
            in_flight: Mutex::default(),
            tasks: TaskTracker::new(),
            position: watch::Sender::new(None),
        })
    }

    /// Up to where the log was taken in; moves while [`Self::run`] runs.
    pub fn position(&self) -> watch::Receiver<Option<Position>> {
        self.position.subscribe()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.lock().len()
    }

    /// Until told to stop; then it finishes what it is at. After a failure to read the log it takes up again. May be run
    /// again afterwards.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        self.in_flight.lock().clear();
        while !stop.is_cancelled() {
            match self.follow(&stop).await {
                Ok(()) => break,
                Err(error) => {
                    tracing::error!(%error, "the process manager could not go on and will try again");
                    tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(Duration::from_secs(1)) => {} }
                }
            }
        }
        self.tasks.close();
        // Whatever waits for a gateway is taken up again at the next start.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
    }

    async fn follow(self: &Arc<Self>, stop: &CancellationToken) -> Result<(), ManagerError> {
        let snapshot = self.load_snapshot();
        let mut messages = self.market.log.subscribe(snapshot.position, filter()).ready_chunks(CHUNK);
        let mut position = self.recover(snapshot, &mut messages).await?;
        // Chunks that are being recorded, in the order of the log: while one waits for the disk the next is read.
        let mut recording = FuturesOrdered::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_snapshot = tokio::time::Instant::now();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.save_snapshot(position);
                    return Ok(());
                }
                _ = tick.tick() => {
                    self.pass_deadlines();
                    self.report();
                    if last_snapshot.elapsed() >= SNAPSHOT_EVERY {
                        self.save_snapshot(position);
                        last_snapshot = tokio::time::Instant::now();
                    }
                }
                Some(upto) = recording.next() => {
                    position = Option::or(upto, position);
                    self.position.send_replace(position);
                }
                chunk = messages.next(), if recording.len() < RECORDING => {
                    let Some(chunk) = chunk else { return Err(ReadError::Unavailable("the log went away".into()).into()) };
                    let mut news = BTreeMap::new();
                    let upto = self.collect(chunk, &mut news)?.position;
                    let manager = Arc::clone(self);
                    recording.push_back(async move {
                        join_all(news.into_iter().map(|(order, news)| manager.take_in(order, news))).await;
                        upto
                    });
                }
            }
        }
    }

    /// Reads up to the end of the log before anything is done: most of what is on the way there has ended since.
    async fn recover(
        self: &Arc<Self>,
        snapshot: Snapshot,
        messages: &mut (impl Stream<Item = Vec<Result<Message, ReadError>>> + Unpin),
    ) -> Result<Option<Position>, ManagerError> {
        let mut position = snapshot.position;
        let mut news: BTreeMap<OrderId, News> =
            snapshot.in_flight.into_iter().map(|order| (order, News::default())).collect();
        while let Some(chunk) = messages.next().await {
            let collected = self.collect(chunk, &mut news)?;
            position = collected.position.or(position);
            news.retain(|_, news| !news.ended);
            if collected.caught_up {
                break;
            }
        }
        if !news.is_empty() {
            tracing::info!(checkouts = news.len(), "taking up checkouts that were in flight");
        }
        let each = futures::stream::iter(news);
        each.for_each_concurrent(CHUNK, async |(order, news)| {
            self.take_in(order, news).await;
            self.take_up(order).await;
        })
        .await;
        self.position.send_replace(position);
        Ok(position)
    }

    fn collect(
        &self,
        chunk: Vec<Result<Message, ReadError>>,
        news: &mut BTreeMap<OrderId, News>,
    ) -> Result<Collected, ManagerError> {
        let mut collected = Collected::default();
        for message in chunk {
            match message? {
                Message::CaughtUp => collected.caught_up = true,
                Message::Checkpoint(position) => collected.position = Some(position),
                Message::Event(recorded) => {
                    collected.position = Some(recorded.position);
                    if let Some((order, routed)) = route(&recorded)? {
                        self.note(news.entry(order).or_default(), routed, &recorded);
                    }
                }
            }
        }
        Ok(collected)
    }

    fn note(&self, news: &mut News, routed: Routed, recorded: &Recorded) {
        news.cause = Some(recorded.id);
        match routed {
            Routed::Start { cart_id, checkout } => {
                let metadata = recorded.metadata();
                let backdated_to = backdated(checkout.payment.payment_type, metadata.occurred_at);
                let patience = if backdated_to.is_some() { IMPORT_DEADLINE } else { self.settings.deadline };
                news.start = Some(CheckoutCommand::Start {
                    cart_id,
                    checkout,
                    deadline: recorded.recorded_at + patience,
                    correlation_id: metadata.correlation_id.unwrap_or(recorded.id),
                    backdated_to,
                });
            }
            Routed::Continue(fact) => news.facts.push(fact),
            Routed::End => news.ended = true,
            Routed::Resumed => news.resumed = true,
            Routed::Decided => news.decided = true,
        }
    }

    async fn take_in(self: &Arc<Self>, order: OrderId, news: News) {
        if let Some(start) = news.start {
            self.feed(order, start, "start", news.cause).await;
        }
        if !news.facts.is_empty() {
            self.learn(order, news.facts, news.cause).await;
        }
        if let Some(decision) = news.cause.filter(|_| news.decided) {
            let step = format!("decided/{decision}");
            self.feed(order, CheckoutCommand::Resume, &step, news.cause).await;
        }
        if news.resumed {
            self.take_up(order).await;
        }
        if news.ended {
            self.in_flight.lock().remove(&order);
        }
    }

    /// Dispatches again what has no answer yet.
    async fn take_up(self: &Arc<Self>, order: OrderId) {
        let ended = |order: &Option<Order>| order.as_ref().is_some_and(|order| order.status.is_final());
        let ended = self.market.aggregates.orders.seen(order, ended).await;
        if ended.is_ok_and(|ended| ended.value) {
            self.in_flight.lock().remove(&order);
            return;
        }
        if let Some(process) = self.process(order).await {
            let origin = self.keep(order, &process);
            if process.parked.is_none() {
                self.dispatch(order, origin, process.outstanding(), None);
            }
        }
    }

    /// `None` if there is no such checkout, or if this program cannot read it. The log is waited for.
    async fn process(&self, order: OrderId) -> Option<Process> {
        for attempt in 1.. {
            match self.market.aggregates.checkouts.read(order, Option::clone).await {
                Ok(fresh) => return fresh.value,
                Err(ReadFailure::Unavailable(reason)) => {
                    tracing::warn!(%order, reason, "a checkout cannot be read for the moment");
                    tokio::time::sleep(pause(attempt).min(LONGEST_WAIT)).await;
                }
                Err(ReadFailure::Unreadable(reason)) => {
                    tracing::error!(%order, reason, "a checkout cannot be read by this program");
                    break;
                }
            }
        }
        None
    }

    async fn learn(self: &Arc<Self>, order: OrderId, facts: Vec<Fact>, cause: Option<Uuid>) {
        // The same facts make the same command, so that a crash between record and note repeats nothing.
        let step = serde_json::to_string(&facts).unwrap_or_default();
        self.feed(order, CheckoutCommand::Learn(facts), &step, cause).await;
    }

    /// Hands a command to the checkout and sends what it decided. Tries until the log takes it.
    async fn feed(
        self: &Arc<Self>,
        order: OrderId,
        command: CheckoutCommand,
        step: &str,
        cause: Option<Uuid>,
    ) {
        let context = Context { causation_id: cause, ..self.context(order, &command, step).await };
        for attempt in 1.. {
            match self.market.aggregates.checkouts.execute(order, command.clone(), &context).await {
                // Recorded before, by us or by another: what it decided may not have been sent.
                Ok(done) if done.repeated => {
                    if let Some(process) = self.process(order).await {
                        self.keep(order, &process);
                    }
                    let manager = Arc::clone(self);
                    self.tasks.spawn(async move {
                        tokio::time::sleep(SECOND_LOOK).await;
                        manager.take_up(order).await;
                    });
                    return;
                }
                Ok(done) => return self.send(order, done, context.command_id).await,
                // A fact about an order that no checkout here started: of no concern.
                Err(ExecuteError::Refused(_)) => return,
                Err(error) => {
                    tracing::error!(%order, %error, "a checkout could not record what it learnt and will try again");
                    tokio::time::sleep(pause(attempt).min(LONGEST_WAIT)).await;
                }
            }
        }
    }

    async fn context(&self, order: OrderId, command: &CheckoutCommand, step: &str) -> Context {
        let context = Context::new(Uuid::new_v5(&order.0, format!("checkout/{step}").as_bytes()), ACTOR);
        let origin = if let CheckoutCommand::Start { correlation_id, backdated_to, .. } = command {
            Some((*correlation_id, *backdated_to))
        } else {
            self.origin(order).await.map(|origin| (origin.correlation_id, origin.backdated_to))
        };
        match origin {
            Some((correlation_id, occurred_at)) => Context { correlation_id, occurred_at, ..context },
            None => context,
        }
    }

    async fn origin(&self, order: OrderId) -> Option<Arc<Origin>> {
        let kept = self.in_flight.lock().get(&order).map(|entry| Arc::clone(&entry.origin));
        match kept {
            Some(origin) => Some(origin),
            None => self.process(order).await.map(|process| Arc::new(Origin::of(&process))),
        }
    }

    async fn send(self: &Arc<Self>, order: OrderId, done: Done<CheckoutEvent>, command_id: Uuid) {
        for (index, event) in done.events.into_iter().enumerate() {
            let cause = souk_event_log::event_id(command_id, index);
            let effects = match event {
                CheckoutEvent::CheckoutStarted(started) => {
                    self.keep(order, &Process::start(&started));
                    started.decided
                }
                CheckoutEvent::CheckoutAdvanced(advanced) => advanced.decided,
                CheckoutEvent::CheckoutParked(_) => {
                    self.phase_becomes(order, "parked");
                    continue;
                }
                CheckoutEvent::CheckoutResumed(_) | CheckoutEvent::CheckoutSettled(_) => continue,
            };
            let Some(last) = effects.last() else { continue };
            self.phase_becomes(order, last.phase());
            if let Some(origin) = self.origin(order).await {
                self.dispatch(order, origin, effects, Some(cause));
            }
        }
    }

    fn keep(&self, order: OrderId, process: &Process) -> Arc<Origin> {
        let origin = Arc::new(Origin::of(process));
        let phase = match &process.parked {
            Some(_) => "parked",
            None => process.outstanding().last().map_or("completing", Effect::phase),
        };
        let entry = InFlight { origin: Arc::clone(&origin), deadline: process.given_up_at(), phase };
        self.in_flight.lock().insert(order, entry);
        origin
    }

    fn phase_becomes(&self, order: OrderId, phase: &'static str) {
        if let Some(entry) = self.in_flight.lock().get_mut(&order) {
            entry.phase = phase;
        }
    }

    /// `cause`: the event that decided the effects, where it is known.
    fn dispatch(
        self: &Arc<Self>,
        order: OrderId,
        origin: Arc<Origin>,
        effects: Vec<Effect>,
        cause: Option<Uuid>,
    ) {
        let manager = Arc::clone(self);
        self.tasks.spawn(async move {
            let (facts, failed) = manager.dispatcher.carry_out(order, &origin, effects, cause).await;
            if !facts.is_empty() {
                // Boxed, since what it learns may be dispatched in turn.
                Box::pin(manager.learn(order, facts, cause)).await;
            }
            for Failed { effect, reason, attempts } in &failed {
                tracing::error!(%order, ?effect, attempts, reason, "a checkout is parked: it needs an operator");
            }
            // A resumed checkout does again whatever has no answer: one reason says enough.
            if let Some(Failed { effect, reason, attempts }) = failed.into_iter().next() {
                let now = manager.market.clock.now().timestamp_micros();
                let park = CheckoutCommand::Park { effect, reason, attempts };
                Box::pin(manager.feed(order, park, &format!("park/{now}"), cause)).await;
            }
        });
    }

    /// Each passes once: what comes of it is in the checkout's stream.
    fn pass_deadlines(self: &Arc<Self>) {
        let now = self.market.clock.now();
        for (order, entry) in self.in_flight.lock().iter_mut() {
            if entry.deadline.take_if(|deadline| *deadline <= now).is_some() {
                let (manager, order) = (Arc::clone(self), *order);
                self.tasks.spawn(async move { manager.learn(order, vec![Fact::DeadlinePassed], None).await });
            }
        }
    }

    fn report(&self) {
        let mut counts: BTreeMap<&str, u32> = super::events::PHASES.iter().map(|phase| (*phase, 0)).collect();
        for entry in self.in_flight.lock().values() {
            *counts.entry(entry.phase).or_default() += 1;
        }
        for (phase, count) in counts {
            metrics::gauge!("souk_checkouts_in_flight", "state" => phase.to_owned()).set(count);
        }
    }

    fn load_snapshot(&self) -> Snapshot {
        let Some(path) = &self.settings.snapshot else { return Snapshot::default() };
        std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    fn save_snapshot(&self, position: Option<Position>) {
        let Some(path) = &self.settings.snapshot else { return };
        let in_flight = self.in_flight.lock().keys().copied().collect();
        if let Err(error) = write_whole(path, &Snapshot { position, in_flight }) {
            tracing::warn!(%error, path = %path.display(), "the checkouts in flight could not be noted");
        }
    }
}

#[derive(Default)]
struct Collected {
    position: Option<Position>,
    caught_up: bool,
}

/// Written beside and renamed, so that a crash leaves the old file or the new one.
pub(crate) fn write_whole(path: &Path, snapshot: &impl Serialize) -> io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, serde_json::to_vec(snapshot)?)?;
    std::fs::rename(beside, path)
}
