//! What outlives a crash: the log, the books of the gateways, the clock, and what the shoppers remember. Here is also the
//! bad luck: a log that fails, hesitates and says things twice, clocks that jump, and the moment of each crash.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use parking_lot::Mutex;
use souk_commands::{checkout::CheckoutEvent, clock::Clock};
use souk_domain::{DomainEvent, OrderId, ReturnId, ledger::LedgerEvent, returns::ReturnEvent};
use souk_event_log::{
    AppendError, Appended, Direction, EventLog, EventStream, Expected, Filter, MemoryLog, Message, NewEvent,
    Position, ReadError, Recorded, Revision, StreamName, Subscription,
};
use souk_gateways::GatewayError;
use tokio::{sync::Notify, time::Instant};
use uuid::Uuid;

use crate::{mutations::Mutation, random::Random, till::Till};

/// Crashes of one run at most.
const CRASHES: u64 = 4;

/// What goes wrong at one step of a run in which nothing else does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Nothing happens, and that is known.
    Refused,
    /// Nothing happens, and nobody knows.
    LostOnTheWay,
    /// It happens, and nobody knows.
    AnswerLost,
    /// It happens once more.
    Twice,
    /// The process dies before.
    Crash,
}

impl Trouble {
    pub(crate) const ALL: &[Self] =
        &[Self::Refused, Self::LostOnTheWay, Self::AnswerLost, Self::Twice, Self::Crash];
}

/// What never goes well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// A step of a gateway, which never answers.
    Step(&'static str),
    /// One that is refused, whatever is asked.
    Refusal(&'static str),
    /// Whatever is to append an event of this type; somebody repairs the log within [`REPAIRED_WITHIN`].
    Append(&'static str),
}

/// Longer than any deadline.
const REPAIRED_WITHIN: Duration = Duration::from_mins(30);

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) log: MemoryLog,
    pub(crate) till: Till,
    pub(crate) mutation: Option<Mutation>,
    random: Mutex<Random>,
    time: Arc<Time>,
    /// Nothing goes wrong any more, so that everything has to come to its end.
    calm: AtomicBool,
    /// The trouble, and at which call of the log or of a gateway it comes.
    trouble: Option<(Trouble, u64)>,
    broken: Option<Broken>,
    calls: AtomicU64,
    /// Steps until the next crash.
    until_crash: AtomicU64,
    crashes_left: AtomicU64,
    crash: Notify,
}

/// Virtual time: that of the runtimes one after the other, and what the clock was moved by.
struct Time {
    /// Microseconds at the beginning of this life.
    born: AtomicI64,
    began: Mutex<Option<Instant>>,
    moved: AtomicI64,
}

impl Time {
    fn elapsed(&self) -> i64 {
        let began = *self.began.lock();
        let life = began.map_or(Duration::ZERO, |began| began.elapsed());
        self.born.load(Ordering::Relaxed) + life.as_micros() as i64
    }

    fn now(&self) -> DateTime<Utc> {
        let micros = self.elapsed() + self.moved.load(Ordering::Relaxed);
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::microseconds(micros)
    }
}

impl World {
    pub(crate) fn new(seed: u64, mutation: Option<Mutation>) -> Arc<Self> {
        let mut random = Random::new(seed);
        let time =
            Arc::new(Time { born: AtomicI64::new(0), began: Mutex::new(None), moved: AtomicI64::new(0) });
        let of_log = Arc::clone(&time);
        let crashes = random.within(0..CRASHES + 1);
        let world = Self {
            seed,
            log: MemoryLog::new(Arc::new(move || of_log.now())),
            till: Till::default(),
            mutation,
            time,
            calm: AtomicBool::new(false),
            trouble: None,
            broken: None,
            calls: AtomicU64::new(0),
            until_crash: AtomicU64::new(random.within(1..400)),
            crashes_left: AtomicU64::new(crashes),
            crash: Notify::new(),
            random: Mutex::new(random),
        };
        Arc::new(world)
    }

    /// A world in which one thing goes wrong, if anything.
    pub(crate) fn with(trouble: Option<(Trouble, u64)>) -> Arc<Self> {
        let mut world = Self::new(1, None);
        if let Some(world) = Arc::get_mut(&mut world) {
            world.calm = AtomicBool::new(true);
            world.crashes_left = AtomicU64::new(0);
            world.trouble = trouble;
        }
        world
    }

    /// A world in which one thing never goes well, and everything else does.
    pub(crate) fn without(broken: Broken) -> Arc<Self> {
        let mut world = Self::with(None);
        if let Some(world) = Arc::get_mut(&mut world) {
            world.broken = Some(broken);
        }
        world
    }

    pub(crate) fn broken(&self, step: &str) -> Option<GatewayError> {
        match self.broken {
            Some(Broken::Step(broken)) if broken == step => {
                Some(GatewayError::Unknown("no answer, and there never will be".into()))
            }
            Some(Broken::Refusal(broken)) if broken == step => {
                Some(GatewayError::invalid("key", "not like this"))
            }
            _ => None,
        }
    }

    fn cannot_append(&self, events: &[NewEvent]) -> bool {
        let Some(Broken::Append(event_type)) = self.broken else { return false };
        self.elapsed() < REPAIRED_WITHIN && events.iter().any(|event| &*event.event_type == event_type)
    }

    /// How many calls were made of the log (to append) and of the gateways.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// Counts a call, and tells what goes wrong with it. Of a crash it never tells.
    pub(crate) async fn call(&self) -> Option<Trouble> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let trouble = self.trouble.filter(|(_, at)| *at == call).map(|(trouble, _)| trouble);
        if trouble == Some(Trouble::Crash) {
            self.crash.notify_one();
            std::future::pending::<()>().await;
        }
        trouble
    }

    /// Draws from the seed.
    pub(crate) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.lock())
    }

    pub(crate) fn clock(&self) -> Clock {
        let time = Arc::clone(&self.time);
        Clock::from_fn(move || time.now())
    }

    /// Virtual time since the beginning, whatever the clocks say.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_micros(self.time.elapsed() as u64)
    }

    /// Every event, a line each.
    pub(crate) fn told(&self) -> Vec<String> {
        let line = |event: &Recorded| {
            let data = String::from_utf8_lossy(&event.data);
            format!("{} {} {} {data}", event.recorded_at.format("%F %T%.3f"), event.stream, event.event_type)
        };
        self.log.events().iter().map(|event| line(event)).collect()
    }

    /// Whether every cart that was checked out has become an order that ended, every accepted return is completed, and
    /// everything is booked.
    pub(crate) fn has_ended(&self) -> bool {
        let events = self.log.events();
        let count =
            |types: &[&str]| events.iter().filter(|event| types.contains(&&*event.event_type)).count();
        let mut booked = BTreeMap::<Uuid, (u32, u32)>::new();
        for event in events.iter().filter(|event| &*event.event_type == "EntryPosted") {
            if let Ok(LedgerEvent::EntryPosted(entry)) =
                LedgerEvent::from_json("EntryPosted", event.schema_version(), &event.data)
            {
                booked.entry(entry.entry_id).or_insert((0, entry.parts)).0 += 1;
            }
        }
        let completed = events.iter().filter(|event| &*event.event_type == "OrderCompleted");
        let completed: BTreeSet<_> = completed.map(|event| event.stream.id()).collect();
        // Of an order that was cancelled only what the market loses.
        let taken = events.iter().filter(|event| match &*event.event_type {
            "ChargebackOpened" | "ChargebackClosed" if completed.contains(event.stream.id()) => true,
            "ChargebackClosed" | "PaymentRefunded" => {
                String::from_utf8_lossy(&event.data).contains("\"loss\"")
            }
            _ => false,
        });
        let to_book = count(&["OrderCompleted", "ReturnCompleted"]) + taken.count();
        count(&["CartCheckedOut"]) == count(&["OrderCompleted", "OrderCancelled"])
            && count(&["ReturnAccepted"]) == count(&["ReturnCompleted"])
            && to_book <= booked.values().filter(|(entries, parts)| entries >= parts).count()
    }

    /// Returns that wait for an operator.
    pub(crate) fn parked_returns(&self) -> BTreeSet<ReturnId> {
        let mut parked = BTreeSet::new();
        for event in self.log.events().iter().filter(|event| event.stream.category() == "return") {
            match ReturnEvent::from_json(&event.event_type, event.schema_version(), &event.data) {
                Ok(ReturnEvent::ReturnParked(event)) => drop(parked.insert(event.return_id)),
                Ok(ReturnEvent::ReturnResumed(event)) => drop(parked.remove(&event.return_id)),
                _ => {}
            }
        }
        parked
    }

    /// Checkouts that wait for an operator.
    pub(crate) fn parked(&self) -> BTreeSet<OrderId> {
        let mut parked = BTreeSet::new();
        for event in self.log.events().iter().filter(|event| event.stream.category() == "checkout") {
            let order = event.stream.id().parse().expect("an order");
            match CheckoutEvent::from_json(&event.event_type, event.schema_version(), &event.data) {
                Ok(CheckoutEvent::CheckoutParked(_)) => drop(parked.insert(order)),
                Ok(CheckoutEvent::CheckoutResumed(_) | CheckoutEvent::CheckoutSettled(_)) => {
                    parked.remove(&order);
                }
                _ => {}
            }
        }
        parked
    }

    /// How many events of the type there are.
    pub(crate) fn count(&self, event_type: &str) -> usize {
        self.log.events().iter().filter(|event| &*event.event_type == event_type).count()
    }

    /// A hash of what happened when, but for what is sealed, which differs each time.
    pub(crate) fn course(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for event in self.log.events() {
            (event.recorded_at, &event.stream, &*event.event_type).hash(&mut hasher);
        }
        hasher.finish()
    }

    pub(crate) fn is_born(&self) {
        *self.time.began.lock() = Some(Instant::now());
    }

    pub(crate) fn died(&self) {
        self.time.born.store(self.time.elapsed(), Ordering::Relaxed);
        *self.time.began.lock() = None;
    }

    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    pub(crate) fn crashes_left(&self) -> u64 {
        self.crashes_left.load(Ordering::Relaxed)
    }

    /// Bad luck, once in so many times.
    pub(crate) fn fails(&self, one_in: u64) -> bool {
        !self.calm.load(Ordering::Relaxed) && self.draw(|random| random.one_in(one_in))
    }

    pub(crate) async fn crashed(&self) {
        self.crash.notified().await;
    }

    /// Between any two effects. Here the process may die, the clock may jump, and others may come in between.
    pub(crate) async fn step(&self) {
        if self.crashes_left() > 0 && self.until_crash.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.until_crash.store(self.draw(|random| random.within(1..400)), Ordering::Relaxed);
            self.crashes_left.fetch_sub(1, Ordering::Relaxed);
            self.crash.notify_one();
            std::future::pending::<()>().await;
        }
        if self.fails(500) {
            let minutes = self.draw(|random| random.within(0..25)) as i64 - 5;
            self.time.moved.fetch_add(minutes * 60_000_000, Ordering::Relaxed);
        }
        if self.fails(6) {
            let pause = self.draw(|random| random.within(0..50));
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}

/// The log as a process sees it through bad luck.
pub(crate) struct Shaky(pub(crate) Arc<World>);

#[async_trait]
impl EventLog for Shaky {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        let world = &self.0;
        let trouble = world.call().await;
        world.step().await;
        if world.fails(80) || trouble == Some(Trouble::Refused) || world.cannot_append(&events) {
            return Err(AppendError::Unavailable("out of luck".into()));
        }
        if world.fails(80) || trouble == Some(Trouble::LostOnTheWay) {
            return Err(AppendError::Unknown("out of luck before it was written".into()));
        }
        let events = match world.mutation {
            Some(mutation) => mutation.of_events(world, stream, events),
            None => events,
        };
        if trouble == Some(Trouble::Twice) {
            let _ = world.log.append(stream, expected, events.clone()).await;
        }
        let appended = match (world.mutation, expected) {
            (Some(Mutation::LosesWhatItAcknowledged), Expected::Exact(last_revision))
                if events.is_empty() =>
            {
                Ok(Appended { last_revision: last_revision + 1, position: 0 })
            }
            _ => world.log.append(stream, expected, events).await,
        };
        world.step().await;
        if world.fails(60) || trouble == Some(Trouble::AnswerLost) {
            return Err(AppendError::Unknown("out of luck after it was written".into()));
        }
        appended
    }

    fn read_stream(
        &self,
        stream: &StreamName,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> EventStream {
        if self.0.fails(150) {
            return futures::stream::iter([Err(ReadError::Unavailable("out of luck".into()))]).boxed();
        }
        self.0.log.read_stream(stream, from, direction, limit)
    }

    fn read_all(&self, from: Position, filter: Filter, direction: Direction, limit: usize) -> EventStream {
        self.0.log.read_all(from, filter, direction, limit)
    }

    /// Late, and sometimes twice: a process manager that took over, or took up again, sees events that it has seen.
    fn subscribe(&self, after: Option<Position>, filter: Filter) -> Subscription {
        let world = Arc::clone(&self.0);
        let messages = self.0.log.subscribe(after, filter);
        messages
            .then(move |message| {
                let world = Arc::clone(&world);
                async move {
                    if world.fails(20) {
                        let pause = world.draw(Random::pause);
                        tokio::time::sleep(pause).await;
                    }
                    if matches!(message, Ok(Message::Event(_))) && world.fails(200) {
                        return futures::stream::iter(vec![Err(ReadError::Unavailable(
                            "out of luck".into(),
                        ))]);
                    }
                    let twice = matches!(message, Ok(Message::Event(_))) && world.fails(15);
                    futures::stream::iter(vec![message; if twice { 2 } else { 1 }])
                }
            })
            .flatten()
            .boxed()
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.0.log.head().await
    }

    async fn stream_head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadError> {
        if self.0.fails(200) {
            return Err(ReadError::Unavailable("out of luck".into()));
        }
        self.0.log.stream_head(stream).await
    }
}
