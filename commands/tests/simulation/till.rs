//! The gateways' side: what was charged, given back and booked, under which key. It keeps the ports' promises; everything
//! that those leave open happens here: answers that are lost, charges that arrive late, refunds that fail for a while,
//! carriers that say no after they have said nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;
use souk_commands::checkout::charge_key;
use souk_domain::{
    AccountId, Money, OrderId,
    payment::{FailureReason, PaymentMethod, PaymentType},
};
use souk_gateways::{
    Booking, BuyerAction, Cancellation, Carrier, Charge, GatewayError, PaymentDetails, PaymentGateway,
    Purchase,
};
use uuid::Uuid;

use crate::{
    mutations::Mutation,
    random::Random,
    world::{Trouble, World},
};

/// The country nobody ships to.
pub(crate) const REFUSED: &str = "AQ";
/// A card that is declined.
pub(crate) const DECLINED: &str = "declined";
/// A card whose bank never answers, until the charge is cancelled.
pub(crate) const SILENT: &str = "silent";
/// A country whose carrier never answers.
pub(crate) const SILENT_COUNTRY: &str = "AX";
/// Refunds in a row that fail: more than the process manager has patience for.
const STUBBORN: u64 = 14;

#[derive(Default)]
pub(crate) struct Till(Mutex<Books>);

#[derive(Default)]
pub(crate) struct Books {
    pub(crate) charges: BTreeMap<Uuid, Charged>,
    pub(crate) refunds: BTreeMap<Uuid, (String, i64)>,
    bookings: BTreeMap<Uuid, Booking>,
    cancelled_bookings: Vec<Uuid>,
    /// On their way: key, token, amount, and when they arrive.
    late: Vec<(Uuid, String, i64, Duration)>,
    /// How often the refund of a charge still fails.
    stubborn: BTreeMap<String, u64>,
    /// What buyers' banks have taken back for good.
    pub(crate) lost: BTreeMap<(OrderId, &'static str), i64>,
}

/// What became of a charge, and its amount.
pub(crate) struct Charged {
    pub(crate) outcome: Charge,
    pub(crate) amount: i64,
}

impl Books {
    fn charge(&mut self, key: Uuid, token: &str, amount: i64) -> Charge {
        let charged = self.charges.entry(key).or_insert_with(|| {
            let outcome = if token == DECLINED {
                Charge::Failed(FailureReason::CardDeclined)
            } else {
                Charge::Charged { charge_id: format!("charge-{key}") }
            };
            Charged { outcome, amount }
        });
        charged.outcome.clone()
    }

    pub(crate) fn arrive(&mut self, now: Duration) {
        let late = std::mem::take(&mut self.late);
        for (key, token, amount, at) in late {
            if at <= now {
                self.charge(key, &token, amount);
            } else {
                self.late.push((key, token, amount, at));
            }
        }
    }
}

impl Books {
    pub(crate) fn is_charged(&self, order: OrderId) -> bool {
        matches!(self.charge_of(order), Some(Charged { outcome: Charge::Charged { .. }, .. }))
    }

    /// An operator sits at the bank's own desk.
    pub(crate) fn pay_back(&mut self, order: OrderId, amount: i64) {
        let Some(Charged { outcome: Charge::Charged { charge_id }, .. }) = self.charge_of(order) else {
            return;
        };
        let charge = charge_id.clone();
        self.refunds.insert(Uuid::new_v5(&order.0, b"by hand"), (charge, amount));
    }

    fn charge_of(&self, order: OrderId) -> Option<&Charged> {
        self.charges.get(&charge_key(order))
    }
}

impl Till {
    pub(crate) fn books<T>(&self, world: &World, look: impl FnOnce(&mut Books) -> T) -> T {
        let mut books = self.0.lock();
        books.arrive(world.elapsed());
        look(&mut books)
    }
}

/// A process's line to the gateways.
pub(crate) struct Line(pub(crate) Arc<World>);

impl Line {
    /// What happens is done between two steps, or not at all, or the answer is lost.
    async fn call<T>(&self, step: &str, act: impl Fn(&mut Books) -> T + Send) -> Result<T, GatewayError> {
        let world = &self.0;
        let trouble = world.call().await;
        world.step().await;
        if let Some(error) = world.broken(step) {
            return Err(error);
        }
        if world.fails(12) {
            let pause = world.draw(Random::pause);
            tokio::time::sleep(pause).await;
        }
        if world.fails(15) || trouble == Some(Trouble::Refused) {
            return Err(GatewayError::Unavailable("out of luck".into()));
        }
        if world.fails(15) || trouble == Some(Trouble::LostOnTheWay) {
            return Err(GatewayError::Unknown("out of luck on the way there".into()));
        }
        if trouble == Some(Trouble::Twice) {
            world.till.books(world, &act);
        }
        let answer = world.till.books(world, act);
        world.step().await;
        if world.fails(15) || trouble == Some(Trouble::AnswerLost) {
            return Err(GatewayError::Unknown("out of luck on the way back".into()));
        }
        Ok(answer)
    }
}

#[async_trait]
impl PaymentGateway for Line {
    async fn tokenize(
        &self,
        _key: Uuid,
        _buyer: AccountId,
        details: &PaymentDetails,
    ) -> Result<PaymentMethod, GatewayError> {
        let PaymentDetails::Upi { vpa } = details else {
            return Err(GatewayError::invalid("paymentInfo.paymentType", "not here"));
        };
        let token = vpa.clone();
        self.call("tokenize", |_| ()).await?;
        Ok(PaymentMethod { payment_type: PaymentType::Upi, token, brand: None, last_four: None })
    }

    async fn charge(&self, purchase: &Purchase) -> Result<Charge, GatewayError> {
        let (key, token, amount) = (purchase.key, purchase.method.token.clone(), purchase.amount.amount);
        if self.0.fails(12) {
            // Sent, and nothing was heard of it: it arrives some time.
            let at = self.0.elapsed() + self.0.draw(Random::pause);
            self.0.till.books(&self.0, |books| books.late.push((key, token, amount, at)));
            return Err(GatewayError::Unknown("it is on its way".into()));
        }
        if token == SILENT {
            return Err(GatewayError::Unknown("no answer".into()));
        }
        let key = match self.0.mutation {
            Some(Mutation::ChargesWithoutAKey) => {
                self.0.draw(|random| Uuid::from_u128(random.within(0..u64::MAX).into()))
            }
            _ => key,
        };
        self.call("charge", |books| books.charge(key, &token, amount)).await
    }

    async fn find(&self, purchase: &Purchase) -> Result<Option<Charge>, GatewayError> {
        self.call("find", |books| books.charges.get(&purchase.key).map(|charged| charged.outcome.clone()))
            .await
    }

    async fn cancel(&self, purchase: &Purchase) -> Result<Cancellation, GatewayError> {
        if self.0.mutation == Some(Mutation::CancelsInWordsOnly) {
            return Ok(Cancellation::Cancelled);
        }
        self.call("cancel", |books| {
            let cancelled = || Charged { outcome: Charge::Failed(FailureReason::Cancelled), amount: 0 };
            match &books.charges.entry(purchase.key).or_insert_with(cancelled).outcome {
                Charge::Charged { charge_id } => Cancellation::AlreadyCharged(charge_id.clone()),
                Charge::Failed(_) | Charge::ActionRequired { .. } => Cancellation::Cancelled,
            }
        })
        .await
    }

    async fn refund(&self, key: Uuid, charge_id: &str, amount: Money) -> Result<String, GatewayError> {
        let (charge, amount) = (charge_id.to_owned(), amount.amount);
        let first = if self.0.fails(8) { self.0.draw(|random| random.within(1..STUBBORN + 1)) } else { 0 };
        let key = match self.0.mutation {
            Some(Mutation::RefundsTwice) => {
                self.0.draw(|random| Uuid::from_u128(random.within(0..u64::MAX).into()))
            }
            _ => key,
        };
        let refunded = self
            .call("refund", move |books| {
                let left = books.stubborn.entry(charge.clone()).or_insert(first);
                if *left > 0 {
                    *left -= 1;
                    return Err(GatewayError::Unavailable("no refunds at this hour".into()));
                }
                let refund = books.refunds.entry(key).or_insert_with(|| (charge.clone(), amount));
                if refund.1 != amount {
                    return Err(GatewayError::invalid("key", "this key belongs to another refund"));
                }
                Ok(format!("refund-{key}"))
            })
            .await?;
        if self.0.mutation == Some(Mutation::RefundsTwice) {
            self.0.till.books(&self.0, |books| {
                let again = books.refunds.get(&key).cloned();
                books.refunds.extend(again.map(|refund| (Uuid::new_v5(&key, b"again"), refund)));
            });
        }
        refunded
    }

    async fn action(&self, _charge_id: &str) -> Result<Option<BuyerAction>, GatewayError> {
        Ok(None)
    }
}

#[async_trait]
impl Carrier for Line {
    async fn book(&self, key: Uuid, country: &str, _address: Option<&str>) -> Result<Booking, GatewayError> {
        if country == SILENT_COUNTRY {
            return Err(GatewayError::Unknown("no answer".into()));
        }
        let refused = country == REFUSED;
        self.call("book", move |books| {
            let given_up = books.cancelled_bookings.contains(&key);
            books
                .bookings
                .entry(key)
                .or_insert_with(|| {
                    if refused || given_up {
                        return Booking::Refused { reason: "nobody goes there".into() };
                    }
                    Booking::Booked { carrier: "Camel".into(), booking_id: format!("booking-{key}") }
                })
                .clone()
        })
        .await
    }

    async fn cancel(&self, key: Uuid) -> Result<(), GatewayError> {
        self.call("cancelBooking", |books| books.cancelled_bookings.push(key)).await
    }
}
