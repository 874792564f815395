//! What is asked of orders.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use souk_domain::{
    AccountId, Money, OrderId,
    order::{CancelReason, OrderLine, OrderStatus, ShipTo, ShortLine},
    payment::{FailureReason, PaymentMethod, PaymentType},
    pricing::Charges,
};
use sqlx::{PgPool, Row, postgres::PgRow, types::Json};
use uuid::Uuid;

use super::FLOW;
use crate::{
    query::{self, Page, QueryError, name_of},
    shipments::ShipmentView,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderView {
    pub order_id: OrderId,
    pub buyer_id: AccountId,
    pub status: OrderStatus,
    /// Why it was cancelled.
    pub reason: Option<CancelReason>,
    /// What there was too little of.
    pub short_lines: Vec<ShortLine>,
    /// Of the order's stream.
    pub revision: u64,
    pub placed_at: DateTime<Utc>,
    pub total: Money,
    /// What the total holds beside the lines, and what pays for it beside the gateway.
    pub charges: Charges,
    pub lines: Vec<OrderLine>,
    pub payment: PaymentSummary,
    pub ship_to: ShipTo,
    /// Oldest first.
    pub timeline: Vec<TimelineEntry>,
    /// By seller.
    pub shipments: Vec<ShipmentView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    pub status: OrderStatus,
    pub at: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentSummary {
    pub payment_type: PaymentType,
    pub brand: Option<String>,
    pub last_four: Option<String>,
    /// None until it is asked for.
    pub status: Option<PaymentStatus>,
    pub failure: Option<FailureReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PaymentStatus {
    Requested,
    Completed,
    Failed,
    Refunded,
}

/// A payment method without its token, as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PaymentKind {
    payment_type: PaymentType,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    brand: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    last_four: Option<String>,
}

impl PaymentKind {
    pub(super) fn of(method: &PaymentMethod) -> Self {
        Self {
            payment_type: method.payment_type,
            brand: method.brand.clone(),
            last_four: method.last_four.clone(),
        }
    }
}

/// Which of all orders an operator wants to see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderFilter {
    pub status: Option<OrderStatus>,
    pub buyer: Option<AccountId>,
}

macro_rules! select_orders {
    ($rest:literal) => {
        concat!(
            "SELECT o.*, s.status, s.reason, s.revision, s.payment_status, s.payment_failure, s.stock_reserved_at,
                    s.paid_at, s.ready_to_ship_at, s.completed_at, s.cancelling_at, s.cancelled_at, s.short_lines
             FROM views.orders o JOIN views.order_states s USING (order_id) ",
            $rest
        )
    };
}

pub async fn order(pool: &PgPool, id: OrderId) -> Result<Option<OrderView>, QueryError> {
    let row = sqlx::query(select_orders!("WHERE o.order_id = $1")).bind(id.0).fetch_optional(pool).await?;
    let Some(row) = row else { return Ok(None) };
    let mut view = read(&row)?;
    view.shipments = shipments(pool, &[id.0]).await?.remove(&id).unwrap_or_default();
    Ok(Some(view))
}

/// A buyer's orders, newest first.
pub async fn orders_of_buyer(
    pool: &PgPool,
    buyer: AccountId,
    cursor: Option<&str>,
    size: u32,
) -> Result<Page<OrderView>, QueryError> {
    let (at, id) = query::after(cursor)?;
    let rows = sqlx::query(select_orders!(
        "WHERE o.buyer_id = $1 AND (o.placed_at, o.order_id) < ($2, $3)
         ORDER BY o.placed_at DESC, o.order_id DESC LIMIT $4"
    ))
    .bind(buyer.0)
    .bind(at)
    .bind(id)
    .bind(query::limit(size))
    .fetch_all(pool)
    .await?;
    with_shipments(pool, &rows, size).await
}

/// All orders, newest first.
pub async fn orders(
    pool: &PgPool,
    filter: OrderFilter,
    cursor: Option<&str>,
    size: u32,
) -> Result<Page<OrderView>, QueryError> {
    if let OrderFilter { status: None, buyer: Some(buyer) } = filter {
        return orders_of_buyer(pool, buyer, cursor, size).await;
    }
    let (at, id) = query::after(cursor)?;
    let rows = sqlx::query(select_orders!(
        "WHERE (o.placed_at, o.order_id) < ($1, $2) AND ($3::text IS NULL OR s.status = $3)
           AND ($4::uuid IS NULL OR o.buyer_id = $4)
         ORDER BY o.placed_at DESC, o.order_id DESC LIMIT $5"
    ))
    .bind(at)
    .bind(id)
    .bind(filter.status.as_ref().map(name_of))
    .bind(filter.buyer.map(|buyer| buyer.0))
    .bind(query::limit(size))
    .fetch_all(pool)
    .await?;
    with_shipments(pool, &rows, size).await
}

async fn with_shipments(pool: &PgPool, rows: &[PgRow], size: u32) -> Result<Page<OrderView>, QueryError> {
    let key = |row: &PgRow| Ok((row.try_get("placed_at")?, row.try_get("order_id")?));
    let mut page = query::page(rows, size, key, read)?;
    let ids: Vec<Uuid> = page.rows.iter().map(|order| order.order_id.0).collect();
    let mut shipments = shipments(pool, &ids).await?;
    for order in &mut page.rows {
        order.shipments = shipments.remove(&order.order_id).unwrap_or_default();
    }
    Ok(page)
}

async fn shipments(
    pool: &PgPool,
    orders: &[Uuid],
) -> Result<HashMap<OrderId, Vec<ShipmentView>>, QueryError> {
    if orders.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(
        "SELECT * FROM views.order_shipments WHERE order_id = ANY($1) ORDER BY order_id, seller_id",
    )
    .bind(orders)
    .fetch_all(pool)
    .await?;
    let mut shipments: HashMap<OrderId, Vec<ShipmentView>> = HashMap::new();
    for row in &rows {
        if let Some(shipment) = ShipmentView::read(row)? {
            shipments.entry(shipment.shipment_id.order_id).or_default().push(shipment);
        }
    }
    Ok(shipments)
}

fn read(row: &PgRow) -> Result<OrderView, sqlx::Error> {
    const COLUMNS: [&str; FLOW.len()] = [
        "placed_at",
        "stock_reserved_at",
        "paid_at",
        "ready_to_ship_at",
        "completed_at",
        "cancelling_at",
        "cancelled_at",
    ];
    let mut timeline = Vec::new();
    for (status, column) in FLOW.into_iter().zip(COLUMNS) {
        if let Some(at) = row.try_get(column)? {
            timeline.push(TimelineEntry { status, at });
        }
    }
    let Json(PaymentKind { payment_type, brand, last_four }) = row.try_get("payment")?;
    let Json(lines) = row.try_get("lines")?;
    let Json(ship_to) = row.try_get("ship_to")?;
    let charges: Option<Json<Charges>> = row.try_get("charges")?;
    let short_lines: Option<Json<Vec<ShortLine>>> = row.try_get("short_lines")?;
    Ok(OrderView {
        order_id: OrderId(row.try_get("order_id")?),
        buyer_id: AccountId(row.try_get("buyer_id")?),
        status: query::named(row, "status")?,
        reason: query::optional(row, "reason")?,
        short_lines: short_lines.map(|Json(lines)| lines).unwrap_or_default(),
        revision: row.try_get::<i64, _>("revision")? as u64,
        placed_at: row.try_get("placed_at")?,
        total: query::money(row, "total")?,
        charges: charges.map(|Json(charges)| charges).unwrap_or_default(),
        lines,
        payment: PaymentSummary {
            payment_type,
            brand,
            last_four,
            status: query::optional(row, "payment_status")?,
            failure: query::optional(row, "payment_failure")?,
        },
        ship_to,
        timeline,
        shipments: Vec::new(),
    })
}
