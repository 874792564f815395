//! `souk bench orders`: buyers who fill their cart, check out, and wait until the order is completed. In a closed loop each
//! begins again at once; with `--rate` orders are due at fixed times, and what waits for its turn counts as waiting.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use clap::Args;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use uuid::Uuid;

use super::{
    follower::{Ended, Follower},
    market::{self, Accounts, PATIENCE, position},
    report::{Conditions, CpuSeconds, Grown, Latencies, Latency, Report, histogram, record},
    target::{Cpu, Target},
};
use crate::{
    client::{Client, Session},
    config::{Config, duration},
    data_dir::DataDir,
    progress::Progress,
};

const STOCK: u32 = 1_000_000;

#[derive(Clone, Debug, Args)]
pub(crate) struct OrdersArgs {
    /// Buyers, each with an account and a connection
    #[arg(long, env = "SOUK_BENCH_CLIENTS", value_name = "N", default_value_t = 64)]
    clients: usize,
    /// How long to measure
    #[arg(long, env = "SOUK_BENCH_DURATION", value_name = "TIME", default_value = "60s", value_parser = duration)]
    duration: Duration,
    /// How long to go at it before measuring
    #[arg(long, env = "SOUK_BENCH_WARM_UP", value_name = "TIME", default_value = "5s", value_parser = duration)]
    warm_up: Duration,
    /// Items that the orders are spread over
    #[arg(long, env = "SOUK_BENCH_ITEMS", value_name = "N", default_value_t = 100)]
    items: usize,
    /// Lines of an order, each another item
    #[arg(long, env = "SOUK_BENCH_LINES", value_name = "N", default_value_t = 1)]
    lines: usize,
    /// Sellers that the items are spread over, and so the lines of an order
    #[arg(long, env = "SOUK_BENCH_SELLERS", value_name = "N", default_value_t = 1)]
    sellers: usize,
    /// Also: goes on until the log holds so many events, and measures again
    #[arg(long, env = "SOUK_BENCH_GROW_TO", value_name = "EVENTS")]
    grow_to: Option<u64>,
    /// Orders offered per second (an open loop); without it each buyer begins again when his order has ended
    #[arg(long, env = "SOUK_BENCH_RATE", value_name = "R")]
    rate: Option<f64>,
    /// A server that runs; without it one is started on a new data directory, and taken away afterwards
    #[arg(long, env = "SOUK_BENCH_URL", value_name = "URL")]
    url: Option<String>,
    /// Who may read the events of that server; not needed for the server of this --data-dir
    #[arg(long, env = "SOUK_BENCH_ANALYST_EMAIL", value_name = "EMAIL", requires = "analyst_password")]
    analyst_email: Option<String>,
    #[arg(long, env = "SOUK_BENCH_ANALYST_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    analyst_password: Option<String>,
    /// One JSON object instead of a table
    #[arg(long, env = "SOUK_JSON")]
    json: bool,
}

pub(crate) async fn run(config: Config, args: OrdersArgs) -> anyhow::Result<()> {
    ensure!(args.clients > 0 && args.sellers > 0, "--clients and --sellers are above zero");
    ensure!(args.lines > 0 && args.items >= args.lines, "--items is at least --lines, which is above zero");
    ensure!(args.rate.is_none_or(|rate| rate > 0.0), "--rate is above zero");
    let target = match &args.url {
        Some(url) => Target::running(url, &config),
        None => Target::start().await?,
    };
    let shop = Shop::open(&target, &args).await?;
    let mut report = measure(&target, &args, &shop).await?;
    if let Some(events) = args.grow_to {
        grow(&args, &shop, events).await?;
        let small = Grown::of(&report);
        report = Report { grown_from: Some(small), ..measure(&target, &args, &shop).await? };
    }
    target.stop().await?;
    report.print(args.json)
}

/// Who takes part, and with what.
struct Shop {
    client: Client,
    follower: Follower,
    items: Vec<Uuid>,
    accounts: Accounts,
}

impl Shop {
    async fn open(target: &Target, args: &OrdersArgs) -> anyhow::Result<Self> {
        let client = Client::new(&target.url)?;
        let (email, password) = match (&args.analyst_email, &args.analyst_password) {
            (Some(email), Some(password)) => (email.clone(), password.clone()),
            _ => target.analyst().await?,
        };
        let analyst = client.sign_in(&email, &password).await?;
        let run = market::run_id();
        let items = market::items(&client, &run, args.sellers, args.items, STOCK).await?;
        let accounts = Accounts::make(&client, &run, args.clients).await?;
        let follower = Follower::start(&analyst).await?;
        Ok(Self { client, follower, items, accounts })
    }
}

/// What the clients see.
struct Tally {
    set_line: Histogram<u64>,
    checkout: Histogram<u64>,
    to_completed: Histogram<u64>,
    due_to_acknowledged: Histogram<u64>,
    completed: u64,
    cancelled: u64,
    completed_after: u64,
    not_ended: u64,
    failed: u64,
    first_failure: Option<String>,
}

/// The time that counts: calls and ends in it, and no others.
#[derive(Clone, Copy)]
struct Window {
    from: Instant,
    to: Instant,
}

struct Bench {
    follower: Follower,
    items: Vec<Uuid>,
    lines: usize,
    card: Value,
    window: Window,
    tally: Mutex<Tally>,
}

/// Orders until the log holds so many events.
async fn grow(args: &OrdersArgs, shop: &Shop, events: u64) -> anyhow::Result<()> {
    let progress = Progress::new("events", events);
    let mut there = position(&shop.client.ready().await?);
    progress.add(there);
    while there < events {
        let from = Instant::now();
        let window = Window { from, to: from + Duration::from_secs(10) };
        let buyers = shop.accounts.sign_in(&shop.client).await?;
        Box::pin(closed_loop(Bench::over(shop, args, window), buyers)).await;
        let now = position(&shop.client.ready().await?);
        ensure!(now > there, "the log does not grow");
        progress.add(now - there);
        there = now;
    }
    progress.finish();
    Ok(())
}

async fn measure(target: &Target, args: &OrdersArgs, shop: &Shop) -> anyhow::Result<Report> {
    let client = &shop.client;
    let buyers = shop.accounts.sign_in(client).await?;
    let from = Instant::now() + args.warm_up;
    let window = Window { from, to: from + args.duration };
    let bench = Bench::over(shop, args, window);

    let running = tokio::spawn(match args.rate {
        Some(rate) => {
            Box::pin(open_loop(Arc::clone(&bench), buyers, rate)) as futures::future::BoxFuture<'static, ()>
        }
        None => Box::pin(closed_loop(Arc::clone(&bench), buyers)),
    });
    let progress = Progress::new("measuring, seconds", (args.warm_up + args.duration).as_secs());
    tokio::time::sleep_until(window.from.into()).await;
    let (cpu_before, position_before) = (target.cpu(), position(&client.ready().await?));
    while Instant::now() < window.to {
        sleep(Duration::from_secs(1).min(window.to.saturating_duration_since(Instant::now()))).await;
        progress.add(1);
    }
    let cpu_after = target.cpu();
    let ready = client.ready().await?;
    progress.finish();
    running.await?;
    let mut lag = market::lag(&ready);
    lag.caught_up_after_seconds = market::caught_up(client, window.to, market::VIEWS).await?;
    let position_after = position(&client.ready().await?);
    Ok(report(target, args, &bench, (cpu_before, cpu_after), lag, (position_before, position_after)))
}

async fn closed_loop(bench: Arc<Bench>, buyers: Vec<Session>) {
    let mut clients = JoinSet::new();
    for (index, buyer) in buyers.into_iter().enumerate() {
        let bench = Arc::clone(&bench);
        clients.spawn(async move {
            let mut turn = index;
            while Instant::now() < bench.window.to {
                if let Some((order, sent)) = bench.order(&buyer, turn, None).await {
                    bench.follow(order, sent).await;
                }
                turn += 1;
            }
        });
    }
    clients.join_all().await;
}

/// Orders are due at fixed times. If all buyers are busy the order waits for one, and that counts.
async fn open_loop(bench: Arc<Bench>, buyers: Vec<Session>, rate: f64) {
    let (idle, mut free) = mpsc::unbounded_channel();
    for buyer in buyers {
        let _ = idle.send(buyer);
    }
    let mut orders = JoinSet::new();
    let mut due = Instant::now();
    let mut turn = 0;
    while due < bench.window.to {
        tokio::time::sleep_until(due.into()).await;
        let Some(buyer) = free.recv().await else { break };
        let (bench, idle) = (Arc::clone(&bench), idle.clone());
        orders.spawn(async move {
            let placed = bench.order(&buyer, turn, Some(due)).await;
            let _ = idle.send(buyer);
            if let Some((order, sent)) = placed {
                bench.follow(order, sent).await;
            }
        });
        while orders.try_join_next().is_some() {}
        turn += 1;
        due += Duration::from_secs_f64(1.0 / rate);
    }
    orders.join_all().await;
}

impl Bench {
    fn over(shop: &Shop, args: &OrdersArgs, window: Window) -> Arc<Self> {
        Arc::new(Self {
            follower: shop.follower.clone(),
            items: shop.items.clone(),
            lines: args.lines,
            card: market::card_that_pays(),
            window,
            tally: Mutex::new(Tally::new()),
        })
    }

    /// Fills the cart and checks out. The order and when its checkout was sent.
    async fn order(&self, buyer: &Session, turn: usize, due: Option<Instant>) -> Option<(Uuid, Instant)> {
        match self.try_to_order(buyer, turn, due).await {
            Ok(placed) => Some(placed),
            Err(error) => {
                let mut tally = self.tally.lock();
                tally.failed += 1;
                tally.first_failure.get_or_insert_with(|| format!("{error:#}"));
                None
            }
        }
    }

    async fn try_to_order(
        &self,
        buyer: &Session,
        turn: usize,
        due: Option<Instant>,
    ) -> anyhow::Result<(Uuid, Instant)> {
        let item = |line: usize| self.items[(turn * self.lines + line) % self.items.len()];
        let mut began = Instant::now();
        let mut cart = buyer.set_line(item(0), None, 1).await?;
        for line in 1..self.lines {
            self.note(|tally| &mut tally.set_line, began);
            began = Instant::now();
            cart = buyer.set_line(item(line), None, 1).await?;
        }
        self.note(|tally| &mut tally.set_line, began);
        let filled = Instant::now();
        let order = buyer.check_out(&cart, &self.card, "GB", None).await?;
        let acknowledged = Instant::now();
        if self.window.holds(acknowledged) {
            let mut tally = self.tally.lock();
            record(&mut tally.checkout, acknowledged - filled);
            if let Some(due) = due {
                record(&mut tally.due_to_acknowledged, acknowledged - due);
            }
        }
        Ok((order.id, filled))
    }

    /// How long something took that has just ended.
    fn note(&self, which: impl FnOnce(&mut Tally) -> &mut Histogram<u64>, began: Instant) {
        let now = Instant::now();
        if self.window.holds(now) {
            record(which(&mut self.tally.lock()), now - began);
        }
    }

    async fn follow(&self, order: Uuid, sent: Instant) {
        let ended = tokio::time::timeout(PATIENCE, self.follower.of(order)).await;
        let mut tally = self.tally.lock();
        match ended {
            Ok(Ok(Ended { at, reason: None })) if self.window.holds(at) => {
                tally.completed += 1;
                record(&mut tally.to_completed, at - sent);
            }
            Ok(Ok(Ended { at, reason: None })) => tally.completed_after += u64::from(at >= self.window.to),
            Ok(Ok(Ended { reason: Some(_), .. })) => tally.cancelled += 1,
            Ok(Err(_)) | Err(_) => tally.not_ended += 1,
        }
    }
}

impl Window {
    fn holds(self, at: Instant) -> bool {
        (self.from..self.to).contains(&at)
    }
}

impl Tally {
    fn new() -> Self {
        Self {
            set_line: histogram(),
            checkout: histogram(),
            to_completed: histogram(),
            due_to_acknowledged: histogram(),
            completed: 0,
            cancelled: 0,
            completed_after: 0,
            not_ended: 0,
            failed: 0,
            first_failure: None,
        }
    }
}

fn report(
    target: &Target,
    args: &OrdersArgs,
    bench: &Bench,
    (cpu_before, cpu_after): (Cpu, Cpu),
    lag: market::Lag,
    (events_before, events_after): (u64, u64),
) -> Report {
    let tally = bench.tally.lock();
    let seconds = args.duration.as_secs_f64();
    let server =
        if target.is_own() { "own server on a new data directory" } else { "a server that was running" };
    let conditions = Conditions::of_this_machine(target.data.as_ref().map(DataDir::path), server.to_owned());
    let processors = conditions.processors;
    Report {
        bench: "orders",
        clients: args.clients,
        lines: args.lines,
        sellers: args.sellers,
        rate: args.rate,
        seconds,
        orders_completed: tally.completed,
        orders_completed_per_second: tally.completed as f64 / seconds,
        orders_cancelled: tally.cancelled,
        orders_completed_after: tally.completed_after,
        orders_not_ended: tally.not_ended,
        failed_calls: tally.failed,
        first_failure: tally.first_failure.clone(),
        latency_ms: Latencies {
            set_line: Latency::of(&tally.set_line),
            checkout: Latency::of(&tally.checkout),
            checkout_to_completed: Latency::of(&tally.to_completed),
            due_to_acknowledged: args.rate.map(|_| Latency::of(&tally.due_to_acknowledged)),
        },
        lag_at_end: lag,
        cpu_seconds: CpuSeconds {
            souk: cpu_after.souk - cpu_before.souk,
            postgres: cpu_after.postgres - cpu_before.postgres,
            bench: cpu_after.bench - cpu_before.bench,
            available: seconds * processors as f64,
        },
        souk_peak_memory_bytes: target.peak_memory(),
        grown_from: None,
        conditions: Conditions { events_before, events_after, items: bench.items.len(), ..conditions },
    }
}
