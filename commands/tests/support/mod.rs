//! A whole market over a log in memory, the sandbox bank on a real file, and the vault in a real PostgreSQL.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::StreamExt;
use souk_commands::{
    Context, Market,
    checkout::{ProcessManager, Settings},
    clock::{Clock, fresh_id},
    flows::{
        self,
        carts::LineRequest,
        checkout::{Address, CheckedOut, CheckoutFlowError, CheckoutRequest},
        items::NewItem,
        pricing::Extras,
    },
};
use souk_domain::{
    AccountId, Currency, DomainEvent, ItemId, Money, OrderId, Sku,
    inventory::InventoryState,
    item::Details,
    order::{CancelReason, OrderEvent, OrderStatus},
};
use souk_event_log::{EventLog, Filter, MemoryLog, Message};
use souk_gateways::{
    PaymentDetails, Secret,
    sandbox::{SandboxBank, Script},
};
use souk_local_postgres::{TestDatabase, TestPostgres};
use souk_vault::{MasterKey, Vault};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) const SELLER: AccountId = AccountId(Uuid::from_u128(0x005E_11E2));
pub(crate) const PRICE: i64 = 1_500;

pub(crate) struct Shop {
    pub(crate) log: MemoryLog,
    pub(crate) market: Arc<Market>,
    pub(crate) bank: SandboxBank,
    pub(crate) folder: TempDir,
    database: TestDatabase,
    script: Script,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

#[expect(clippy::disallowed_methods, reason = "tests run on the real clock")]
fn now() -> DateTime<Utc> {
    Utc::now()
}

pub(crate) fn context() -> Context {
    Context::new(fresh_id(), "test")
}

pub(crate) fn buyer(n: u128) -> AccountId {
    AccountId(Uuid::from_u128(0xB0_0000 + n))
}

pub(crate) fn sku(text: &str) -> Sku {
    Sku::parse(text).unwrap()
}

pub(crate) fn usd(amount: i64) -> Money {
    Money::new(amount, Currency::USD)
}

pub(crate) fn card(number: &str) -> PaymentDetails {
    PaymentDetails::Card { card_no: Secret::new(number), expiry: "12/2099".into(), cvc: Secret::new("123") }
}

pub(crate) fn good_card() -> PaymentDetails {
    card("4242424242424242")
}

pub(crate) fn address(country: &str) -> Address {
    Address {
        name: "Ada Byron".into(),
        line1: "1 Mill Lane".into(),
        line2: None,
        city: "Cambridge".into(),
        region: None,
        postal_code: "CB2 1RX".into(),
        country: country.into(),
    }
}

impl Shop {
    /// Open, with the process manager at work.
    pub(crate) async fn open() -> Self {
        Self::scripted("{}").await
    }

    pub(crate) async fn scripted(script: &str) -> Self {
        let mut shop = Self::closed(script).await;
        shop.start(Duration::from_mins(15));
        shop
    }

    /// Without a process manager yet.
    pub(crate) async fn closed(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = TestPostgres::shared().await.database().await;
        let log = MemoryLog::new(Arc::new(now));
        let script = Script::parse(script).unwrap();
        let (market, bank) = build(&log, &database, &folder, &script).await;
        Self { log, market, bank, folder, database, script, running: None }
    }

    pub(crate) fn start(&mut self, deadline: Duration) {
        let settings = Settings { deadline, attempts: 6, snapshot: Some(self.snapshot()) };
        let manager = ProcessManager::new(Arc::clone(&self.market), settings);
        let stop = CancellationToken::new();
        let task = tokio::spawn(manager.run(stop.clone()));
        self.running = Some((stop, task));
    }

    pub(crate) fn snapshot(&self) -> PathBuf {
        self.folder.path().join("checkouts.json")
    }

    /// Tears everything down in the middle of whatever it is at, keeps what is durable, and builds it again.
    pub(crate) async fn crash(&mut self) {
        if let Some((_, task)) = self.running.take() {
            task.abort();
        }
        let (market, bank) = build(&self.log, &self.database, &self.folder, &self.script).await;
        (self.market, self.bank) = (market, bank);
    }

    pub(crate) async fn list(&self, text: &str, quantity: u32) -> ItemId {
        self.list_of(SELLER, text, quantity).await
    }

    pub(crate) async fn list_of(&self, seller_id: AccountId, text: &str, quantity: u32) -> ItemId {
        let new = NewItem {
            item_id: None,
            seller_id,
            sku: sku(text),
            details: Details { name: format!("The {text}"), ..Details::default() },
            price: Some(usd(PRICE)),
            quantity: Some(quantity),
            variants: vec![],
        };
        flows::items::list(&self.market, &context(), new).await.unwrap().value.item_id
    }

    pub(crate) async fn fill_cart(
        &self,
        buyer: AccountId,
        lines: &[(ItemId, u32)],
    ) -> (souk_domain::CartId, Money) {
        let mut cart = None;
        for &(item_id, quantity) in lines {
            let request = LineRequest { item_id, sku: None, quantity };
            cart =
                Some(flows::carts::set_line(&self.market, &context(), buyer, request).await.unwrap().value);
        }
        let cart = cart.unwrap();
        (cart.cart_id, cart.total.unwrap())
    }

    pub(crate) async fn check_out(
        &self,
        buyer: AccountId,
        (cart_id, amount): (souk_domain::CartId, Money),
        payment: PaymentDetails,
        country: &str,
    ) -> Result<CheckedOut, CheckoutFlowError> {
        self.check_out_with(buyer, (cart_id, amount), payment, country, Extras::default()).await
    }

    /// With a coupon, a gift card or store credit.
    pub(crate) async fn check_out_with(
        &self,
        buyer: AccountId,
        (cart_id, amount): (souk_domain::CartId, Money),
        payment: PaymentDetails,
        country: &str,
        extras: Extras,
    ) -> Result<CheckedOut, CheckoutFlowError> {
        let shipping_address = address(country);
        let request = CheckoutRequest { cart_id, amount, payment, shipping_address, extras };
        flows::checkout::check_out(&self.market, &context(), buyer, request).await.map(|done| done.value)
    }

    /// Fills a cart and checks it out; the order is on its way then.
    pub(crate) async fn order(
        &self,
        buyer: AccountId,
        lines: &[(ItemId, u32)],
        payment: PaymentDetails,
    ) -> OrderId {
        let cart = self.fill_cart(buyer, lines).await;
        self.check_out(buyer, cart, payment, "GB").await.unwrap().order_id
    }

    /// Waits for an event of the order for which `wanted` says yes.
    pub(crate) async fn wait_for<T>(&self, order: OrderId, wanted: impl Fn(&OrderEvent) -> Option<T>) -> T {
        let filter = Filter::categories(["order"]);
        let mut messages = self.log.subscribe(None, filter);
        let found = async {
            while let Some(message) = messages.next().await {
                if let Message::Event(recorded) = message.unwrap()
                    && recorded.stream.id() == order.to_string()
                {
                    let event = OrderEvent::from_json(&recorded.event_type, 1, &recorded.data).unwrap();
                    if let Some(found) = wanted(&event) {
                        return found;
                    }
                }
            }
            unreachable!("a subscription does not end")
        };
        tokio::time::timeout(Duration::from_secs(30), found)
            .await
            .unwrap_or_else(|_| panic!("order {order} does not get there: {:#?}", self.story(order)))
    }

    pub(crate) async fn end_of(&self, order: OrderId) -> (OrderStatus, Option<CancelReason>) {
        self.wait_for(order, |event| match event {
            OrderEvent::OrderCompleted(_) => Some((OrderStatus::Completed, None)),
            OrderEvent::OrderCancelled(event) => Some((OrderStatus::Cancelled, Some(event.reason))),
            _ => None,
        })
        .await
    }

    /// On hand and reserved.
    pub(crate) async fn stock(&self, text: &str) -> (u64, u64) {
        let id = souk_domain::SkuId::of(SELLER, &sku(text));
        let read = |state: &InventoryState| (state.on_hand, state.reserved);
        self.market.aggregates.inventory.read(id, read).await.unwrap().value
    }

    /// Types of all events about an order, in the order of the log.
    pub(crate) fn story(&self, order: OrderId) -> Vec<String> {
        let id = order.to_string();
        self.log
            .events()
            .iter()
            .filter(|event| {
                event.stream.as_str().contains(&id) || String::from_utf8_lossy(&event.data).contains(&id)
            })
            .map(|event| format!("{} {}", event.stream.category(), event.event_type))
            .collect()
    }

    pub(crate) fn count(&self, event_type: &str) -> usize {
        self.log.events().iter().filter(|event| &*event.event_type == event_type).count()
    }
}

async fn build(
    log: &MemoryLog,
    database: &TestDatabase,
    folder: &TempDir,
    script: &Script,
) -> (Arc<Market>, SandboxBank) {
    let vault = Vault::open(database.pool().await, MasterKey::new([7; 32])).await.unwrap();
    let bank = SandboxBank::open(&folder.path().join("bank.sqlite"), script.clone(), now).unwrap();
    let log: Arc<dyn EventLog> = Arc::new(log.clone());
    let (payments, carrier) = (Arc::new(bank.clone()), Arc::new(bank.clone()));
    let market = Market::new(log, None, vault, payments, carrier, Clock::system());
    (Arc::new(market), bank)
}
