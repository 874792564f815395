//! What is asked of the catalogue.

use chrono::{DateTime, Utc};
use souk_domain::{AccountId, ItemId, Sku, item::Listing};
use sqlx::{PgPool, Row, postgres::PgRow, types::Json};

use crate::query::{self, Page, QueryError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemRow {
    pub item_id: ItemId,
    pub listing: Listing,
    /// Of the item's stream: what its `ETag` is made of.
    pub revision: u64,
    pub listed_at: DateTime<Utc>,
    pub revised_at: DateTime<Utc>,
}

pub async fn item(pool: &PgPool, id: ItemId) -> Result<Option<ItemRow>, QueryError> {
    let row =
        sqlx::query("SELECT * FROM views.items WHERE item_id = $1").bind(id.0).fetch_optional(pool).await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// Those of the items that there are, in no order.
pub async fn items(pool: &PgPool, ids: &[ItemId]) -> Result<Vec<ItemRow>, QueryError> {
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    let rows =
        sqlx::query("SELECT * FROM views.items WHERE item_id = ANY($1)").bind(ids).fetch_all(pool).await?;
    Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
}

/// A seller's own items, withdrawn ones included, newest first.
pub async fn items_of_seller(
    pool: &PgPool,
    seller: AccountId,
    cursor: Option<&str>,
    size: u32,
) -> Result<Page<ItemRow>, QueryError> {
    let (at, id) = query::after(cursor)?;
    let rows = sqlx::query(
        "SELECT * FROM views.items WHERE seller_id = $1 AND (listed_at, item_id) < ($2, $3)
         ORDER BY listed_at DESC, item_id DESC LIMIT $4",
    )
    .bind(seller.0)
    .bind(at)
    .bind(id)
    .bind(query::limit(size))
    .fetch_all(pool)
    .await?;
    query::page(&rows, size, |row| Ok((row.try_get("listed_at")?, row.try_get("item_id")?)), read)
}

pub(super) fn read(row: &PgRow) -> Result<ItemRow, sqlx::Error> {
    let Json(details) = row.try_get("details")?;
    let Json(variants) = row.try_get("variants")?;
    let sku = Sku::parse(row.try_get("sku")?).map_err(|error| query::malformed("sku", error))?;
    let seller_id = AccountId(row.try_get("seller_id")?);
    Ok(ItemRow {
        item_id: ItemId(row.try_get("item_id")?),
        listing: Listing { seller_id, sku, details, variants, withdrawn: row.try_get("withdrawn")? },
        revision: row.try_get::<i64, _>("revision")? as u64,
        listed_at: row.try_get("listed_at")?,
        revised_at: row.try_get("revised_at")?,
    })
}
