//! The market in a storm: the real deciders, executor, flows, process manager and workers over the log in memory, one
//! thread, virtual time. Buyers compete for the last units, change their minds and click twice; sellers change prices; the
//! log, the gateways and the clocks fail; processes die between any two steps. Afterwards the log has to add up.
//!
//! Everything is drawn from a seed, and the same seed is the same run. A failing one is seen again with
//! `SOUK_SIMULATION_SEED=n cargo test --workspace --test simulation -- --nocapture every_seed`.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod invariants;
mod mutations;
mod random;
mod shoppers;
mod till;
mod world;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use souk_commands::{
    Context, Market,
    after::{self, AfterSales, Commissions},
    checkout::{ByHand, CheckoutCommand, ProcessManager, Settings},
    flows,
};
use souk_domain::OrderId;
use souk_local_postgres::{TestDatabase, TestPostgres};
use souk_vault::{MasterKey, Vault};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use invariants::Story;
use mutations::Mutation;
use shoppers::{BUYERS, Memory, Plan, buyer};
use till::{DECLINED, Line, REFUSED, SILENT, SILENT_COUNTRY};
use world::{Broken, Shaky, Trouble, World};

const SEEDS: u64 = 20_000;
/// Completed, and then something of it goes back.
const RETURNED: &str = "returned";
const SEED: &str = "SOUK_SIMULATION_SEED";
/// Seeds within which each mutation has to be caught.
const SEEDS_PER_MUTATION: u64 = 500;
const DEADLINE: Duration = Duration::from_mins(15);
/// How often an operator sends a checkout on before he sees to it by hand.
const TRIES: u32 = 3;
/// Virtual time in which everything ends once nothing goes wrong any more.
const PATIENCE: Duration = Duration::from_hours(3);

const PRICES: &str = r#"{
    "defaultWeightGrams": 400,
    "shipping": { "USD": { "GB": { "flat": 50, "freeAbove": 600 }, "*": { "byWeight": { "perKilogram": 70 } } } },
    "tax": { "GB": 2000 }
}"#;

/// What a run came to.
#[derive(Debug, Default)]
struct Outcome {
    problems: Vec<String>,
    events: u64,
    completed: u64,
    cancelled: u64,
    crashes: u64,
    /// A hash of what happened when.
    course: u64,
    /// Every event, a line each, of a run that went wrong.
    story: Vec<String>,
}

/// The one part that is not in memory. The keys of the buyers are loaded, and stay so: nothing waits for the database.
struct Keys {
    vault: Vault,
    _database: TestDatabase,
    _runtime: Runtime,
}

impl Keys {
    fn load() -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let (database, vault) = runtime.block_on(async {
            let database = TestPostgres::shared().await.database().await;
            let vault =
                Vault::open_with(database.pool().await, MasterKey::new([7; 32]), Duration::from_hours(24));
            let vault = vault.await.expect("a vault");
            let buyers: Vec<_> = (0..BUYERS).map(buyer).collect();
            vault.ensure_keys(&buyers).await.expect("keys");
            (database, vault)
        });
        Self { vault, _database: database, _runtime: runtime }
    }
}

fn run(seed: u64, mutation: Option<Mutation>, vault: &Vault) -> Outcome {
    run_in(&World::new(seed, mutation), &Plan::draw(seed), vault)
}

fn run_in(world: &Arc<World>, plan: &Plan, vault: &Vault) -> Outcome {
    let memory = Memory::default();
    let mut crashes = 0;
    loop {
        let runtime =
            Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
        let ended = runtime.block_on(async {
            world.is_born();
            let ended = tokio::select! {
                biased;
                () = world.crashed() => false,
                () = day(world, plan, &memory, vault) => true,
            };
            world.died();
            ended
        });
        // Whatever ran ends here, wherever it was.
        drop(runtime);
        if ended {
            break;
        }
        crashes += 1;
    }
    let events = world.log.events().len() as u64;
    let (problems, completed, cancelled) = Story::of(world).judge(world, &memory);
    let story = if problems.is_empty() { vec![] } else { world.told() };
    Outcome { problems, events, completed, cancelled, crashes, course: world.course(), story }
}

/// From the start of the servers until everything has ended.
async fn day(world: &Arc<World>, plan: &Plan, memory: &Memory, vault: &Vault) {
    let servers: Vec<_> = (0..2).map(|_| server(world, vault)).collect();
    // Now and then two believe that they are the leader.
    let managers = if world.seed.is_multiple_of(3) { 2 } else { 1 };
    let deadline = match world.mutation {
        Some(Mutation::DeadlineLost) => Duration::from_hours(24 * 365),
        _ => DEADLINE,
    };
    for server in &servers[..managers] {
        let settings = Settings { deadline, attempts: 6, snapshot: None };
        tokio::spawn(ProcessManager::new(Arc::clone(server), settings).run(CancellationToken::new()));
        let commissions = Commissions::parse(r#"{"default": 1250}"#).expect("rates");
        let settings = after::Settings { commissions, notes: None };
        tokio::spawn(AfterSales::new(Arc::clone(server), settings).run(CancellationToken::new()));
    }
    tokio::spawn(operate(Arc::clone(world), Arc::clone(&servers[1])));
    shoppers::live(world, plan, memory, &servers).await;
    world.calm_down();
    let until = world.elapsed() + PATIENCE;
    while !world.has_ended() && world.elapsed() < until {
        tokio::time::sleep(Duration::from_mins(1)).await;
    }
}

fn server(world: &Arc<World>, vault: &Vault) -> Arc<Market> {
    let line = || Arc::new(Line(Arc::clone(world)));
    let log = Arc::new(Shaky(Arc::clone(world)));
    let market = Market::new(log, None, vault.clone(), line(), line(), world.clock());
    // Every other market charges for shipping, and taxes.
    let prices = if world.seed.is_multiple_of(2) { PRICES } else { "{}" };
    Arc::new(market.with_prices(serde_json::from_str(prices).expect("prices")))
}

/// Somebody looks after checkouts and returns that are parked: tries again, and after a while sees to a checkout by hand.
async fn operate(world: Arc<World>, server: Arc<Market>) {
    let mut sent_on = BTreeMap::<OrderId, u32>::new();
    for round in 0_u64.. {
        tokio::time::sleep(Duration::from_mins(2)).await;
        for order in world.parked() {
            let id = Uuid::new_v5(&order.0, &(world.elapsed().as_nanos() as u64 ^ round).to_le_bytes());
            let context = Context::new(id, "operator");
            let tried = sent_on.entry(order).and_modify(|tried| *tried += 1).or_default();
            let charged = world.till.books(&world, |books| books.is_charged(order));
            let done = if *tried < TRIES {
                let resume = CheckoutCommand::Resume;
                server.aggregates.checkouts.execute(order, resume, &context).await
            } else {
                let outcome = if charged { ByHand::Done } else { ByHand::NotNeeded };
                flows::orders::settle(&server, &context, order, outcome, "seen to it".into()).await
            };
            if done.is_err() {
                *tried = 0;
            }
        }
        for id in world.parked_returns() {
            let command =
                Uuid::new_v5(&id.refund_key(), &(world.elapsed().as_nanos() as u64 ^ round).to_le_bytes());
            let _ = flows::returns::resume(&server, &Context::new(command, "operator"), id).await;
        }
    }
}

/// Runs seeds on every processor until one is found that `ends` the search.
fn search(
    seeds: std::ops::Range<u64>,
    mutation: Option<Mutation>,
    vault: &Vault,
    see: impl Fn(u64, Result<Outcome, String>) -> bool + Sync,
) {
    let next = AtomicU64::new(seeds.start);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, mutation, vault)));
            let outcome = outcome.map_err(|panic| match panic.downcast::<String>() {
                Ok(message) => *message,
                Err(_) => "it panicked".to_owned(),
            });
            if see(seed, outcome) {
                next.store(seeds.end, Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
}

#[test]
fn every_seed_ends_well() {
    let keys = Keys::load();
    let one = std::env::var(SEED).ok().map(|seed| seed.parse::<u64>().expect("a seed"));
    let seeds = one.map_or(0..SEEDS, |seed| seed..seed + 1);
    let began = Instant::now();
    let total = Mutex::new(Outcome::default());
    let failed = Mutex::new(None);
    let count = AtomicU64::new(0);
    search(seeds, None, &keys.vault, |seed, outcome| {
        let done = count.fetch_add(1, Ordering::Relaxed) + 1;
        if done.is_multiple_of(2_000) {
            println!("{done} seeds in {:?}", began.elapsed());
        }
        let outcome = outcome.unwrap_or_else(|panic| Outcome { problems: vec![panic], ..Outcome::default() });
        if one.is_some() {
            println!("{}", outcome.story.join("\n"));
        }
        let mut total = total.lock();
        total.events += outcome.events;
        total.completed += outcome.completed;
        total.cancelled += outcome.cancelled;
        total.crashes += outcome.crashes;
        let bad = !outcome.problems.is_empty();
        if bad {
            *failed.lock() = Some((seed, outcome.problems));
        }
        bad
    });
    if let Some((seed, problems)) = failed.into_inner() {
        panic!(
            "seed {seed}: {problems:#?}\nagain: {SEED}={seed} cargo test --workspace --test simulation -- --nocapture every_seed"
        );
    }
    let Outcome { events, completed, cancelled, crashes, .. } = total.into_inner();
    println!(
        "{} seeds in {:?}: {completed} orders completed, {cancelled} cancelled, {crashes} crashes, {events} events",
        count.into_inner(),
        began.elapsed()
    );
}

#[test]
fn every_mutation_is_caught() {
    let keys = Keys::load();
    // What breaks now and then panics where it is not expected to: that is a way of being caught, not a report.
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for &mutation in Mutation::ALL {
        let caught = Mutex::new(None);
        search(0..SEEDS_PER_MUTATION, Some(mutation), &keys.vault, |seed, outcome| {
            let problem = match outcome {
                Ok(outcome) => outcome.problems.into_iter().next(),
                Err(panic) => Some(panic),
            };
            let is_caught = problem.is_some();
            if let Some(problem) = problem {
                caught.lock().get_or_insert((seed, problem));
            }
            is_caught
        });
        match caught.into_inner() {
            Some((seed, problem)) => println!("{mutation:?}: seed {seed}, {problem}"),
            None => missed.push(mutation),
        }
    }
    drop(std::panic::take_hook());
    assert!(missed.is_empty(), "not caught within {SEEDS_PER_MUTATION} seeds: {missed:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let keys = Keys::load();
    for seed in 0..50 {
        let courses = [0, 1].map(|_| run(seed, None, &keys.vault).course);
        assert_eq!(courses[0], courses[1], "seed {seed}");
    }
}

/// Every append and every call of a gateway, in every way an order can go, goes wrong in every way: it ends as it would
/// have, and adds up.
#[test]
fn every_step_may_fail_and_may_happen_twice() {
    let keys = Keys::load();
    let soon = Some(Duration::from_millis(1));
    let plans = [
        ("completed", "pays", "GB", None, 1, false),
        (RETURNED, "pays", "GB", None, 1, false),
        ("declined", DECLINED, "GB", None, 0, false),
        ("never paid", SILENT, "GB", None, 0, false),
        ("not shipped", "pays", REFUSED, None, 0, false),
        ("never booked", "pays", SILENT_COUNTRY, None, 0, false),
        ("cancelled", SILENT, "GB", soon, 0, false),
        ("completed with a coupon, a gift card and store credit", "pays", "GB", None, 1, true),
        ("declined with a coupon, a gift card and store credit", DECLINED, "GB", None, 0, true),
    ];
    for (name, token, country, cancels_after, completed, gifts) in plans {
        let plan = || {
            let plan = Plan::of_one(token, country, cancels_after, name == RETURNED);
            if gifts { plan.with_gifts() } else { plan }
        };
        let world = World::with(None);
        let outcome = run_in(&world, &plan(), &keys.vault);
        assert_eq!((outcome.problems, outcome.completed), (vec![], completed), "{name}");
        let calls = world.calls();
        assert!(calls > 15, "{name}: {calls}");
        for (trouble, at) in Trouble::ALL.iter().flat_map(|trouble| (0..calls).map(move |at| (*trouble, at)))
        {
            let world = World::with(Some((trouble, at)));
            let outcome = run_in(&world, &plan(), &keys.vault);
            let ended = (outcome.completed, outcome.cancelled);
            assert!(outcome.problems.is_empty(), "{name}, {trouble:?} at {at}: {:#?}", outcome.problems);
            assert_eq!(ended, (completed, 1 - completed), "{name}, {trouble:?} at {at}");
            assert_eq!(outcome.crashes, u64::from(trouble == Trouble::Crash), "{name}, {trouble:?} at {at}");
        }
        println!("{name}: {calls} calls, each in {} ways", Trouble::ALL.len());
    }
}

/// A gateway that never answers leads to an end as well: by the deadline, or by an operator's hand.
#[test]
fn a_step_of_a_gateway_that_never_goes_well_is_given_up_or_settled_by_hand() {
    let keys = Keys::load();
    let soon = Some(Duration::from_millis(1));
    let steps = [
        // Nobody knows of a charge, so it is cancelled at the deadline.
        (Broken::Step("charge"), "pays", "GB", None, 0),
        (Broken::Step("find"), SILENT, "GB", None, 0),
        (Broken::Step("cancel"), SILENT, "GB", None, 1),
        (Broken::Step("cancel"), SILENT, "GB", soon, 1),
        // That it may not be cancelled does not say that it was not charged.
        (Broken::Refusal("cancel"), SILENT, "GB", None, 1),
        (Broken::Step("refund"), "pays", REFUSED, None, 1),
        (Broken::Step("book"), "pays", "GB", None, 0),
        // Two carriers, one hand for each.
        (Broken::Step("cancelBooking"), "pays", SILENT_COUNTRY, None, 2),
    ];
    for (step, token, country, cancels_after, by_hand) in steps {
        let world = World::without(step);
        let outcome = run_in(&world, &Plan::of_one(token, country, cancels_after, false), &keys.vault);
        assert!(
            outcome.problems.is_empty(),
            "{step:?}: {:#?}\n{}",
            outcome.problems,
            outcome.story.join("\n")
        );
        assert_eq!((outcome.completed, outcome.cancelled), (0, 1), "{step:?}");
        let seen = (world.count("CheckoutSettled"), world.count("CheckoutParked") > 0, world.parked().len());
        assert_eq!(seen, (by_hand, by_hand > 0, 0), "{step:?}");
        // However often it is tried again: by one at a time.
        assert!(world.calls() < 250, "{step:?}: {}", world.calls());
    }
}

/// Whatever an effect has to write, it waits until the log takes it. What waits for that in turn may be parked meanwhile.
#[test]
fn an_effect_that_cannot_be_recorded_waits_until_the_log_is_repaired() {
    let keys = Keys::load();
    let completed = [
        "CheckoutStarted",
        "OrderPlaced",
        "StockReserved",
        "CheckoutAdvanced",
        "OrderStockReserved",
        "PaymentRequested",
        "PaymentCompleted",
        "OrderPaid",
        "ShipmentRequested",
        "ShipmentReady",
        "OrderReadyToShip",
        "ReservationCommitted",
        "OrderCompleted",
    ];
    let cancelled = [
        "ShipmentRefused",
        "ReservationReleased",
        "RefundRequested",
        "PaymentRefunded",
        "LineAdded",
        "OrderCancelled",
    ];
    let late = ["PaymentFailed", "ShipmentCancelled"];
    let plans = [
        (&completed[..], "pays", "GB"),
        (&cancelled[..], "pays", REFUSED),
        (&late[..1], DECLINED, "GB"),
        (&late[1..], "pays", SILENT_COUNTRY),
    ];
    for (events, token, country) in plans {
        for &event_type in events {
            let world = World::without(Broken::Append(event_type));
            let outcome = run_in(&world, &Plan::of_one(token, country, None, false), &keys.vault);
            assert!(outcome.problems.is_empty(), "{event_type}: {:#?}", outcome.problems);
            assert_eq!(outcome.completed + outcome.cancelled, 1, "{event_type}");
        }
    }
}
