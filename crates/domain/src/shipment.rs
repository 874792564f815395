//! What one seller sends for one order: booked with a carrier before the order goes through, then dispatched and
//! delivered.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{AccountId, Decider, OrderId, ShipmentId, domain_events, order::OrderLine, order::ShipTo};

domain_events! {
    pub enum ShipmentEvent {
        ShipmentRequested = 1,
        ShipmentReady = 1,
        ShipmentRefused = 1,
        ShipmentDispatched = 1,
        ShipmentDelivered = 1,
        ShipmentCancelled = 1,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShipmentRequested {
    pub order_id: OrderId,
    pub seller_id: AccountId,
    /// The seller's own lines of the order.
    pub lines: Vec<OrderLine>,
    pub ship_to: ShipTo,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShipmentReady {
    pub carrier: String,
    /// The carrier's own name for the booking.
    pub booking_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShipmentRefused {
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShipmentDispatched {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub carrier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tracking_number: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShipmentDelivered {}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShipmentCancelled {}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ShipmentStatus {
    #[default]
    NotRequested,
    Requested,
    Ready,
    Refused,
    Dispatched,
    Delivered,
    Cancelled,
}

impl ShipmentStatus {
    fn name(self) -> &'static str {
        match self {
            Self::NotRequested => "not requested",
            Self::Requested => "not booked yet",
            Self::Ready => "ready",
            Self::Refused => "refused",
            Self::Dispatched => "dispatched",
            Self::Delivered => "delivered",
            Self::Cancelled => "cancelled",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ShipmentState {
    pub status: ShipmentStatus,
    pub request: Option<ShipmentRequested>,
    pub booking_id: Option<String>,
    pub dispatched: Option<ShipmentDispatched>,
}

#[derive(Clone, Debug)]
pub enum ShipmentCommand {
    Request(ShipmentRequested),
    RecordReady {
        carrier: String,
        booking_id: String,
    },
    RecordRefusal {
        reason: String,
    },
    /// A shipment that was not requested yet is cancelled in advance: a late request then does nothing.
    Cancel,
    Dispatch {
        carrier: Option<String>,
        tracking_number: Option<String>,
    },
    Deliver,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShipmentError {
    #[error("there is no such shipment")]
    NotFound,
    #[error("the shipment was dispatched with another carrier or tracking number")]
    DispatchedOtherwise,
    #[error("a shipment that is {} does not allow this", .0.name())]
    OutOfOrder(ShipmentStatus),
}

pub struct Shipment;

impl Decider for Shipment {
    type Id = ShipmentId;
    type Command = ShipmentCommand;
    type Event = ShipmentEvent;
    type State = ShipmentState;
    type Error = ShipmentError;

    const CATEGORY: &'static str = "shipment";
    const STATE_VERSION: u32 = 2;

    fn evolve(mut state: ShipmentState, event: &ShipmentEvent) -> ShipmentState {
        state.status = match event {
            ShipmentEvent::ShipmentRequested(request) => {
                state.request = Some(request.clone());
                ShipmentStatus::Requested
            }
            ShipmentEvent::ShipmentReady(event) => {
                state.booking_id = Some(event.booking_id.clone());
                ShipmentStatus::Ready
            }
            ShipmentEvent::ShipmentRefused(_) => ShipmentStatus::Refused,
            ShipmentEvent::ShipmentDispatched(event) => {
                state.dispatched = Some(event.clone());
                ShipmentStatus::Dispatched
            }
            ShipmentEvent::ShipmentDelivered(_) => ShipmentStatus::Delivered,
            ShipmentEvent::ShipmentCancelled(_) => ShipmentStatus::Cancelled,
        };
        state
    }

    #[expect(clippy::match_same_arms, reason = "one arm per rule, in the order one would tell them")]
    fn decide(
        state: &ShipmentState,
        command: &ShipmentCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<ShipmentEvent>, ShipmentError> {
        use {ShipmentCommand as Command, ShipmentStatus as Status};
        match (command, state.status) {
            (Command::Request(request), Status::NotRequested) => Ok(vec![request.clone().into()]),
            (Command::Request(_), _) => Ok(vec![]),

            (Command::Cancel, Status::NotRequested | Status::Requested | Status::Ready) => {
                Ok(vec![ShipmentCancelled {}.into()])
            }
            (Command::Cancel, Status::Refused | Status::Cancelled) => Ok(vec![]),

            (_, Status::NotRequested) => Err(ShipmentError::NotFound),

            (Command::RecordReady { carrier, booking_id }, Status::Requested) => {
                Ok(vec![ShipmentReady { carrier: carrier.clone(), booking_id: booking_id.clone() }.into()])
            }
            (Command::RecordRefusal { reason }, Status::Requested) => {
                Ok(vec![ShipmentRefused { reason: reason.clone() }.into()])
            }
            (Command::RecordReady { .. }, Status::Ready | Status::Dispatched | Status::Delivered)
            | (Command::RecordRefusal { .. }, Status::Refused)
            | (Command::Deliver, Status::Delivered) => Ok(vec![]),

            (Command::Dispatch { carrier, tracking_number }, status) => {
                let dispatched =
                    ShipmentDispatched { carrier: carrier.clone(), tracking_number: tracking_number.clone() };
                match status {
                    Status::Ready => Ok(vec![dispatched.into()]),
                    Status::Dispatched | Status::Delivered
                        if state.dispatched.as_ref() == Some(&dispatched) =>
                    {
                        Ok(vec![])
                    }
                    Status::Dispatched | Status::Delivered => Err(ShipmentError::DispatchedOtherwise),
                    _ => Err(ShipmentError::OutOfOrder(status)),
                }
            }
            (Command::Deliver, Status::Dispatched) => Ok(vec![ShipmentDelivered {}.into()]),
            (_, status) => Err(ShipmentError::OutOfOrder(status)),
        }
    }

    fn begins(command: &ShipmentCommand) -> bool {
        matches!(command, ShipmentCommand::Request(_))
    }
}
