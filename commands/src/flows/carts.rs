//! A buyer's cart: which one is open, what is in it at today's prices, and changing it.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;
use souk_domain::{
    AccountId, CartId, ItemId, Money, MoneyError, Sku, SkuId,
    cart::{CartCommand, CartError, CartLine, CartState},
    item::{ItemState, Listing},
};
use souk_event_log::Revision;

use super::{Acknowledged, checkout::CheckoutFlowError};
use crate::{
    Context, ExecuteError, Fresh, Market,
    executor::{Freshness, ReadFailure},
};

/// Which cart of each buyer was open when last seen: a hint that spares a search.
pub(crate) struct CurrentCarts(Mutex<LruCache<AccountId, u64>>);

const KNOWN: NonZeroUsize = NonZeroUsize::new(100_000).unwrap();

impl Default for CurrentCarts {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(KNOWN)))
    }
}

#[derive(Clone, Debug)]
pub struct CartView {
    pub cart_id: CartId,
    pub revision: Option<Revision>,
    pub lines: Vec<CartViewLine>,
    /// `None` of an empty cart, and of one whose lines are in several currencies.
    pub total: Option<Money>,
}

#[derive(Clone, Debug)]
pub struct CartViewLine {
    pub item_id: ItemId,
    pub seller_id: AccountId,
    pub sku_id: SkuId,
    pub sku: Sku,
    pub name: String,
    pub quantity: u32,
    pub unit_price: Money,
    pub line_total: Money,
    /// The item was withdrawn since.
    pub withdrawn: bool,
    /// Of one, if the item says so.
    pub weight_grams: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct LineRequest {
    pub item_id: ItemId,
    /// Not needed where an item has one SKU.
    pub sku: Option<Sku>,
    /// Absolute; 0 takes the line out.
    pub quantity: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum CartFlowError {
    #[error("there is no such item")]
    NoSuchItem,
    #[error("the item has several SKUs: say which")]
    SkuNeeded,
    #[error("the item has no such SKU")]
    NoSuchSku,
    #[error("the item is no longer sold")]
    Withdrawn,
    #[error("the total of the cart is too large")]
    TooLarge,
    #[error(transparent)]
    Execute(#[from] ExecuteError<CartError>),
}

impl From<ReadFailure> for CartFlowError {
    fn from(failure: ReadFailure) -> Self {
        Self::Execute(failure.into())
    }
}

/// The buyer's open cart; it may not have been opened yet.
pub async fn current(market: &Market, account: AccountId) -> Result<CartView, CartFlowError> {
    let (_, cart_id, cart) = open_cart(market, account, Freshness::Confirmed).await?;
    view(market, cart_id, cart.revision, &cart.value.lines).await
}

/// What is in the cart, as far as it was seen here: for a proposal it need not be the latest.
pub async fn items(market: &Market, account: AccountId) -> Result<Vec<ItemId>, ReadFailure> {
    let (_, _, cart) = open_cart(market, account, Freshness::AsSeen).await?;
    Ok(cart.value.lines.iter().map(|line| line.item_id).collect())
}

pub async fn set_line(
    market: &Market,
    context: &Context,
    account: AccountId,
    request: LineRequest,
) -> Result<Acknowledged<CartView>, CartFlowError> {
    let line = resolve(market, &request).await?;
    // The cart may be checked out in between; then the line goes into the next one.
    for _ in 0..5 {
        let (number, cart_id, _) = open_cart(market, account, Freshness::AsSeen).await?;
        let command = CartCommand::SetLines { account_id: account, number, lines: vec![line.clone()] };
        match market.aggregates.carts.execute(cart_id, command, context).await {
            Ok(done) => {
                let cart = market.aggregates.carts.seen(cart_id, CartState::clone).await?;
                let view = view(market, cart_id, cart.revision, &cart.value.lines).await?;
                return Ok(Acknowledged::of(view, &done));
            }
            Err(ExecuteError::Refused(CartError::CheckedOut(_))) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ExecuteError::Unavailable("the cart is being checked out again and again".into()).into())
}

/// The number, the id and the state of the account's open cart.
async fn open_cart(
    market: &Market,
    account: AccountId,
    freshness: Freshness,
) -> Result<(u64, CartId, Fresh<CartState>), ReadFailure> {
    let known = market.current_carts.0.lock().get(&account).copied();
    let mut number = match known {
        Some(number) => number,
        None => latest(market, account).await?,
    };
    loop {
        let id = CartId::nth(account, number);
        let cart = market.aggregates.carts.look(id, freshness, CartState::clone).await?;
        if cart.value.checked_out.is_none() {
            market.current_carts.0.lock().put(account, number);
            return Ok((number, id, cart));
        }
        number += 1;
    }
}

/// The account's carts are numbered without gaps: doubling, then halving, finds the last one in a few look-ups.
async fn latest(market: &Market, account: AccountId) -> Result<u64, ReadFailure> {
    let exists = async |number: u64| {
        let stream = crate::Category::<souk_domain::cart::Cart>::stream(CartId::nth(account, number));
        Ok::<_, ReadFailure>(market.log.stream_head(&stream).await?.is_some())
    };
    let mut beyond = 1;
    while exists(beyond).await? {
        beyond *= 2;
    }
    let mut there = beyond / 2;
    while beyond - there > 1 {
        let middle = there + (beyond - there) / 2;
        if exists(middle).await? {
            there = middle;
        } else {
            beyond = middle;
        }
    }
    Ok(there.max(1))
}

/// Why a cart cannot be checked out that was never opened, or is somebody else's.
pub(super) async fn not_there(
    market: &Market,
    account: AccountId,
    cart: CartId,
) -> Result<CheckoutFlowError, ReadFailure> {
    let (_, open, _) = open_cart(market, account, Freshness::Confirmed).await?;
    Ok(if open == cart { CheckoutFlowError::EmptyCart } else { CheckoutFlowError::NoSuchCart })
}

async fn resolve(market: &Market, request: &LineRequest) -> Result<CartLine, CartFlowError> {
    let item = market.aggregates.items.read(request.item_id, ItemState::clone).await?.value;
    let listing = item.ok_or(CartFlowError::NoSuchItem)?;
    let variant = listing.variant(request.sku.as_ref()).ok_or(if request.sku.is_some() {
        CartFlowError::NoSuchSku
    } else {
        CartFlowError::SkuNeeded
    })?;
    if listing.withdrawn && request.quantity > 0 {
        return Err(CartFlowError::Withdrawn);
    }
    Ok(CartLine {
        item_id: request.item_id,
        seller_id: listing.seller_id,
        sku_id: variant.sku_id,
        sku: variant.sku.clone(),
        quantity: request.quantity,
    })
}

pub(super) async fn view(
    market: &Market,
    cart_id: CartId,
    revision: Option<Revision>,
    lines: &[CartLine],
) -> Result<CartView, CartFlowError> {
    let mut priced = Vec::with_capacity(lines.len());
    for line in lines {
        let read = |item: &ItemState| item.as_ref().and_then(|listing| price(listing, line));
        let line = market.aggregates.items.read(line.item_id, read).await?.value;
        priced.push(line.ok_or(CartFlowError::NoSuchItem)?.map_err(|_| CartFlowError::TooLarge)?);
    }
    let total = match Money::sum(priced.iter().map(|line| line.line_total)) {
        Some(Err(MoneyError::Overflow)) => return Err(CartFlowError::TooLarge),
        total => total.and_then(Result::ok),
    };
    Ok(CartView { cart_id, revision, lines: priced, total })
}

fn price(listing: &Listing, line: &CartLine) -> Option<Result<CartViewLine, MoneyError>> {
    let variant = listing.variants.iter().find(|variant| variant.sku_id == line.sku_id)?;
    Some(variant.price.times(line.quantity).map(|line_total| CartViewLine {
        item_id: line.item_id,
        seller_id: line.seller_id,
        sku_id: line.sku_id,
        sku: line.sku.clone(),
        name: listing.details.name.clone(),
        quantity: line.quantity,
        unit_price: variant.price,
        line_total,
        withdrawn: listing.withdrawn,
        weight_grams:
            listing.details.attributes.get("weightGrams").and_then(|grams| grams.trim().parse().ok()),
    }))
}
