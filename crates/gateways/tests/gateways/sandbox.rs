//! What the sandbox does beyond the contract: its test cards, its wallets, its file.

use std::{sync::Barrier, thread};

use souk_domain::payment::{FailureReason, PaymentMethod, PaymentType};
use souk_gateways::{
    Booking, Carrier, Charge, GatewayError, PaymentDetails, PaymentGateway,
    sandbox::{OPENING_BALANCE, OpenError, SandboxBank, Script},
};
use tokio::task::JoinSet;

use crate::support::{TestBank, buys, card, now, usd};

async fn charge_with(test: &TestBank, details: &PaymentDetails, amount: i64) -> Charge {
    let method = test.bank.tokenize(test.keys.next(), test.keys.account(), details).await.unwrap();
    test.bank.charge(&buys(test.keys.next(), &method, usd(amount))).await.unwrap()
}

#[tokio::test]
async fn test_cards_and_upi_addresses_end_as_documented() {
    let test = TestBank::new();
    let upi = |vpa: &str| PaymentDetails::Upi { vpa: vpa.to_owned() };
    for (details, expected) in [
        (card("4242 4242 4242 4242"), None),
        (card("4000000000000002"), Some(FailureReason::CardDeclined)),
        (card("4000000000009995"), Some(FailureReason::InsufficientFunds)),
        (card("5555555555554444"), Some(FailureReason::CardDeclined)),
        (upi("success@upi"), None),
        (upi("failure@upi"), Some(FailureReason::CardDeclined)),
        (upi("asha@okaxis"), Some(FailureReason::CardDeclined)),
    ] {
        match (charge_with(&test, &details, 100).await, expected) {
            (Charge::Charged { .. }, None) => {}
            (Charge::Failed(reason), Some(expected)) => assert_eq!(reason, expected, "{details:?}"),
            (other, _) => panic!("{details:?} ended as {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_card_that_fails_at_first_pays_when_retried() {
    let test = TestBank::new();
    let details = card("4000000000000119");
    let method = test.bank.tokenize(test.keys.next(), test.keys.account(), &details).await.unwrap();
    for _ in 0..2 {
        let key = test.keys.next();
        let first = test.bank.charge(&buys(key, &method, usd(100))).await;
        assert!(matches!(first, Err(GatewayError::Unavailable(_))), "{first:?}");
        assert_eq!(test.bank.find(&buys(key, &method, usd(100))).await.unwrap(), None, "nothing happened");
        // Also when the bank was restarted in between.
        let second = test.reopened().charge(&buys(key, &method, usd(100))).await.unwrap();
        assert!(matches!(second, Charge::Charged { .. }), "{second:?}");
    }
}

#[tokio::test]
async fn tokens_belong_to_their_buyer_and_unknown_ones_are_declined() {
    let test = TestBank::new();
    let key = test.keys.next();
    let wallet = PaymentDetails::Wallet;
    test.bank.tokenize(key, test.keys.account(), &wallet).await.unwrap();
    let theft = test.bank.tokenize(key, test.keys.account(), &wallet).await;
    assert!(matches!(&theft, Err(GatewayError::Invalid { field, .. }) if field == "key"), "{theft:?}");

    for token in ["", "tok_", "tok_zz", "tok_00000000000000000000000000000000"] {
        let method = PaymentMethod {
            payment_type: PaymentType::Card,
            token: token.to_owned(),
            brand: None,
            last_four: None,
        };
        let charge = test.bank.charge(&buys(test.keys.next(), &method, usd(1))).await.unwrap();
        assert_eq!(charge, Charge::Failed(FailureReason::CardDeclined), "{token}");
    }
}

#[tokio::test]
async fn an_invoice_is_written_down_as_paid() {
    let test = TestBank::new();
    let method = PaymentMethod {
        payment_type: PaymentType::Invoice,
        token: "536365".to_owned(),
        brand: None,
        last_four: None,
    };
    let key = test.keys.next();
    let charge = test.bank.charge(&buys(key, &method, usd(100))).await.unwrap();
    assert!(matches!(charge, Charge::Charged { .. }), "{charge:?}");
    assert_eq!(test.bank.charge(&buys(key, &method, usd(100))).await.unwrap(), charge);
}

#[tokio::test]
async fn a_wallet_pays_up_to_its_balance_and_gets_refunds_back() {
    let test = TestBank::new();
    let buyer = test.keys.account();
    let wallet = test.bank.tokenize(test.keys.next(), buyer, &PaymentDetails::Wallet).await.unwrap();
    let insufficient = Charge::Failed(FailureReason::InsufficientFunds);

    let too_much =
        test.bank.charge(&buys(test.keys.next(), &wallet, usd(OPENING_BALANCE + 1))).await.unwrap();
    assert_eq!(too_much, insufficient);
    let all = test.bank.charge(&buys(test.keys.next(), &wallet, usd(OPENING_BALANCE))).await.unwrap();
    let Charge::Charged { charge_id } = all else { panic!("{all:?}") };
    assert_eq!(test.bank.charge(&buys(test.keys.next(), &wallet, usd(1))).await.unwrap(), insufficient);

    let refund = test.keys.next();
    test.bank.refund(refund, &charge_id, usd(300)).await.unwrap();
    test.bank.refund(refund, &charge_id, usd(300)).await.unwrap();
    assert_eq!(test.bank.balance(buyer).await.unwrap(), 300);
    assert_eq!(test.bank.balance(test.keys.account()).await.unwrap(), OPENING_BALANCE, "of another buyer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_wallet_is_never_overdrawn_by_many_at_once() {
    let test = TestBank::new();
    let buyer = test.keys.account();
    let wallet = test.bank.tokenize(test.keys.next(), buyer, &PaymentDetails::Wallet).await.unwrap();
    // A second process on the same file: half of the charges go through it.
    let other = test.reopened();
    let mut calls = JoinSet::new();
    for n in 0..100 {
        let bank = if n % 2 == 0 { test.bank.clone() } else { other.clone() };
        let (key, wallet) = (test.keys.next(), wallet.clone());
        calls.spawn(async move { bank.charge(&buys(key, &wallet, usd(300))).await.unwrap() });
    }
    let charges = calls.join_all().await;
    let paid = charges.iter().filter(|charge| matches!(charge, Charge::Charged { .. })).count();
    assert_eq!(paid, 33, "10,000 pays 33 times 300");
    assert_eq!(test.bank.balance(buyer).await.unwrap(), 100);
}

#[tokio::test]
async fn the_carrier_refuses_antarctica() {
    let test = TestBank::new();
    let key = test.keys.next();
    for _ in 0..2 {
        let booking = test.bank.book(key, "AQ", Some("{}")).await.unwrap();
        assert!(matches!(booking, Booking::Refused { .. }), "{booking:?}");
    }
    let booking = test.bank.book(test.keys.next(), "United Kingdom", None).await.unwrap();
    assert!(matches!(&booking, Booking::Booked { carrier, .. } if carrier == "sandbox"), "{booking:?}");
}

#[tokio::test]
async fn reopening_the_file_keeps_everything() {
    let test = TestBank::new();
    let (token_key, buyer) = (test.keys.next(), test.keys.account());
    let (paid, declined, cancelled, refunded, booked) =
        (test.keys.next(), test.keys.next(), test.keys.next(), test.keys.next(), test.keys.next());
    let method = test.bank.tokenize(token_key, buyer, &PaymentDetails::Wallet).await.unwrap();
    let charge = test.bank.charge(&buys(paid, &method, usd(400))).await.unwrap();
    let Charge::Charged { charge_id } = &charge else { panic!("{charge:?}") };
    let failure = test.bank.charge(&buys(declined, &method, usd(10_000))).await.unwrap();
    PaymentGateway::cancel(&test.bank, &buys(cancelled, &method, usd(1))).await.unwrap();
    let refund = test.bank.refund(refunded, charge_id, usd(150)).await.unwrap();
    let booking = test.bank.book(booked, "DE", None).await.unwrap();

    let bank = test.reopened();
    assert_eq!(bank.tokenize(token_key, buyer, &PaymentDetails::Wallet).await.unwrap(), method);
    assert_eq!(bank.find(&buys(paid, &method, usd(1))).await.unwrap().as_ref(), Some(&charge));
    assert_eq!(bank.charge(&buys(paid, &method, usd(400))).await.unwrap(), charge);
    assert_eq!(bank.find(&buys(declined, &method, usd(1))).await.unwrap(), Some(failure));
    assert_eq!(
        bank.find(&buys(cancelled, &method, usd(1))).await.unwrap(),
        Some(Charge::Failed(FailureReason::Cancelled))
    );
    assert_eq!(bank.refund(refunded, charge_id, usd(150)).await.unwrap(), refund);
    assert!(bank.refund(test.keys.next(), charge_id, usd(251)).await.is_err());
    assert_eq!(bank.balance(buyer).await.unwrap(), 10_000 - 400 + 150);
    assert_eq!(bank.book(booked, "DE", None).await.unwrap(), booking);
}

#[tokio::test]
async fn no_card_number_is_in_the_files() {
    let test = TestBank::new();
    for number in ["4242 4242 4242 4242", "4000000000000002", "4000-0000-0000-0119"] {
        let method = test.bank.tokenize(test.keys.next(), test.keys.account(), &card(number)).await.unwrap();
        let _ = test.bank.charge(&buys(test.keys.next(), &method, usd(100))).await;
    }
    let mut seen_last_four = false;
    for file in std::fs::read_dir(test.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let contains = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        seen_last_four |= contains("4242");
        for number in ["4242424242424242", "4242 4242", "4000000000000002", "4000000000000119", "4000-"] {
            assert!(!contains(number), "{number}");
        }
    }
    assert!(seen_last_four, "the files that were searched hold the cards");
}

#[tokio::test]
async fn the_statement_shows_what_was_charged() {
    let test = TestBank::new();
    let Charge::Charged { charge_id } = charge_with(&test, &card("4242424242424242"), 250).await else {
        panic!("the card pays")
    };
    let file = rusqlite::Connection::open(test.file()).unwrap();
    let row: (String, String, i64, String) = file
        .query_row("SELECT charge_id, outcome, amount, at FROM statement", [], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    assert_eq!(row, (charge_id, "charged".to_owned(), 250, "2026-07-15T12:00:00Z".to_owned()));
}

#[test]
fn two_that_make_the_bank_at_once_both_have_it() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..50 {
        let path = folder.path().join(round.to_string());
        let at_once = Barrier::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    at_once.wait();
                    SandboxBank::open(&path, Script::default(), now).unwrap();
                });
            }
        });
    }
}

#[test]
fn a_file_of_a_newer_program_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bank.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    let opened = SandboxBank::open(&path, Script::default(), now);
    assert!(matches!(opened, Err(OpenError::Newer(9))));
}
