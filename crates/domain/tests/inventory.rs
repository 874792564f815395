//! Inventory: nothing is reserved that is not available, and a reservation ends once.

use souk_domain::{
    ItemId,
    inventory::{
        Ending, Inventory, InventoryCommand, InventoryError, InventoryEvent, MAX_ON_HAND,
        ReservationCommitted, ReservationRejected, ReservationReleased, StockAdjusted, StockReceived,
        StockReserved,
    },
    testing::{
        Given,
        examples::{ITEM, SELLER, order_id, sku},
    },
};
use uuid::Uuid;

#[test]
fn what_was_received_can_be_reserved() {
    let stock = Given::<Inventory>::events([received(10)]).when(reserve(1, 10)).then([reserved(1, 10)]);
    assert_eq!((stock.state().on_hand, stock.state().reserved, stock.state().available()), (10, 10, 0));
}

#[test]
fn more_than_is_available_is_rejected_once() {
    Given::<Inventory>::events([received(10), reserved(1, 8)])
        .when(reserve(2, 3))
        .then([rejected(2, 3, 2)])
        .when(reserve(2, 3))
        .then_nothing();
}

#[test]
fn a_sku_that_never_came_in_has_nothing_to_reserve() {
    Given::<Inventory>::nothing().when(reserve(1, 1)).then([rejected(1, 1, 0)]);
}

#[test]
fn a_released_reservation_is_available_again() {
    Given::<Inventory>::events([received(10), reserved(1, 10)])
        .when(release(1))
        .then([released(1, 10)])
        .when(reserve(2, 10))
        .then([reserved(2, 10)]);
}

#[test]
fn releasing_what_has_not_arrived_leaves_a_tombstone_that_rejects_it_when_it_does() {
    let stock = Given::<Inventory>::events([received(10)]).when(release(1)).then([released(1, 0)]);
    stock.when(reserve(1, 1)).then([rejected(1, 1, 10)]).when(release(1)).then_nothing();
}

#[test]
fn a_committed_reservation_leaves_the_shelf_and_cannot_come_back() {
    let stock =
        Given::<Inventory>::events([received(10), reserved(1, 4)]).when(commit(1)).then([committed(1, 4)]);
    assert_eq!((stock.state().on_hand, stock.state().reserved, stock.state().available()), (6, 0, 6));
    stock.when(release(1)).then_nothing().when(commit(1)).then_nothing().when(reserve(1, 4)).then_nothing();
}

#[test]
fn only_an_open_reservation_can_be_committed() {
    let refusal = || InventoryError::NotReserved(order_id(1));
    Given::<Inventory>::events([received(10)]).when(commit(1)).then_refused(refusal());
    Given::<Inventory>::events([received(10), reserved(1, 4), released(1, 4)])
        .when(commit(1))
        .then_refused(refusal());
    Given::<Inventory>::events([received(1), rejected(1, 4, 1)]).when(commit(1)).then_refused(refusal());
}

#[test]
fn the_first_receipt_binds_the_sku_to_its_item_even_if_nothing_came() {
    let stranger = ItemId(Uuid::from_u128(99));
    let stock = Given::<Inventory>::nothing().when(receive(ITEM, 0)).then([received(0)]);
    stock
        .when(receive(ITEM, 0))
        .then_nothing()
        .when(receive(stranger, 1))
        .then_refused(InventoryError::SkuTaken);
}

#[test]
fn every_receipt_adds_up() {
    let stock = Given::<Inventory>::events([received(5)]).when(receive(ITEM, 5)).then([received(5)]);
    assert_eq!(stock.state().on_hand, 10);
}

#[test]
fn stock_can_be_counted_anew_but_never_below_what_is_promised() {
    Given::<Inventory>::events([received(10), reserved(1, 8)])
        .when(adjust(-3))
        .then_refused(InventoryError::Insufficient { available: 2 })
        .when(adjust(-2))
        .then([adjusted(-2)])
        .when(adjust(0))
        .then_nothing();
    Given::<Inventory>::nothing().when(adjust(1)).then_refused(InventoryError::NotFound);
}

#[test]
fn a_shelf_has_an_end() {
    let full = MAX_ON_HAND.cast_signed();
    Given::<Inventory>::events([received(1)])
        .when(adjust(full))
        .then_refused(InventoryError::TooMuch)
        .when(adjust(full - 1))
        .then([adjusted(full - 1)])
        .when(receive(ITEM, 1))
        .then_refused(InventoryError::TooMuch);
}

#[test]
fn the_oldest_of_ten_thousand_endings_is_forgotten() {
    let endings = (0..=10_000).map(|order| released(order, 0));
    let stock = Given::<Inventory>::events(endings);
    assert_eq!(stock.state().ending(order_id(0)), None);
    assert_eq!(stock.state().ending(order_id(1)), Some(Ending::Released));
}

fn receive(item_id: ItemId, quantity: u32) -> InventoryCommand {
    InventoryCommand::Receive { item_id, seller_id: SELLER, sku: sku("red"), quantity, reason: None }
}

fn reserve(order: u128, quantity: u32) -> InventoryCommand {
    InventoryCommand::Reserve { order_id: order_id(order), quantity }
}

fn release(order: u128) -> InventoryCommand {
    InventoryCommand::Release { order_id: order_id(order) }
}

fn commit(order: u128) -> InventoryCommand {
    InventoryCommand::Commit { order_id: order_id(order) }
}

fn adjust(change: i64) -> InventoryCommand {
    InventoryCommand::Adjust { change, reason: None }
}

fn received(quantity: u32) -> InventoryEvent {
    StockReceived { item_id: ITEM, seller_id: SELLER, sku: sku("red"), quantity, reason: None }.into()
}

fn reserved(order: u128, quantity: u32) -> InventoryEvent {
    StockReserved { order_id: order_id(order), quantity }.into()
}

fn rejected(order: u128, quantity: u32, available: u64) -> InventoryEvent {
    ReservationRejected { order_id: order_id(order), quantity, available }.into()
}

fn released(order: u128, quantity: u32) -> InventoryEvent {
    ReservationReleased { order_id: order_id(order), quantity }.into()
}

fn committed(order: u128, quantity: u32) -> InventoryEvent {
    ReservationCommitted { order_id: order_id(order), quantity }.into()
}

fn adjusted(change: i64) -> InventoryEvent {
    StockAdjusted { change, reason: None }.into()
}
