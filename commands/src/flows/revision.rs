//! Revising an item: everything is planned and checked first, so that what is refused changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use souk_domain::{
    Decider, ItemId, Money, Sku,
    inventory::{Inventory, InventoryState},
    item::{Details, Item, ItemCommand, ItemState, Listing, Variant},
};
use souk_event_log::{Position, Revision};

use super::{
    Acknowledged,
    items::{Caller, ItemFlowError, Listed, NewVariant, check_free, own, receive, stock_command, variant_of},
};
use crate::{Context, ExecuteError, Market};

/// How often a revision is planned again because the item was revised meanwhile.
const ATTEMPTS: u32 = 5;

/// Absent parts stay as they are.
#[derive(Clone, Debug, Default)]
pub struct ItemPatch {
    /// To compare only: an item keeps its SKU.
    pub sku: Option<Sku>,
    pub details: DetailsPatch,
    /// Of the item's own SKU; new variants without a price take it over.
    pub price: Option<Money>,
    /// What was counted of the item's own SKU.
    pub quantity: Option<u32>,
    /// Added, or revised, by their SKU; a quantity is what was counted.
    pub variants: Vec<NewVariant>,
}

/// Absent parts stay as they are; an empty brand takes the brand away.
#[derive(Clone, Debug, Default)]
pub struct DetailsPatch {
    pub name: Option<String>,
    pub description: Option<String>,
    pub brand: Option<String>,
    pub category: Option<Vec<String>>,
    pub tags: Option<BTreeSet<String>>,
    pub attributes: Option<BTreeMap<String, String>>,
    pub specifications: Option<BTreeMap<String, String>>,
    pub images: Option<Vec<String>>,
}

/// Without `if_match` the patch goes onto whatever the item is by then.
pub async fn revise(
    market: &Market,
    context: &Context,
    item_id: ItemId,
    caller: Caller,
    if_match: Option<Revision>,
    patch: ItemPatch,
) -> Result<Acknowledged<Listed>, ItemFlowError> {
    let items = &market.aggregates.items;
    let repeated = items.recall(item_id, context).await?;
    for _ in 0..ATTEMPTS {
        let item = items.read(item_id, ItemState::clone).await?;
        let plan = Plan::new(own(item.value, caller)?, &patch)?;
        if !repeated {
            if if_match.is_some_and(|wanted| item.revision != Some(wanted)) {
                return Err(ItemFlowError::Item(ExecuteError::Stale { actual: item.revision }));
            }
            plan.check(market, item_id).await?;
        }
        for variant in &plan.new {
            receive(market, context, item_id, plan.listing.seller_id, variant, 0).await?;
        }
        match items.execute_at(item_id, if_match.or(item.revision), plan.revise.clone(), context).await {
            Ok(done) => {
                let counted = plan.count(market, context, item_id).await?;
                let mut done = Acknowledged::of(Listed { item_id, revision: done.revision }, &done);
                done.position = done.position.max(counted);
                return Ok(done);
            }
            Err(ExecuteError::Stale { .. }) if if_match.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ItemFlowError::Item(ExecuteError::Unavailable("the item keeps changing".into())))
}

struct Plan {
    listing: Listing,
    revise: ItemCommand,
    new: Vec<Variant>,
    /// What was counted.
    counts: Vec<(Variant, u32)>,
    /// A field that says something of the item's own SKU, which is not sold.
    unused: Option<&'static str>,
}

impl Plan {
    fn new(listing: Listing, patch: &ItemPatch) -> Result<Self, ItemFlowError> {
        if patch.sku.as_ref().is_some_and(|sku| *sku != listing.sku) {
            return Err(ItemFlowError::SkuFixed);
        }
        let (mut variants, mut new, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for wanted in &patch.variants {
            let known = listing.variants.iter().find(|known| known.sku == wanted.sku);
            let variant = if let Some(known) = known {
                revised(known, wanted)
            } else {
                let variant = variant_of(listing.seller_id, wanted, patch.price)?;
                new.push(variant.clone());
                variant
            };
            counts.extend(wanted.quantity.map(|quantity| (variant.clone(), quantity)));
            variants.push(variant);
        }
        let mut unused = None;
        if let Some(own) = listing.variant(None) {
            variants.extend(patch.price.map(|price| Variant { price, ..own.clone() }));
            counts.extend(patch.quantity.map(|quantity| (own.clone(), quantity)));
        } else if patch.quantity.is_some() {
            unused = Some("quantity");
        } else if new.is_empty() && patch.price.is_some_and(|price| lowest(&listing) != Some(price)) {
            // It is no default for anything new, nor what is shown as the item's price, sent back.
            unused = Some("price");
        }
        let details = Some(patch.details.clone().onto(listing.details.clone()));
        Ok(Self { revise: ItemCommand::Revise { details, variants }, listing, new, counts, unused })
    }

    /// Whether all of it would go through as things are.
    async fn check(&self, market: &Market, item_id: ItemId) -> Result<(), ItemFlowError> {
        if let Some(field) = self.unused {
            return Err(ItemFlowError::SoldInVariants(field));
        }
        let now = market.clock.now();
        Item::decide(&Some(self.listing.clone()), &self.revise, now).map_err(ExecuteError::Refused)?;
        for variant in &self.new {
            check_free(market, variant, item_id).await?;
        }
        for (variant, quantity) in &self.counts {
            let stock = market.aggregates.inventory.read(variant.sku_id, InventoryState::clone).await?.value;
            let change = i64::from(*quantity) - stock.on_hand as i64;
            if change != 0 {
                let command = stock_command(item_id, &self.listing, variant, change, None)?;
                Inventory::decide(&stock, &command, now).map_err(ExecuteError::Refused)?;
            }
        }
        Ok(())
    }

    async fn count(
        &self,
        market: &Market,
        context: &Context,
        item_id: ItemId,
    ) -> Result<Option<Position>, ItemFlowError> {
        let inventory = &market.aggregates.inventory;
        let mut position = None;
        for (variant, quantity) in &self.counts {
            let on_hand = inventory.read(variant.sku_id, |stock| stock.on_hand).await?.value;
            let change = i64::from(*quantity) - on_hand as i64;
            if change != 0 {
                let command = stock_command(item_id, &self.listing, variant, change, Some("counted".into()))?;
                let step = context.step(&format!("count/{}", variant.sku_id));
                let done = inventory.execute(variant.sku_id, command, &step).await?;
                position = position.max(done.position);
            }
        }
        Ok(position)
    }
}

fn revised(known: &Variant, wanted: &NewVariant) -> Variant {
    Variant {
        price: wanted.price.unwrap_or(known.price),
        images: wanted.images.clone().unwrap_or_else(|| known.images.clone()),
        options: if wanted.options.is_empty() { known.options.clone() } else { wanted.options.clone() },
        ..known.clone()
    }
}

/// What an item is shown at.
fn lowest(listing: &Listing) -> Option<Money> {
    listing.variants.iter().map(|variant| variant.price).min_by_key(|price| price.amount)
}

impl DetailsPatch {
    fn onto(self, before: Details) -> Details {
        Details {
            name: self.name.unwrap_or(before.name),
            description: self.description.unwrap_or(before.description),
            brand: match self.brand {
                Some(brand) => Some(brand).filter(|brand| !brand.is_empty()),
                None => before.brand,
            },
            category: self.category.unwrap_or(before.category),
            tags: self.tags.unwrap_or(before.tags),
            attributes: self.attributes.unwrap_or(before.attributes),
            specifications: self.specifications.unwrap_or(before.specifications),
            images: self.images.unwrap_or(before.images),
        }
    }
}
