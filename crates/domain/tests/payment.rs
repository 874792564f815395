//! Payments: asked for once, charged once, given back once and in full.

use souk_domain::{
    payment::{
        FailureReason, Payment, PaymentCommand, PaymentCompleted, PaymentError, PaymentEvent, PaymentFailed,
        PaymentRefunded, RefundRequested,
    },
    testing::{
        Given,
        examples::{cents, payment_requested},
    },
};

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
    assert!(!payment.state().is_settled_for_cancellation());
    let payment =
        payment.when(refund()).then([refunded()]).when(refund()).then_nothing().when(charge()).then_nothing();
    assert!(payment.state().is_settled_for_cancellation());
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
    assert!(never.state().is_settled_for_cancellation());
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
    assert!(payment.state().is_settled_for_cancellation());
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
    PaymentCommand::RecordRefund { refund_id: "re_1".to_owned() }
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
    PaymentRefunded { amount: cents(3198), refund_id: "re_1".to_owned() }.into()
}
