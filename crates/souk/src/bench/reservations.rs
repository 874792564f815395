//! `souk bench reservations`: many orders reserve one unit each of the same SKU: the executor and the embedded log, with
//! nothing around them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::ensure;
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use souk_commands::{
    Aggregates, Context,
    clock::{Clock, fresh_id},
};
use souk_domain::{
    AccountId, ItemId, OrderId, Sku, SkuId,
    inventory::{InventoryCommand, InventoryEvent, InventoryState, MAX_ON_HAND},
};
use souk_event_log::{SqliteLog, sqlite::Options};
use tokio::task::JoinSet;

use super::{
    report::{Conditions, Latency, histogram, record},
    target::place,
};
use crate::{config::duration, progress::grouped};

#[derive(Clone, Debug, Args)]
pub(crate) struct ReservationsArgs {
    /// Who reserve at the same time, each waiting for an answer before the next
    #[arg(long, env = "SOUK_BENCH_CLIENTS", value_name = "N", default_value_t = 1_024)]
    clients: usize,
    #[arg(long, env = "SOUK_BENCH_DURATION", value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// One JSON object instead of a table
    #[arg(long, env = "SOUK_JSON")]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    clients: usize,
    seconds: f64,
    reserved: u64,
    per_second: f64,
    latency_ms: Latency,
    conditions: Conditions,
}

pub(crate) async fn run(args: ReservationsArgs) -> anyhow::Result<()> {
    ensure!(args.clients > 0, "--clients is above zero");
    let folder = tempfile::Builder::new().prefix("souk-bench-").tempdir_in(place())?;
    let log = SqliteLog::open(&folder.path().join("log.sqlite"), Options::default())?;
    let market = Arc::new(Aggregates::new(log, Clock::system(), None));
    let (seller_id, sku) = (AccountId(fresh_id()), Sku::parse("hot")?);
    let sku_id = SkuId::of(seller_id, &sku);
    let quantity = u32::try_from(MAX_ON_HAND).unwrap_or(u32::MAX);
    let stock =
        InventoryCommand::Receive { item_id: ItemId(fresh_id()), seller_id, sku, quantity, reason: None };
    market.inventory.execute(sku_id, stock, &Context::new(fresh_id(), "bench")).await?;

    let began = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..args.clients {
        clients.spawn(reserve(Arc::clone(&market), sku_id, began + args.duration));
    }
    let mut latency = histogram();
    while let Some(seen) = clients.join_next().await {
        latency.add(seen??)?;
    }
    let seconds = began.elapsed().as_secs_f64();
    let reserved = market.inventory.read(sku_id, |state: &InventoryState| state.reserved).await?.value;
    ensure!(reserved == latency.len(), "{reserved} are reserved");
    Report {
        bench: "reservations",
        clients: args.clients,
        seconds,
        reserved,
        per_second: reserved as f64 / seconds,
        latency_ms: Latency::of(&latency),
        conditions: Conditions::of_this_machine(Some(folder.path()), "one SKU, no server".to_owned()),
    }
    .print(args.json)
}

async fn reserve(market: Arc<Aggregates>, sku: SkuId, to: Instant) -> anyhow::Result<Histogram<u64>> {
    let mut latency = histogram();
    while Instant::now() < to {
        let sent = Instant::now();
        let command = InventoryCommand::Reserve { order_id: OrderId(fresh_id()), quantity: 1 };
        let done = market.inventory.execute(sku, command, &Context::new(fresh_id(), "bench")).await?;
        ensure!(matches!(done.events[..], [InventoryEvent::StockReserved(_)]), "{:?}", done.events);
        record(&mut latency, sent.elapsed());
    }
    Ok(latency)
}

impl Report {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let Latency { p50, p99, max, .. } = &self.latency_ms;
        println!("reservations of one SKU: {} clients, {:.1} s", self.clients, self.seconds);
        println!();
        println!("per second {:>12}", grouped(self.per_second.round() as u64));
        println!("reserved   {:>12}", grouped(self.reserved));
        println!("ms         {p50:>12.2} p50, {p99:.2} p99, {max:.2} max");
        println!();
        self.conditions.print_machine();
        Ok(())
    }
}
