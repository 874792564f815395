//! What one seller sends for one order: booked with a carrier before the order goes through, then dispatched in one
//! parcel or in several, and delivered. What the seller cannot send he gives up. This stream arbitrates between sending
//! and giving up: no unit is sent twice, or sent and given up.
//!
//! Units may come back before they were sent: the buyer asked for the money, and the seller agreed. They are given up here,
//! too. Whether a unit came back before it was sent or after is known from the order of this stream alone: what is
//! accepted counts as sent before as long as so many were sent.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    AccountId, Decider, OrderId, ReturnId, ShipmentId, SkuId, domain_events,
    order::{OrderLine, ShipTo},
};

domain_events! {
    pub enum ShipmentEvent {
        ShipmentRequested = 1,
        ShipmentReady = 1,
        ShipmentRefused = 1,
        ShipmentDispatched = 2 upcast whole_dispatched,
        ShipmentDelivered = 2 upcast whole_delivered,
        ShipmentCancelled = 1,
        UnitsGivenUp = 1,
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
pub struct ParcelLine {
    pub sku_id: SkuId,
    pub quantity: u32,
}

/// A parcel is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShipmentDispatched {
    /// Which of the shipment's parcels, from 1.
    pub parcel: u32,
    /// One per SKU; empty: everything (from the time when a shipment was one parcel).
    pub lines: Vec<ParcelLine>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub carrier: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tracking_number: Option<String>,
    /// How the shipment stands then.
    pub status: ShipmentStatus,
}

fn whole_dispatched(_version: u32, mut data: Value) -> Value {
    data["parcel"] = 1.into();
    data["lines"] = json!([]);
    data["status"] = json!(ShipmentStatus::Dispatched);
    data
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShipmentDelivered {
    pub parcels: Vec<u32>,
    /// How the shipment stands then.
    pub status: ShipmentStatus,
}

fn whole_delivered(_version: u32, mut data: Value) -> Value {
    data["parcels"] = json!([1]);
    data["status"] = json!(ShipmentStatus::Delivered);
    data
}

/// The seller will not send these: they become a return, if they are none already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnitsGivenUp {
    /// The same request gives up the same units.
    pub request_id: Uuid,
    pub lines: Vec<ParcelLine>,
    /// Whether they are in the seller's hands, to be sold to somebody else.
    pub restock: bool,
    /// The buyer's return that took them back before they were sent; none: they become a return by this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub return_id: Option<ReturnId>,
    /// How the shipment stands then.
    pub status: ShipmentStatus,
}

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
    /// Some of it.
    PartlyDispatched,
    Dispatched,
    Delivered,
    /// By the order, before it left; or all of it given up by the seller.
    Cancelled,
}

impl ShipmentStatus {
    /// From then on, the seller has to know where to send it.
    pub fn is_booked(self) -> bool {
        matches!(self, Self::Ready | Self::PartlyDispatched | Self::Dispatched | Self::Delivered)
    }

    fn name(self) -> &'static str {
        match self {
            Self::NotRequested => "not requested",
            Self::Requested => "not booked yet",
            Self::Ready => "ready",
            Self::Refused => "refused",
            Self::PartlyDispatched => "partly dispatched",
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
    /// In the order of their numbers.
    pub parcels: Vec<ShipmentDispatched>,
    pub delivered: Vec<u32>,
    pub given_up: Vec<UnitsGivenUp>,
}

impl ShipmentState {
    /// What is neither sent nor given up, by SKU.
    pub fn left(&self) -> BTreeMap<SkuId, u32> {
        let mut left = BTreeMap::new();
        // A parcel without lines holds everything.
        if self.parcels.iter().any(|parcel| parcel.lines.is_empty()) {
            return left;
        }
        for line in self.request.iter().flat_map(|request| &request.lines) {
            *left.entry(line.sku_id).or_default() += line.quantity;
        }
        let sent = self.parcels.iter().flat_map(|parcel| &parcel.lines);
        for line in sent.chain(self.given_up.iter().flat_map(|given_up| &given_up.lines)) {
            if let Some(units) = left.get_mut(&line.sku_id) {
                *units = units.saturating_sub(line.quantity);
            }
        }
        left.retain(|_, units| *units > 0);
        left
    }

    /// What of all that has come back was never sent, and is not given up yet.
    fn unsent(&self, returned: &BTreeMap<SkuId, u32>) -> Vec<ParcelLine> {
        let sum = |lines: &mut dyn Iterator<Item = &ParcelLine>, sku_id| {
            let of_sku = lines.filter(|line| line.sku_id == sku_id);
            of_sku.map(|line| line.quantity).fold(0, u32::saturating_add)
        };
        let left = self.left();
        let mut lines = Vec::new();
        for (&sku_id, &left) in &left {
            let known = self.given_up.iter().filter(|given_up| given_up.return_id.is_some());
            let sent = sum(&mut self.parcels.iter().flat_map(|parcel| &parcel.lines), sku_id);
            let known = sum(&mut known.flat_map(|given_up| &given_up.lines), sku_id);
            let back = returned.get(&sku_id).copied().unwrap_or(0);
            let quantity = back.saturating_sub(sent).saturating_sub(known).min(left);
            if quantity > 0 {
                lines.push(ParcelLine { sku_id, quantity });
            }
        }
        lines
    }

    fn under_way(&self) -> Vec<u32> {
        let parcels = self.parcels.iter().map(|parcel| parcel.parcel);
        parcels.filter(|parcel| !self.delivered.contains(parcel)).collect()
    }

    /// How it stands without these.
    fn giving_up(&self, lines: &[ParcelLine]) -> ShipmentStatus {
        standing(&without(self.left(), lines), self.parcels.len(), self.under_way().len())
    }

    /// These of what is left; all of it if nothing is said.
    fn pick(&self, lines: Option<&[ParcelLine]>) -> Result<Vec<ParcelLine>, ShipmentError> {
        let left = self.left();
        let mut units = BTreeMap::<SkuId, u32>::new();
        match lines {
            None => units.clone_from(&left),
            Some(lines) => {
                for line in lines {
                    let sum = units.entry(line.sku_id).or_default();
                    *sum = sum.saturating_add(line.quantity);
                }
            }
        }
        units.retain(|_, quantity| *quantity > 0);
        for (sku_id, quantity) in &units {
            let left = left.get(sku_id).copied().unwrap_or(0);
            if *quantity > left {
                return Err(ShipmentError::TooMany { sku_id: *sku_id, left });
            }
        }
        if units.is_empty() {
            return Err(ShipmentError::Nothing);
        }
        Ok(units.into_iter().map(|(sku_id, quantity)| ParcelLine { sku_id, quantity }).collect())
    }
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
    /// For a return that was accepted: of all that has come back so far, what was not sent is not sent any more. What was
    /// sent comes back as other goods do.
    TakeBack {
        return_id: ReturnId,
        returned: BTreeMap<SkuId, u32>,
    },
    /// Without lines: everything that is left.
    Dispatch {
        lines: Option<Vec<ParcelLine>>,
        carrier: Option<String>,
        tracking_number: Option<String>,
    },
    /// Without a parcel: every one that is under way.
    Deliver {
        parcel: Option<u32>,
    },
    /// Without lines: everything that is left.
    GiveUp {
        request_id: Uuid,
        lines: Option<Vec<ParcelLine>>,
        restock: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShipmentError {
    #[error("there is no such shipment")]
    NotFound,
    #[error("the shipment was dispatched with another carrier or tracking number")]
    DispatchedOtherwise,
    #[error("only {left} of these units are left to be sent")]
    TooMany { sku_id: SkuId, left: u32 },
    #[error("nothing is to be sent")]
    Nothing,
    #[error("there is no parcel {0}")]
    NoSuchParcel(u32),
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
    const STATE_VERSION: u32 = 4;

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
                state.parcels.push(event.clone());
                event.status
            }
            ShipmentEvent::ShipmentDelivered(event) => {
                state.delivered.extend(&event.parcels);
                event.status
            }
            ShipmentEvent::ShipmentCancelled(_) => ShipmentStatus::Cancelled,
            ShipmentEvent::UnitsGivenUp(event) => {
                state.given_up.push(event.clone());
                event.status
            }
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

            (
                Command::TakeBack { return_id, returned },
                Status::Ready | Status::PartlyDispatched | Status::Dispatched | Status::Delivered,
            ) => Ok(take_back(state, *return_id, returned)),
            (Command::TakeBack { .. }, _) => Ok(vec![]),

            (_, Status::NotRequested) => Err(ShipmentError::NotFound),

            (Command::RecordReady { carrier, booking_id }, Status::Requested) => {
                Ok(vec![ShipmentReady { carrier: carrier.clone(), booking_id: booking_id.clone() }.into()])
            }
            (Command::RecordRefusal { reason }, Status::Requested) => {
                Ok(vec![ShipmentRefused { reason: reason.clone() }.into()])
            }
            (
                Command::RecordReady { .. },
                Status::Ready | Status::PartlyDispatched | Status::Dispatched | Status::Delivered,
            )
            | (Command::RecordRefusal { .. }, Status::Refused) => Ok(vec![]),

            (
                Command::Dispatch { lines, carrier, tracking_number },
                Status::Ready | Status::PartlyDispatched | Status::Dispatched | Status::Delivered,
            ) => dispatch(state, lines.as_deref(), carrier.clone(), tracking_number.clone()),
            (
                Command::Deliver { parcel },
                Status::PartlyDispatched | Status::Dispatched | Status::Delivered,
            ) => deliver(state, *parcel),
            (Command::GiveUp { request_id, .. }, _)
                if state.given_up.iter().any(|given_up| given_up.request_id == *request_id) =>
            {
                Ok(vec![])
            }
            (
                Command::GiveUp { request_id, lines, restock },
                Status::Ready | Status::PartlyDispatched | Status::Dispatched | Status::Delivered,
            ) => give_up(state, *request_id, lines.as_deref(), *restock),
            (_, status) => Err(ShipmentError::OutOfOrder(status)),
        }
    }

    fn begins(command: &ShipmentCommand) -> bool {
        matches!(command, ShipmentCommand::Request(_))
    }
}

/// How a shipment stands when so many parcels have left, and some have arrived.
fn standing(left: &BTreeMap<SkuId, u32>, parcels: usize, under_way: usize) -> ShipmentStatus {
    match (left.is_empty(), parcels, under_way) {
        (false, 0, _) => ShipmentStatus::Ready,
        (false, ..) => ShipmentStatus::PartlyDispatched,
        (true, 0, _) => ShipmentStatus::Cancelled,
        (true, _, 0) => ShipmentStatus::Delivered,
        (true, ..) => ShipmentStatus::Dispatched,
    }
}

fn without(mut left: BTreeMap<SkuId, u32>, lines: &[ParcelLine]) -> BTreeMap<SkuId, u32> {
    for line in lines {
        left.entry(line.sku_id).and_modify(|units| *units = units.saturating_sub(line.quantity));
    }
    left.retain(|_, units| *units > 0);
    left
}

fn dispatch(
    state: &ShipmentState,
    lines: Option<&[ParcelLine]>,
    carrier: Option<String>,
    tracking_number: Option<String>,
) -> Result<Vec<ShipmentEvent>, ShipmentError> {
    let left = state.left();
    let same =
        |parcel: &&ShipmentDispatched| parcel.carrier == carrier && parcel.tracking_number == tracking_number;
    // A tracking number is one parcel's, so the same again is the same parcel said twice.
    let told_before = state.parcels.iter().find(same);
    match told_before {
        Some(parcel) if tracking_number.is_some() || left.is_empty() => {
            let differs = lines.is_some_and(|lines| !parcel.lines.is_empty() && parcel.lines != lines);
            return if differs { Err(ShipmentError::DispatchedOtherwise) } else { Ok(vec![]) };
        }
        None if lines.is_none() && left.is_empty() => return Err(ShipmentError::DispatchedOtherwise),
        _ => {}
    }
    let lines = state.pick(lines)?;
    let parcels = state.parcels.len() + 1;
    let under_way = state.under_way().len() + 1;
    let status = standing(&without(left, &lines), parcels, under_way);
    let parcel = u32::try_from(parcels).unwrap_or(u32::MAX);
    Ok(vec![ShipmentDispatched { parcel, lines, carrier, tracking_number, status }.into()])
}

fn deliver(state: &ShipmentState, parcel: Option<u32>) -> Result<Vec<ShipmentEvent>, ShipmentError> {
    let under_way = state.under_way();
    let parcels = match parcel {
        Some(parcel) if !state.parcels.iter().any(|sent| sent.parcel == parcel) => {
            return Err(ShipmentError::NoSuchParcel(parcel));
        }
        Some(parcel) if !under_way.contains(&parcel) => vec![],
        Some(parcel) => vec![parcel],
        None => under_way.clone(),
    };
    if parcels.is_empty() {
        return Ok(vec![]);
    }
    let status = standing(&state.left(), state.parcels.len(), under_way.len() - parcels.len());
    Ok(vec![ShipmentDelivered { parcels, status }.into()])
}

fn give_up(
    state: &ShipmentState,
    request_id: Uuid,
    lines: Option<&[ParcelLine]>,
    restock: bool,
) -> Result<Vec<ShipmentEvent>, ShipmentError> {
    let lines = state.pick(lines)?;
    Ok(vec![
        UnitsGivenUp { request_id, status: state.giving_up(&lines), lines, restock, return_id: None }.into(),
    ])
}

fn take_back(
    state: &ShipmentState,
    return_id: ReturnId,
    returned: &BTreeMap<SkuId, u32>,
) -> Vec<ShipmentEvent> {
    let lines = state.unsent(returned);
    if lines.is_empty() {
        return vec![];
    }
    let status = state.giving_up(&lines);
    let (request_id, return_id) = (return_id.refund_key(), Some(return_id));
    vec![UnitsGivenUp { request_id, lines, restock: false, return_id, status }.into()]
}
