//! Carts: lines come and go until the cart is checked out, once, at prices that add up.

use souk_domain::{
    cart::{
        Cart, CartCheckedOut, CartCommand, CartError, CartEvent, CartLine, CartOpened, LineAdded,
        LineQuantityChanged, LineRemoved, MAX_LINES, MAX_QUANTITY,
    },
    order::OrderLine,
    testing::{
        Given,
        examples::{BUYER, SELLER, cart_line, cents, checked_out, order_id, order_line, sku_id},
    },
};

#[test]
fn the_first_line_opens_the_cart() {
    Given::<Cart>::nothing()
        .when(set("red", 2))
        .then([opened(), added("red", 2)])
        .when(set("red", 2))
        .then_nothing();
}

#[test]
fn quantities_are_absolute_and_zero_takes_the_line_out() {
    Given::<Cart>::events([opened(), added("red", 2)])
        .when(set("red", 5))
        .then([LineQuantityChanged { sku_id: sku_id("red"), quantity: 5 }.into()])
        .when(set("red", 0))
        .then([LineRemoved { sku_id: sku_id("red") }.into()])
        .when(set("red", 0))
        .then_nothing();
}

#[test]
fn taking_a_line_out_of_a_cart_that_is_not_there_opens_none() {
    Given::<Cart>::nothing().when(set("red", 0)).then_nothing();
}

#[test]
fn of_two_quantities_for_one_sku_the_last_counts() {
    let lines =
        |quantities: [u32; 2]| set_lines(quantities.map(|quantity| cart_line("red", quantity)).into());
    Given::<Cart>::nothing()
        .when(lines([1, 2]))
        .then([opened(), added("red", 2)])
        .when(lines([1, 2]))
        .then_nothing();
    Given::<Cart>::events([opened(), added("red", 2)])
        .when(lines([0, 0]))
        .then([LineRemoved { sku_id: sku_id("red") }.into()]);
}

#[test]
fn a_cart_and_a_line_have_an_end() {
    let lines = |count: usize| (0..count).map(|n| cart_line(&format!("sku-{n}"), 1)).collect();
    Given::<Cart>::nothing().when(set_lines(lines(MAX_LINES + 1))).then_refused(CartError::TooManyLines);
    Given::<Cart>::nothing().when(set("red", MAX_QUANTITY + 1)).then_refused(CartError::TooMany);
    Given::<Cart>::nothing().when(set("red", MAX_QUANTITY)).then([opened(), added("red", MAX_QUANTITY)]);
}

#[test]
fn checking_out_closes_the_cart_and_repeating_it_does_nothing() {
    Given::<Cart>::events([opened(), added("red", 2)])
        .when(CartCommand::CheckOut(checked_out()))
        .then([checked_out().into()])
        .when(CartCommand::CheckOut(checked_out()))
        .then_nothing()
        .when(set("red", 3))
        .then_refused(CartError::CheckedOut(order_id(1)))
        .when(CartCommand::CheckOut(CartCheckedOut { order_id: order_id(2), ..checked_out() }))
        .then_refused(CartError::CheckedOut(order_id(1)));
}

#[test]
fn an_empty_cart_cannot_be_checked_out() {
    Given::<Cart>::nothing().when(CartCommand::CheckOut(checked_out())).then_refused(CartError::Empty);
}

#[test]
fn what_is_checked_out_is_what_is_in_the_cart() {
    let others: [Vec<OrderLine>; 3] = [
        vec![order_line("red", 3, 1599)],
        vec![order_line("blue", 2, 1599)],
        vec![order_line("red", 2, 1599), order_line("blue", 1, 1)],
    ];
    for lines in others {
        Given::<Cart>::events([opened(), added("red", 2)])
            .when(CartCommand::CheckOut(CartCheckedOut { lines, ..checked_out() }))
            .then_refused(CartError::Changed);
    }
}

#[test]
fn nobody_checks_out_the_cart_of_another() {
    Given::<Cart>::events([opened(), added("red", 2)])
        .when(CartCommand::CheckOut(CartCheckedOut { buyer_id: SELLER, ..checked_out() }))
        .then_refused(CartError::Changed);
}

#[test]
fn the_lines_add_up_to_the_total() {
    Given::<Cart>::events([opened(), added("red", 2)])
        .when(CartCommand::CheckOut(CartCheckedOut { total: cents(3197), ..checked_out() }))
        .then_refused(CartError::WrongTotal);
}

#[test]
fn a_cancelled_order_comes_back_into_a_cart_that_is_empty() {
    Given::<Cart>::nothing()
        .when(restore("red", 2))
        .then([opened(), added("red", 2)])
        .when(restore("red", 2))
        .then_nothing();
    Given::<Cart>::events([opened(), added("blue", 1)]).when(restore("red", 2)).then_nothing();
    Given::<Cart>::events([opened(), added("red", 2), checked_out().into()])
        .when(restore("red", 2))
        .then_nothing();
}

fn set_lines(lines: Vec<CartLine>) -> CartCommand {
    CartCommand::SetLines { account_id: BUYER, number: 1, lines }
}

fn set(text: &str, quantity: u32) -> CartCommand {
    set_lines(vec![cart_line(text, quantity)])
}

fn restore(text: &str, quantity: u32) -> CartCommand {
    CartCommand::Restore { account_id: BUYER, number: 1, lines: vec![cart_line(text, quantity)] }
}

fn opened() -> CartEvent {
    CartOpened { account_id: BUYER, number: 1 }.into()
}

fn added(text: &str, quantity: u32) -> CartEvent {
    LineAdded { line: cart_line(text, quantity) }.into()
}
