//! What sellers ask.

use chrono::{DateTime, Utc};
use souk_domain::{
    AccountId, Money, OrderId,
    order::{CancelReason, OrderLine, OrderStatus, ShipTo},
    shipment::ShipmentStatus,
};
use sqlx::{PgPool, Row, postgres::PgRow, types::Json};

use crate::{
    query::{self, Page, QueryError, name_of},
    shipments::ShipmentView,
};

/// A seller's part of an order: nothing in it is another seller's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SellerOrderView {
    pub order_id: OrderId,
    pub seller_id: AccountId,
    pub placed_at: DateTime<Utc>,
    /// Of the whole order.
    pub status: OrderStatus,
    pub reason: Option<CancelReason>,
    pub lines: Vec<OrderLine>,
    /// Of these lines.
    pub total: Money,
    pub shipment: Option<ShipmentView>,
    /// Told while there is, or was, something to send there.
    pub ship_to: Option<ShipTo>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SellerOrderFilter {
    pub status: Option<OrderStatus>,
    pub shipment: Option<ShipmentStatus>,
}

macro_rules! select_seller_orders {
    ($rest:literal) => {
        concat!(
            "SELECT o.*, s.status AS order_status, s.reason AS cancel_reason, p.status, p.carrier, p.tracking_number,
                    p.reason, p.requested_at, p.ready_at, p.dispatched_at, p.delivered_at, p.ended_at, p.parcels
             FROM views.seller_orders o JOIN views.seller_order_states s USING (order_id)
             LEFT JOIN views.seller_shipments p USING (order_id, seller_id) ",
            $rest
        )
    };
}

pub async fn seller_order(
    pool: &PgPool,
    seller: AccountId,
    order: OrderId,
) -> Result<Option<SellerOrderView>, QueryError> {
    let row = sqlx::query(select_seller_orders!("WHERE o.order_id = $1 AND o.seller_id = $2"))
        .bind(order.0)
        .bind(seller.0)
        .fetch_optional(pool)
        .await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// A seller's orders, newest first.
pub async fn seller_orders(
    pool: &PgPool,
    seller: AccountId,
    filter: SellerOrderFilter,
    cursor: Option<&str>,
    size: u32,
) -> Result<Page<SellerOrderView>, QueryError> {
    let (at, id) = query::after(cursor)?;
    let rows = sqlx::query(select_seller_orders!(
        "WHERE o.seller_id = $1 AND (o.placed_at, o.order_id) < ($2, $3)
           AND ($4::text IS NULL OR s.status = $4) AND ($5::text IS NULL OR p.status = $5)
         ORDER BY o.placed_at DESC, o.order_id DESC LIMIT $6"
    ))
    .bind(seller.0)
    .bind(at)
    .bind(id)
    .bind(filter.status.as_ref().map(name_of))
    .bind(filter.shipment.as_ref().map(name_of))
    .bind(query::limit(size))
    .fetch_all(pool)
    .await?;
    query::page(&rows, size, |row| Ok((row.try_get("placed_at")?, row.try_get("order_id")?)), read)
}

fn read(row: &PgRow) -> Result<SellerOrderView, sqlx::Error> {
    let shipment = ShipmentView::read(row)?;
    let booked = shipment.as_ref().is_some_and(|shipment| shipment.status.is_booked());
    let Json(lines) = row.try_get("lines")?;
    let Json(ship_to) = row.try_get("ship_to")?;
    Ok(SellerOrderView {
        order_id: OrderId(row.try_get("order_id")?),
        seller_id: AccountId(row.try_get("seller_id")?),
        placed_at: row.try_get("placed_at")?,
        status: query::named(row, "order_status")?,
        reason: query::optional(row, "cancel_reason")?,
        lines,
        total: query::money(row, "total")?,
        shipment,
        ship_to: booked.then_some(ship_to),
    })
}
