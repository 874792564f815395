//! What the flows work with: the aggregates, the vault, and the gateways to the outside.

use std::sync::Arc;

use souk_domain::{
    account::Account, cart::Cart, inventory::Inventory, item::Item, ledger::Ledger, order::Orders,
    payment::Payment, returns::Returns, shipment::Shipment,
};
use souk_event_log::EventLog;
use souk_gateways::{Carrier, PaymentGateway};
use souk_vault::Vault;

use crate::{
    checkout::Checkout,
    clock::Clock,
    executor::{Category, Shared, Snapshots},
    flows::carts::CurrentCarts,
};

pub struct Aggregates {
    pub accounts: Category<Account>,
    pub items: Category<Item>,
    pub inventory: Category<Inventory>,
    pub carts: Category<Cart>,
    pub orders: Category<Orders>,
    pub payments: Category<Payment>,
    pub shipments: Category<Shipment>,
    pub checkouts: Category<Checkout>,
    pub returns: Category<Returns>,
    pub ledgers: Category<Ledger>,
}

impl Aggregates {
    /// Keeps in memory what is asked for again and again (goods), and of what passes by (orders) the latest.
    pub fn new(log: Arc<dyn EventLog>, clock: Clock, snapshots: Option<Snapshots>) -> Self {
        let shared = Arc::new(Shared { log, clock, snapshots });
        let (long_lived, passing) = (20_000, 4_000);
        Self {
            accounts: Category::new(Arc::clone(&shared), passing),
            items: Category::new(Arc::clone(&shared), long_lived),
            inventory: Category::new(Arc::clone(&shared), long_lived),
            carts: Category::new(Arc::clone(&shared), passing),
            orders: Category::new(Arc::clone(&shared), passing),
            payments: Category::new(Arc::clone(&shared), passing),
            shipments: Category::new(Arc::clone(&shared), passing),
            checkouts: Category::new(Arc::clone(&shared), passing),
            returns: Category::new(Arc::clone(&shared), passing),
            ledgers: Category::new(shared, long_lived),
        }
    }
}

pub struct Market {
    pub log: Arc<dyn EventLog>,
    pub aggregates: Aggregates,
    pub vault: Vault,
    pub payments: Arc<dyn PaymentGateway>,
    pub carrier: Arc<dyn Carrier>,
    pub clock: Clock,
    pub(crate) current_carts: CurrentCarts,
}

impl Market {
    pub fn new(
        log: Arc<dyn EventLog>,
        snapshots: Option<Snapshots>,
        vault: Vault,
        payments: Arc<dyn PaymentGateway>,
        carrier: Arc<dyn Carrier>,
        clock: Clock,
    ) -> Self {
        let aggregates = Aggregates::new(Arc::clone(&log), clock.clone(), snapshots);
        Self { log, aggregates, vault, payments, carrier, clock, current_carts: CurrentCarts::default() }
    }
}
