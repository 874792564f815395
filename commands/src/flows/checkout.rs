//! Checking out: the cart is closed at the prices of this moment, which starts the order. Everything after that is the
//! process manager's.

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use souk_domain::{
    AccountId, CartId, DomainEvent, Money, OrderId, Sku,
    cart::{Cart, CartCheckedOut, CartCommand, CartError, CartEvent, CartState},
    order::{OrderCommand, OrderError, OrderEvent, OrderLine, OrderPlaced, OrderStatus, ShipTo},
    pricing::{Priced, PricingError},
    promotion::CouponRefusal,
};
use souk_event_log::Direction;
use souk_gateways::{GatewayError, PaymentDetails};
use souk_vault::VaultError;
use uuid::Uuid;

use super::{
    Acknowledged,
    carts::{self, CartFlowError},
    orders,
    pricing::{self, Extras, GiftCardRefusal},
};
use crate::{Category, Context, Done, ExecuteError, Market, executor::ReadFailure};

#[derive(Debug)]
pub struct CheckoutRequest {
    pub cart_id: CartId,
    /// What the buyer believes it costs.
    pub amount: Money,
    pub payment: PaymentDetails,
    pub shipping_address: Address,
    pub extras: Extras,
}

/// Sealed as a whole before it goes anywhere; the country also stands beside it in clear.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    pub name: String,
    pub line1: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub line2: Option<String>,
    pub city: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub region: Option<String>,
    pub postal_code: String,
    pub country: String,
}

#[derive(Clone, Copy, Debug)]
pub struct CheckedOut {
    pub order_id: OrderId,
    pub status: OrderStatus,
}

#[derive(Debug, thiserror::Error)]
pub enum CheckoutFlowError {
    #[error("there is no such cart")]
    NoSuchCart,
    #[error("the cart is empty")]
    EmptyCart,
    #[error("the item with the SKU {0} is no longer sold")]
    Withdrawn(Sku),
    #[error("the lines are in several currencies")]
    MixedCurrencies,
    #[error("the cart costs {total} now")]
    AmountChanged { total: Money },
    #[error(transparent)]
    Coupon(#[from] CouponRefusal),
    #[error(transparent)]
    GiftCard(#[from] GiftCardRefusal),
    #[error(transparent)]
    Pricing(#[from] PricingError),
    #[error(transparent)]
    Payment(#[from] GatewayError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Cart(#[from] CartFlowError),
}

impl From<ExecuteError<CartError>> for CheckoutFlowError {
    fn from(error: ExecuteError<CartError>) -> Self {
        Self::Cart(error.into())
    }
}

impl From<ReadFailure> for CheckoutFlowError {
    fn from(failure: ReadFailure) -> Self {
        Self::Cart(failure.into())
    }
}

pub async fn check_out(
    market: &Market,
    context: &Context,
    account: AccountId,
    request: CheckoutRequest,
) -> Result<Acknowledged<CheckedOut>, CheckoutFlowError> {
    // The cart may change while its prices are read; then they are read again.
    for _ in 0..5 {
        let carts = &market.aggregates.carts;
        let cart = carts.read(request.cart_id, CartState::clone).await?;
        if let Some(order) = cart.value.checked_out {
            carts.recall(request.cart_id, context).await?;
            return if cart.value.account_id == Some(account) {
                Ok(Acknowledged { value: already(market, order).await?, position: cart.position })
            } else {
                Err(CheckoutFlowError::NoSuchCart)
            };
        }
        let head = cart.revision.zip(cart.position).filter(|_| cart.value.account_id == Some(account));
        let Some((revision, position)) = head else {
            return Err(carts::not_there(market, account, request.cart_id).await?);
        };
        let view = carts::view(market, request.cart_id, cart.revision, &cart.value.lines).await?;
        let country = Some(&*request.shipping_address.country);
        let priced = pricing::price(market, account, &view, country, &request.extras).await;
        let Priced { charges, total, .. } = match priced.and_then(|priced| agreed(priced, request.amount)) {
            Ok(priced) => priced,
            // Perhaps the same checkout came before, and has taken what is missing now: then its order is the answer.
            Err(_)
                if carts
                    .read(request.cart_id, |cart: &CartState| cart.checked_out.is_some())
                    .await?
                    .value =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        let order_id = OrderId::of_cart(request.cart_id, revision, position);
        let token_key = Uuid::new_v5(&order_id.0, b"token");
        let payment = market.payments.tokenize(token_key, account, &request.payment).await?;
        let ship_to = seal_address(market, account, &request.shipping_address).await?;
        let lines = view.lines.into_iter().map(order_line).collect();
        let checkout =
            CartCheckedOut { order_id, buyer_id: account, lines, total, charges, payment, ship_to };
        let command = CartCommand::CheckOut(checkout);
        match carts.execute_at(request.cart_id, Some(revision), command, context).await {
            Ok(done) => return Ok(acknowledge(market, context, request.cart_id, order_id, &done).await),
            Err(
                ExecuteError::Stale { .. }
                | ExecuteError::Refused(CartError::CheckedOut(_) | CartError::Changed),
            ) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ExecuteError::Unavailable("the cart keeps changing".into()).into())
}

/// The cart is closed and so the order will be: place it at once, as it is recorded, which may be by a twin of this request
/// that another process answered with other credit at hand. If that fails the process manager will.
async fn acknowledge(
    market: &Market,
    context: &Context,
    cart_id: CartId,
    order_id: OrderId,
    done: &Done<CartEvent>,
) -> Acknowledged<CheckedOut> {
    let value = CheckedOut { order_id, status: OrderStatus::Placed };
    let left = |error: String| {
        tracing::warn!(order = %order_id, error, "the order is left to the process manager to place");
        Acknowledged::of(value, done)
    };
    let ours = done.events.iter().find_map(|event| match event {
        CartEvent::CartCheckedOut(checkout) => Some(checkout.clone()),
        _ => None,
    });
    let recorded = match ours {
        Some(checkout) => Ok(Some(checkout)),
        None => checked_out(market, cart_id).await,
    };
    let checkout = match recorded {
        Ok(Some(checkout)) => checkout,
        Ok(None) => return left("its cart is not seen as closed".into()),
        Err(error) => return left(error),
    };
    match place(market, order_id, cart_id, checkout, &context.step("place")).await {
        Ok(placed) => Acknowledged { value, position: placed.position.max(done.position) },
        Err(error) => left(error.to_string()),
    }
}

async fn already(market: &Market, order_id: OrderId) -> Result<CheckedOut, ReadFailure> {
    let order = orders::find(market, order_id).await?.value;
    Ok(CheckedOut { order_id, status: order.map_or(OrderStatus::Placed, |order| order.status) })
}

fn agreed(priced: Priced, amount: Money) -> Result<Priced, CheckoutFlowError> {
    if priced.total == amount {
        Ok(priced)
    } else {
        Err(CheckoutFlowError::AmountChanged { total: priced.total })
    }
}

pub async fn seal_address(
    market: &Market,
    account: AccountId,
    address: &Address,
) -> Result<ShipTo, VaultError> {
    let plain = souk_domain::stored::to_json(address);
    Ok(ShipTo { country: address.country.clone(), address: market.vault.seal(account, &plain).await? })
}

fn order_line(line: carts::CartViewLine) -> OrderLine {
    OrderLine {
        item_id: line.item_id,
        seller_id: line.seller_id,
        sku_id: line.sku_id,
        sku: line.sku,
        name: line.name,
        quantity: line.quantity,
        unit_price: line.unit_price,
    }
}

/// What a cart was closed with; `None` if it is open.
pub(crate) async fn checked_out(market: &Market, cart: CartId) -> Result<Option<CartCheckedOut>, String> {
    let last = market
        .log
        .read_stream(&Category::<Cart>::stream(cart), u64::MAX >> 1, Direction::Backward, 1)
        .next()
        .await
        .transpose()
        .map_err(|error| error.to_string())?;
    let Some(last) = last else { return Ok(None) };
    let version = last.schema_version();
    match CartEvent::from_json(&last.event_type, version, &last.data).map_err(|error| error.to_string())? {
        CartEvent::CartCheckedOut(checkout) => Ok(Some(checkout)),
        _ => Ok(None),
    }
}

pub(crate) async fn place(
    market: &Market,
    order: OrderId,
    cart_id: CartId,
    checkout: CartCheckedOut,
    context: &Context,
) -> Result<Done<OrderEvent>, ExecuteError<OrderError>> {
    let CartCheckedOut { buyer_id, lines, total, charges, payment, ship_to, .. } = checkout;
    let placed = OrderPlaced { buyer_id, cart_id, lines, total, charges, payment, ship_to };
    market.aggregates.orders.execute(order, OrderCommand::Place(placed), context).await
}
