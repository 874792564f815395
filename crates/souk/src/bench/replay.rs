//! `souk bench replay`: reads the whole log of the data directory, twice: the events as they are stored, and each made
//! into the type of its category.

use std::{path::Path, time::Instant};

use anyhow::{Context, bail};
use clap::Args;
use futures::StreamExt;
use serde::Serialize;
use souk_commands::checkout::Checkout;
use souk_domain::{
    Decider, DomainEvent, UnreadableEvent,
    account::Account,
    cart::Cart,
    credit::Credit,
    inventory::Inventory,
    item::Item,
    ledger::Ledger,
    order::Orders,
    payment::Payment,
    promotion::Promotion,
    returns::Returns,
    search::{self, SearchEvent},
    shipment::Shipment,
    synonyms::Synonyms,
};
use souk_event_log::{Direction, EventLog, Filter, Recorded, SqliteLog, sqlite::Options};

use super::report::Conditions;
use crate::{
    config::Config,
    data_dir::DataDir,
    progress::{Progress, grouped},
};

#[derive(Clone, Debug, Args)]
pub(crate) struct ReplayArgs {
    /// One JSON object instead of a table
    #[arg(long, env = "SOUK_JSON")]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    events: u64,
    bytes: u64,
    read_per_second: f64,
    decoded_per_second: f64,
    conditions: Conditions,
}

pub(crate) async fn run(config: Config, args: ReplayArgs) -> anyhow::Result<()> {
    let path = DataDir::new(&config.data_dir).log();
    if !path.is_file() {
        bail!("there is no event log at {}: `souk demo` or `souk import` makes one", path.display());
    }
    let log = SqliteLog::open(&path, Options::default())
        .with_context(|| format!("the event log {}", path.display()))?;
    let mut bytes = 0;
    let (events, read) = replay(&*log, |event| {
        bytes += (event.data.len() + event.metadata.len()) as u64;
        Ok(())
    })
    .await?;
    let (_, decoded) = replay(&*log, decode).await?;
    let report = Report {
        bench: "replay",
        events,
        bytes,
        read_per_second: events as f64 / read,
        decoded_per_second: events as f64 / decoded,
        conditions: Conditions::of_this_machine(Some(Path::new(&path)), "one reader".to_owned()),
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
        return Ok(());
    }
    println!("{} events, {} MiB of JSON", grouped(events), grouped(bytes >> 20));
    println!("read      {:>12} events/s", grouped(report.read_per_second.round() as u64));
    println!("decoded   {:>12} events/s", grouped(report.decoded_per_second.round() as u64));
    println!();
    report.conditions.print_machine();
    Ok(())
}

/// How many there were and how many seconds it took.
async fn replay(
    log: &dyn EventLog,
    mut see: impl FnMut(&Recorded) -> Result<(), UnreadableEvent>,
) -> anyhow::Result<(u64, f64)> {
    let head = log.head().await?.map_or(0, |head| head + 1);
    let progress = Progress::new("events", head);
    let began = Instant::now();
    let mut events = log.read_all(0, Filter::all(), Direction::Forward, usize::MAX);
    let mut count = 0;
    while let Some(event) = events.next().await {
        see(&*event?)?;
        count += 1;
        if count % 10_000 == 0 {
            progress.set(count);
        }
    }
    let took = began.elapsed().as_secs_f64();
    progress.finish();
    Ok((count, took))
}

fn decode(event: &Recorded) -> Result<(), UnreadableEvent> {
    match event.stream.category() {
        Item::CATEGORY => read::<Item>(event),
        Inventory::CATEGORY => read::<Inventory>(event),
        Cart::CATEGORY => read::<Cart>(event),
        Orders::CATEGORY => read::<Orders>(event),
        Payment::CATEGORY => read::<Payment>(event),
        Shipment::CATEGORY => read::<Shipment>(event),
        search::CATEGORY => {
            SearchEvent::from_json(&event.event_type, event.schema_version(), &event.data).map(drop)
        }
        Synonyms::CATEGORY => read::<Synonyms>(event),
        Returns::CATEGORY => read::<Returns>(event),
        Ledger::CATEGORY => read::<Ledger>(event),
        Promotion::CATEGORY => read::<Promotion>(event),
        Credit::CATEGORY => read::<Credit>(event),
        Account::CATEGORY => read::<Account>(event),
        Checkout::CATEGORY => read::<Checkout>(event),
        // A stranger's.
        _ => Ok(()),
    }
}

fn read<D: Decider>(event: &Recorded) -> Result<(), UnreadableEvent> {
    let version = event.schema_version();
    D::Event::from_json(&event.event_type, version, &event.data).map(drop)
}
