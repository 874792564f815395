//! What the flows work with: the aggregates, the vault, and the gateways to the outside.

use std::{num::NonZeroUsize, sync::Arc};

use souk_domain::{
    account::Account, cart::Cart, credit::Credit, inventory::Inventory, item::Item, order::Orders,
    payment::Payment, pricing::PriceList, promotion::Promotion, shipment::Shipment, synonyms::Synonyms,
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

/// Streams of a category that are kept in memory.
const LONG_LIVED: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();
const PASSING: NonZeroUsize = NonZeroUsize::new(4_000).unwrap();

pub struct Aggregates {
    pub accounts: Category<Account>,
    pub items: Category<Item>,
    pub inventory: Category<Inventory>,
    pub carts: Category<Cart>,
    pub orders: Category<Orders>,
    pub payments: Category<Payment>,
    pub shipments: Category<Shipment>,
    pub checkouts: Category<Checkout>,
    pub synonyms: Category<Synonyms>,
    pub promotions: Category<Promotion>,
    pub credits: Category<Credit>,
}

impl Aggregates {
    /// Keeps in memory what is asked for again and again (goods), and of what passes by (orders) the latest.
    pub fn new(log: Arc<dyn EventLog>, clock: Clock, snapshots: Option<Snapshots>) -> Self {
        let shared = Arc::new(Shared { log, clock, snapshots });
        Self {
            accounts: Category::new(Arc::clone(&shared), PASSING),
            items: Category::new(Arc::clone(&shared), LONG_LIVED),
            inventory: Category::new(Arc::clone(&shared), LONG_LIVED),
            carts: Category::new(Arc::clone(&shared), PASSING),
            orders: Category::new(Arc::clone(&shared), PASSING),
            payments: Category::new(Arc::clone(&shared), PASSING),
            shipments: Category::new(Arc::clone(&shared), PASSING),
            checkouts: Category::new(Arc::clone(&shared), PASSING),
            promotions: Category::new(Arc::clone(&shared), PASSING),
            credits: Category::new(Arc::clone(&shared), PASSING),
            synonyms: Category::new(shared, NonZeroUsize::MIN),
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
    /// What shipping and tax cost.
    pub prices: PriceList,
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
        let (prices, current_carts) = (PriceList::default(), CurrentCarts::default());
        Self { log, aggregates, vault, payments, carrier, clock, prices, current_carts }
    }

    /// Charges shipping and tax; without this there are none.
    #[must_use]
    pub fn with_prices(self, prices: PriceList) -> Self {
        Self { prices, ..self }
    }
}
