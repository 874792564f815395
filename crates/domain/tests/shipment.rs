//! Shipments: booked, dispatched, delivered; refused or cancelled before they leave.

use souk_domain::{
    DomainEvent,
    shipment::{
        ParcelLine, Shipment, ShipmentCancelled, ShipmentCommand, ShipmentDelivered, ShipmentDispatched,
        ShipmentError, ShipmentEvent, ShipmentReady, ShipmentRefused, ShipmentStatus, UnitsGivenUp,
    },
    testing::{
        Given,
        examples::{return_id, shipment_requested, sku_id},
    },
};
use uuid::Uuid;

#[test]
fn a_shipment_is_booked_dispatched_and_delivered_each_once() {
    let steps: [(fn() -> ShipmentCommand, ShipmentEvent); 4] = [
        (request, requested()),
        (book, ready()),
        (dispatch, dispatched()),
        (deliver, ShipmentDelivered { parcels: vec![1], status: ShipmentStatus::Delivered }.into()),
    ];
    let mut shipment = Given::<Shipment>::nothing();
    for (step, event) in steps {
        shipment = shipment.when(step()).then([event]).when(step()).then_nothing();
    }
    assert_eq!(shipment.state().booking_id.as_deref(), Some("bk_1"));
    let again =
        ShipmentCommand::Dispatch { lines: None, carrier: Some("DHL".to_owned()), tracking_number: None };
    shipment
        .when(book())
        .then_nothing()
        .when(dispatch())
        .then_nothing()
        .when(again)
        .then_refused(ShipmentError::DispatchedOtherwise);
}

#[test]
fn a_carrier_that_refuses_cannot_book_any_more() {
    Given::<Shipment>::events([requested()])
        .when(refuse())
        .then([refused()])
        .when(refuse())
        .then_nothing()
        .when(book())
        .then_refused(ShipmentError::OutOfOrder(ShipmentStatus::Refused))
        .when(ShipmentCommand::Cancel)
        .then_nothing();
}

#[test]
fn a_booked_shipment_is_not_refused_any_more() {
    Given::<Shipment>::events([requested(), ready()])
        .when(refuse())
        .then_refused(ShipmentError::OutOfOrder(ShipmentStatus::Ready));
}

#[test]
fn what_has_not_left_can_be_cancelled() {
    for history in [vec![requested()], vec![requested(), ready()]] {
        Given::<Shipment>::events(history)
            .when(ShipmentCommand::Cancel)
            .then([ShipmentCancelled {}.into()])
            .when(ShipmentCommand::Cancel)
            .then_nothing()
            .when(dispatch())
            .then_refused(ShipmentError::OutOfOrder(ShipmentStatus::Cancelled))
            .when(book())
            .then_refused(ShipmentError::OutOfOrder(ShipmentStatus::Cancelled));
    }
}

#[test]
fn what_has_left_cannot_be_cancelled() {
    Given::<Shipment>::events([requested(), ready(), dispatched()])
        .when(ShipmentCommand::Cancel)
        .then_refused(ShipmentError::OutOfOrder(ShipmentStatus::Dispatched));
}

#[test]
fn a_shipment_cancelled_before_it_was_requested_is_not_booked() {
    Given::<Shipment>::nothing()
        .when(ShipmentCommand::Cancel)
        .then([ShipmentCancelled {}.into()])
        .when(request())
        .then_nothing();
}

#[test]
fn only_what_is_booked_leaves_and_only_what_left_arrives() {
    Given::<Shipment>::nothing().when(dispatch()).then_refused(ShipmentError::NotFound);
    Given::<Shipment>::events([requested()])
        .when(dispatch())
        .then_refused(ShipmentError::OutOfOrder(ShipmentStatus::Requested));
    Given::<Shipment>::events([requested(), ready()])
        .when(deliver())
        .then_refused(ShipmentError::OutOfOrder(ShipmentStatus::Ready));
}

fn request() -> ShipmentCommand {
    ShipmentCommand::Request(shipment_requested())
}

fn book() -> ShipmentCommand {
    ShipmentCommand::RecordReady { carrier: "sandbox".to_owned(), booking_id: "bk_1".to_owned() }
}

fn refuse() -> ShipmentCommand {
    ShipmentCommand::RecordRefusal { reason: "too far".to_owned() }
}

fn dispatch() -> ShipmentCommand {
    send(None, "TR1")
}

fn send(quantity: Option<u32>, tracking_number: &str) -> ShipmentCommand {
    let lines = quantity.map(|quantity| vec![ParcelLine { sku_id: sku_id("red"), quantity }]);
    ShipmentCommand::Dispatch { lines, carrier: None, tracking_number: Some(tracking_number.to_owned()) }
}

fn deliver() -> ShipmentCommand {
    ShipmentCommand::Deliver { parcel: None }
}

fn parcel(parcel: u32, quantity: u32, tracking_number: &str, status: ShipmentStatus) -> ShipmentEvent {
    let lines = vec![ParcelLine { sku_id: sku_id("red"), quantity }];
    let tracking_number = Some(tracking_number.to_owned());
    ShipmentDispatched { parcel, lines, carrier: None, tracking_number, status }.into()
}

fn give_up(request: u128, quantity: Option<u32>) -> ShipmentCommand {
    let lines = quantity.map(|quantity| vec![ParcelLine { sku_id: sku_id("red"), quantity }]);
    ShipmentCommand::GiveUp { request_id: Uuid::from_u128(request), lines, restock: false }
}

fn given_up(request: u128, quantity: u32, status: ShipmentStatus) -> ShipmentEvent {
    let lines = vec![ParcelLine { sku_id: sku_id("red"), quantity }];
    let request_id = Uuid::from_u128(request);
    UnitsGivenUp { request_id, lines, restock: false, return_id: None, status }.into()
}

/// By the numbered return the buyer has returned so many in all.
fn take_back(number: u32, quantity: u32) -> ShipmentCommand {
    let returned = [(sku_id("red"), quantity)].into();
    ShipmentCommand::TakeBack { return_id: return_id(number), returned }
}

fn taken_back(number: u32, quantity: u32, status: ShipmentStatus) -> ShipmentEvent {
    let lines = vec![ParcelLine { sku_id: sku_id("red"), quantity }];
    let (request_id, return_id) = (return_id(number).refund_key(), Some(return_id(number)));
    UnitsGivenUp { request_id, lines, restock: false, return_id, status }.into()
}

#[test]
fn a_shipment_of_two_leaves_in_two_parcels_and_never_in_three() {
    let one_of = |parcels: &[u32], status| ShipmentDelivered { parcels: parcels.to_vec(), status }.into();
    Given::<Shipment>::events([requested(), ready()])
        .when(send(Some(3), "A"))
        .then_refused(ShipmentError::TooMany { sku_id: sku_id("red"), left: 2 })
        .when(send(Some(1), "A"))
        .then([parcel(1, 1, "A", ShipmentStatus::PartlyDispatched)])
        .when(send(Some(1), "A"))
        .then_nothing()
        .when(deliver())
        .then([one_of(&[1], ShipmentStatus::PartlyDispatched)])
        .when(send(None, "B"))
        .then([parcel(2, 1, "B", ShipmentStatus::Dispatched)])
        .when(send(Some(1), "C"))
        .then_refused(ShipmentError::TooMany { sku_id: sku_id("red"), left: 0 })
        .when(ShipmentCommand::Deliver { parcel: Some(3) })
        .then_refused(ShipmentError::NoSuchParcel(3))
        .when(ShipmentCommand::Deliver { parcel: Some(2) })
        .then([one_of(&[2], ShipmentStatus::Delivered)])
        .when(deliver())
        .then_nothing();
}

#[test]
fn what_is_sent_is_not_given_up_and_what_is_given_up_is_not_sent() {
    Given::<Shipment>::events([requested(), ready()])
        .when(give_up(1, Some(1)))
        .then([given_up(1, 1, ShipmentStatus::Ready)])
        .when(give_up(1, Some(1)))
        .then_nothing()
        .when(send(None, "A"))
        .then([parcel(1, 1, "A", ShipmentStatus::Dispatched)])
        .when(give_up(2, None))
        .then_refused(ShipmentError::Nothing);
    Given::<Shipment>::events([requested(), ready()])
        .when(give_up(1, None))
        .then([given_up(1, 2, ShipmentStatus::Cancelled)])
        .when(send(None, "A"))
        .then_refused(ShipmentError::OutOfOrder(ShipmentStatus::Cancelled));
}

#[test]
fn what_came_back_before_it_was_sent_is_not_sent() {
    Given::<Shipment>::events([requested(), ready()])
        .when(take_back(1, 1))
        .then([taken_back(1, 1, ShipmentStatus::Ready)])
        .when(take_back(2, 1))
        .then_nothing()
        .when(send(Some(2), "A"))
        .then_refused(ShipmentError::TooMany { sku_id: sku_id("red"), left: 1 })
        .when(send(None, "A"))
        .then([parcel(1, 1, "A", ShipmentStatus::Dispatched)])
        // The other one comes back, too, after it was sent.
        .when(take_back(3, 2))
        .then_nothing();
    // What was sent before comes back first, and the rest may still be sent.
    Given::<Shipment>::events([requested(), ready()])
        .when(send(Some(1), "A"))
        .then([parcel(1, 1, "A", ShipmentStatus::PartlyDispatched)])
        .when(take_back(1, 1))
        .then_nothing()
        .when(send(None, "B"))
        .then([parcel(2, 1, "B", ShipmentStatus::Dispatched)]);
    Given::<Shipment>::events([requested(), ready()])
        .when(take_back(1, 2))
        .then([taken_back(1, 2, ShipmentStatus::Cancelled)])
        .when(take_back(2, 2))
        .then_nothing()
        .when(send(None, "A"))
        .then_refused(ShipmentError::OutOfOrder(ShipmentStatus::Cancelled));
    Given::<Shipment>::nothing().when(take_back(1, 2)).then_nothing();
}

#[test]
fn a_shipment_of_the_time_before_parcels_is_one_parcel_with_everything() {
    let old = ShipmentEvent::from_json("ShipmentDispatched", 1, br#"{"trackingNumber":"TR1"}"#).unwrap();
    let arrived = ShipmentEvent::from_json("ShipmentDelivered", 1, b"{}").unwrap();
    Given::<Shipment>::events([requested(), ready(), old])
        .when(dispatch())
        .then_nothing()
        .when(send(Some(1), "TR2"))
        .then_refused(ShipmentError::TooMany { sku_id: sku_id("red"), left: 0 })
        .when(deliver())
        .then([arrived])
        .when(deliver())
        .then_nothing();
}

fn requested() -> ShipmentEvent {
    shipment_requested().into()
}

fn ready() -> ShipmentEvent {
    ShipmentReady { carrier: "sandbox".to_owned(), booking_id: "bk_1".to_owned() }.into()
}

fn refused() -> ShipmentEvent {
    ShipmentRefused { reason: "too far".to_owned() }.into()
}

fn dispatched() -> ShipmentEvent {
    parcel(1, 2, "TR1", ShipmentStatus::Dispatched)
}
