//! `souk bench flash-sale`: many buyers, each with one unit of the same item in the cart, check out at the same moment, and
//! there are far fewer units. Exactly as many orders are completed; all others are told that it is out of stock.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;
use souk_commands::clock::fresh_id;
use souk_domain::{AccountId, account::Role};
use souk_http_api::access_token;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{
    follower::{Ended, Follower},
    market,
    report::{Conditions, Latency, histogram, record},
    target::Target,
};
use crate::{
    client::{Cart, Client, Session},
    config::Config,
    data_dir::DataDir,
    progress::{Progress, grouped},
    wiring::{Site, now},
};

/// Until the last checkout has to have ended.
const PATIENCE: Duration = Duration::from_mins(5);
/// Keys of people that are made at once.
const KEYS: usize = 2_000;

#[derive(Clone, Debug, Args)]
pub(crate) struct FlashSaleArgs {
    /// Buyers, each of whom checks out once
    #[arg(long, env = "SOUK_BENCH_CHECKOUTS", value_name = "N", default_value_t = 50_000)]
    checkouts: usize,
    /// Units that there are
    #[arg(long, env = "SOUK_BENCH_UNITS", value_name = "N", default_value_t = 1_000)]
    units: u32,
    /// Checkouts that are sent at the same time
    #[arg(long, env = "SOUK_BENCH_CLIENTS", value_name = "N", default_value_t = 256)]
    clients: usize,
    /// One JSON object instead of a table
    #[arg(long, env = "SOUK_JSON")]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    checkouts: usize,
    units: u32,
    clients: usize,
    /// From the first checkout sent until the last one has ended.
    seconds: f64,
    acknowledged_after_seconds: f64,
    completed: u64,
    /// By reason.
    cancelled: BTreeMap<String, u64>,
    not_ended: u64,
    failed_calls: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    first_failure: Option<String>,
    /// What the item's page says when all is over.
    left: Option<u64>,
    checkout_ms: Latency,
    checkout_to_ended_ms: Latency,
    conditions: Conditions,
}

/// A buyer with something in the cart.
struct Buyer {
    session: Session,
    cart: Cart,
}

struct Sale {
    follower: Follower,
    buyers: Vec<Buyer>,
    card: Value,
    next: AtomicUsize,
}

/// What one client sees; all of it is added up at the end.
struct Tally {
    checkout: Histogram<u64>,
    to_end: Histogram<u64>,
    completed: u64,
    cancelled: BTreeMap<String, u64>,
    not_ended: u64,
    failed: u64,
    first_failure: Option<String>,
    last_acknowledged: Instant,
    last_ended: Instant,
}

pub(crate) async fn run(config: Config, args: FlashSaleArgs) -> anyhow::Result<()> {
    ensure!(args.checkouts > 0 && args.clients > 0, "--checkouts and --clients are above zero");
    let target = Target::start().await?;
    let client = Client::new(&target.url)?;
    let (email, password) = target.analyst().await?;
    let follower = Follower::start(&client.sign_in(&email, &password).await?).await?;
    let item = *market::items(&client, &market::run_id(), 1, 1, args.units)
        .await?
        .first()
        .context("the item of the sale")?;
    let sessions = mint(&config, &target, &client, args.checkouts).await?;
    let buyers = fill_carts(sessions, item, args.clients).await?;
    let sale = Arc::new(Sale { follower, buyers, card: market::card_that_pays(), next: AtomicUsize::new(0) });

    let progress = Arc::new(Progress::new("checkouts", args.checkouts as u64));
    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..args.clients {
        clients.spawn(Arc::clone(&sale).check_out(Arc::clone(&progress)));
    }
    let mut tally = Tally::new(began);
    while let Some(seen) = clients.join_next().await {
        tally.add(seen?)?;
    }
    let caught_up = market::caught_up(&client, Instant::now(), market::VIEWS).await?;
    ensure!(caught_up.is_some(), "the views did not catch up");
    let left = client.item(item).await?["availability"]["available"].as_u64();
    let conditions = Conditions::of_this_machine(
        target.data.as_ref().map(DataDir::path),
        "own server on a new data directory".to_owned(),
    );
    target.stop().await?;
    let report = Report {
        bench: "flash-sale",
        checkouts: args.checkouts,
        units: args.units,
        clients: args.clients,
        seconds: (tally.last_ended - began).as_secs_f64(),
        acknowledged_after_seconds: (tally.last_acknowledged - began).as_secs_f64(),
        completed: tally.completed,
        cancelled: tally.cancelled,
        not_ended: tally.not_ended,
        failed_calls: tally.failed,
        first_failure: tally.first_failure,
        left,
        checkout_ms: Latency::of(&tally.checkout),
        checkout_to_ended_ms: Latency::of(&tally.to_end),
        conditions,
    };
    report.print(args.json)?;
    let expected = u64::from(args.units).min(args.checkouts as u64);
    ensure!(report.completed == expected, "{expected} orders should have been completed");
    ensure!(report.cancelled.keys().all(|reason| reason == "outOfStock"), "cancelled for another reason");
    ensure!(report.not_ended == 0 && report.failed_calls == 0, "not all checkouts ended");
    Ok(())
}

/// Buyers as they are a while after they have registered: their keys are in the vault. Hashing so many passwords would
/// take an hour.
async fn mint(
    config: &Config,
    target: &Target,
    client: &Client,
    count: usize,
) -> anyhow::Result<Vec<Session>> {
    let data = target.data.as_ref().context("a server of our own")?;
    let config = Config { data_dir: data.path().to_owned(), ..config.clone() };
    let site = Site::enter(&config, "souk bench").await?;
    let vault = site.vault().await?;
    let accounts: Vec<_> = (0..count).map(|_| AccountId(fresh_id())).collect();
    let progress = Progress::new("buyers", count as u64);
    for some in accounts.chunks(KEYS) {
        vault.ensure_keys(some).await?;
        progress.add(some.len() as u64);
    }
    progress.finish();
    let mint = |account: &AccountId| {
        Ok(client.session(access_token(vault.signing_key(), *account, [Role::Buyer], now())?))
    };
    let sessions = accounts.iter().map(mint).collect();
    drop(vault);
    site.leave().await?;
    sessions
}

async fn fill_carts(sessions: Vec<Session>, item: Uuid, clients: usize) -> anyhow::Result<Vec<Buyer>> {
    let progress = Progress::new("carts", sessions.len() as u64);
    let each = sessions.into_iter().map(|session| {
        let progress = &progress;
        async move {
            let cart = session.set_line(item, None, 1).await?;
            progress.add(1);
            anyhow::Ok(Buyer { session, cart })
        }
    });
    let buyers = stream::iter(each).buffer_unordered(clients).try_collect().await?;
    progress.finish();
    Ok(buyers)
}

impl Sale {
    /// One buyer after another checks out; how each order ended is waited for at the end.
    async fn check_out(self: Arc<Self>, progress: Arc<Progress>) -> Tally {
        let mut tally = Tally::new(Instant::now());
        let mut orders = Vec::new();
        while let Some(Buyer { session, cart }) = self.buyers.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let sent = Instant::now();
            match session.check_out(cart, &self.card, "GB", None).await {
                Ok(order) => {
                    tally.last_acknowledged = Instant::now();
                    record(&mut tally.checkout, tally.last_acknowledged - sent);
                    orders.push((sent, self.follower.of(order.id)));
                }
                Err(error) => {
                    tally.failed += 1;
                    tally.first_failure.get_or_insert_with(|| format!("{error:#}"));
                }
            }
            progress.add(1);
        }
        for (sent, order) in orders {
            let Ok(Ok(Ended { at, reason })) = tokio::time::timeout(PATIENCE, order).await else {
                tally.not_ended += 1;
                continue;
            };
            tally.last_ended = tally.last_ended.max(at);
            record(&mut tally.to_end, at - sent);
            match reason {
                None => tally.completed += 1,
                Some(reason) => *tally.cancelled.entry(reason).or_default() += 1,
            }
        }
        tally
    }
}

impl Tally {
    fn new(began: Instant) -> Self {
        Self {
            checkout: histogram(),
            to_end: histogram(),
            completed: 0,
            cancelled: BTreeMap::new(),
            not_ended: 0,
            failed: 0,
            first_failure: None,
            last_acknowledged: began,
            last_ended: began,
        }
    }

    fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.checkout.add(other.checkout)?;
        self.to_end.add(other.to_end)?;
        self.completed += other.completed;
        for (reason, count) in other.cancelled {
            *self.cancelled.entry(reason).or_default() += count;
        }
        self.not_ended += other.not_ended;
        self.failed += other.failed;
        self.first_failure = self.first_failure.take().or(other.first_failure);
        self.last_acknowledged = self.last_acknowledged.max(other.last_acknowledged);
        self.last_ended = self.last_ended.max(other.last_ended);
        Ok(())
    }
}

impl Report {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let (checkouts, units) = (grouped(self.checkouts as u64), grouped(self.units.into()));
        println!("flash sale: {checkouts} checkouts for {units} units, {} at a time", self.clients);
        println!();
        println!("all acknowledged after{:>10.1} s", self.acknowledged_after_seconds);
        println!("all ended after       {:>10.1} s", self.seconds);
        println!("completed             {:>10}", grouped(self.completed));
        for (reason, count) in &self.cancelled {
            println!("{reason:<22}{:>10}", grouped(*count));
        }
        println!("not ended             {:>10}", grouped(self.not_ended));
        println!("failed calls          {:>10}", grouped(self.failed_calls));
        if let Some(failure) = &self.first_failure {
            println!("  the first: {failure}");
        }
        if let Some(left) = self.left {
            println!("left                  {:>10}", grouped(left));
        }
        println!();
        println!("{:<26}{:>10}{:>12}{:>12}", "milliseconds", "p50", "p99", "max");
        for (name, Latency { p50, p99, max, .. }) in
            [("POST /v1/checkout (202)", &self.checkout_ms), ("checkout → ended", &self.checkout_to_ended_ms)]
        {
            println!("{name:<26}{p50:>10.1}{p99:>12.1}{max:>12.1}");
        }
        println!();
        self.conditions.print_machine();
        Ok(())
    }
}
