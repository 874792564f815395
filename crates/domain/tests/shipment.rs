//! Shipments: booked, dispatched, delivered; refused or cancelled before they leave.

use souk_domain::{
    shipment::{
        Shipment, ShipmentCancelled, ShipmentCommand, ShipmentDelivered, ShipmentDispatched, ShipmentError,
        ShipmentEvent, ShipmentReady, ShipmentRefused, ShipmentStatus,
    },
    testing::{Given, examples::shipment_requested},
};

#[test]
fn a_shipment_is_booked_dispatched_and_delivered_each_once() {
    let steps: [(fn() -> ShipmentCommand, ShipmentEvent); 4] = [
        (request, requested()),
        (book, ready()),
        (dispatch, dispatched()),
        (|| ShipmentCommand::Deliver, ShipmentDelivered {}.into()),
    ];
    let mut shipment = Given::<Shipment>::nothing();
    for (step, event) in steps {
        shipment = shipment.when(step()).then([event]).when(step()).then_nothing();
    }
    assert_eq!(shipment.state().booking_id.as_deref(), Some("bk_1"));
    let again = ShipmentCommand::Dispatch { carrier: Some("DHL".to_owned()), tracking_number: None };
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
        .when(ShipmentCommand::Deliver)
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
    ShipmentCommand::Dispatch { carrier: None, tracking_number: Some("TR1".to_owned()) }
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
    ShipmentDispatched { carrier: None, tracking_number: Some("TR1".to_owned()) }.into()
}
