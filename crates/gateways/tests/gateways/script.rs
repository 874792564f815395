//! The script: slow, failing, unknown, refused.

use std::time::{Duration, Instant};

use souk_domain::payment::{FailureReason, PaymentMethod};
use souk_gateways::{Booking, Cancellation, Carrier, Charge, GatewayError, PaymentDetails, PaymentGateway};

use crate::support::{TestBank, buys, card, usd};

async fn method(test: &TestBank) -> PaymentMethod {
    test.bank.tokenize(test.keys.next(), test.keys.account(), &card("4242424242424242")).await.unwrap()
}

#[track_caller]
fn assert_unavailable<T: std::fmt::Debug>(answer: Result<T, GatewayError>) {
    assert!(matches!(answer, Err(GatewayError::Unavailable(_))), "{answer:?}");
}

#[track_caller]
fn assert_unknown<T: std::fmt::Debug>(answer: Result<T, GatewayError>) {
    assert!(matches!(answer, Err(GatewayError::Unknown(_))), "{answer:?}");
}

#[tokio::test]
async fn an_unknown_charge_is_found_by_its_key() {
    let test = TestBank::scripted(r#"{"charge": {"unknownFirst": 1}}"#);
    let (key, method) = (test.keys.next(), method(&test).await);
    assert_unknown(test.bank.charge(&buys(key, &method, usd(100))).await);
    let found = test.bank.find(&buys(key, &method, usd(100))).await.unwrap().unwrap();
    let Charge::Charged { charge_id } = &found else { panic!("{found:?}") };
    let cancel = PaymentGateway::cancel(&test.bank, &buys(key, &method, usd(100))).await.unwrap();
    assert_eq!(cancel, Cancellation::AlreadyCharged(charge_id.clone()));
    assert_eq!(
        test.bank.charge(&buys(key, &method, usd(100))).await.unwrap(),
        found,
        "the retry is the same charge"
    );
}

#[tokio::test]
async fn a_lost_charge_is_not_found_and_can_be_cancelled() {
    let test = TestBank::scripted(r#"{"charge": {"unknownLost": 1}}"#);
    let (key, method) = (test.keys.next(), method(&test).await);
    assert_unknown(test.bank.charge(&buys(key, &method, usd(100))).await);
    assert_eq!(test.bank.find(&buys(key, &method, usd(100))).await.unwrap(), None);
    assert_eq!(
        PaymentGateway::cancel(&test.bank, &buys(key, &method, usd(100))).await.unwrap(),
        Cancellation::Cancelled
    );
    let late = test.bank.charge(&buys(key, &method, usd(100))).await.unwrap();
    assert_eq!(late, Charge::Failed(FailureReason::Cancelled));
}

#[tokio::test]
async fn attempts_are_counted_per_key_and_one_count_follows_the_other() {
    let test = TestBank::scripted(r#"{"charge": {"failFirst": 2, "unknownLost": 1, "unknownFirst": 1}}"#);
    let method = method(&test).await;
    for _ in 0..2 {
        let key = test.keys.next();
        assert_unavailable(test.bank.charge(&buys(key, &method, usd(100))).await);
        assert_unavailable(test.bank.charge(&buys(key, &method, usd(100))).await);
        assert_unknown(test.bank.charge(&buys(key, &method, usd(100))).await);
        assert_eq!(test.bank.find(&buys(key, &method, usd(100))).await.unwrap(), None);
        assert_unknown(test.bank.charge(&buys(key, &method, usd(100))).await);
        let found = test.bank.find(&buys(key, &method, usd(100))).await.unwrap();
        assert_eq!(Some(test.bank.charge(&buys(key, &method, usd(100))).await.unwrap()), found);
    }
}

#[tokio::test]
async fn every_step_can_fail() {
    let fails = r#"{"failFirst": 1}"#;
    let script = format!(
        r#"{{"tokenize": {fails}, "charge": {fails}, "find": {fails}, "cancel": {fails}, "refund": {fails},
             "book": {fails}, "cancelBooking": {fails}}}"#
    );
    let test = TestBank::scripted(&script);
    let (bank, key, buyer) = (&test.bank, test.keys.next(), test.keys.account());
    let details = card("4242424242424242");

    assert_unavailable(bank.tokenize(key, buyer, &details).await);
    let method = bank.tokenize(key, buyer, &details).await.unwrap();
    assert_unavailable(bank.charge(&buys(key, &method, usd(100))).await);
    let charge = bank.charge(&buys(key, &method, usd(100))).await.unwrap();
    let Charge::Charged { charge_id } = &charge else { panic!("{charge:?}") };
    assert_unavailable(bank.find(&buys(key, &method, usd(100))).await);
    assert_eq!(bank.find(&buys(key, &method, usd(100))).await.unwrap().as_ref(), Some(&charge));
    assert_unavailable(PaymentGateway::cancel(bank, &buys(key, &method, usd(100))).await);
    PaymentGateway::cancel(bank, &buys(key, &method, usd(100))).await.unwrap();
    assert_unavailable(bank.refund(key, charge_id, usd(100)).await);
    bank.refund(key, charge_id, usd(100)).await.unwrap();
    assert_unavailable(bank.book(key, "DE", None).await);
    bank.book(key, "DE", None).await.unwrap();
    assert_unavailable(Carrier::cancel(bank, key).await);
    Carrier::cancel(bank, key).await.unwrap();
}

#[tokio::test]
async fn refused_steps_say_no() {
    let no = r#"{"refuse": true}"#;
    let test = TestBank::scripted(&format!(r#"{{"charge": {no}, "book": {no}}}"#));
    let (key, method) = (test.keys.next(), method(&test).await);
    let declined = Charge::Failed(FailureReason::CardDeclined);
    assert_eq!(test.bank.charge(&buys(key, &method, usd(100))).await.unwrap(), declined);
    assert_eq!(
        test.reopened().charge(&buys(key, &method, usd(100))).await.unwrap(),
        declined,
        "also without the script"
    );
    let booking = test.bank.book(key, "DE", None).await.unwrap();
    assert!(matches!(booking, Booking::Refused { .. }), "{booking:?}");

    let test = TestBank::scripted(&format!(r#"{{"tokenize": {no}}}"#));
    for (details, name) in [
        (card("4242424242424242"), "paymentInfo.cardNo"),
        (PaymentDetails::Upi { vpa: "success@upi".to_owned() }, "paymentInfo.vpa"),
        (PaymentDetails::Wallet, "paymentInfo.paymentType"),
    ] {
        let answer = test.bank.tokenize(test.keys.next(), test.keys.account(), &details).await;
        assert!(matches!(&answer, Err(GatewayError::Invalid { field, .. }) if field == name), "{answer:?}");
    }
}

#[tokio::test]
async fn a_delay_holds_up_its_own_call_alone() {
    let test = TestBank::scripted(r#"{"charge": {"delayMs": 3600000}, "refund": {"delayMs": 30}}"#);
    let (key, method) = (test.keys.next(), method(&test).await);
    let (bank, asked) = (test.bank.clone(), buys(key, &method, usd(100)));
    let slow = tokio::spawn(async move { bank.charge(&asked).await });
    tokio::task::yield_now().await;
    // The others are served.
    assert_eq!(test.bank.find(&buys(key, &method, usd(100))).await.unwrap(), None);
    assert_eq!(
        PaymentGateway::cancel(&test.bank, &buys(key, &method, usd(100))).await.unwrap(),
        Cancellation::Cancelled
    );
    assert!(!slow.is_finished());
    slow.abort();

    let start = Instant::now();
    let refund = test.bank.refund(key, "ch_unknown", usd(1)).await;
    assert!(matches!(refund, Err(GatewayError::Invalid { .. })), "{refund:?}");
    assert!(start.elapsed() >= Duration::from_millis(30));
}
