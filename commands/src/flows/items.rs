//! Items and their stock: listing, taking off the market, receiving stock. Revising is in [`super::revision`].

use std::collections::BTreeMap;

use souk_domain::{
    AccountId, Decider, ItemId, Money, Sku, SkuId,
    inventory::{InventoryCommand, InventoryError, InventoryState},
    item::{Details, Item, ItemCommand, ItemError, ItemListed, ItemState, Listing, Variant},
};
use souk_event_log::Revision;
use uuid::Uuid;

use super::Acknowledged;
use crate::{Context, ExecuteError, Market, executor::ReadFailure};

#[derive(Clone, Debug)]
pub struct NewItem {
    /// Derived from the command where none is given.
    pub item_id: Option<ItemId>,
    pub seller_id: AccountId,
    pub sku: Sku,
    pub details: Details,
    /// Of the item's own SKU; variants without a price take it over.
    pub price: Option<Money>,
    /// Of the item's own SKU, which is sold beside the variants only if there is some of it.
    pub quantity: Option<u32>,
    pub variants: Vec<NewVariant>,
}

#[derive(Clone, Debug)]
pub struct NewVariant {
    pub sku: Sku,
    pub options: BTreeMap<String, String>,
    pub price: Option<Money>,
    pub quantity: Option<u32>,
    pub images: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug)]
pub struct Listed {
    pub item_id: ItemId,
    pub revision: Option<Revision>,
}

/// Who asks. An admin may act for any seller.
#[derive(Clone, Copy, Debug)]
pub enum Caller {
    Seller(AccountId),
    Admin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StockLevel {
    pub on_hand: u64,
    pub reserved: u64,
    pub available: u64,
}

#[derive(Clone, Debug)]
pub struct StockChange {
    /// Not needed where an item has one SKU.
    pub sku: Option<Sku>,
    pub change: i64,
    pub reason: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ItemFlowError {
    #[error("there is no such item")]
    NotFound,
    #[error("the item belongs to another seller")]
    NotYours,
    #[error("the SKU {0} belongs to another item of yours")]
    SkuTaken(Sku),
    #[error("the SKU {0} needs a price")]
    PriceNeeded(Sku),
    #[error("the item has no such SKU")]
    NoSuchSku,
    #[error("the SKU of an item cannot change")]
    SkuFixed,
    /// Of the field named.
    #[error("only the item's variants are sold: say this of each of them")]
    SoldInVariants(&'static str),
    #[error("a change of stock is a number between -2,147,483,648 and 2,147,483,647 other than 0")]
    BadChange,
    #[error(transparent)]
    Item(#[from] ExecuteError<ItemError>),
    #[error(transparent)]
    Inventory(#[from] ExecuteError<InventoryError>),
}

impl From<ReadFailure> for ItemFlowError {
    fn from(failure: ReadFailure) -> Self {
        Self::Item(failure.into())
    }
}

/// The stock comes first, so that an item is never on the market without it.
pub async fn list(
    market: &Market,
    context: &Context,
    new: NewItem,
) -> Result<Acknowledged<Listed>, ItemFlowError> {
    let item_id = new.item_id.unwrap_or_else(|| ItemId(Uuid::new_v5(&context.command_id, b"item")));
    market.aggregates.items.recall(item_id, context).await?;
    let stocked = sold_as(&new)?;
    let listed = ItemListed {
        seller_id: new.seller_id,
        sku: new.sku,
        details: new.details,
        variants: stocked.iter().map(|(variant, _)| variant.clone()).collect(),
    };
    let command = ItemCommand::List(listed);
    Item::decide(&None, &command, market.clock.now()).map_err(ExecuteError::Refused)?;
    for (variant, _) in &stocked {
        check_free(market, variant, item_id).await?;
    }
    for (variant, quantity) in &stocked {
        receive(market, context, item_id, new.seller_id, variant, *quantity).await?;
    }
    let done = market.aggregates.items.execute(item_id, command, context).await?;
    Ok(Acknowledged::of(Listed { item_id, revision: done.revision }, &done))
}

pub async fn withdraw(
    market: &Market,
    context: &Context,
    item_id: ItemId,
    caller: Caller,
    reason: Option<String>,
) -> Result<Acknowledged<Listed>, ItemFlowError> {
    owned(market, item_id, caller).await?;
    let done = market.aggregates.items.execute(item_id, ItemCommand::Withdraw { reason }, context).await?;
    Ok(Acknowledged::of(Listed { item_id, revision: done.revision }, &done))
}

pub async fn relist(
    market: &Market,
    context: &Context,
    item_id: ItemId,
    caller: Caller,
) -> Result<Acknowledged<Listed>, ItemFlowError> {
    owned(market, item_id, caller).await?;
    let done = market.aggregates.items.execute(item_id, ItemCommand::Relist, context).await?;
    Ok(Acknowledged::of(Listed { item_id, revision: done.revision }, &done))
}

pub async fn change_stock(
    market: &Market,
    context: &Context,
    item_id: ItemId,
    caller: Caller,
    request: StockChange,
) -> Result<Acknowledged<StockLevel>, ItemFlowError> {
    let listing = owned(market, item_id, caller).await?;
    let variant = listing.variant(request.sku.as_ref()).ok_or(ItemFlowError::NoSuchSku)?;
    let command = stock_command(item_id, &listing, variant, request.change, request.reason)?;
    let done = market.aggregates.inventory.execute(variant.sku_id, command, context).await?;
    Ok(Acknowledged::of(stock_level(market, variant.sku_id).await?, &done))
}

/// More is received, less is an adjustment.
pub(super) fn stock_command(
    item_id: ItemId,
    listing: &Listing,
    variant: &Variant,
    change: i64,
    reason: Option<String>,
) -> Result<InventoryCommand, ItemFlowError> {
    let (seller_id, sku) = (listing.seller_id, variant.sku.clone());
    match (change, u32::try_from(change)) {
        (0, _) => Err(ItemFlowError::BadChange),
        (_, Ok(quantity)) => Ok(InventoryCommand::Receive { item_id, seller_id, sku, quantity, reason }),
        (change, Err(_)) if change >= i64::from(i32::MIN) && change < 0 => {
            Ok(InventoryCommand::Adjust { change, reason })
        }
        _ => Err(ItemFlowError::BadChange),
    }
}

pub async fn stock_level(market: &Market, sku_id: SkuId) -> Result<StockLevel, ReadFailure> {
    let level = |state: &InventoryState| StockLevel {
        on_hand: state.on_hand,
        reserved: state.reserved,
        available: state.available(),
    };
    Ok(market.aggregates.inventory.read(sku_id, level).await?.value)
}

/// What is sold of a new item, and how much of each there is.
fn sold_as(new: &NewItem) -> Result<Vec<(Variant, u32)>, ItemFlowError> {
    let own = NewVariant {
        sku: new.sku.clone(),
        options: BTreeMap::new(),
        price: new.price,
        quantity: new.quantity,
        images: None,
    };
    let own_is_sold = new.variants.is_empty() || new.quantity.is_some_and(|quantity| quantity > 0);
    let named_among_variants = new.variants.iter().any(|variant| variant.sku == new.sku);
    own_is_sold
        .then_some(&own)
        .filter(|_| !named_among_variants)
        .into_iter()
        .chain(&new.variants)
        .map(|sold| Ok((variant_of(new.seller_id, sold, new.price)?, sold.quantity.unwrap_or(0))))
        .collect()
}

pub(super) fn variant_of(
    seller: AccountId,
    new: &NewVariant,
    fallback: Option<Money>,
) -> Result<Variant, ItemFlowError> {
    Ok(Variant {
        sku_id: SkuId::of(seller, &new.sku),
        sku: new.sku.clone(),
        options: new.options.clone(),
        price: new.price.or(fallback).ok_or_else(|| ItemFlowError::PriceNeeded(new.sku.clone()))?,
        images: new.images.clone().unwrap_or_default(),
    })
}

pub(super) async fn check_free(
    market: &Market,
    variant: &Variant,
    item_id: ItemId,
) -> Result<(), ItemFlowError> {
    let owner = |state: &InventoryState| state.owner.as_ref().map(|owner| owner.item_id);
    match market.aggregates.inventory.read(variant.sku_id, owner).await?.value {
        Some(other) if other != item_id => Err(ItemFlowError::SkuTaken(variant.sku.clone())),
        _ => Ok(()),
    }
}

pub(super) async fn receive(
    market: &Market,
    context: &Context,
    item_id: ItemId,
    seller_id: AccountId,
    variant: &Variant,
    quantity: u32,
) -> Result<(), ItemFlowError> {
    let sku = variant.sku.clone();
    let context = context.step(&format!("receive/{}", variant.sku_id));
    let command =
        InventoryCommand::Receive { item_id, seller_id, sku, quantity, reason: Some("listed".into()) };
    match market.aggregates.inventory.execute(variant.sku_id, command, &context).await {
        Ok(_) => Ok(()),
        Err(ExecuteError::Refused(InventoryError::SkuTaken)) => {
            Err(ItemFlowError::SkuTaken(variant.sku.clone()))
        }
        Err(error) => Err(error.into()),
    }
}

async fn owned(market: &Market, item_id: ItemId, caller: Caller) -> Result<Listing, ItemFlowError> {
    own(market.aggregates.items.read(item_id, ItemState::clone).await?.value, caller)
}

pub(super) fn own(item: ItemState, caller: Caller) -> Result<Listing, ItemFlowError> {
    let listing = item.ok_or(ItemFlowError::NotFound)?;
    match caller {
        Caller::Seller(seller) if seller != listing.seller_id => Err(ItemFlowError::NotYours),
        Caller::Seller(_) | Caller::Admin => Ok(listing),
    }
}
