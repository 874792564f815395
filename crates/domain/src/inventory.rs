//! Inventory of one SKU. What is on hand is either available or reserved by orders; a reservation ends released or
//! committed. Nothing is ever reserved that is not available: that is the whole of "never oversold".
//!
//! Reservations do not expire here: the checkout's deadline releases them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use crate::endings::Ending;
use crate::{AccountId, Decider, ItemId, OrderId, Sku, SkuId, domain_events, endings::Endings};

/// Units of one SKU at most: any sum of them is exact in JSON and in every view.
pub const MAX_ON_HAND: u64 = 1_000_000_000_000;

domain_events! {
    pub enum InventoryEvent {
        StockReceived = 1,
        StockReserved = 1,
        ReservationRejected = 1,
        ReservationReleased = 1,
        ReservationCommitted = 1,
        StockAdjusted = 1,
    }
}

/// The first one binds the SKU to its item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StockReceived {
    pub item_id: ItemId,
    pub seller_id: AccountId,
    pub sku: Sku,
    pub quantity: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StockReserved {
    pub order_id: OrderId,
    pub quantity: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReservationRejected {
    pub order_id: OrderId,
    pub quantity: u32,
    /// What was available then.
    pub available: u64,
}

/// A quantity of 0 releases a reservation that had not arrived: it will be rejected if it still does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReservationReleased {
    pub order_id: OrderId,
    pub quantity: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReservationCommitted {
    pub order_id: OrderId,
    pub quantity: u32,
}

/// Counted, damaged, lost, found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StockAdjusted {
    pub change: i64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InventoryState {
    pub owner: Option<Owner>,
    pub on_hand: u64,
    pub reserved: u64,
    open: BTreeMap<OrderId, u32>,
    ended: Endings,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    pub item_id: ItemId,
    pub seller_id: AccountId,
    pub sku: Sku,
}

impl InventoryState {
    pub fn available(&self) -> u64 {
        self.on_hand.saturating_sub(self.reserved)
    }

    pub fn open_reservation(&self, order: OrderId) -> Option<u32> {
        self.open.get(&order).copied()
    }

    pub fn ending(&self, order: OrderId) -> Option<Ending> {
        self.ended.of(order)
    }

    fn close(&mut self, order: OrderId, ending: Ending) -> u64 {
        let quantity = u64::from(self.open.remove(&order).unwrap_or(0));
        self.reserved = self.reserved.saturating_sub(quantity);
        self.ended.remember(order, ending);
        quantity
    }
}

#[derive(Clone, Debug)]
pub enum InventoryCommand {
    Receive { item_id: ItemId, seller_id: AccountId, sku: Sku, quantity: u32, reason: Option<String> },
    Reserve { order_id: OrderId, quantity: u32 },
    Release { order_id: OrderId },
    Commit { order_id: OrderId },
    Adjust { change: i64, reason: Option<String> },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InventoryError {
    #[error("there is no such SKU")]
    NotFound,
    #[error("the SKU belongs to another item")]
    SkuTaken,
    #[error("only {available} are available")]
    Insufficient { available: u64 },
    #[error("a SKU holds {MAX_ON_HAND} units at most")]
    TooMuch,
    #[error("the reservation of order {0} is not open")]
    NotReserved(OrderId),
}

pub struct Inventory;

impl Decider for Inventory {
    type Id = SkuId;
    type Command = InventoryCommand;
    type Event = InventoryEvent;
    type State = InventoryState;
    type Error = InventoryError;

    const CATEGORY: &'static str = "inventory";

    fn evolve(mut state: InventoryState, event: &InventoryEvent) -> InventoryState {
        match event {
            InventoryEvent::StockReceived(event) => {
                state.on_hand = state.on_hand.saturating_add(event.quantity.into());
                state.owner.get_or_insert_with(|| Owner {
                    item_id: event.item_id,
                    seller_id: event.seller_id,
                    sku: event.sku.clone(),
                });
            }
            InventoryEvent::StockReserved(event) => {
                let before = state.open.insert(event.order_id, event.quantity).unwrap_or(0);
                state.reserved =
                    state.reserved.saturating_add(event.quantity.into()).saturating_sub(before.into());
            }
            InventoryEvent::ReservationRejected(event) => {
                state.ended.remember(event.order_id, Ending::Rejected);
            }
            InventoryEvent::ReservationReleased(event) => {
                state.close(event.order_id, Ending::Released);
            }
            InventoryEvent::ReservationCommitted(event) => {
                let quantity = state.close(event.order_id, Ending::Committed);
                state.on_hand = state.on_hand.saturating_sub(quantity);
            }
            InventoryEvent::StockAdjusted(event) => {
                state.on_hand = state.on_hand.saturating_add_signed(event.change);
            }
        }
        state
    }

    fn decide(
        state: &InventoryState,
        command: &InventoryCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<InventoryEvent>, InventoryError> {
        match command {
            InventoryCommand::Receive { item_id, seller_id, sku, quantity, reason } => match &state.owner {
                Some(owner) if owner.item_id != *item_id => Err(InventoryError::SkuTaken),
                Some(_) if *quantity == 0 => Ok(vec![]),
                _ if state.on_hand.saturating_add((*quantity).into()) > MAX_ON_HAND => {
                    Err(InventoryError::TooMuch)
                }
                _ => Ok(vec![
                    StockReceived {
                        item_id: *item_id,
                        seller_id: *seller_id,
                        sku: sku.clone(),
                        quantity: *quantity,
                        reason: reason.clone(),
                    }
                    .into(),
                ]),
            },
            InventoryCommand::Reserve { order_id, quantity } => Ok(reserve(state, *order_id, *quantity)),
            InventoryCommand::Release { order_id } => Ok(release(state, *order_id)),
            InventoryCommand::Commit { order_id } => {
                match (state.open.get(order_id), state.ending(*order_id)) {
                    (Some(&quantity), _) => {
                        Ok(vec![ReservationCommitted { order_id: *order_id, quantity }.into()])
                    }
                    (None, Some(Ending::Committed)) => Ok(vec![]),
                    (None, _) => Err(InventoryError::NotReserved(*order_id)),
                }
            }
            InventoryCommand::Adjust { .. } if state.owner.is_none() => Err(InventoryError::NotFound),
            InventoryCommand::Adjust { change: 0, .. } => Ok(vec![]),
            InventoryCommand::Adjust { change, reason } => {
                let available = state.available();
                if change.is_negative() && change.unsigned_abs() > available {
                    return Err(InventoryError::Insufficient { available });
                }
                if state.on_hand.saturating_add_signed(*change) > MAX_ON_HAND {
                    return Err(InventoryError::TooMuch);
                }
                Ok(vec![StockAdjusted { change: *change, reason: reason.clone() }.into()])
            }
        }
    }
}

fn reserve(state: &InventoryState, order_id: OrderId, quantity: u32) -> Vec<InventoryEvent> {
    let available = state.available();
    match state.ending(order_id) {
        // Released before it arrived: the order has given up.
        Some(Ending::Released) => vec![ReservationRejected { order_id, quantity, available }.into()],
        Some(Ending::Rejected | Ending::Committed) => vec![],
        None if state.open.contains_key(&order_id) => vec![],
        None if available < u64::from(quantity) => {
            vec![ReservationRejected { order_id, quantity, available }.into()]
        }
        None => vec![StockReserved { order_id, quantity }.into()],
    }
}

fn release(state: &InventoryState, order_id: OrderId) -> Vec<InventoryEvent> {
    match (state.open.get(&order_id), state.ending(order_id)) {
        (Some(&quantity), _) => vec![ReservationReleased { order_id, quantity }.into()],
        (None, None) => vec![ReservationReleased { order_id, quantity: 0 }.into()],
        (None, Some(_)) => vec![],
    }
}
