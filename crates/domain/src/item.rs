//! Items: what sellers offer. An item has at least one variant; each variant is one SKU with its own price.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{AccountId, Decider, ItemId, Money, Sku, SkuId, domain_events};

domain_events! {
    pub enum ItemEvent {
        ItemListed = 1,
        ItemRevised = 1,
        VariantAdded = 1,
        VariantRevised = 1,
        PriceChanged = 1,
        ItemWithdrawn = 1,
        ItemRelisted = 1,
    }
}

/// What buyers read about an item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    pub name: String,
    pub description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brand: Option<String>,
    /// Path from the root of the category tree.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub category: Vec<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub tags: BTreeSet<String>,
    /// What buyers filter by: colour, size.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// What buyers only read.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub specifications: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variant {
    pub sku_id: SkuId,
    pub sku: Sku,
    /// Empty for the item's own SKU.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub options: BTreeMap<String, String>,
    pub price: Money,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub images: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemListed {
    pub seller_id: AccountId,
    /// The item's own SKU text, also where only its variants are sold.
    pub sku: Sku,
    pub details: Details,
    pub variants: Vec<Variant>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemRevised {
    pub details: Details,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantAdded {
    pub variant: Variant,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantRevised {
    pub sku_id: SkuId,
    pub images: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PriceChanged {
    pub sku_id: SkuId,
    pub price: Money,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemWithdrawn {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemRelisted {}

/// `None` until the item is listed.
pub type ItemState = Option<Listing>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listing {
    pub seller_id: AccountId,
    pub sku: Sku,
    pub details: Details,
    pub variants: Vec<Variant>,
    pub withdrawn: bool,
}

impl Listing {
    /// The variant with that text; without one the item's own SKU, or the only variant there is.
    pub fn variant(&self, sku: Option<&Sku>) -> Option<&Variant> {
        match (sku, &*self.variants) {
            (Some(sku), variants) => variants.iter().find(|variant| variant.sku == *sku),
            (None, [only]) => Some(only),
            (None, variants) => variants.iter().find(|variant| variant.sku == self.sku),
        }
    }

    fn variant_mut(&mut self, sku_id: SkuId) -> Option<&mut Variant> {
        self.variants.iter_mut().find(|variant| variant.sku_id == sku_id)
    }
}

#[derive(Clone, Debug)]
pub enum ItemCommand {
    List(ItemListed),
    /// Absent parts stay as they are. A variant is added, or its price and images changed, by its SKU.
    Revise {
        details: Option<Details>,
        variants: Vec<Variant>,
    },
    Withdraw {
        reason: Option<String>,
    },
    Relist,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    #[error("there is no such item")]
    NotFound,
    #[error("an item has at least one variant")]
    NoVariant,
    #[error("the SKU {0} stands twice")]
    DuplicateSku(Sku),
    #[error("a price is above zero")]
    PriceNotPositive,
    #[error("all prices of an item are in one currency")]
    MixedCurrencies,
    #[error("the options of {0} cannot change: they are what was sold")]
    OptionsFixed(Sku),
}

pub struct Item;

impl Decider for Item {
    type Id = ItemId;
    type Command = ItemCommand;
    type Event = ItemEvent;
    type State = ItemState;
    type Error = ItemError;

    const CATEGORY: &'static str = "item";

    fn evolve(state: ItemState, event: &ItemEvent) -> ItemState {
        if let ItemEvent::ItemListed(event) = event {
            return Some(Listing {
                seller_id: event.seller_id,
                sku: event.sku.clone(),
                details: event.details.clone(),
                variants: event.variants.clone(),
                withdrawn: false,
            });
        }
        let mut listing = state?;
        match event {
            ItemEvent::ItemListed(_) => {}
            ItemEvent::ItemRevised(event) => listing.details = event.details.clone(),
            ItemEvent::VariantAdded(event) => listing.variants.push(event.variant.clone()),
            ItemEvent::VariantRevised(event) => {
                if let Some(variant) = listing.variant_mut(event.sku_id) {
                    variant.images.clone_from(&event.images);
                }
            }
            ItemEvent::PriceChanged(event) => {
                if let Some(variant) = listing.variant_mut(event.sku_id) {
                    variant.price = event.price;
                }
            }
            ItemEvent::ItemWithdrawn(_) => listing.withdrawn = true,
            ItemEvent::ItemRelisted(_) => listing.withdrawn = false,
        }
        Some(listing)
    }

    #[expect(clippy::match_same_arms, reason = "one arm per rule, in the order one would tell them")]
    fn decide(
        state: &ItemState,
        command: &ItemCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<ItemEvent>, ItemError> {
        match (state, command) {
            (None, ItemCommand::List(listed)) => {
                check(&listed.variants)?;
                Ok(vec![listed.clone().into()])
            }
            (Some(_), ItemCommand::List(_)) => Ok(vec![]),
            (None, _) => Err(ItemError::NotFound),
            (Some(listing), ItemCommand::Revise { details, variants }) => {
                revise(listing, details.as_ref(), variants)
            }
            (Some(listing), ItemCommand::Withdraw { reason }) if !listing.withdrawn => {
                Ok(vec![ItemWithdrawn { reason: reason.clone() }.into()])
            }
            (Some(listing), ItemCommand::Relist) if listing.withdrawn => Ok(vec![ItemRelisted {}.into()]),
            (Some(_), ItemCommand::Withdraw { .. } | ItemCommand::Relist) => Ok(vec![]),
        }
    }
}

fn revise(
    listing: &Listing,
    details: Option<&Details>,
    variants: &[Variant],
) -> Result<Vec<ItemEvent>, ItemError> {
    let mut events = Vec::new();
    if let Some(details) = details.filter(|details| **details != listing.details) {
        events.push(ItemRevised { details: details.clone() }.into());
    }
    let mut after = listing.variants.clone();
    let mut seen = BTreeSet::new();
    for variant in variants {
        if !seen.insert(variant.sku_id) {
            return Err(ItemError::DuplicateSku(variant.sku.clone()));
        }
        match after.iter_mut().find(|known| known.sku_id == variant.sku_id) {
            Some(known) if known.options != variant.options => {
                return Err(ItemError::OptionsFixed(variant.sku.clone()));
            }
            Some(known) => {
                if known.price != variant.price {
                    known.price = variant.price;
                    events.push(PriceChanged { sku_id: variant.sku_id, price: variant.price }.into());
                }
                if known.images != variant.images {
                    let images = variant.images.clone();
                    events.push(VariantRevised { sku_id: variant.sku_id, images }.into());
                }
            }
            None => {
                after.push(variant.clone());
                events.push(VariantAdded { variant: variant.clone() }.into());
            }
        }
    }
    check(&after)?;
    Ok(events)
}

fn check(variants: &[Variant]) -> Result<(), ItemError> {
    let first = variants.first().ok_or(ItemError::NoVariant)?;
    let mut seen = BTreeSet::new();
    for variant in variants {
        if !seen.insert(&variant.sku) {
            return Err(ItemError::DuplicateSku(variant.sku.clone()));
        }
        if variant.price.amount <= 0 {
            return Err(ItemError::PriceNotPositive);
        }
        if variant.price.currency != first.price.currency {
            return Err(ItemError::MixedCurrencies);
        }
    }
    Ok(())
}
