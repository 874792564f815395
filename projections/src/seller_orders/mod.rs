//! What sellers see of orders: their own lines, their own shipment, and how the order stands. Follows `order-*` and
//! `shipment-*`. Where to ship to is told once the shipment is booked.

mod query;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use souk_domain::{
    AccountId, Decider, Money, OrderId,
    order::{self, OrderEvent, OrderLine, OrderPlaced, Orders as OrderDecider},
    shipment::{Shipment, ShipmentEvent},
};
use souk_event_log::{Filter, Recorded};
use sqlx::PgConnection;

pub use query::{SellerOrderFilter, SellerOrderView, seller_order, seller_orders};

use crate::{
    event,
    query::{json, name_of},
    runner::{ApplyError, Projector},
    shipments::Shipments,
};

pub struct SellerOrders;

#[async_trait]
impl Projector for SellerOrders {
    fn name(&self) -> &'static str {
        "seller_orders"
    }

    fn version(&self) -> u32 {
        2
    }

    fn filter(&self) -> Filter {
        Filter::categories([OrderDecider::CATEGORY, Shipment::CATEGORY])
    }

    fn migration(&self) -> &'static str {
        include_str!("migration.sql")
    }

    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError> {
        let mut parts: Vec<Part> = Vec::new();
        let mut states: BTreeMap<OrderId, State> = BTreeMap::new();
        let mut shipments = Shipments::default();
        for event in events {
            if event.stream.category() == Shipment::CATEGORY {
                let (shipment_event, at) = event::read::<ShipmentEvent>(event)?;
                shipments.push(event::id(event)?, &shipment_event, at);
                continue;
            }
            let (order_event, at) = event::read::<OrderEvent>(event)?;
            let id = event::id(event)?;
            states.entry(id).or_default().step(&order_event);
            if let OrderEvent::OrderPlaced(placed) = order_event {
                split(id, at, placed, &mut parts).map_err(|error| ApplyError::event(event, error))?;
            }
        }
        insert(tables, &parts).await?;
        let (new, known): (Vec<_>, Vec<_>) = states.iter().partition(|(_, state)| state.placed);
        insert_states(tables, &new).await?;
        update_states(tables, &known).await?;
        shipments.write(tables, "seller_shipments").await?;
        Ok(())
    }
}

/// One seller's part of an order.
struct Part {
    order_id: OrderId,
    seller_id: AccountId,
    placed_at: DateTime<Utc>,
    total: Money,
    lines: String,
    ship_to: String,
}

fn split(
    order_id: OrderId,
    placed_at: DateTime<Utc>,
    placed: OrderPlaced,
    parts: &mut Vec<Part>,
) -> Result<(), souk_domain::MoneyError> {
    let ship_to = json(&placed.ship_to);
    let mut by_seller: BTreeMap<AccountId, Vec<OrderLine>> = BTreeMap::new();
    for line in placed.lines {
        by_seller.entry(line.seller_id).or_default().push(line);
    }
    for (seller_id, lines) in by_seller {
        let Some(total) = order::total(&lines).transpose()? else { continue };
        parts.push(Part {
            order_id,
            seller_id,
            placed_at,
            total,
            lines: json(&lines),
            ship_to: ship_to.clone(),
        });
    }
    Ok(())
}

/// How an order stands after a batch.
#[derive(Default)]
struct State {
    /// Whether it was placed in this batch.
    placed: bool,
    status: &'static str,
    reason: Option<String>,
}

impl State {
    fn step(&mut self, event: &OrderEvent) {
        self.status = match event {
            OrderEvent::OrderPlaced(_) => {
                self.placed = true;
                "placed"
            }
            OrderEvent::OrderStockReserved(_) => "stockReserved",
            OrderEvent::OrderPaid(_) => "paid",
            OrderEvent::OrderReadyToShip(_) => "readyToShip",
            OrderEvent::OrderCompleted(_) => "completed",
            OrderEvent::CancellationRequested(_) => "cancelling",
            OrderEvent::OrderCancelled(event) => {
                self.reason = Some(name_of(&event.reason));
                "cancelled"
            }
        };
    }
}

async fn insert(tables: &mut PgConnection, parts: &[Part]) -> Result<(), sqlx::Error> {
    if parts.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO seller_orders (order_id, seller_id, placed_at, total, currency, lines, ship_to)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::timestamptz[], $4::bigint[], $5::text[], $6::text[]::json[],
                              $7::text[]::json[])",
    )
    .bind(parts.iter().map(|part| part.order_id.0).collect::<Vec<_>>())
    .bind(parts.iter().map(|part| part.seller_id.0).collect::<Vec<_>>())
    .bind(parts.iter().map(|part| part.placed_at).collect::<Vec<_>>())
    .bind(parts.iter().map(|part| part.total.amount).collect::<Vec<_>>())
    .bind(parts.iter().map(|part| part.total.currency.to_string()).collect::<Vec<_>>())
    .bind(parts.iter().map(|part| part.lines.as_str()).collect::<Vec<_>>())
    .bind(parts.iter().map(|part| part.ship_to.as_str()).collect::<Vec<_>>())
    .execute(tables)
    .await?;
    Ok(())
}

async fn insert_states(tables: &mut PgConnection, states: &[(&OrderId, &State)]) -> Result<(), sqlx::Error> {
    const STATEMENT: &str = "INSERT INTO seller_order_states (order_id, status, reason)
         SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[])";
    write_states(tables, STATEMENT, states).await
}

async fn update_states(tables: &mut PgConnection, states: &[(&OrderId, &State)]) -> Result<(), sqlx::Error> {
    const STATEMENT: &str = "UPDATE seller_order_states s SET status = c.status, reason = c.reason
         FROM unnest($1::uuid[], $2::text[], $3::text[]) AS c (order_id, status, reason)
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
    sqlx::query(statement)
        .bind(states.iter().map(|(id, _)| id.0).collect::<Vec<_>>())
        .bind(states.iter().map(|(_, state)| state.status).collect::<Vec<_>>())
        .bind(states.iter().map(|(_, state)| state.reason.as_deref()).collect::<Vec<_>>())
        .execute(tables)
        .await?;
    Ok(())
}
