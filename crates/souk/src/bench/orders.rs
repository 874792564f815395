//! `souk bench orders`: buyers who put one line into their cart, check out, and wait until the order is completed. In a
//! closed loop each begins again at once; with `--rate` orders are due at fixed times, and what waits for its turn counts
//! as waiting.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{sync::mpsc, task::JoinSet, time::sleep};
use uuid::Uuid;

use super::{
    follower::{Ended, Follower},
    report::{Conditions, CpuSeconds, Lag, Latencies, Latency, Report, histogram, record},
    target::{Cpu, Target},
};
use crate::{
    client::{Client, Session},
    config::{Config, duration},
    data_dir::DataDir,
    progress::Progress,
};

/// Long enough for every order that was acknowledged to end.
const PATIENCE: Duration = Duration::from_secs(30);
const PASSWORD: &str = "measured, not guessed";
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
    ensure!(args.clients > 0 && args.items > 0, "--clients and --items are above zero");
    ensure!(args.rate.is_none_or(|rate| rate > 0.0), "--rate is above zero");
    let target = match &args.url {
        Some(url) => Target::running(url, &config),
        None => Target::start().await?,
    };
    let report = measure(&target, &args).await?;
    target.stop().await?;
    report.print(args.json)
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
    card: Value,
    window: Window,
    tally: Mutex<Tally>,
}

async fn measure(target: &Target, args: &OrdersArgs) -> anyhow::Result<Report> {
    let client = Client::new(&target.url)?;
    let (email, password) = match (&args.analyst_email, &args.analyst_password) {
        (Some(email), Some(password)) => (email.clone(), password.clone()),
        _ => target.analyst().await?,
    };
    let analyst = client.sign_in(&email, &password).await?;
    let run = run_id();
    let items = items(&client, &run, args.items).await?;
    let buyers = buyers(&client, &run, args.clients).await?;
    let follower = Follower::start(&analyst).await?;
    let from = Instant::now() + args.warm_up;
    let window = Window { from, to: from + args.duration };
    let card =
        json!({ "paymentType": "card", "cardNo": "4242424242424242", "expiry": "12/39", "cvc": "123" });
    let bench = Arc::new(Bench { follower, items, card, window, tally: Mutex::new(Tally::new()) });

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
    let mut lag = lag(&ready);
    lag.caught_up_after_seconds = caught_up(&client, window.to).await?;
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
    /// Fills the cart and checks out. The order and when its checkout was sent.
    async fn order(&self, buyer: &Session, turn: usize, due: Option<Instant>) -> Option<(Uuid, Instant)> {
        let item = self.items[turn % self.items.len()];
        let began = Instant::now();
        let cart = match buyer.set_line(item, None, 1).await {
            Ok(cart) => cart,
            Err(error) => return self.failed(&error),
        };
        let filled = Instant::now();
        let order = match buyer.check_out(&cart, &self.card, "GB", None).await {
            Ok(order) => order,
            Err(error) => return self.failed(&error),
        };
        let acknowledged = Instant::now();
        if self.window.holds(acknowledged) {
            let mut tally = self.tally.lock();
            record(&mut tally.set_line, filled - began);
            record(&mut tally.checkout, acknowledged - filled);
            if let Some(due) = due {
                record(&mut tally.due_to_acknowledged, acknowledged - due);
            }
        }
        Some((order.id, filled))
    }

    async fn follow(&self, order: Uuid, sent: Instant) {
        let ended = tokio::time::timeout(PATIENCE, self.follower.of(order)).await;
        let mut tally = self.tally.lock();
        match ended {
            Ok(Ok(Ended { at, completed: true })) if self.window.holds(at) => {
                tally.completed += 1;
                record(&mut tally.to_completed, at - sent);
            }
            Ok(Ok(Ended { at, completed: true })) => tally.completed_after += u64::from(at >= self.window.to),
            Ok(Ok(Ended { completed: false, .. })) => tally.cancelled += 1,
            Ok(Err(_)) | Err(_) => tally.not_ended += 1,
        }
    }

    fn failed<T>(&self, error: &anyhow::Error) -> Option<T> {
        let mut tally = self.tally.lock();
        tally.failed += 1;
        tally.first_failure.get_or_insert_with(|| format!("{error:#}"));
        None
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

/// Names that no other run used.
fn run_id() -> String {
    format!("{}-{}", crate::wiring::now().timestamp_micros(), std::process::id())
}

async fn items(client: &Client, run: &str, count: usize) -> anyhow::Result<Vec<Uuid>> {
    let email = format!("seller-{run}@bench.example");
    client.register(&email, PASSWORD, "Bench seller", "seller").await?;
    let seller = client.sign_in(&email, PASSWORD).await?;
    let each = (0..count).map(|index| {
        let seller = seller.clone();
        let item = json!({
            "sku": format!("bench-{index}"), "name": format!("Measured thing {index}"), "description": "To be measured.",
            "price": { "amount": 1_999, "currency": "USD" }, "quantity": STOCK,
        });
        async move { seller.list_item(&item).await }
    });
    stream::iter(each).buffered(16).try_collect().await
}

async fn buyers(client: &Client, run: &str, count: usize) -> anyhow::Result<Vec<Session>> {
    let progress = Progress::new("accounts", count as u64);
    let each = (0..count).map(|index| {
        let (client, progress) = (client.clone(), &progress);
        let email = format!("buyer-{index}-{run}@bench.example");
        async move {
            client.register(&email, PASSWORD, "Bench buyer", "buyer").await?;
            let session = client.sign_in(&email, PASSWORD).await;
            progress.add(1);
            session
        }
    });
    // Each takes a password's hash twice, which is meant to be slow.
    let buyers =
        stream::iter(each).buffer_unordered(4).try_collect().await.context("the buyers' accounts")?;
    progress.finish();
    Ok(buyers)
}

fn position(ready: &Value) -> u64 {
    ready["log"]["position"].as_u64().map_or(0, |position| position + 1)
}

fn lag(ready: &Value) -> Lag {
    let projectors = ready["projectors"].as_array().into_iter().flatten();
    let lags = projectors.map(|projector| Lag {
        events: projector["lagEvents"].as_u64().unwrap_or(0),
        seconds: projector["lagSeconds"].as_f64().unwrap_or(0.0),
        projector: projector["name"].as_str().map(str::to_owned),
        caught_up_after_seconds: None,
    });
    lags.max_by(|a, b| {
        (a.seconds, a.events).partial_cmp(&(b.seconds, b.events)).unwrap_or(std::cmp::Ordering::Equal)
    })
    .unwrap_or_default()
}

async fn caught_up(client: &Client, since: Instant) -> anyhow::Result<Option<f64>> {
    let head = position(&client.ready().await?);
    while since.elapsed() < PATIENCE * 4 {
        let ready = client.ready().await?;
        let projectors = ready["projectors"].as_array().into_iter().flatten();
        let mut positions =
            projectors.map(|projector| projector["position"].as_u64().map_or(0, |position| position + 1));
        if positions.all(|position| position >= head) {
            return Ok(Some(since.elapsed().as_secs_f64()));
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(None)
}

fn report(
    target: &Target,
    args: &OrdersArgs,
    bench: &Bench,
    (cpu_before, cpu_after): (Cpu, Cpu),
    lag: Lag,
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
        conditions: Conditions { events_before, events_after, items: bench.items.len(), ..conditions },
    }
}
