//! A market's history for tests: events as the domain writes them, a log to hold them, a database for the views.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a broken fixture is a failed test")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use souk_domain::{
    AccountId, CartId, DomainEvent, ItemId, OrderId, PayoutId, ReturnId, ReturnsId, ShipmentId, Sku, SkuId,
    account::{AccountEvent, AccountRegistered, Role},
    inventory::{InventoryEvent, ReservationCommitted, ReservationReleased, StockReceived, StockReserved},
    item::{Details, ItemEvent, ItemListed, Variant},
    ledger::{EntryPosted, LedgerEvent, PayoutRequested, PayoutSettled},
    order::{
        CancelReason, OrderCancelled, OrderCompleted, OrderEvent, OrderLine, OrderPaid, OrderPlaced,
        OrderReadyToShip, OrderStockReserved, ShipTo,
    },
    payment::{PaymentCompleted, PaymentEvent, PaymentFailed, PaymentPartlyRefunded, PaymentRequested},
    returns::{ReturnAccepted, ReturnCause, ReturnCompleted, ReturnEvent, ReturnParked, ReturnRequested},
    search::{Facet, ResultClicked, SearchEvent, SearchMade},
    shipment::{
        ShipmentDelivered, ShipmentDispatched, ShipmentEvent, ShipmentReady, ShipmentRequested,
        ShipmentStatus,
    },
    testing::examples::{card, cents, sale, sealed},
};
use souk_event_log::{EventLog, Expected, MemoryLog, Metadata, NewEvent, Position, StreamName, event_id};
use souk_local_postgres::{TestDatabase, TestPostgres};
use souk_projections::{Projections, Projector, read_models};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn start_of_time() -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// A log whose clock goes on by a second with each event.
pub(crate) fn memory_log() -> Arc<MemoryLog> {
    let seconds = AtomicI64::new(0);
    Arc::new(MemoryLog::new(Arc::new(move || {
        start_of_time() + TimeDelta::seconds(seconds.fetch_add(1, Ordering::Relaxed))
    })))
}

pub(crate) struct World {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) database: TestDatabase,
    pub(crate) pool: PgPool,
    commands: AtomicU64,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::on(memory_log()).await
    }

    pub(crate) async fn on(log: Arc<dyn EventLog>) -> Self {
        let database = TestPostgres::shared().await.database().await;
        let pool = database.pool().await;
        Self { log, database, pool, commands: AtomicU64::new(0) }
    }

    pub(crate) fn start(&self) -> Projections {
        self.start_with(read_models())
    }

    pub(crate) fn start_with(&self, projectors: Vec<Arc<dyn Projector>>) -> Projections {
        Projections::start(Arc::clone(&self.log), self.database.options(), projectors, None, None)
    }

    pub(crate) async fn append_raw(
        &self,
        stream: StreamName,
        event_type: &str,
        data: serde_json::Value,
    ) -> Position {
        self.write(stream, vec![(event_type.to_owned(), 1, serde_json::to_vec(&data).unwrap())], None).await
    }

    pub(crate) async fn append<E: DomainEvent>(&self, stream: StreamName, events: Vec<E>) -> Position {
        self.append_at(stream, events, None).await
    }

    pub(crate) async fn append_at<E: DomainEvent>(
        &self,
        stream: StreamName,
        events: Vec<E>,
        occurred_at: Option<DateTime<Utc>>,
    ) -> Position {
        let written = events
            .iter()
            .map(|event| (event.event_type().to_owned(), event.version(), event.to_json()))
            .collect();
        self.write(stream, written, occurred_at).await
    }

    async fn write(
        &self,
        stream: StreamName,
        events: Vec<(String, u32, Vec<u8>)>,
        occurred_at: Option<DateTime<Utc>>,
    ) -> Position {
        let command = Uuid::from_u128(self.commands.fetch_add(1, Ordering::Relaxed).into());
        let events = events.into_iter().enumerate().map(|(index, (event_type, schema_version, data))| {
            let metadata = Metadata { schema_version, occurred_at, ..Metadata::default() };
            NewEvent {
                id: event_id(command, index),
                event_type: event_type.into(),
                data,
                metadata: metadata.into(),
            }
        });
        self.log.append(&stream, Expected::Any, events.collect()).await.unwrap().position
    }

    pub(crate) async fn register(&self, id: AccountId, role: Role) -> Position {
        let registered =
            AccountRegistered { role, email: Some(sealed(id, "email")), display_name: sealed(id, "name") };
        self.append(StreamName::new("account", id), vec![AccountEvent::from(registered)]).await
    }

    pub(crate) async fn list(&self, item: &Offer) -> Position {
        self.append(StreamName::new("item", item.id), vec![ItemEvent::from(item.listed())]).await
    }

    pub(crate) async fn receive(&self, item: &Offer, quantity: u32) -> Position {
        let received = StockReceived {
            item_id: item.id,
            seller_id: item.seller,
            sku: item.sku.clone(),
            quantity,
            reason: None,
        };
        self.stock(item.sku_id(), vec![received.into()]).await
    }

    pub(crate) async fn stock(&self, sku: SkuId, events: Vec<InventoryEvent>) -> Position {
        self.append(StreamName::new("inventory", sku), events).await
    }

    pub(crate) async fn order(&self, id: OrderId, event: impl Into<OrderEvent>) -> Position {
        self.append(StreamName::new("order", id), vec![event.into()]).await
    }

    pub(crate) async fn checkout(&self, id: OrderId, event_type: &str, data: serde_json::Value) -> Position {
        self.append_raw(StreamName::new("checkout", id), event_type, data).await
    }

    pub(crate) async fn place(&self, id: OrderId, buyer: AccountId, lines: Vec<OrderLine>) -> Position {
        self.order(id, placed(buyer, lines)).await
    }

    /// All that happens to an order of one unit each, up to its end or just before the step that is named.
    pub(crate) async fn buy(
        &self,
        id: OrderId,
        buyer: AccountId,
        offers: &[&Offer],
        ending: Ending,
    ) -> Position {
        let lines: Vec<_> = offers.iter().map(|offer| offer.line(1)).collect();
        let total = souk_domain::order::total(&lines).unwrap().unwrap();
        let started = json!({ "cartId": Uuid::nil(), "buyerId": buyer, "reservations": [], "sellers": [],
            "deadline": "2026-02-01T00:00:00Z", "correlationId": Uuid::nil(),
            "decided": [{ "effect": "placeOrder" }, { "effect": "reserve", "skuId": Uuid::nil(), "quantity": 1 }] });
        self.checkout(id, "CheckoutStarted", started).await;
        self.place(id, buyer, lines).await;
        for offer in offers {
            self.stock(offer.sku_id(), vec![StockReserved { order_id: id, quantity: 1 }.into()]).await;
        }
        let paying =
            json!({ "learnt": [{ "fact": "stockReserved" }], "decided": [{ "effect": "requestPayment" }] });
        self.checkout(id, "CheckoutAdvanced", paying).await;
        self.order(id, OrderStockReserved {}).await;
        let payment = StreamName::new("payment", id);
        let requested = PaymentRequested { amount: total, method: card() };
        self.append(payment.clone(), vec![PaymentEvent::from(requested)]).await;
        if ending == Ending::Paying {
            return self.log.head().await.unwrap().unwrap();
        }
        if ending == Ending::Declined {
            let reason = souk_domain::payment::FailureReason::CardDeclined;
            self.append(payment, vec![PaymentEvent::from(PaymentFailed { reason })]).await;
            for offer in offers {
                let released = ReservationReleased { order_id: id, quantity: 1 };
                self.stock(offer.sku_id(), vec![released.into()]).await;
            }
            return self.order(id, OrderCancelled::from(CancelReason::PaymentDeclined)).await;
        }
        let completed = PaymentCompleted { amount: total, charge_id: "ch_1".into() };
        self.append(payment, vec![PaymentEvent::from(completed)]).await;
        self.order(id, OrderPaid {}).await;
        for offer in offers {
            self.ship(id, offer).await;
        }
        self.order(id, OrderReadyToShip {}).await;
        for offer in offers {
            self.stock(offer.sku_id(), vec![ReservationCommitted { order_id: id, quantity: 1 }.into()]).await;
        }
        self.order(id, OrderCompleted {}).await
    }

    async fn ship(&self, order_id: OrderId, offer: &Offer) {
        let requested = ShipmentRequested {
            order_id,
            seller_id: offer.seller,
            lines: vec![offer.line(1)],
            ship_to: ship_to(offer.seller),
        };
        let ready = ShipmentReady { carrier: "Royal Mail".into(), booking_id: "bk_1".into() };
        let stream = StreamName::new("shipment", ShipmentId { order_id, seller_id: offer.seller });
        self.append(stream, vec![ShipmentEvent::from(requested), ready.into()]).await;
    }

    /// Some of everything; returns the last position.
    pub(crate) async fn history(&self, orders: u128) -> Position {
        let offers: Vec<_> = (0..5).map(Offer::nth).collect();
        for offer in &offers {
            self.register(offer.seller, Role::Seller).await;
            self.list(offer).await;
            self.receive(offer, 1_000).await;
        }
        let mut last = 0;
        for n in 0..orders {
            let buyer = account(100 + n % 7);
            let (one, two) = (&offers[(n % 5) as usize], &offers[((n + 1) % 5) as usize]);
            let ending = match n % 5 {
                0 => Ending::Declined,
                1 => Ending::Paying,
                _ => Ending::Completed,
            };
            last = self.buy(order_id(n), buyer, &[one, two], ending).await;
            if n % 5 == 3 {
                last = self.searched(&format!("teapot {}", n % 7), n as u64 % 3, one).await;
            }
            if n % 5 == 2 {
                last = self.after(order_id(n), buyer, one).await;
            }
        }
        last
    }

    /// Somebody searches, and opens a hit if there is one.
    pub(crate) async fn searched(&self, query: &str, hits: u64, offer: &Offer) -> Position {
        let (search_id, query) = (Uuid::nil(), query.to_owned());
        let leads_to = (hits > 1).then(|| Facet { name: "brand".into(), value: "Brown".into() });
        let click =
            ResultClicked { search_id, query: query.clone(), item_id: offer.id, position: 1, searcher: None };
        let made = SearchMade { search_id, query, hits, leads_to, ..SearchMade::default() };
        let mut events = vec![SearchEvent::from(made)];
        events.extend((hits > 0).then(|| click.into()));
        self.append(StreamName::new("search", "2026-01-01"), events).await
    }

    /// A completed order's sale is booked, sent, returned and paid out.
    pub(crate) async fn after(&self, order_id: OrderId, buyer_id: AccountId, offer: &Offer) -> Position {
        let (returns, shipment) = (
            ReturnsId { order_id, seller_id: offer.seller },
            StreamName::new("shipment", ShipmentId { order_id, seller_id: offer.seller }),
        );
        let (tracking_number, status) = (Some("RM1".to_owned()), ShipmentStatus::Dispatched);
        let sent = ShipmentDispatched { parcel: 1, lines: vec![], carrier: None, tracking_number, status };
        self.append(shipment.clone(), vec![ShipmentEvent::from(sent)]).await;
        let arrived = ShipmentDelivered { parcels: vec![1], status: ShipmentStatus::Delivered };
        self.append(shipment, vec![ShipmentEvent::from(arrived)]).await;

        let stream = || StreamName::new("return", returns);
        let (return_id, refund) = (ReturnId { returns, number: 1 }, offer.line(1).unit_price);
        let requested = ReturnRequested {
            return_id,
            request_id: order_id.0,
            buyer_id,
            cause: ReturnCause::BuyerRequest,
            lines: vec![],
            reason: Some(sealed(buyer_id, "reason")),
        };
        self.append(stream(), vec![ReturnEvent::from(requested)]).await;
        let accepted = ReturnEvent::from(ReturnAccepted { return_id, lines: vec![], refund });
        let parked = ReturnParked { return_id, reason: "away".to_owned() };
        self.append(stream(), vec![accepted, parked.into()]).await;
        let refunded = PaymentPartlyRefunded {
            refund_key: return_id.refund_key(),
            amount: refund,
            refund_id: "re_1".to_owned(),
        };
        self.append(StreamName::new("payment", order_id), vec![PaymentEvent::from(refunded)]).await;
        self.append(stream(), vec![ReturnEvent::from(ReturnCompleted { return_id, refunded: refund })]).await;

        let ledger = || StreamName::new("ledger", offer.seller);
        let sale = EntryPosted { entry_id: order_id.0, order_id, ..sale() };
        let payout_id = PayoutId { seller_id: offer.seller, request_id: order_id.0 };
        let asked = PayoutRequested { payout_id, amount: refund };
        self.append(ledger(), vec![LedgerEvent::from(sale), asked.into()]).await;
        let settled = PayoutSettled { payout_id, amount: refund, reference: "TF1".to_owned() };
        self.append(ledger(), vec![LedgerEvent::from(settled)]).await
    }

    /// Waits until every read model has seen the position.
    pub(crate) async fn settle(&self, projections: &Projections, position: Position) {
        for model in read_models() {
            projections
                .wait_for(model.name(), position, PATIENCE)
                .await
                .unwrap_or_else(|_| panic!("{} is late", model.name()));
        }
    }

    /// All rows of all views, as text.
    pub(crate) async fn dump(&self) -> Vec<String> {
        let views: Vec<String> = sqlx::query_scalar(
            "SELECT viewname::text FROM pg_views WHERE schemaname = 'views' ORDER BY viewname",
        )
        .fetch_all(&self.pool)
        .await
        .unwrap();
        assert_eq!(views.len(), 17, "{views:?}");
        let mut rows = Vec::new();
        for view in views {
            let sql = format!("SELECT '{view} ' || t::text FROM views.{view} t ORDER BY 1");
            rows.extend(
                sqlx::query_scalar::<_, String>(AssertSqlSafe(sql)).fetch_all(&self.pool).await.unwrap(),
            );
        }
        rows
    }

    /// Drops every trace of the views.
    pub(crate) async fn drop_views(&self) {
        let schemas: Vec<String> =
            sqlx::query_scalar("SELECT nspname::text FROM pg_namespace WHERE nspname ~ '^views'")
                .fetch_all(&self.pool)
                .await
                .unwrap();
        for schema in schemas {
            let sql = format!("DROP SCHEMA {schema} CASCADE");
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await.unwrap();
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Still waiting for its payment.
    Paying,
    Declined,
    Completed,
}

/// An item of one SKU.
pub(crate) struct Offer {
    pub(crate) id: ItemId,
    pub(crate) seller: AccountId,
    pub(crate) sku: Sku,
}

impl Offer {
    pub(crate) fn nth(n: u128) -> Self {
        Self {
            id: ItemId(Uuid::from_u128(0x1000 + n)),
            seller: account(0x50 + n % 3),
            sku: Sku::parse(&format!("POT-{n}")).unwrap(),
        }
    }

    pub(crate) fn sku_id(&self) -> SkuId {
        SkuId::of(self.seller, &self.sku)
    }

    pub(crate) fn listed(&self) -> ItemListed {
        let variant = Variant {
            sku_id: self.sku_id(),
            sku: self.sku.clone(),
            options: [].into(),
            price: cents(1599),
            images: Vec::new(),
        };
        let details = Details {
            name: format!("Teapot {}", self.sku),
            description: "Holds tea".into(),
            ..Details::default()
        };
        ItemListed { seller_id: self.seller, sku: self.sku.clone(), details, variants: vec![variant] }
    }

    pub(crate) fn line(&self, quantity: u32) -> OrderLine {
        OrderLine {
            item_id: self.id,
            seller_id: self.seller,
            sku_id: self.sku_id(),
            sku: self.sku.clone(),
            name: format!("Teapot {}", self.sku),
            quantity,
            unit_price: cents(1599),
        }
    }
}

pub(crate) fn placed(buyer: AccountId, lines: Vec<OrderLine>) -> OrderPlaced {
    OrderPlaced {
        buyer_id: buyer,
        cart_id: CartId::nth(buyer, 1),
        total: souk_domain::order::total(&lines).unwrap().unwrap(),
        lines,
        charges: souk_domain::pricing::Charges::default(),
        payment: card(),
        ship_to: ship_to(buyer),
    }
}

pub(crate) fn ship_to(buyer: AccountId) -> ShipTo {
    ShipTo { country: "GB".into(), address: sealed(buyer, "address") }
}

pub(crate) fn account(n: u128) -> AccountId {
    AccountId(Uuid::from_u128(n))
}

pub(crate) fn order_id(n: u128) -> OrderId {
    OrderId(Uuid::from_u128(0x0dde_0000 + n))
}
