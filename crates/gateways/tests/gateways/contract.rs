//! What every payment gateway and every carrier must do. A new adapter runs `payments` or `carrier` with its own samples.

use std::sync::Arc;

use futures::future::BoxFuture;
use souk_domain::{
    Money,
    payment::{FailureReason, PaymentMethod, PaymentType},
};
use souk_gateways::{
    Booking, Cancellation, Carrier, Charge, GatewayError, Measured, PaymentDetails, PaymentGateway, Secret,
};
use tokio::task::JoinSet;

use crate::support::{Keys, TestBank, buys, card, usd};

pub(crate) type Answering = Box<dyn Fn(String, bool) -> BoxFuture<'static, ()> + Send + Sync>;

/// What the gateway under test takes for a good card, for one without money, and an amount it can charge.
pub(crate) struct Samples {
    pub(crate) pays: PaymentDetails,
    pub(crate) declined: PaymentDetails,
    /// What the buyer has to confirm, and how he does (or refuses to), by the charge's id.
    pub(crate) asks: PaymentDetails,
    pub(crate) answer: Answering,
    pub(crate) amount: Money,
}

pub(crate) async fn payments(gateway: Arc<dyn PaymentGateway>, keys: Keys, samples: Samples) {
    let suite = Suite { gateway, keys, samples };
    suite.a_token_stands_for_the_details().await;
    suite.wrong_details_name_the_field().await;
    suite.a_charge_happens_once().await;
    suite.a_key_is_for_one_charge().await;
    suite.a_declined_charge_stays_declined().await;
    suite.an_unheard_of_key_is_not_found().await;
    suite.a_cancelled_key_is_never_charged().await;
    suite.cancel_and_charge_have_one_winner().await;
    suite.refunds_happen_once_and_never_exceed_the_charge().await;
    suite.nothing_else_is_refunded().await;
    suite.a_charge_may_wait_for_its_buyer().await;
}

pub(crate) async fn carrier(carrier: Arc<dyn Carrier>, keys: Keys, served: &str) {
    let key = keys.next();
    let booking = carrier.book(key, served, Some("{}")).await.unwrap();
    assert!(matches!(&booking, Booking::Booked { booking_id, .. } if !booking_id.is_empty()), "{booking:?}");
    assert_eq!(carrier.book(key, served, None).await.unwrap(), booking, "repeated");
    let other = carrier.book(keys.next(), served, None).await.unwrap();
    assert_ne!(other, booking, "another key, another booking");

    carrier.cancel(key).await.unwrap();
    carrier.cancel(key).await.unwrap();
    let refused = |booking| matches!(booking, Booking::Refused { .. });
    assert!(refused(carrier.book(key, served, None).await.unwrap()), "a cancelled booking comes back");

    let early = keys.next();
    carrier.cancel(early).await.unwrap();
    assert!(refused(carrier.book(early, served, None).await.unwrap()), "a booking cancelled in advance");
}

struct Suite {
    gateway: Arc<dyn PaymentGateway>,
    keys: Keys,
    samples: Samples,
}

#[track_caller]
fn assert_invalid<T: std::fmt::Debug>(answer: Result<T, GatewayError>, name: &str) {
    match answer {
        Err(GatewayError::Invalid { field, .. }) => assert_eq!(field, name),
        other => panic!("expected {name} to be invalid, got {other:?}"),
    }
}

impl Suite {
    async fn method(&self) -> PaymentMethod {
        self.gateway.tokenize(self.keys.next(), self.keys.account(), &self.samples.pays).await.unwrap()
    }

    async fn charged(&self) -> String {
        let method = self.method().await;
        match self.gateway.charge(&buys(self.keys.next(), &method, self.samples.amount)).await.unwrap() {
            Charge::Charged { charge_id } => charge_id,
            other => panic!("{other:?}"),
        }
    }

    fn plus(&self, more: i64) -> Money {
        Money { amount: self.samples.amount.amount + more, ..self.samples.amount }
    }

    async fn a_token_stands_for_the_details(&self) {
        let (key, buyer) = (self.keys.next(), self.keys.account());
        let method = self.gateway.tokenize(key, buyer, &self.samples.pays).await.unwrap();
        assert_eq!(self.gateway.tokenize(key, buyer, &self.samples.pays).await.unwrap(), method, "repeated");
        assert_eq!(method.payment_type, PaymentType::Card);
        let PaymentDetails::Card { card_no, .. } = &self.samples.pays else { panic!("the sample is a card") };
        let last_four = method.last_four.clone().unwrap();
        assert!(card_no.expose().ends_with(&last_four));
        assert!(!method.token.contains(card_no.expose()));
        assert_ne!(self.method().await.token, method.token, "another key, another token");
    }

    async fn wrong_details_name_the_field(&self) {
        let PaymentDetails::Card { card_no: good, expiry, cvc } = &self.samples.pays else {
            panic!("the sample is a card")
        };
        let wrong = |card_no: &Secret, expiry: &str, cvc: &Secret| PaymentDetails::Card {
            card_no: card_no.clone(),
            expiry: expiry.to_owned(),
            cvc: cvc.clone(),
        };
        for (details, field) in [
            (wrong(&Secret::new("4242424242424241"), expiry, cvc), "paymentInfo.cardNo"),
            (wrong(good, "01/20", cvc), "paymentInfo.expiry"),
            (wrong(good, "13/30", cvc), "paymentInfo.expiry"),
            (wrong(good, expiry, &Secret::new("1")), "paymentInfo.cvc"),
        ] {
            let answer = self.gateway.tokenize(self.keys.next(), self.keys.account(), &details).await;
            assert_invalid(answer, field);
        }
    }

    async fn a_charge_happens_once(&self) {
        let (key, method, amount) = (self.keys.next(), self.method().await, self.samples.amount);
        let mut calls = JoinSet::new();
        for _ in 0..20 {
            let (gateway, method) = (self.gateway.clone(), method.clone());
            calls.spawn(async move { gateway.charge(&buys(key, &method, amount)).await.unwrap() });
        }
        let charges = calls.join_all().await;
        assert!(matches!(&charges[0], Charge::Charged { .. }), "{:?}", charges[0]);
        assert!(charges.iter().all(|charge| *charge == charges[0]), "{charges:?}");
        assert_eq!(self.gateway.find(&buys(key, &method, amount)).await.unwrap().as_ref(), Some(&charges[0]));
        assert_ne!(self.gateway.charge(&buys(self.keys.next(), &method, amount)).await.unwrap(), charges[0]);
    }

    async fn a_key_is_for_one_charge(&self) {
        let (key, method) = (self.keys.next(), self.method().await);
        self.gateway.charge(&buys(key, &method, self.samples.amount)).await.unwrap();
        assert_invalid(self.gateway.charge(&buys(key, &method, self.plus(1))).await, "key");
        assert_invalid(
            self.gateway.charge(&buys(key, &self.method().await, self.samples.amount)).await,
            "key",
        );
        let negative = Money { amount: -1, ..self.samples.amount };
        assert_invalid(self.gateway.charge(&buys(self.keys.next(), &method, negative)).await, "amount");
    }

    async fn a_declined_charge_stays_declined(&self) {
        let (key, buyer) = (self.keys.next(), self.keys.account());
        let method = self.gateway.tokenize(self.keys.next(), buyer, &self.samples.declined).await.unwrap();
        let declined = Charge::Failed(FailureReason::CardDeclined);
        let purchase = buys(key, &method, self.samples.amount);
        assert_eq!(self.gateway.charge(&purchase).await.unwrap(), declined);
        assert_eq!(self.gateway.charge(&purchase).await.unwrap(), declined);
        assert_eq!(self.gateway.cancel(&purchase).await.unwrap(), Cancellation::Cancelled);
        assert_eq!(
            self.gateway.find(&purchase).await.unwrap(),
            Some(declined),
            "the reason is not forgotten"
        );
    }

    async fn an_unheard_of_key_is_not_found(&self) {
        let unheard_of = buys(self.keys.next(), &self.method().await, self.samples.amount);
        assert_eq!(self.gateway.find(&unheard_of).await.unwrap(), None);
    }

    async fn a_cancelled_key_is_never_charged(&self) {
        let purchase = buys(self.keys.next(), &self.method().await, self.samples.amount);
        for _ in 0..2 {
            assert_eq!(self.gateway.cancel(&purchase).await.unwrap(), Cancellation::Cancelled);
        }
        let cancelled = Charge::Failed(FailureReason::Cancelled);
        assert_eq!(self.gateway.charge(&purchase).await.unwrap(), cancelled);
        assert_eq!(self.gateway.find(&purchase).await.unwrap(), Some(cancelled));
    }

    async fn cancel_and_charge_have_one_winner(&self) {
        let (method, amount) = (self.method().await, self.samples.amount);
        for round in 0..50 {
            let purchase = buys(self.keys.next(), &method, amount);
            let (gateway, asked) = (self.gateway.clone(), purchase.clone());
            let charge = tokio::spawn(async move { gateway.charge(&asked).await.unwrap() });
            let (gateway, asked) = (self.gateway.clone(), purchase.clone());
            let cancel = tokio::spawn(async move { gateway.cancel(&asked).await.unwrap() });
            // Either may come first; both must agree on who did.
            let (charge, cancel) = if round % 2 == 0 {
                (charge.await.unwrap(), cancel.await.unwrap())
            } else {
                let cancel = cancel.await.unwrap();
                (charge.await.unwrap(), cancel)
            };
            match (&charge, &cancel) {
                (Charge::Charged { charge_id }, Cancellation::AlreadyCharged(same)) => {
                    assert_eq!(charge_id, same);
                }
                (Charge::Failed(FailureReason::Cancelled), Cancellation::Cancelled) => {}
                other => panic!("both won, or none: {other:?}"),
            }
            assert_eq!(self.gateway.find(&purchase).await.unwrap(), Some(charge));
        }
    }

    async fn refunds_happen_once_and_never_exceed_the_charge(&self) {
        let (charge, key, part) = (self.charged().await, self.keys.next(), self.plus(-1));
        let mut calls = JoinSet::new();
        for _ in 0..10 {
            let (gateway, charge) = (self.gateway.clone(), charge.clone());
            calls.spawn(async move { gateway.refund(key, &charge, part).await.unwrap() });
        }
        let refunds = calls.join_all().await;
        assert!(refunds.iter().all(|refund| *refund == refunds[0]), "{refunds:?}");

        // Had any of them counted twice, nothing would be left. One unit is, and no more.
        assert_invalid(self.gateway.refund(self.keys.next(), &charge, self.plus(0)).await, "amount");
        assert_invalid(self.gateway.refund(key, &charge, self.plus(0)).await, "key");
        let last = Money { amount: 1, ..self.samples.amount };
        let rest = self.gateway.refund(self.keys.next(), &charge, last).await.unwrap();
        assert_ne!(rest, refunds[0]);
        assert_invalid(self.gateway.refund(self.keys.next(), &charge, last).await, "amount");
        assert_eq!(self.gateway.refund(key, &charge, part).await.unwrap(), refunds[0], "repeated late");
    }

    async fn nothing_else_is_refunded(&self) {
        let amount = self.samples.amount;
        assert_invalid(self.gateway.refund(self.keys.next(), "nonsense", amount).await, "chargeId");
        let charge = self.charged().await;
        let negative = Money { amount: -1, ..amount };
        assert_invalid(self.gateway.refund(self.keys.next(), &charge, negative).await, "amount");
        let other = Money::new(amount.amount, "XTS".parse().unwrap());
        assert_invalid(self.gateway.refund(self.keys.next(), &charge, other).await, "amount");
    }

    async fn a_charge_may_wait_for_its_buyer(&self) {
        let buyer = self.keys.account();
        let answers = [
            (Some(true), None),
            (Some(false), Some(FailureReason::CardDeclined)),
            (None, Some(FailureReason::Cancelled)),
        ];
        for (answer, failure) in answers {
            let method = self.gateway.tokenize(self.keys.next(), buyer, &self.samples.asks).await.unwrap();
            let purchase = buys(self.keys.next(), &method, self.samples.amount);
            let asked = self.gateway.charge(&purchase).await.unwrap();
            let Charge::ActionRequired { charge_id } = &asked else { panic!("{asked:?}") };
            assert_eq!(self.gateway.charge(&purchase).await.unwrap(), asked, "repeated");
            assert_eq!(self.gateway.find(&purchase).await.unwrap().as_ref(), Some(&asked));
            assert!(self.gateway.action(charge_id).await.unwrap().is_some(), "the buyer is told what to do");

            match answer {
                Some(confirm) => (self.samples.answer)(charge_id.clone(), confirm).await,
                None => {
                    assert_eq!(self.gateway.cancel(&purchase).await.unwrap(), Cancellation::Cancelled);
                }
            }
            let expected =
                failure.map_or_else(|| Charge::Charged { charge_id: charge_id.clone() }, Charge::Failed);
            assert_eq!(self.gateway.charge(&purchase).await.unwrap(), expected);
            assert_eq!(self.gateway.find(&purchase).await.unwrap(), Some(expected));
            assert_eq!(self.gateway.action(charge_id).await.unwrap(), None, "nothing is left to do");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sandbox_keeps_the_contract_of_payments() {
    let test = TestBank::new();
    let bank = test.bank.clone();
    let samples = Samples {
        pays: card("4242424242424242"),
        declined: card("4000000000000002"),
        asks: card("4000002500003155"),
        answer: Box::new(move |charge_id, confirm| {
            let bank = bank.clone();
            Box::pin(async move { drop(bank.answer(&charge_id, confirm).await.unwrap()) })
        }),
        amount: usd(1599),
    };
    payments(Arc::new(Measured::new("sandbox", test.bank.clone())), test.keys.clone(), samples).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sandbox_keeps_the_contract_of_carriers() {
    let test = TestBank::new();
    carrier(Arc::new(Measured::new("sandbox", test.bank.clone())), test.keys.clone(), "IN").await;
}
