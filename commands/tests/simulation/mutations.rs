//! Ways to break the market on purpose. Each has to be caught, or the simulation proves nothing.

use souk_event_log::{NewEvent, StreamName};
use uuid::Uuid;

use crate::world::World;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// The gateway takes each try for a charge of its own.
    ChargesWithoutAKey,
    RefundsTwice,
    /// The gateway says that a charge is cancelled, and charges.
    CancelsInWordsOnly,
    DeadlineLost,
    /// More is reserved than there is.
    ReservationNotChecked,
    ReservedTwice,
    ReleaseSkipped,
    CommitsTwiceAsMuch,
    /// The gateway refused, and the order is told that it paid.
    PaidWithoutCharge,
    AsksForTheWrongAmount,
    RefundForgotten,
    CompletedThoughCancelled,
    CancelledThoughReady,
    /// Two orders come of one cart.
    CartSoldTwice,
    /// An append is acknowledged and not written.
    LosesWhatItAcknowledged,
    /// The shipment is said to be booked, though the carrier refused.
    ShipsAnyway,
    /// A coupon is used more often than it may be.
    CouponLimitNotChecked,
    /// More is spent of a gift card or store credit than there is.
    CreditNotChecked,
    /// An order that is given up keeps its coupon.
    ClaimNotReleased,
    /// The refund of a return is said to have gone out, and goes out again.
    ReturnRefundedTwice,
    /// What came back is put into stock again and again.
    PutBackTwice,
    /// A sale stands in the books twice.
    BookedTwice,
    /// A sale stands in the books, of nothing.
    SaleNotBooked,
    /// A refund stands in the books, of nothing.
    RefundNotBooked,
    /// The bank keeps what it took, and the payment is told that it is back.
    LostDisputeCalledWon,
    /// What a bank takes beyond what was left is nobody's.
    LossNotTold,
    /// What a bank takes stands in the books, of nothing.
    LossNotBooked,
}

impl Mutation {
    pub(crate) const ALL: &[Self] = &[
        Self::ChargesWithoutAKey,
        Self::RefundsTwice,
        Self::CancelsInWordsOnly,
        Self::DeadlineLost,
        Self::ReservationNotChecked,
        Self::ReservedTwice,
        Self::ReleaseSkipped,
        Self::CommitsTwiceAsMuch,
        Self::PaidWithoutCharge,
        Self::AsksForTheWrongAmount,
        Self::RefundForgotten,
        Self::CompletedThoughCancelled,
        Self::CancelledThoughReady,
        Self::CartSoldTwice,
        Self::LosesWhatItAcknowledged,
        Self::ShipsAnyway,
        Self::CouponLimitNotChecked,
        Self::CreditNotChecked,
        Self::ClaimNotReleased,
        Self::ReturnRefundedTwice,
        Self::PutBackTwice,
        Self::BookedTwice,
        Self::SaleNotBooked,
        Self::RefundNotBooked,
        Self::LostDisputeCalledWon,
        Self::LossNotTold,
        Self::LossNotBooked,
    ];

    /// What is written in place of the events.
    pub(crate) fn of_events(
        self,
        world: &World,
        stream: &StreamName,
        events: Vec<NewEvent>,
    ) -> Vec<NewEvent> {
        let one_in_three =
            |events: Vec<NewEvent>| if world.draw(|random| random.one_in(3)) { vec![] } else { events };
        events.into_iter().flat_map(|event| match (self, &*event.event_type) {
            (Self::ReservationNotChecked, "ReservationRejected") => vec![renamed(event, "StockReserved")],
            (Self::ReservedTwice, "StockReserved")
            | (Self::ReturnRefundedTwice, "PaymentPartlyRefunded")
            | (Self::PutBackTwice, "StockReturned")
            | (Self::BookedTwice, "EntryPosted") => twice(event),
            (Self::ReleaseSkipped, "ReservationReleased") => {
                vec![with(renamed(event, "StockAdjusted"), |data| *data = serde_json::json!({ "change": 0 }))]
            }
            (Self::CommitsTwiceAsMuch, "ReservationCommitted") => vec![with(event, |data| {
                data["quantity"] = (data["quantity"].as_u64().unwrap_or(0) * 2).into();
            })],
            (Self::PaidWithoutCharge, "PaymentFailed") => {
                vec![with(renamed(event, "PaymentCompleted"), |data| {
                    *data = serde_json::json!({ "amount": { "amount": 1, "currency": "USD" }, "chargeId": "none" });
                })]
            }
            (Self::AsksForTheWrongAmount, "PaymentRequested") => vec![with(event, |data| {
                data["amount"]["amount"] = (data["amount"]["amount"].as_i64().unwrap_or(0) + 1).into();
            })],
            (Self::RefundForgotten, "RefundRequested") => vec![with(renamed(event, "PaymentRefunded"), |data| {
                *data = serde_json::json!({ "amount": { "amount": 1, "currency": "USD" }, "refundId": "none" });
            })],
            (Self::CompletedThoughCancelled, "OrderCancelled") => vec![renamed(event, "OrderCompleted")],
            (Self::CancelledThoughReady, "OrderCompleted") => vec![with(renamed(event, "OrderCancelled"), |data| {
                *data = serde_json::json!({ "reason": "buyerRequest" });
            })],
            (Self::CartSoldTwice, "CartCheckedOut") => {
                let again = with(event.clone(), |data| data["orderId"] = Uuid::new_v5(&event.id, b"again").to_string().into());
                vec![event, NewEvent { id: Uuid::new_v5(&again.id, b"again"), ..again }]
            }
            (Self::LosesWhatItAcknowledged, "CartCheckedOut") if stream.category() == "cart" => one_in_three(vec![event]),
            (Self::ShipsAnyway, "ShipmentRefused") => vec![with(renamed(event, "ShipmentReady"), |data| {
                *data = serde_json::json!({ "carrier": "none", "bookingId": "none" });
            })],
            (Self::SaleNotBooked, "EntryPosted") => vec![empty(event, "sale")],
            (Self::RefundNotBooked, "EntryPosted") => vec![empty(event, "refund")],
            (Self::LostDisputeCalledWon, "ChargebackClosed") => vec![with(event, |data| data["won"] = true.into())],
            (Self::LossNotTold, "ChargebackClosed") => vec![with(event, |data| {
                data.as_object_mut().map(|data| data.remove("loss"));
            })],
            (Self::LossNotBooked, "EntryPosted") => vec![empty(event, "chargebackLost")],
            (Self::CouponLimitNotChecked, "CouponRejected") => vec![renamed(event, "CouponClaimed")],
            (Self::CreditNotChecked, "CreditHoldRejected") => vec![renamed(event, "CreditHeld")],
            (Self::ClaimNotReleased, "CouponReleased") => vec![renamed(event, "PromotionEnded")],
            _ => vec![event],
        }).collect()
    }
}

fn renamed(event: NewEvent, event_type: &str) -> NewEvent {
    NewEvent { event_type: event_type.into(), ..event }
}

fn twice(event: NewEvent) -> Vec<NewEvent> {
    let again = NewEvent { id: Uuid::new_v5(&event.id, b"again"), ..event.clone() };
    vec![event, again]
}

/// An entry of this kind that moves nothing.
fn empty(event: NewEvent, kind: &str) -> NewEvent {
    with(event, |data| {
        if data["kind"] == kind {
            data["postings"] = serde_json::json!([]);
        }
    })
}

fn with(event: NewEvent, change: impl FnOnce(&mut serde_json::Value)) -> NewEvent {
    let mut data = serde_json::from_slice(&event.data).expect("events are JSON");
    change(&mut data);
    NewEvent { data: data.to_string().into_bytes(), ..event }
}
