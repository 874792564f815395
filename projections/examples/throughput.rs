//! How many events a second the read models in PostgreSQL take in, all of them together, over a made-up log in SQLite
//! shaped like the orders benchmark: some twenty events for an order.
//!
//! `cargo run --release -p souk-projections --example throughput -- [ORDERS] [ORDERS_A_SECOND]` on a private PostgreSQL
//! as `souk serve` runs it. With a rate the events are appended while the projectors run, and how long they stay behind
//! is printed.

#![allow(clippy::unwrap_used, reason = "a measurement that fails has failed")]

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::json;
use souk_domain::{
    AccountId, CartId, DomainEvent, ItemId, OrderId, ShipmentId, Sku, SkuId,
    cart::{CartCheckedOut, CartEvent, CartLine, CartOpened, LineAdded},
    inventory::{InventoryEvent, ReservationCommitted, StockReceived, StockReserved},
    order::{
        OrderCompleted, OrderEvent, OrderLine, OrderPaid, OrderPlaced, OrderReadyToShip, OrderStockReserved,
    },
    payment::{PaymentCompleted, PaymentEvent, PaymentRequested},
    shipment::{ShipmentEvent, ShipmentReady, ShipmentRequested},
    testing::examples::{card, cents, ship_to},
};
use souk_event_log::{
    EventLog, Expected, Metadata, NewEvent, SqliteLog, StreamName, event_id, sqlite::Options,
};
use souk_local_postgres::LocalPostgres;
use souk_projections::{Projections, read_models};
use sqlx::postgres::PgConnectOptions;
use tokio::task::JoinSet;
use uuid::Uuid;

const EVENTS_AN_ORDER: u64 = 20;
const SKUS: u128 = 1_000;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let orders: u64 = arguments.next().map_or(10_000, |orders| orders.parse().unwrap());
    let rate: Option<u64> = arguments.next().map(|rate| rate.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    // The user who runs PostgreSQL has to get through.
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o711)).unwrap();
    let postgres =
        LocalPostgres::start(&directory.path().join("postgres"), Default::default()).await.unwrap();
    let database: PgConnectOptions = postgres.url().parse().unwrap();
    let log = SqliteLog::open(&directory.path().join("log"), Options::default()).unwrap();

    for n in 0..SKUS {
        let (seller, item, sku, sku_id) = offer(n);
        let received =
            StockReceived { item_id: item, seller_id: seller, sku, quantity: 1_000_000, reason: None };
        append(&*log, StreamName::new("inventory", sku_id), vec![InventoryEvent::from(received)]).await;
    }
    if let Some(rate) = rate {
        let projections = Projections::start(log.clone(), database, read_models(), None);
        projections.ready(Duration::from_secs(10)).await.unwrap();
        live(&log, &projections, orders, rate).await;
        postgres.stop().await.unwrap();
        return;
    }
    let mut tasks = JoinSet::new();
    for n in 0..orders {
        if tasks.len() >= 500 {
            tasks.join_next().await;
        }
        tasks.spawn(order(log.clone(), n));
    }
    tasks.join_all().await;
    let head = log.head().await.unwrap().unwrap();
    println!("{} events in the log", head + 1);
    let started = Instant::now();
    let projections = Projections::start(log, database, read_models(), None);
    for model in read_models() {
        projections.wait_for(model.name(), head, Duration::from_secs(600)).await.unwrap();
        println!("{:>14} after {:.2} s", model.name(), started.elapsed().as_secs_f64());
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("{:.0} events/s over all read models, from nothing to served", (head + 1) as f64 / seconds);
    projections.shutdown().await;
    postgres.stop().await.unwrap();
}

/// Offers a steady load, and asks now and then how long the views are behind.
async fn live(log: &Arc<SqliteLog>, projections: &Projections, orders: u64, rate: u64) {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    let mut waits = Vec::new();
    for n in 0..orders {
        let due = Duration::from_secs_f64(n as f64 / rate as f64);
        tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
        while tasks.try_join_next().is_some() {}
        tasks.spawn(order(log.clone(), n));
        if n % 50 == 0 {
            let head = log.head().await.unwrap().unwrap();
            let asked = Instant::now();
            projections.wait_for("orders", head, Duration::from_secs(60)).await.unwrap();
            waits.push(asked.elapsed());
        }
    }
    tasks.join_all().await;
    let appended = started.elapsed();
    let head = log.head().await.unwrap().unwrap();
    for model in read_models() {
        projections.wait_for(model.name(), head, Duration::from_secs(60)).await.unwrap();
    }
    waits.sort();
    println!(
        "{orders} orders in {:.1} s ({:.0}/s, {:.0} events/s); all views caught up {:.3} s after the last; a reader of \
         `orders` waited {:.1} ms (p50), {:.1} ms (p99)",
        appended.as_secs_f64(),
        orders as f64 / appended.as_secs_f64(),
        (orders * EVENTS_AN_ORDER) as f64 / appended.as_secs_f64(),
        (started.elapsed() - appended).as_secs_f64(),
        waits[waits.len() / 2].as_secs_f64() * 1e3,
        waits[waits.len() * 99 / 100].as_secs_f64() * 1e3,
    );
    projections.shutdown().await;
}

fn offer(n: u128) -> (AccountId, ItemId, Sku, SkuId) {
    let seller = AccountId(Uuid::from_u128(0x5e11 + n % 20));
    let sku = Sku::parse(&format!("SKU-{n}")).unwrap();
    let id = SkuId::of(seller, &sku);
    (seller, ItemId(Uuid::from_u128(0x17e0_0000 + n)), sku, id)
}

async fn order(log: Arc<SqliteLog>, n: u64) {
    let log = &*log;
    let (seller_id, item_id, sku, sku_id) = offer(u128::from(n) * 7919 % SKUS);
    let buyer_id = AccountId(Uuid::from_u128(0xb000 + u128::from(n) % 500));
    let cart_id = CartId(Uuid::new_v5(&buyer_id.0, &n.to_le_bytes()));
    let order_id = OrderId::of_cart(cart_id, 1);
    let quantity = 2;
    let line = OrderLine {
        item_id,
        seller_id,
        sku_id,
        sku: sku.clone(),
        name: "A teapot with a name of usual length".into(),
        quantity,
        unit_price: cents(1599),
    };
    let total = cents(3198);
    let (cart, order) = (StreamName::new("cart", cart_id), StreamName::new("order", order_id));
    let (payment, checkout) = (StreamName::new("payment", order_id), StreamName::new("checkout", order_id));
    let inventory = StreamName::new("inventory", sku_id);

    let cart_line = CartLine { item_id, seller_id, sku_id, sku, quantity };
    let opened = CartOpened { account_id: buyer_id, number: n };
    append(log, cart.clone(), vec![CartEvent::from(opened), LineAdded { line: cart_line }.into()]).await;
    let checked_out = CartCheckedOut {
        order_id,
        buyer_id,
        lines: vec![line.clone()],
        total,
        payment: card(),
        ship_to: ship_to(),
    };
    append(log, cart, vec![CartEvent::from(checked_out)]).await;
    let placed = OrderPlaced {
        buyer_id,
        cart_id,
        lines: vec![line.clone()],
        total,
        payment: card(),
        ship_to: ship_to(),
    };
    append(log, order.clone(), vec![OrderEvent::from(placed)]).await;
    let reserve = json!([{ "effect": "reserve", "skuId": sku_id, "quantity": quantity }]);
    let started = json!({ "cartId": cart_id, "buyerId": buyer_id, "sellers": [seller_id], "decided": reserve,
        "reservations": [{ "skuId": sku_id, "quantity": quantity }], "deadline": "2030-01-01T00:00:00Z",
        "correlationId": cart_id });
    told(log, &checkout, "CheckoutStarted", started).await;
    append(log, inventory.clone(), vec![InventoryEvent::from(StockReserved { order_id, quantity })]).await;
    advance(log, &checkout, "stockReserved", "requestPayment").await;
    append(log, order.clone(), vec![OrderEvent::from(OrderStockReserved {})]).await;
    let requested = PaymentRequested { amount: total, method: card() };
    append(log, payment.clone(), vec![PaymentEvent::from(requested)]).await;
    let completed = PaymentCompleted { amount: total, charge_id: order_id.to_string() };
    append(log, payment, vec![PaymentEvent::from(completed)]).await;
    advance(log, &checkout, "paymentCompleted", "requestShipment").await;
    append(log, order.clone(), vec![OrderEvent::from(OrderPaid {})]).await;
    let shipment = StreamName::new("shipment", ShipmentId { order_id, seller_id });
    let requested = ShipmentRequested { order_id, seller_id, lines: vec![line], ship_to: ship_to() };
    append(log, shipment.clone(), vec![ShipmentEvent::from(requested)]).await;
    let ready = ShipmentReady { carrier: "sandbox".into(), booking_id: order_id.to_string() };
    append(log, shipment, vec![ShipmentEvent::from(ready)]).await;
    advance(log, &checkout, "shipmentReady", "markReadyToShip").await;
    append(log, order.clone(), vec![OrderEvent::from(OrderReadyToShip {})]).await;
    advance(log, &checkout, "readyToShip", "commit").await;
    append(log, inventory, vec![InventoryEvent::from(ReservationCommitted { order_id, quantity })]).await;
    advance(log, &checkout, "reservationCommitted", "completeOrder").await;
    append(log, order, vec![OrderEvent::from(OrderCompleted {})]).await;
}

async fn advance(log: &dyn EventLog, checkout: &StreamName, learnt: &str, decided: &str) {
    let data = json!({ "learnt": [{ "fact": learnt }], "decided": [{ "effect": decided }] });
    told(log, checkout, "CheckoutAdvanced", data).await;
}

async fn append<E: DomainEvent>(log: &dyn EventLog, stream: StreamName, events: Vec<E>) {
    let events = events.iter().map(|event| (event.event_type(), event.to_json())).collect();
    write(log, &stream, events).await;
}

async fn told(log: &dyn EventLog, stream: &StreamName, event_type: &'static str, data: serde_json::Value) {
    write(log, stream, vec![(event_type, serde_json::to_vec(&data).unwrap())]).await;
}

async fn write(log: &dyn EventLog, stream: &StreamName, events: Vec<(&str, Vec<u8>)>) {
    let command = Uuid::new_v5(&Uuid::NAMESPACE_OID, &[stream.as_str().as_bytes(), &events[0].1].concat());
    let metadata = Metadata {
        schema_version: 1,
        correlation_id: Some(command),
        causation_id: Some(command),
        command_id: Some(command),
        actor: Some("process:checkout".into()),
        ..Metadata::default()
    };
    let metadata = serde_json::to_vec(&metadata).unwrap();
    let events = events.into_iter().enumerate().map(|(index, (event_type, data))| NewEvent {
        id: event_id(command, index),
        event_type: event_type.into(),
        data,
        metadata: metadata.clone(),
    });
    log.append(stream, Expected::Any, events.collect()).await.unwrap();
}
