//! Whether stock, money and orders add up, told from the log alone, by rules of its own: it shares the shapes of the events
//! with those who write them, and nothing else. One pass, in the order of the log.
//!
//! Each category of streams has a module, and each type of event its place in the one `match` there. What is at hand of an
//! order is dropped when it ends; a few numbers of it stay, for what may still come and for whoever compares the views.

mod checkouts;
mod claims;
mod ledgers;
mod orders;
mod payments;
mod returns;
mod shipments;
mod stock;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Display,
    str::FromStr,
};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::Serialize;
use souk_domain::{
    AccountId, CartId, CreditId, DomainEvent, OrderId, PromotionId, ReturnId, ReturnsId, SkuId,
    account::AccountEvent, item::ItemEvent, returns::ReturnStatus, search::SearchEvent,
};
use souk_event_log::{Position, Recorded};

use claims::{Coupons, Purse};
use ledgers::Books;
use returns::Accepted;

pub use self::{
    checkouts::Parked,
    orders::Order,
    payments::{BY_HAND, Money},
    stock::Stock,
};

/// Findings that are kept; of more only the number is.
const KEPT: usize = 1_000;
/// How long after its deadline, in the time of the log, a checkout may take to end before it is said to hang.
const GRACE: TimeDelta = TimeDelta::hours(1);

/// Something that does not add up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub stream: String,
    /// Of the event at which it shows, or of the latest that has to do with it.
    pub position: Option<Position>,
    pub problem: String,
}

#[derive(Debug, Default)]
pub struct Findings {
    pub kept: Vec<Finding>,
    pub count: u64,
}

impl Findings {
    pub fn push(&mut self, stream: impl Display, position: Option<Position>, problem: impl Into<String>) {
        self.count += 1;
        if self.kept.len() < KEPT {
            self.kept.push(Finding { stream: stream.to_string(), position, problem: problem.into() });
        }
    }
}

/// Where in the log we are.
#[derive(Clone, Copy)]
struct At<'a> {
    stream: &'a str,
    position: Position,
    time: DateTime<Utc>,
}

/// What a pass through the log has come to so far.
#[derive(Default)]
pub struct Audit {
    pub findings: Findings,
    pub events: u64,
    pub accounts: u64,
    pub items: u64,
    skus: HashMap<SkuId, Stock>,
    orders: HashMap<OrderId, Order>,
    closed_carts: HashSet<CartId>,
    coupons: HashMap<PromotionId, Coupons>,
    purses: HashMap<CreditId, Purse>,
    /// Accepted and not completed.
    returns: HashMap<ReturnId, Accepted>,
    return_states: HashMap<ReturnId, ReturnStatus>,
    books: Books,
    sellers: Sellers,
    last: Option<(Position, DateTime<Utc>)>,
}

/// Orders and money, all together.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    pub skus: u64,
    pub orders: u64,
    pub completed: u64,
    pub cancelled: u64,
    pub in_flight: u64,
    /// By currency, in minor units.
    pub money: BTreeMap<String, Flow>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    pub charged: i64,
    pub refunded: i64,
    /// Of both together what an operator has settled.
    pub by_hand: i64,
    /// Taken back by buyers' banks and not won.
    pub disputed: i64,
}

impl Audit {
    /// Takes in the next event of the log.
    pub fn take(&mut self, event: &Recorded) {
        self.events += 1;
        self.last = Some((event.position, event.recorded_at));
        let at = At { stream: event.stream.as_str(), position: event.position, time: event.recorded_at };
        let taken = match event.stream.category() {
            "cart" => self.read(event, |audit, id, told| audit.cart(at, id, event.revision, told)),
            "order" => self.read(event, |audit, id, told| audit.order_event(at, id, &told)),
            "inventory" => self.read(event, |audit, id, told| audit.inventory(at, id, &told)),
            "payment" => self.read(event, |audit, id, told| audit.payment(at, id, &told)),
            "shipment" => self.read(event, |audit, id, told| audit.shipment(at, id, &told)),
            "checkout" => self.checkout(at, event),
            "promotion" => self.read(event, |audit, id, told| audit.promotion(at, id, &told)),
            "credit" => self.read(event, |audit, id, told| audit.credit(at, id, &told)),
            "return" => self.read(event, |audit, _: ReturnsId, told| audit.return_event(at, &told)),
            "ledger" => self.read(event, |audit, seller, told| audit.ledger(at, seller, &told)),
            "account" => self.read(event, |audit, _: AccountId, told| {
                audit.accounts += u64::from(matches!(told, AccountEvent::AccountRegistered(_)));
            }),
            "item" => self.read(event, |audit, _: souk_domain::ItemId, told| {
                audit.items += u64::from(matches!(told, ItemEvent::ItemListed(_)));
            }),
            "search" => self.read(event, |_, _: NaiveDate, _: SearchEvent| {}),
            // A stranger's.
            _ => Ok(()),
        };
        if let Err(problem) = taken {
            self.wrong(at, problem);
        }
    }

    fn read<I: FromStr<Err: Display>, E: DomainEvent>(
        &mut self,
        event: &Recorded,
        take: impl FnOnce(&mut Self, I, E),
    ) -> Result<(), String> {
        let id = event.stream.id().parse().map_err(|error| format!("a stream of no such thing: {error}"))?;
        let told = E::from_json(&event.event_type, event.schema_version(), &event.data)
            .map_err(|error| error.to_string())?;
        take(self, id, told);
        Ok(())
    }

    fn wrong(&mut self, at: At<'_>, problem: impl Into<String>) {
        self.findings.push(at.stream, Some(at.position), problem);
    }

    /// Takes what the rules of a part said.
    fn check(&mut self, at: At<'_>, checked: Result<(), String>) {
        if let Err(problem) = checked {
            self.wrong(at, problem);
        }
    }

    /// Position of the last event taken in.
    pub fn head(&self) -> Option<Position> {
        self.last.map(|(position, _)| position)
    }

    /// When the log took the last event.
    pub fn time(&self) -> Option<DateTime<Utc>> {
        self.last.map(|(_, time)| time)
    }

    pub fn sku(&self, sku: SkuId) -> Option<&Stock> {
        self.skus.get(&sku)
    }

    pub fn skus(&self) -> impl Iterator<Item = (SkuId, &Stock)> {
        self.skus.iter().map(|(id, stock)| (*id, stock))
    }

    /// `None` of one that no cart became.
    pub fn order(&self, order: OrderId) -> Option<&Order> {
        self.orders.get(&order)
    }

    pub fn orders(&self) -> impl Iterator<Item = (OrderId, &Order)> {
        self.orders.iter().map(|(id, order)| (*id, order))
    }

    /// Each with its status, in no order.
    pub fn shipments<'a>(
        &'a self,
        order: &'a Order,
    ) -> impl Iterator<Item = (AccountId, souk_domain::shipment::ShipmentStatus)> + 'a {
        order.shipments.iter().map(|(seller, status)| (self.sellers.of(*seller), *status))
    }

    /// Every return with how it stands.
    pub fn returns(&self) -> &HashMap<ReturnId, ReturnStatus> {
        &self.return_states
    }

    /// Every promotion with how often its code is claimed by orders under way, and how often it was redeemed.
    pub fn promotions(&self) -> impl Iterator<Item = (PromotionId, (u64, u64))> + '_ {
        self.coupons.iter().filter_map(|(id, coupons)| Some((*id, coupons.uses()?)))
    }

    /// Checkouts that wait for an operator, oldest first.
    pub fn parked<'a>(&'a self) -> Vec<(OrderId, &'a Parked)> {
        let of = |(id, order): (&OrderId, &'a Order)| Some((*id, order.live.as_ref()?.parked.as_ref()?));
        let mut parked: Vec<_> = self.orders.iter().filter_map(of).collect();
        parked.sort_by_key(|(_, parked)| parked.position);
        parked
    }

    /// The end of the log: what should have ended by now, and sums.
    pub fn finish(&mut self) -> Summary {
        self.claims_left();
        self.unbooked();
        let now = self.time().unwrap_or_default();
        let mut summary = Summary { skus: self.skus.len() as u64, ..Summary::default() };
        for (id, order) in &self.orders {
            summary.orders += u64::from(order.status.is_some());
            match &order.live {
                None if order.is_completed() => summary.completed += 1,
                None => summary.cancelled += 1,
                Some(live) => {
                    summary.in_flight += 1;
                    if let Err(problem) = live.is_in_time(now - GRACE) {
                        self.findings.push(format!("order-{id}"), Some(order.position), problem);
                    }
                }
            }
            order.money.add_to(&mut summary.money);
        }
        summary
    }
}

/// Sellers by a short number, since each shipment has one.
#[derive(Default)]
struct Sellers {
    numbers: HashMap<AccountId, u32>,
    ids: Vec<AccountId>,
}

impl Sellers {
    fn number(&mut self, seller: AccountId) -> u32 {
        *self.numbers.entry(seller).or_insert_with(|| {
            self.ids.push(seller);
            self.ids.len() as u32 - 1
        })
    }

    fn of(&self, number: u32) -> AccountId {
        self.ids.get(number as usize).copied().unwrap_or(AccountId(uuid::Uuid::nil()))
    }
}
