//! Orders with their lines, timeline, payment and shipments. Follows `order-*`, `payment-*` and `shipment-*`.
//!
//! Nothing is read back: the events of a batch are gathered by order, new orders are inserted as they stand at the end
//! of the batch, and the others are updated by what changed.

mod query;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use souk_domain::{
    Decider, OrderId,
    order::{OrderEvent, OrderPlaced, OrderStatus, Orders as OrderDecider},
    payment::{Payment, PaymentEvent},
    shipment::{Shipment, ShipmentEvent},
};
use souk_event_log::{Filter, Recorded};
use sqlx::PgConnection;

pub use query::{
    OrderFilter, OrderView, PaymentStatus, PaymentSummary, TimelineEntry, order, orders, orders_of_buyer,
};

use crate::{
    event,
    query::{json, name_of},
    runner::{ApplyError, Projector},
    shipments::Shipments,
};
use query::PaymentKind;

pub struct Orders;

/// The order of the columns in `order_states`, and of a timeline.
const FLOW: [OrderStatus; 7] = [
    OrderStatus::Placed,
    OrderStatus::StockReserved,
    OrderStatus::Paid,
    OrderStatus::ReadyToShip,
    OrderStatus::Completed,
    OrderStatus::Cancelling,
    OrderStatus::Cancelled,
];

#[async_trait]
impl Projector for Orders {
    fn name(&self) -> &'static str {
        "orders"
    }

    fn version(&self) -> u32 {
        2
    }

    fn filter(&self) -> Filter {
        Filter::categories([OrderDecider::CATEGORY, Payment::CATEGORY, Shipment::CATEGORY])
    }

    fn migration(&self) -> &'static str {
        include_str!("migration.sql")
    }

    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError> {
        let mut placed: Vec<Placed> = Vec::new();
        let mut states: BTreeMap<OrderId, State> = BTreeMap::new();
        let mut shipments = Shipments::default();
        for event in events {
            match event.stream.category() {
                Shipment::CATEGORY => {
                    let (shipment_event, at) = event::read::<ShipmentEvent>(event)?;
                    shipments.push(event::id(event)?, &shipment_event, at);
                }
                Payment::CATEGORY => {
                    let (payment_event, _) = event::read::<PaymentEvent>(event)?;
                    states.entry(event::id(event)?).or_default().pay(&payment_event);
                }
                _ => {
                    let (order_event, at) = event::read::<OrderEvent>(event)?;
                    let id = event::id(event)?;
                    states.entry(id).or_default().step(&order_event, event.revision, at);
                    if let OrderEvent::OrderPlaced(order) = order_event {
                        placed.push(Placed { id, at, order });
                    }
                }
            }
        }
        insert(tables, &placed).await?;
        let (new, known): (Vec<_>, Vec<_>) = states.iter().partition(|(_, state)| state.reached[0].is_some());
        insert_states(tables, &new).await?;
        update_states(tables, &known).await?;
        shipments.write(tables, "order_shipments").await?;
        Ok(())
    }
}

struct Placed {
    id: OrderId,
    at: DateTime<Utc>,
    order: OrderPlaced,
}

/// What a batch changes about an order; what it does not touch is `None`.
#[derive(Default)]
struct State {
    status: Option<&'static str>,
    reason: Option<String>,
    /// JSON.
    short_lines: Option<String>,
    revision: Option<i64>,
    /// In the order of [`FLOW`].
    reached: [Option<DateTime<Utc>>; FLOW.len()],
    payment_status: Option<&'static str>,
    payment_failure: Option<String>,
}

impl State {
    fn step(&mut self, event: &OrderEvent, revision: u64, at: DateTime<Utc>) {
        let (place, name) = match event {
            OrderEvent::OrderPlaced(_) => (0, "placed"),
            OrderEvent::OrderStockReserved(_) => (1, "stockReserved"),
            OrderEvent::OrderPaid(_) => (2, "paid"),
            OrderEvent::OrderReadyToShip(_) => (3, "readyToShip"),
            OrderEvent::OrderCompleted(_) => (4, "completed"),
            OrderEvent::CancellationRequested(_) => (5, "cancelling"),
            OrderEvent::OrderCancelled(event) => {
                self.reason = Some(name_of(&event.reason));
                self.short_lines = (!event.short_lines.is_empty()).then(|| json(&event.short_lines));
                (6, "cancelled")
            }
        };
        self.status = Some(name);
        self.revision = Some(revision as i64);
        self.reached[place] = Some(at);
    }

    fn pay(&mut self, event: &PaymentEvent) {
        self.payment_status = match event {
            PaymentEvent::PaymentRequested(_) => Some("requested"),
            PaymentEvent::PaymentCompleted(_) => Some("completed"),
            PaymentEvent::PaymentFailed(event) => {
                self.payment_failure = Some(name_of(&event.reason));
                Some("failed")
            }
            // The money is where it was until it is back.
            PaymentEvent::RefundRequested(_)
            | PaymentEvent::PaymentActionRequired(_)
            | PaymentEvent::PartialRefundRequested(_)
            | PaymentEvent::PaymentPartlyRefunded(_)
            | PaymentEvent::ChargebackOpened(_)
            | PaymentEvent::ChargebackClosed(_) => return,
            PaymentEvent::PaymentRefunded(_) => Some("refunded"),
        };
    }
}

async fn insert(tables: &mut PgConnection, placed: &[Placed]) -> Result<(), sqlx::Error> {
    if placed.is_empty() {
        return Ok(());
    }
    let orders = || placed.iter().map(|placed| &placed.order);
    sqlx::query(
        "INSERT INTO orders (order_id, buyer_id, placed_at, total, currency, lines, payment, ship_to, charges)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::text[], $6::text[]::json[],
                              $7::text[]::json[], $8::text[]::json[], $9::text[]::json[])",
    )
    .bind(placed.iter().map(|placed| placed.id.0).collect::<Vec<_>>())
    .bind(orders().map(|order| order.buyer_id.0).collect::<Vec<_>>())
    .bind(placed.iter().map(|placed| placed.at).collect::<Vec<_>>())
    .bind(orders().map(|order| order.total.amount).collect::<Vec<_>>())
    .bind(orders().map(|order| order.total.currency.to_string()).collect::<Vec<_>>())
    .bind(orders().map(|order| json(&order.lines)).collect::<Vec<_>>())
    .bind(orders().map(|order| json(&PaymentKind::of(&order.payment))).collect::<Vec<_>>())
    .bind(orders().map(|order| json(&order.ship_to)).collect::<Vec<_>>())
    .bind(
        orders()
            .map(|order| (!order.charges.is_none()).then(|| json(&order.charges)))
            .collect::<Vec<_>>(),
    )
    .execute(tables)
    .await?;
    Ok(())
}

async fn insert_states(tables: &mut PgConnection, states: &[(&OrderId, &State)]) -> Result<(), sqlx::Error> {
    const STATEMENT: &str = "INSERT INTO order_states (order_id, status, reason, revision, payment_status, payment_failure,
            placed_at, stock_reserved_at, paid_at, ready_to_ship_at, completed_at, cancelling_at, cancelled_at,
            short_lines)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[],
            $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[],
            $12::timestamptz[], $13::timestamptz[], $14::text[]::json[])";
    write_states(tables, STATEMENT, states).await
}

/// Payments that come for an order that is not there find nothing to change.
async fn update_states(tables: &mut PgConnection, states: &[(&OrderId, &State)]) -> Result<(), sqlx::Error> {
    const STATEMENT: &str = "UPDATE order_states s SET
            status = coalesce(c.status, s.status),
            reason = coalesce(c.reason, s.reason),
            revision = coalesce(c.revision, s.revision),
            payment_status = coalesce(c.payment_status, s.payment_status),
            payment_failure = coalesce(c.payment_failure, s.payment_failure),
            placed_at = coalesce(c.placed_at, s.placed_at),
            stock_reserved_at = coalesce(c.stock_reserved_at, s.stock_reserved_at),
            paid_at = coalesce(c.paid_at, s.paid_at),
            ready_to_ship_at = coalesce(c.ready_to_ship_at, s.ready_to_ship_at),
            completed_at = coalesce(c.completed_at, s.completed_at),
            cancelling_at = coalesce(c.cancelling_at, s.cancelling_at),
            cancelled_at = coalesce(c.cancelled_at, s.cancelled_at),
            short_lines = coalesce(c.short_lines, s.short_lines)
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[],
            $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::timestamptz[], $11::timestamptz[],
            $12::timestamptz[], $13::timestamptz[], $14::text[]::json[])
            AS c (order_id, status, reason, revision, payment_status, payment_failure,
                  placed_at, stock_reserved_at, paid_at, ready_to_ship_at, completed_at, cancelling_at, cancelled_at,
                  short_lines)
         WHERE s.order_id = c.order_id";
    write_states(tables, STATEMENT, states).await
}

async fn write_states(
    tables: &mut PgConnection,
    statement: &'static str,
    states: &[(&OrderId, &State)],
) -> Result<(), sqlx::Error> {
    if states.is_empty() {
        return Ok(());
    }
    let states_only = || states.iter().map(|(_, state)| *state);
    let mut query = sqlx::query(statement)
        .bind(states.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        .bind(states_only().map(|state| state.status).collect::<Vec<_>>())
        .bind(states_only().map(|state| state.reason.as_deref()).collect::<Vec<_>>())
        .bind(states_only().map(|state| state.revision).collect::<Vec<_>>())
        .bind(states_only().map(|state| state.payment_status).collect::<Vec<_>>())
        .bind(states_only().map(|state| state.payment_failure.as_deref()).collect::<Vec<_>>());
    for place in 0..FLOW.len() {
        query = query.bind(states_only().map(|state| state.reached[place]).collect::<Vec<_>>());
    }
    query = query.bind(states_only().map(|state| state.short_lines.as_deref()).collect::<Vec<_>>());
    query.execute(tables).await?;
    Ok(())
}
