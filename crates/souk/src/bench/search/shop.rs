//! A shop as a log tells of it, and its search index built from that log as the server builds it, but with nothing beside:
//! no views, no PostgreSQL.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use futures::{StreamExt, TryStreamExt, stream};
use souk_commands::clock::fresh_id;
use souk_domain::{
    AccountId, Decider, DomainEvent, ItemId, Money, Sku, SkuId,
    inventory::{Inventory, InventoryEvent, StockReceived},
    item::{Details, Item, ItemEvent, ItemListed, Variant},
};
use souk_event_log::{EventLog, Expected, NewEvent, SqliteLog, StreamName, sqlite::Options};
use souk_projections::{Projections, search::SearchProjector};
use souk_search::{Config, ItemDocument, SearchIndex};
use sqlx::postgres::PgConnectOptions;
use tokio::time::Instant;

use super::catalogue::Catalogue;
use crate::{data_dir::DataDir, progress::Progress};

/// Appends under way at once.
const AT_ONCE: usize = 512;
const STOCK: u32 = 5;
/// Letters of a SKU at most.
const LONGEST_SKU: usize = 64;

/// Lists so many items, nine of ten with stock.
pub(super) async fn list(data: &DataDir, catalogue: &Catalogue, items: usize) -> anyhow::Result<()> {
    let log = SqliteLog::open(&data.log(), Options::default()).context("the log")?;
    let progress = Progress::new("items listed", items as u64);
    let each = (0..items).map(|number| {
        let log = &log;
        async move {
            let item = catalogue.item(number);
            let (item_id, sku_id) = (ItemId(item.item_id), SkuId(item.skus[0]));
            let listed = listed(item).with_context(|| format!("item {number}"))?;
            if number % 10 > 0 {
                let received = StockReceived {
                    item_id,
                    seller_id: listed.seller_id,
                    sku: listed.sku.clone(),
                    quantity: STOCK,
                    reason: None,
                };
                let stream = StreamName::new(Inventory::CATEGORY, sku_id);
                append(log, &stream, &InventoryEvent::StockReceived(received)).await?;
            }
            append(log, &StreamName::new(Item::CATEGORY, item_id), &ItemEvent::ItemListed(listed)).await
        }
    });
    let mut appended = stream::iter(each).buffer_unordered(AT_ONCE);
    while appended.try_next().await?.is_some() {
        progress.add(1);
    }
    progress.finish();
    Ok(())
}

async fn append(log: &SqliteLog, stream: &StreamName, event: &impl DomainEvent) -> anyhow::Result<()> {
    let event = NewEvent {
        id: fresh_id(),
        event_type: event.event_type().into(),
        data: event.to_json(),
        metadata: format!(r#"{{"schemaVersion":{}}}"#, event.version()).into_bytes().into(),
    };
    log.append(stream, Expected::NoStream, vec![event]).await?;
    Ok(())
}

fn listed(item: ItemDocument) -> anyhow::Result<ItemListed> {
    let sku: String = item.sku.chars().filter(|letter| !letter.is_control()).take(LONGEST_SKU).collect();
    let sku = Sku::parse(sku.trim())?;
    let variant = Variant {
        sku_id: SkuId(item.skus[0]),
        sku: sku.clone(),
        options: BTreeMap::new(),
        price: Money { amount: item.price, currency: item.currency.parse()? },
        images: Vec::new(),
    };
    let details = Details {
        name: item.name,
        description: item.description,
        brand: item.brand,
        category: item.category,
        tags: item.tags.into_iter().collect(),
        attributes: item.attributes,
        specifications: BTreeMap::new(),
        images: item.image.into_iter().collect(),
    };
    Ok(ItemListed { seller_id: AccountId(item.seller_id), sku, details, variants: vec![variant] })
}

/// Builds the index, segments merged, and says how long that took.
pub(super) async fn index(data: &DataDir, items: usize) -> anyhow::Result<(Arc<SearchIndex>, Duration)> {
    let log = SqliteLog::open(&data.log(), Options::default()).context("the log")?;
    let head = log.head().await?.context("nothing was listed")?;
    let index = SearchIndex::open(&data.search(), Config::default())?;
    let progress = Progress::new("items indexed", items as u64);
    let began = Instant::now();
    let nowhere = PgConnectOptions::new_without_pgpass().socket(data.path());
    let projector = SearchProjector::new(Arc::clone(&index));
    let projections = Projections::start(log, nowhere, Vec::new(), Some(projector), None);
    while projections.wait_for(SearchProjector::NAME, head, Duration::from_secs(1)).await.is_err() {
        progress.set(index.len());
    }
    projections.shutdown().await;
    let written = Arc::clone(&index);
    let merging = tokio::task::spawn_blocking(move || {
        let mut writer = written.writer()?;
        writer.commit(head)?;
        writer.finish()
    });
    merging.await??;
    let took = began.elapsed();
    progress.set(index.len());
    progress.finish();
    Ok((index, took))
}
