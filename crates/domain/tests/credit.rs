//! Gift cards and store credit: never below zero, spent once, and what comes back is never more than was spent.

use proptest::prelude::*;
use souk_domain::{
    Currency, Money, OrderId,
    credit::{
        Credit, CreditCommand, CreditError, CreditEvent, CreditGranted, CreditHeld, CreditHoldRejected,
        CreditKind, CreditOpened, CreditReleased, CreditReturned, CreditSpent,
    },
    testing::{
        Given,
        examples::{BUYER, SELLER, cents, order_id},
        obey,
    },
};
use uuid::Uuid;

fn issue(amount: i64) -> CreditCommand {
    CreditCommand::Issue { amount: cents(amount), reason: None }
}

fn hold(n: u128, amount: i64) -> CreditCommand {
    CreditCommand::Hold { order_id: order_id(n), amount: cents(amount) }
}

fn held(n: u128, amount: i64) -> CreditEvent {
    CreditHeld { order_id: order_id(n), amount: cents(amount) }.into()
}

fn give_back(n: u128, key: u128, amount: i64) -> CreditCommand {
    let refund_key = Uuid::from_u128(key);
    CreditCommand::Return { order_id: order_id(n), refund_key, amount: cents(amount), reason: None }
}

fn card(amount: i64) -> Given<Credit> {
    Given::nothing().when(issue(amount)).then([
        CreditOpened { kind: CreditKind::GiftCard, currency: Currency::USD, owner: None }.into(),
        CreditGranted { amount: cents(amount), reason: None }.into(),
    ])
}

#[test]
fn a_gift_card_is_issued_once() {
    card(500).when(issue(500)).then_nothing();
    Given::<Credit>::nothing().when(issue(0)).then_refused(CreditError::NotPositive);
}

#[test]
fn store_credit_grows_and_is_its_owners() {
    let grant =
        |owner, amount: Money| CreditCommand::Grant { owner, amount, reason: Some("sorry".to_owned()) };
    let granted = |amount| CreditGranted { amount: cents(amount), reason: Some("sorry".to_owned()) }.into();
    Given::<Credit>::nothing()
        .when(grant(BUYER, cents(5)))
        .then([
            CreditOpened { kind: CreditKind::StoreCredit, currency: Currency::USD, owner: Some(BUYER) }
                .into(),
            granted(5),
        ])
        .when(grant(BUYER, cents(7)))
        .then([granted(7)])
        .when(grant(SELLER, cents(7)))
        .then_refused(CreditError::NotTheirs)
        .when(grant(BUYER, Money::new(7, Currency::GBP)))
        .then_refused(CreditError::Currency);
}

#[test]
fn two_orders_do_not_spend_the_same_money() {
    let rejected = CreditHoldRejected { order_id: order_id(2), amount: cents(300), available: 200 };
    card(500)
        .when(hold(1, 300))
        .then([held(1, 300)])
        .when(hold(1, 300))
        .then_nothing()
        .when(hold(2, 300))
        .then([rejected.into()])
        .when(CreditCommand::Release { order_id: order_id(1) })
        .then([CreditReleased { order_id: order_id(1), amount: Some(cents(300)) }.into()])
        .when(hold(3, 500))
        .then([held(3, 500)])
        .when(CreditCommand::Spend { order_id: order_id(3) })
        .then([CreditSpent { order_id: order_id(3), amount: cents(500) }.into()])
        .when(CreditCommand::Spend { order_id: order_id(3) })
        .then_nothing()
        .when(CreditCommand::Release { order_id: order_id(3) })
        .then_nothing();
}

#[test]
fn a_hold_that_comes_after_its_release_does_nothing() {
    card(500)
        .when(CreditCommand::Release { order_id: order_id(1) })
        .then([CreditReleased { order_id: order_id(1), amount: None }.into()])
        .when(hold(1, 300))
        .then_nothing()
        .when(CreditCommand::Spend { order_id: order_id(1) })
        .then_refused(CreditError::NotHeld(order_id(1)));
}

#[test]
fn a_refund_brings_back_what_was_spent_once_and_no_more() {
    let returned = |key, amount| {
        let refund_key = Uuid::from_u128(key);
        CreditReturned { order_id: order_id(1), refund_key, amount: cents(amount), reason: None }.into()
    };
    let spent = card(500).when(hold(1, 300)).then([held(1, 300)]);
    spent
        .when(give_back(1, 7, 100))
        .then_nothing()
        .when(CreditCommand::Spend { order_id: order_id(1) })
        .then([CreditSpent { order_id: order_id(1), amount: cents(300) }.into()])
        .when(give_back(1, 7, 100))
        .then([returned(7, 100)])
        .when(give_back(1, 7, 100))
        .then_nothing()
        .when(give_back(1, 8, 201))
        .then([returned(8, 200)])
        .when(give_back(1, 9, 1))
        .then_nothing()
        .when(hold(2, 500))
        .then([held(2, 500)]);
}

fn any_command() -> impl Strategy<Value = CreditCommand> {
    (0..5_u8, 0..6_u128, 1..400_i64).prop_map(|(kind, n, amount)| {
        let (order_id, amount) = (OrderId(Uuid::from_u128(n)), cents(amount));
        match kind {
            0 => CreditCommand::Issue { amount, reason: None },
            1 => CreditCommand::Hold { order_id, amount },
            2 => CreditCommand::Release { order_id },
            3 => CreditCommand::Spend { order_id },
            _ => CreditCommand::Return {
                order_id,
                refund_key: Uuid::from_u128(amount.amount as u128 % 3),
                amount,
                reason: None,
            },
        }
    })
}

proptest! {
    #[test]
    fn nothing_is_spent_that_is_not_there(commands in prop::collection::vec(any_command(), 0..80)) {
        let commands: Vec<_> = std::iter::once(issue(1_000)).chain(commands).collect();
        for n in 1..=commands.len() {
            let (state, history) = obey::<Credit>(&commands[..n]);
            let (mut spent, mut returned) = (0, 0);
            for event in history {
                match event {
                    CreditEvent::CreditSpent(event) => spent += event.amount.amount,
                    CreditEvent::CreditReturned(event) => returned += event.amount.amount,
                    _ => {}
                }
            }
            prop_assert_eq!(state.balance, 1_000 - spent + returned);
            prop_assert!(state.held >= 0 && state.available() >= 0 && returned <= spent);
        }
    }
}
