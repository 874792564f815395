//! How soon an item is found while many are listed, over HTTP: at a rate, and every so many of them is looked for by its SKU.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde_json::{Value, json};
use souk_search::ItemDocument;
use tokio::time::sleep;

use super::{
    super::{
        market::{run_id, sellers},
        report::{Latency, histogram, record},
        target::Target,
    },
    speed::{Load, at_rate},
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
    items: impl Iterator<Item = ItemDocument>,
) -> anyhow::Result<Load> {
    ensure!(rate > 0.0, "--list-rate has to be more than 0");
    let sessions = sellers(&Client::new(&target.url)?, &run_id(), SELLERS).await?;
    let items: Vec<Value> = items.enumerate().map(|(number, item)| listing(number, item)).collect();
    let (began, count) = (Instant::now(), items.len());
    let (http, url) = (http.clone(), target.url.clone());
    let list = move |number: usize, due: Instant| {
        let (http, seller, item) = (http.clone(), sessions[number % SELLERS].clone(), items[number].clone());
        let url = format!("{url}/v1/items?size=1&record=false&term={}", sku(number));
        async move {
            seller.list_item(&item).await?;
            if number.is_multiple_of(LOOKED_FOR) {
                find(&http, &url, number).await?;
                return anyhow::Ok(Some(due.elapsed()));
            }
            Ok(None)
        }
    };
    let mut tasks = at_rate(rate, count, list).await?;
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
