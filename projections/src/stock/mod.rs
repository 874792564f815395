//! Stock by SKU: what is on hand and how much of it is reserved. Follows `inventory-*`.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use souk_domain::{
    AccountId, Decider, ItemId, Sku, SkuId,
    inventory::{Inventory, InventoryEvent, Owner},
};
use souk_event_log::{Filter, Recorded};
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow};

use crate::{
    event,
    query::{self, QueryError},
    runner::{ApplyError, Projector},
};

pub struct Stock;

/// What the events of one batch change about a SKU.
#[derive(Default)]
struct Change {
    /// Whose it is, if stock was received.
    owner: Option<Owner>,
    on_hand: i64,
    reserved: i64,
}

/// How an event changes what is on hand and what is reserved.
pub(crate) fn change(event: &InventoryEvent) -> (i64, i64) {
    match event {
        InventoryEvent::StockReceived(event) => (event.quantity.into(), 0),
        InventoryEvent::StockReserved(event) => (0, event.quantity.into()),
        InventoryEvent::ReservationRejected(_) => (0, 0),
        InventoryEvent::ReservationReleased(event) => (0, -i64::from(event.quantity)),
        InventoryEvent::ReservationCommitted(event) => {
            (-i64::from(event.quantity), -i64::from(event.quantity))
        }
        InventoryEvent::StockAdjusted(event) => (event.change, 0),
        InventoryEvent::StockReturned(event) => (event.quantity.into(), 0),
    }
}

#[async_trait]
impl Projector for Stock {
    fn name(&self) -> &'static str {
        "stock"
    }

    fn version(&self) -> u32 {
        1
    }

    fn filter(&self) -> Filter {
        Filter::categories([Inventory::CATEGORY])
    }

    fn migration(&self) -> &'static str {
        include_str!("migration.sql")
    }

    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError> {
        let mut changes: BTreeMap<SkuId, Change> = BTreeMap::new();
        for event in events {
            let (inventory_event, _) = event::read::<InventoryEvent>(event)?;
            let (on_hand, reserved) = change(&inventory_event);
            let owner = match inventory_event {
                InventoryEvent::StockReceived(event) => {
                    Some(Owner { item_id: event.item_id, seller_id: event.seller_id, sku: event.sku })
                }
                _ => None,
            };
            if owner.is_none() && (on_hand, reserved) == (0, 0) {
                continue;
            }
            let change = changes.entry(event::id(event)?).or_default();
            change.on_hand += on_hand;
            change.reserved += reserved;
            change.owner = change.owner.take().or(owner);
        }
        receive(tables, &changes).await?;
        update(tables, &changes).await?;
        Ok(())
    }
}

async fn receive(tables: &mut PgConnection, changes: &BTreeMap<SkuId, Change>) -> Result<(), sqlx::Error> {
    let received: Vec<(&SkuId, &Change, &Owner)> =
        changes.iter().filter_map(|(id, change)| Some((id, change, change.owner.as_ref()?))).collect();
    if received.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO stock AS s (sku_id, item_id, seller_id, sku, on_hand, reserved)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::bigint[], $6::bigint[])
         ON CONFLICT (sku_id) DO UPDATE SET on_hand = s.on_hand + excluded.on_hand, reserved = s.reserved + excluded.reserved",
    )
    .bind(received.iter().map(|(id, ..)| id.0).collect::<Vec<_>>())
    .bind(received.iter().map(|(.., owner)| owner.item_id.0).collect::<Vec<_>>())
    .bind(received.iter().map(|(.., owner)| owner.seller_id.0).collect::<Vec<_>>())
    .bind(received.iter().map(|(.., owner)| owner.sku.as_str()).collect::<Vec<_>>())
    .bind(received.iter().map(|(_, change, _)| change.on_hand).collect::<Vec<_>>())
    .bind(received.iter().map(|(_, change, _)| change.reserved).collect::<Vec<_>>())
    .execute(tables)
    .await?;
    Ok(())
}

async fn update(tables: &mut PgConnection, changes: &BTreeMap<SkuId, Change>) -> Result<(), sqlx::Error> {
    let updated: Vec<(&SkuId, &Change)> =
        changes.iter().filter(|(_, change)| change.owner.is_none()).collect();
    if updated.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "UPDATE stock s SET on_hand = s.on_hand + c.on_hand, reserved = s.reserved + c.reserved
         FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS c (sku_id, on_hand, reserved)
         WHERE s.sku_id = c.sku_id",
    )
    .bind(updated.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
    .bind(updated.iter().map(|(_, change)| change.on_hand).collect::<Vec<_>>())
    .bind(updated.iter().map(|(_, change)| change.reserved).collect::<Vec<_>>())
    .execute(tables)
    .await?;
    Ok(())
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    pub sku_id: SkuId,
    pub item_id: ItemId,
    pub seller_id: AccountId,
    pub sku: Sku,
    pub on_hand: u64,
    pub reserved: u64,
}

impl Level {
    pub fn available(&self) -> u64 {
        self.on_hand.saturating_sub(self.reserved)
    }
}

/// Levels of those of the SKUs that ever had stock, in no order.
pub async fn levels(pool: &PgPool, skus: &[SkuId]) -> Result<Vec<Level>, QueryError> {
    let skus: Vec<_> = skus.iter().map(|sku| sku.0).collect();
    let rows =
        sqlx::query("SELECT * FROM views.stock WHERE sku_id = ANY($1)").bind(skus).fetch_all(pool).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

fn read(row: &PgRow) -> Result<Level, sqlx::Error> {
    let quantity = |column: &str| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(column)?.max(0) as u64);
    Ok(Level {
        sku_id: SkuId(row.try_get("sku_id")?),
        item_id: ItemId(row.try_get("item_id")?),
        seller_id: AccountId(row.try_get("seller_id")?),
        sku: Sku::parse(row.try_get("sku")?).map_err(|error| query::malformed("sku", error))?,
        on_hand: quantity("on_hand")?,
        reserved: quantity("reserved")?,
    })
}
