//! Payments: asked for once, charged once, given back once and in full, or in parts that never exceed the charge.

use souk_domain::{
    Money,
    payment::{
        ChargebackClosed, ChargebackOpened, FailureReason, PartialRefundRequested, Payment,
        PaymentActionRequired, PaymentCommand, PaymentCompleted, PaymentError, PaymentEvent, PaymentFailed,
        PaymentPartlyRefunded, PaymentRefunded, PaymentState, RefundRequested,
    },
    testing::{
        Given,
        examples::{cents, payment_requested},
    },
};
use uuid::Uuid;

const FIRST: Uuid = Uuid::from_u128(1);
const SECOND: Uuid = Uuid::from_u128(2);
const THIRD: Uuid = Uuid::from_u128(3);

#[test]
fn a_payment_is_requested_once() {
    Given::<Payment>::nothing().when(request()).then([requested()]).when(request()).then_nothing();
}

#[test]
fn a_charge_is_recorded_once_with_the_amount_that_was_asked_for() {
    Given::<Payment>::events([requested()])
        .when(charge())
        .then([completed()])
        .when(charge())
        .then_nothing()
        .when(fail(FailureReason::CardDeclined))
        .then_refused(PaymentError::OutOfOrder);
}

#[test]
fn a_failed_payment_stays_failed() {
    Given::<Payment>::events([requested()])
        .when(fail(FailureReason::CardDeclined))
        .then([failed(FailureReason::CardDeclined)])
        .when(fail(FailureReason::Cancelled))
        .then_nothing()
        .when(charge())
        .then_refused(PaymentError::OutOfOrder)
        .when(PaymentCommand::RequestRefund)
        .then_nothing();
}

#[test]
fn nothing_comes_of_a_payment_that_nobody_asked_for() {
    Given::<Payment>::nothing()
        .when(charge())
        .then_refused(PaymentError::OutOfOrder)
        .when(fail(FailureReason::CardDeclined))
        .then_refused(PaymentError::NotRequested)
        .when(refund())
        .then_refused(PaymentError::OutOfOrder);
}

#[test]
fn what_was_charged_is_given_back_in_full_and_once() {
    let payment = Given::<Payment>::events([requested(), completed()])
        .when(refund())
        .then_refused(PaymentError::OutOfOrder)
        .when(PaymentCommand::RequestRefund)
        .then([RefundRequested {}.into()])
        .when(PaymentCommand::RequestRefund)
        .then_nothing();
    assert!(matches!(payment.state(), PaymentState::Charged { refund_wanted: true, .. }));
    let payment =
        payment.when(refund()).then([refunded()]).when(refund()).then_nothing().when(charge()).then_nothing();
    assert!(matches!(payment.state(), PaymentState::Refunded { .. }));
}

#[test]
fn a_refund_asked_for_while_the_charge_is_unknown_waits_for_it() {
    let wanted = || Given::<Payment>::events([requested(), RefundRequested {}.into()]);
    wanted()
        .when(refund())
        .then_refused(PaymentError::OutOfOrder)
        .when(charge())
        .then([completed()])
        .when(refund())
        .then([refunded()]);
    let never = wanted().when(fail(FailureReason::Cancelled)).then([failed(FailureReason::Cancelled)]);
    assert!(matches!(never.state(), PaymentState::Failed { .. }));
}

#[test]
fn giving_back_what_was_not_requested_yet_closes_the_payment_for_good() {
    let payment = Given::<Payment>::nothing()
        .when(PaymentCommand::RequestRefund)
        .then([failed(FailureReason::Cancelled)])
        .when(PaymentCommand::RequestRefund)
        .then_nothing()
        .when(request())
        .then_nothing();
    assert!(matches!(payment.state(), PaymentState::Failed { .. }));
}

#[test]
fn what_the_buyer_has_to_confirm_is_noted_once_and_charged_all_the_same() {
    let wait = |charge_id: &str| PaymentCommand::RecordActionRequired { charge_id: charge_id.to_owned() };
    Given::<Payment>::events([requested()])
        .when(wait("ch_1"))
        .then([PaymentActionRequired { charge_id: "ch_1".to_owned() }.into()])
        .when(wait("ch_1"))
        .then_nothing()
        .when(charge())
        .then([completed()])
        .when(wait("ch_1"))
        .then_nothing();
}

#[test]
fn parts_are_given_back_once_each_and_never_more_than_is_left() {
    let all = payment_requested().amount.amount;
    Given::<Payment>::events([requested(), completed()])
        .when(part(FIRST, 1_000))
        .then([PartialRefundRequested { refund_key: FIRST, amount: cents(1_000) }.into()])
        .when(part(FIRST, 1_000))
        .then_nothing()
        .when(PaymentCommand::RequestRefund)
        .then_refused(PaymentError::OutOfOrder)
        .when(part_done(SECOND))
        .then_refused(PaymentError::OutOfOrder)
        .when(part_done(FIRST))
        .then([PaymentPartlyRefunded {
            refund_key: FIRST,
            amount: cents(1_000),
            refund_id: "re_1".to_owned(),
        }
        .into()])
        .when(part_done(FIRST))
        .then_nothing()
        .when(part(SECOND, all))
        .then([PartialRefundRequested { refund_key: SECOND, amount: cents(all - 1_000) }.into()])
        .when(part(THIRD, all))
        .then([PartialRefundRequested { refund_key: THIRD, amount: cents(0) }.into()])
        .when(part_done(THIRD))
        .then_nothing();
}

#[test]
fn what_the_bank_took_back_is_not_refunded_as_well_unless_the_dispute_is_won() {
    let all = payment_requested().amount;
    let (dispute_id, reason) = ("dp_1".to_owned(), "fraudulent".to_owned());
    let open = PaymentCommand::OpenChargeback {
        dispute_id: dispute_id.clone(),
        amount: all,
        reason: reason.clone(),
    };
    let close = PaymentCommand::CloseChargeback { dispute_id: dispute_id.clone(), won: true };
    Given::<Payment>::events([requested(), completed()])
        .when(close.clone())
        .then_refused(PaymentError::NoSuchDispute)
        .when(open.clone())
        .then([ChargebackOpened { dispute_id: dispute_id.clone(), amount: all, reason }.into()])
        .when(open)
        .then_nothing()
        .when(part(FIRST, 1))
        .then_refused(PaymentError::Disputed)
        .when(close.clone())
        .then([closed(dispute_id, all, true, None)])
        .when(close)
        .then_nothing()
        .when(PaymentCommand::RequestRefund)
        .then([RefundRequested {}.into()]);
}

#[test]
fn what_the_bank_took_back_is_not_left_to_be_given_back_with_the_whole() {
    let payment = Given::<Payment>::events([requested(), completed(), opened("dp_1", 1_000)]);
    assert!(payment.state().is_disputed());
    let payment = payment
        .when(lose("dp_1"))
        .then([closed("dp_1", cents(1_000), false, None)])
        .when(PaymentCommand::RequestRefund)
        .then([RefundRequested {}.into()]);
    let PaymentState::Charged { amount, taken_back, .. } = payment.state() else {
        panic!("{:?}", payment.state())
    };
    assert_eq!(taken_back.left_of(*amount), cents(2_198));
    payment
        .when(PaymentCommand::RecordRefund { refund_id: "re_1".to_owned(), amount: cents(2_198) })
        .then([PaymentRefunded { amount: cents(2_198), refund_id: "re_1".to_owned(), loss: None }.into()])
        // No more than that went back in another way: nothing of the next is left, either.
        .when(open("dp_2", 500))
        .then([opened("dp_2", 500)])
        .when(lose("dp_2"))
        .then([closed("dp_2", cents(500), false, Some(cents(500)))]);
}

#[test]
fn what_the_bank_takes_back_of_what_was_refunded_is_recorded_and_lost() {
    let whole = Given::<Payment>::events([requested(), completed(), RefundRequested {}.into(), refunded()])
        .when(open("dp_1", 3_198))
        .then([opened("dp_1", 3_198)])
        .when(open("dp_1", 3_198))
        .then_nothing()
        .when(lose("dp_1"))
        .then([closed("dp_1", cents(3_198), false, Some(cents(3_198)))])
        .when(lose("dp_1"))
        .then_nothing()
        .when(part(FIRST, 1))
        .then_refused(PaymentError::OutOfOrder);
    assert!(!whole.state().is_disputed());
    // A part was refunded before; and what is lost is not lost once more.
    Given::<Payment>::events([requested(), completed()])
        .when(part(FIRST, 1_000))
        .then([PartialRefundRequested { refund_key: FIRST, amount: cents(1_000) }.into()])
        .when(open("dp_1", 3_198))
        .then([opened("dp_1", 3_198)])
        .when(lose("dp_1"))
        .then([closed("dp_1", cents(3_198), false, Some(cents(1_000)))])
        .when(open("dp_2", 10))
        .then([opened("dp_2", 10)])
        .when(lose("dp_2"))
        .then([closed("dp_2", cents(10), false, Some(cents(10)))]);
}

#[test]
fn a_refund_under_way_while_the_bank_takes_the_money_back_is_the_loss() {
    let asked = [requested(), completed(), RefundRequested {}.into()];
    Given::<Payment>::events(asked)
        .when(open("dp_1", 1_000))
        .then([opened("dp_1", 1_000)])
        .when(lose("dp_1"))
        .then([closed("dp_1", cents(1_000), false, None)])
        .when(refund())
        .then([PaymentRefunded {
            amount: cents(3_198),
            refund_id: "re_1".to_owned(),
            loss: Some(cents(1_000)),
        }
        .into()]);
}

fn open(dispute_id: &str, amount: i64) -> PaymentCommand {
    let (dispute_id, reason) = (dispute_id.to_owned(), "fraudulent".to_owned());
    PaymentCommand::OpenChargeback { dispute_id, amount: cents(amount), reason }
}

fn opened(dispute_id: &str, amount: i64) -> PaymentEvent {
    let (dispute_id, reason) = (dispute_id.to_owned(), "fraudulent".to_owned());
    ChargebackOpened { dispute_id, amount: cents(amount), reason }.into()
}

fn lose(dispute_id: &str) -> PaymentCommand {
    PaymentCommand::CloseChargeback { dispute_id: dispute_id.to_owned(), won: false }
}

fn closed(dispute_id: impl Into<String>, amount: Money, won: bool, loss: Option<Money>) -> PaymentEvent {
    ChargebackClosed { dispute_id: dispute_id.into(), amount, won, loss }.into()
}

fn part(refund_key: Uuid, amount: i64) -> PaymentCommand {
    PaymentCommand::RequestPartialRefund { refund_key, amount: cents(amount) }
}

fn part_done(refund_key: Uuid) -> PaymentCommand {
    PaymentCommand::RecordPartialRefund { refund_key, refund_id: "re_1".to_owned() }
}

fn request() -> PaymentCommand {
    PaymentCommand::Request(payment_requested())
}

fn charge() -> PaymentCommand {
    PaymentCommand::RecordCharge { charge_id: "ch_1".to_owned() }
}

fn fail(reason: FailureReason) -> PaymentCommand {
    PaymentCommand::RecordFailure { reason }
}

fn refund() -> PaymentCommand {
    PaymentCommand::RecordRefund { refund_id: "re_1".to_owned(), amount: cents(3198) }
}

fn requested() -> PaymentEvent {
    payment_requested().into()
}

fn completed() -> PaymentEvent {
    PaymentCompleted { amount: cents(3198), charge_id: "ch_1".to_owned() }.into()
}

fn failed(reason: FailureReason) -> PaymentEvent {
    PaymentFailed { reason }.into()
}

fn refunded() -> PaymentEvent {
    PaymentRefunded { amount: cents(3198), refund_id: "re_1".to_owned(), loss: None }.into()
}
