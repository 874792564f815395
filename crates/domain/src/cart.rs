//! A buyer's cart. Checking it out closes it, and that is the fact that starts an order.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    AccountId, CartId, Decider, ItemId, Money, OrderId, Sku, SkuId, domain_events,
    order::{OrderLine, ShipTo, total},
    payment::PaymentMethod,
    pricing::Charges,
};

/// Lines in one cart at most.
pub const MAX_LINES: usize = 2_000;
/// Units in one line at most.
pub const MAX_QUANTITY: u32 = 1_000_000;

domain_events! {
    pub enum CartEvent {
        CartOpened = 1,
        LineAdded = 1,
        LineQuantityChanged = 1,
        LineRemoved = 1,
        CartCheckedOut = 2,
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CartOpened {
    pub account_id: AccountId,
    /// This is the account's n-th cart.
    pub number: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CartLine {
    pub item_id: ItemId,
    pub seller_id: AccountId,
    pub sku_id: SkuId,
    pub sku: Sku,
    pub quantity: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LineAdded {
    #[serde(flatten)]
    pub line: CartLine,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LineQuantityChanged {
    pub sku_id: SkuId,
    pub quantity: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LineRemoved {
    pub sku_id: SkuId,
}

/// Holds all that the order needs, so that it can be placed from this fact alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CartCheckedOut {
    pub order_id: OrderId,
    pub buyer_id: AccountId,
    pub lines: Vec<OrderLine>,
    pub total: Money,
    /// None of version 1.
    #[serde(flatten)]
    pub charges: Charges,
    pub payment: PaymentMethod,
    pub ship_to: ShipTo,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CartState {
    /// None until the cart is opened.
    pub account_id: Option<AccountId>,
    pub number: u64,
    pub lines: Vec<CartLine>,
    pub checked_out: Option<OrderId>,
}

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "every cart is checked out in the end: no box for that")]
pub enum CartCommand {
    /// Sets quantities, which are absolute; 0 takes the line out. Of two for the same SKU the last one counts. Opens
    /// the cart if need be.
    SetLines {
        account_id: AccountId,
        number: u64,
        lines: Vec<CartLine>,
    },
    CheckOut(CartCheckedOut),
    /// Fills a cart with the lines of a cancelled order, if it is empty.
    Restore {
        account_id: AccountId,
        number: u64,
        lines: Vec<CartLine>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CartError {
    #[error("the cart was checked out as order {0}")]
    CheckedOut(OrderId),
    #[error("the cart is empty")]
    Empty,
    #[error("the cart has changed since its prices were read")]
    Changed,
    #[error("a cart holds {MAX_LINES} lines at most")]
    TooManyLines,
    #[error("a line holds {MAX_QUANTITY} units at most")]
    TooMany,
    #[error("the parts do not add up to the total")]
    WrongTotal,
}

pub struct Cart;

impl Decider for Cart {
    type Id = CartId;
    type Command = CartCommand;
    type Event = CartEvent;
    type State = CartState;
    type Error = CartError;

    const CATEGORY: &'static str = "cart";

    fn evolve(mut state: CartState, event: &CartEvent) -> CartState {
        match event {
            CartEvent::CartOpened(event) => {
                state.account_id = Some(event.account_id);
                state.number = event.number;
            }
            CartEvent::LineAdded(event) => state.lines.push(event.line.clone()),
            CartEvent::LineQuantityChanged(event) => {
                for line in state.lines.iter_mut().filter(|line| line.sku_id == event.sku_id) {
                    line.quantity = event.quantity;
                }
            }
            CartEvent::LineRemoved(event) => state.lines.retain(|line| line.sku_id != event.sku_id),
            CartEvent::CartCheckedOut(event) => state.checked_out = Some(event.order_id),
        }
        state
    }

    fn decide(
        state: &CartState,
        command: &CartCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<CartEvent>, CartError> {
        match (state.checked_out, command) {
            (Some(order), CartCommand::CheckOut(checkout)) if checkout.order_id == order => Ok(vec![]),
            (Some(order), CartCommand::CheckOut(_) | CartCommand::SetLines { .. }) => {
                Err(CartError::CheckedOut(order))
            }
            (None, CartCommand::SetLines { account_id, number, lines }) => {
                set_lines(state, *account_id, *number, lines)
            }
            (None, CartCommand::CheckOut(checkout)) => check_out(state, checkout),
            (None, CartCommand::Restore { account_id, number, lines }) if state.lines.is_empty() => {
                set_lines(state, *account_id, *number, lines)
            }
            (_, CartCommand::Restore { .. }) => Ok(vec![]),
        }
    }

    fn begins(command: &CartCommand) -> bool {
        matches!(command, CartCommand::Restore { .. })
    }
}

fn set_lines(
    state: &CartState,
    account_id: AccountId,
    number: u64,
    changes: &[CartLine],
) -> Result<Vec<CartEvent>, CartError> {
    let mut events = Vec::with_capacity(changes.len() + 1);
    let mut lines = state.lines.len();
    if state.account_id.is_none() && changes.iter().any(|line| line.quantity > 0) {
        events.push(CartOpened { account_id, number }.into());
    }
    for (index, change) in changes.iter().enumerate() {
        if changes[index + 1..].iter().any(|later| later.sku_id == change.sku_id) {
            continue;
        }
        let present = state.lines.iter().find(|line| line.sku_id == change.sku_id);
        match (present, change.quantity) {
            (_, quantity) if quantity > MAX_QUANTITY => return Err(CartError::TooMany),
            (Some(_), 0) => {
                lines -= 1;
                events.push(LineRemoved { sku_id: change.sku_id }.into());
            }
            (None, 0) => {}
            (Some(line), quantity) if line.quantity == quantity => {}
            (Some(_), quantity) => {
                events.push(LineQuantityChanged { sku_id: change.sku_id, quantity }.into());
            }
            (None, _) => {
                lines += 1;
                events.push(LineAdded { line: change.clone() }.into());
            }
        }
    }
    if lines > MAX_LINES { Err(CartError::TooManyLines) } else { Ok(events) }
}

fn check_out(state: &CartState, checkout: &CartCheckedOut) -> Result<Vec<CartEvent>, CartError> {
    if state.lines.is_empty() {
        return Err(CartError::Empty);
    }
    let same = state.lines.len() == checkout.lines.len()
        && state
            .lines
            .iter()
            .zip(&checkout.lines)
            .all(|(a, b)| a.sku_id == b.sku_id && a.quantity == b.quantity);
    if !same || state.account_id != Some(checkout.buyer_id) {
        return Err(CartError::Changed);
    }
    let goods = total(&checkout.lines).and_then(Result::ok);
    match goods.and_then(|goods| checkout.charges.total(goods)) {
        Some(sum) if sum == checkout.total => Ok(vec![checkout.clone().into()]),
        _ => Err(CartError::WrongTotal),
    }
}
