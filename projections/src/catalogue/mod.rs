//! The catalogue: every item as it stands, withdrawn ones included. Follows `item-*`; quantities are in [`crate::stock`].

mod query;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use souk_domain::{
    Decider, ItemId,
    item::{Item, ItemEvent, Listing},
};
use souk_event_log::{Filter, Recorded};
use sqlx::PgConnection;

pub use query::{ItemRow, item, items, items_of_seller};

use crate::{
    event,
    query::json,
    runner::{ApplyError, Projector},
};

pub struct Catalogue;

#[async_trait]
impl Projector for Catalogue {
    fn name(&self) -> &'static str {
        "catalogue"
    }

    fn version(&self) -> u32 {
        1
    }

    fn filter(&self) -> Filter {
        Filter::categories([Item::CATEGORY])
    }

    fn migration(&self) -> &'static str {
        include_str!("migration.sql")
    }

    /// Items are folded by the domain's own rule: what is there is read, and what changed is written back.
    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError> {
        let mut read = Vec::with_capacity(events.len());
        for event in events {
            let id: ItemId = event::id(event)?;
            let (item_event, at) = event::read::<ItemEvent>(event)?;
            read.push((id, event, item_event, at));
        }
        let changed: Vec<ItemId> =
            read.iter().filter(|(_, event, ..)| event.revision > 0).map(|(id, ..)| *id).collect();
        let mut items = load(tables, &changed).await?;
        for (id, event, item_event, at) in read {
            let known = items.remove(&id);
            let listed_at = known.as_ref().map_or(at, |item| item.listed_at);
            let Some(listing) = Item::evolve(known.map(|item| item.listing), &item_event) else {
                return Err(ApplyError::event(event, "the item was never listed"));
            };
            items.insert(id, Entry { listing, revision: event.revision as i64, listed_at, revised_at: at });
        }
        write(tables, &items).await?;
        Ok(())
    }
}

struct Entry {
    listing: Listing,
    revision: i64,
    listed_at: DateTime<Utc>,
    revised_at: DateTime<Utc>,
}

async fn load(tables: &mut PgConnection, ids: &[ItemId]) -> Result<BTreeMap<ItemId, Entry>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    let rows = sqlx::query("SELECT * FROM items WHERE item_id = ANY($1)").bind(ids).fetch_all(tables).await?;
    let read = |row: &_| {
        let ItemRow { item_id, listing, revision, listed_at, revised_at } = query::read(row)?;
        Ok((item_id, Entry { listing, revision: revision as i64, listed_at, revised_at }))
    };
    rows.iter().map(read).collect()
}

async fn write(tables: &mut PgConnection, items: &BTreeMap<ItemId, Entry>) -> Result<(), sqlx::Error> {
    let column = |of: fn(&Entry) -> DateTime<Utc>| items.values().map(of).collect::<Vec<_>>();
    let listings = || items.values().map(|item| &item.listing);
    sqlx::query(
        "INSERT INTO items (item_id, seller_id, sku, details, variants, withdrawn, revision, listed_at, revised_at)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]::json[], $5::text[]::json[], $6::boolean[], $7::bigint[],
                              $8::timestamptz[], $9::timestamptz[])
         ON CONFLICT (item_id) DO UPDATE SET
            details = excluded.details, variants = excluded.variants, withdrawn = excluded.withdrawn,
            revision = excluded.revision, revised_at = excluded.revised_at",
    )
    .bind(items.keys().map(|id| id.0).collect::<Vec<_>>())
    .bind(listings().map(|listing| listing.seller_id.0).collect::<Vec<_>>())
    .bind(listings().map(|listing| listing.sku.as_str()).collect::<Vec<_>>())
    .bind(listings().map(|listing| json(&listing.details)).collect::<Vec<_>>())
    .bind(listings().map(|listing| json(&listing.variants)).collect::<Vec<_>>())
    .bind(listings().map(|listing| listing.withdrawn).collect::<Vec<_>>())
    .bind(items.values().map(|item| item.revision).collect::<Vec<_>>())
    .bind(column(|item| item.listed_at))
    .bind(column(|item| item.revised_at))
    .execute(tables)
    .await?;
    Ok(())
}
