//! How soon an item is found while many are listed, over HTTP: at a rate, and every so many of them is looked for by its SKU.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use souk_search::ItemDocument;
use tokio::{
    task::JoinSet,
    time::{sleep, sleep_until},
};

use super::{
    super::{
        market::{run_id, sellers},
        report::{Latency, histogram, record},
        target::Target,
    },
    speed::Load,
};
use crate::client::Client;

const SELLERS: usize = 4;
/// Of so many items one is looked for, so that looking is little of the work.
const LOOKED_FOR: usize = 25;
const LOOK_EVERY: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(30);

/// From when a listing was due until a search finds it.
pub(super) async fn listed_to_found(
    target: &Target,
    http: &reqwest::Client,
    rate: f64,
    items: impl ExactSizeIterator<Item = ItemDocument>,
) -> anyhow::Result<Load> {
    ensure!(rate > 0.0, "--list-rate has to be more than 0");
    let sessions = sellers(&Client::new(&target.url)?, &run_id(), SELLERS).await?;
    let items: Vec<Value> = items.enumerate().map(|(number, item)| listing(number, item)).collect();
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for (number, item) in items.into_iter().enumerate() {
        let due = began + Duration::from_secs_f64(number as f64 / rate);
        sleep_until(due.into()).await;
        let (http, seller) = (http.clone(), sessions[number % SELLERS].clone());
        let url = format!("{}/v1/items?size=1&record=false&term={}", target.url, sku(number));
        tasks.spawn(async move {
            seller.list_item(&item).await?;
            if number % LOOKED_FOR == 0 {
                find(&http, &url, number).await?;
                return anyhow::Ok(Some(due.elapsed()));
            }
            Ok(None)
        });
    }
    let (mut took, mut listed, mut failed) = (histogram(), 0_u32, 0);
    while let Some(done) = tasks.join_next().await {
        match done? {
            Ok(found) => {
                listed += 1;
                if let Some(time) = found {
                    record(&mut took, time);
                }
            }
            Err(_) => failed += 1,
        }
    }
    let per_second = f64::from(listed) / began.elapsed().as_secs_f64();
    Ok(Load { rate: Some(rate), clients: None, per_second, failed, latency_ms: Latency::of(&took) })
}

fn sku(number: usize) -> String {
    format!("fresh{number:07}")
}

fn listing(number: usize, item: ItemDocument) -> Value {
    json!({
        "sku": sku(number), "name": item.name, "description": item.description, "brand": item.brand,
        "category": item.category, "price": { "amount": item.price, "currency": "USD" }, "quantity": 5,
    })
}

async fn find(http: &reqwest::Client, url: &str, number: usize) -> anyhow::Result<()> {
    let sought = Instant::now();
    while sought.elapsed() < PATIENCE {
        let found: Value = http.get(url).send().await?.error_for_status()?.json().await?;
        if found["items"][0]["sku"] == sku(number) {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
    anyhow::bail!("{} was not found", sku(number))
}
