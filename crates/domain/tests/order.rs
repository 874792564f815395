//! Orders: step by step to completed, or back to cancelled; ready to ship is the point of no return.

use souk_domain::{
    Currency, Money, MoneyError,
    order::{
        CancelReason, CancellationRequested, OrderCancelled, OrderCommand, OrderCompleted, OrderError,
        OrderEvent, OrderPaid, OrderReadyToShip, OrderStatus, OrderStockReserved, Orders, total,
    },
    testing::{
        Given,
        examples::{cents, order_line, placed},
    },
};

#[test]
fn an_order_goes_step_by_step_and_each_step_once() {
    let steps: [(fn() -> OrderCommand, OrderEvent); 5] = [
        (|| OrderCommand::Place(placed()), placed().into()),
        (|| OrderCommand::MarkStockReserved, OrderStockReserved {}.into()),
        (|| OrderCommand::MarkPaid, OrderPaid {}.into()),
        (|| OrderCommand::MarkReadyToShip, OrderReadyToShip {}.into()),
        (|| OrderCommand::Complete, OrderCompleted {}.into()),
    ];
    let mut order = Given::<Orders>::nothing();
    for (step, event) in steps {
        order = order.when(step()).then([event]).when(step()).then_nothing();
    }
    order.when(OrderCommand::MarkStockReserved).then_nothing();
}

#[test]
fn no_step_is_left_out() {
    at(OrderStatus::Placed)
        .when(OrderCommand::MarkPaid)
        .then_refused(OrderError::OutOfOrder { from: OrderStatus::Placed, to: OrderStatus::Paid });
    at(OrderStatus::Paid)
        .when(OrderCommand::Complete)
        .then_refused(OrderError::OutOfOrder { from: OrderStatus::Paid, to: OrderStatus::Completed });
}

#[test]
fn what_was_not_placed_is_no_order() {
    for command in [OrderCommand::MarkPaid, OrderCommand::RequestCancellation, CANCEL] {
        Given::<Orders>::nothing().when(command).then_refused(OrderError::NotFound);
    }
}

#[test]
fn an_order_can_be_cancelled_until_it_is_ready_to_ship() {
    for status in [OrderStatus::Placed, OrderStatus::StockReserved, OrderStatus::Paid] {
        at(status).when(CANCEL).then([cancelled()]).when(CANCEL).then_nothing();
        at(status)
            .when(OrderCommand::RequestCancellation)
            .then([CancellationRequested {}.into()])
            .when(OrderCommand::RequestCancellation)
            .then_nothing()
            .when(CANCEL)
            .then([cancelled()])
            .when(OrderCommand::RequestCancellation)
            .then_nothing();
    }
}

#[test]
fn an_order_that_is_ready_to_ship_cannot_be_cancelled() {
    for status in [OrderStatus::ReadyToShip, OrderStatus::Completed] {
        at(status)
            .when(OrderCommand::RequestCancellation)
            .then_refused(OrderError::TooLateToCancel)
            .when(CANCEL)
            .then_refused(OrderError::TooLateToCancel);
    }
}

#[test]
fn an_order_that_is_being_cancelled_goes_no_further() {
    for status in [OrderStatus::Cancelling, OrderStatus::Cancelled] {
        at(status).when(OrderCommand::MarkStockReserved).then_refused(OrderError::BeingCancelled);
        at(status).when(OrderCommand::MarkReadyToShip).then_refused(OrderError::BeingCancelled);
    }
}

#[test]
fn the_first_reason_stays() {
    let order = at(OrderStatus::Placed).when(CANCEL).then([cancelled()]);
    let order = order.when(OrderCommand::Cancel(CancelReason::Timeout.into())).then_nothing();
    let order = order.state().as_ref().unwrap();
    assert_eq!((order.status, order.reason), (OrderStatus::Cancelled, Some(CancelReason::OutOfStock)));
    assert!(order.status.is_final() && !OrderStatus::Cancelling.is_final());
}

#[test]
fn lines_add_up_in_one_currency() {
    assert_eq!(total(&[order_line("red", 2, 1599), order_line("blue", 1, 1)]), Some(Ok(cents(3199))));
    assert_eq!(total(&[]), None);
    let mut pounds = order_line("blue", 1, 1);
    pounds.unit_price = Money::new(1, Currency::GBP);
    let mixed = MoneyError::Mixed(Currency::USD, Currency::GBP);
    assert_eq!(total(&[order_line("red", 1, 1), pounds]), Some(Err(mixed)));
    assert_eq!(total(&[order_line("red", 2, i64::MAX)]), Some(Err(MoneyError::Overflow)));
}

const CANCEL: OrderCommand =
    OrderCommand::Cancel(OrderCancelled { reason: CancelReason::OutOfStock, short_lines: vec![] });

fn cancelled() -> OrderEvent {
    OrderCancelled::from(CancelReason::OutOfStock).into()
}

/// An order that got this far.
fn at(status: OrderStatus) -> Given<Orders> {
    let mut history: Vec<OrderEvent> = vec![placed().into()];
    let forward: [OrderEvent; 4] = [
        OrderStockReserved {}.into(),
        OrderPaid {}.into(),
        OrderReadyToShip {}.into(),
        OrderCompleted {}.into(),
    ];
    match status {
        OrderStatus::Placed => {}
        OrderStatus::StockReserved => history.extend(forward.into_iter().take(1)),
        OrderStatus::Paid => history.extend(forward.into_iter().take(2)),
        OrderStatus::ReadyToShip => history.extend(forward.into_iter().take(3)),
        OrderStatus::Completed => history.extend(forward),
        OrderStatus::Cancelling => history.push(CancellationRequested {}.into()),
        OrderStatus::Cancelled => history.push(cancelled()),
    }
    let order = Given::<Orders>::events(history);
    assert_eq!(order.state().as_ref().map(|order| order.status), Some(status));
    order
}
