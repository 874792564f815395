//! How an item is shown.

use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry};

use chrono::{DateTime, Utc};
use serde::Serialize;
use souk_commands::flows::items::{StockLevel, stock_level};
use souk_domain::{
    ItemId, SkuId,
    item::{Listing, Variant},
};
use souk_projections::{catalogue::ItemRow, stock};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{Api, problem::Problem, validation::MoneyBody};

pub(crate) type Stock = HashMap<SkuId, StockLevel>;

#[derive(Serialize, ToSchema)]
#[schema(as = Item)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemBody {
    item_id: Uuid,
    seller_id: Uuid,
    /// The seller's own text.
    sku: String,
    name: String,
    description: String,
    brand: Option<String>,
    /// From the root.
    category: Vec<String>,
    tags: BTreeSet<String>,
    /// What buyers filter by.
    attributes: BTreeMap<String, String>,
    /// What buyers read.
    specifications: BTreeMap<String, String>,
    images: Vec<String>,
    /// The lowest one among variants.
    price: Option<MoneyBody>,
    /// Everything that can be bought of it, each a SKU of its own.
    variants: Vec<VariantBody>,
    in_stock: bool,
    /// Of all variants together.
    availability: AvailabilityBody,
    /// Null until it is rated.
    rating: Option<f32>,
    withdrawn: bool,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    listed_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revised_at: Option<DateTime<Utc>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Variant)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VariantBody {
    sku: String,
    options: BTreeMap<String, String>,
    price: MoneyBody,
    images: Vec<String>,
    in_stock: bool,
    #[serde(flatten)]
    availability: AvailabilityBody,
}

#[derive(Clone, Copy, Serialize, ToSchema)]
#[schema(as = Availability)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AvailabilityBody {
    available: u64,
    /// For its seller and admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    on_hand: Option<u64>,
    /// For its seller and admins.
    #[serde(skip_serializing_if = "Option::is_none")]
    reserved: Option<u64>,
}

impl AvailabilityBody {
    fn new(level: StockLevel, inside: bool) -> Self {
        Self {
            available: level.available,
            on_hand: inside.then_some(level.on_hand),
            reserved: inside.then_some(level.reserved),
        }
    }
}

impl ItemBody {
    /// `inside`: for who may see how much is on hand.
    pub(crate) fn new(row: ItemRow, stock: &Stock, inside: bool) -> Self {
        let ItemRow { item_id, listing, revision, listed_at, revised_at } = row;
        let body = Self::build(item_id, listing, revision, stock, inside);
        Self { listed_at: Some(listed_at), revised_at: Some(revised_at), ..body }
    }

    /// For its seller, right after a change.
    pub(super) fn of_listing(item_id: ItemId, listing: Listing, revision: u64, stock: &Stock) -> Self {
        Self::build(item_id, listing, revision, stock, true)
    }

    fn build(item_id: ItemId, listing: Listing, revision: u64, stock: &Stock, inside: bool) -> Self {
        let level = |variant: &Variant| stock.get(&variant.sku_id).copied().unwrap_or(NOTHING);
        let sum = listing.variants.iter().map(level).fold(NOTHING, |sum, level| StockLevel {
            on_hand: sum.on_hand + level.on_hand,
            reserved: sum.reserved + level.reserved,
            available: sum.available + level.available,
        });
        let lowest = listing.variants.iter().map(|variant| variant.price).min_by_key(|price| price.amount);
        let variants = listing.variants.iter().map(|variant| VariantBody {
            sku: variant.sku.to_string(),
            options: variant.options.clone(),
            price: variant.price.into(),
            images: variant.images.clone(),
            in_stock: level(variant).available > 0,
            availability: AvailabilityBody::new(level(variant), inside),
        });
        Self {
            item_id: item_id.0,
            seller_id: listing.seller_id.0,
            sku: listing.sku.to_string(),
            price: lowest.map(MoneyBody::from),
            variants: variants.collect(),
            name: listing.details.name,
            description: listing.details.description,
            brand: listing.details.brand,
            category: listing.details.category,
            tags: listing.details.tags,
            attributes: listing.details.attributes,
            specifications: listing.details.specifications,
            images: listing.details.images,
            in_stock: sum.available > 0,
            availability: AvailabilityBody::new(sum, inside),
            rating: None,
            withdrawn: listing.withdrawn,
            revision,
            listed_at: None,
            revised_at: None,
        }
    }
}

const NOTHING: StockLevel = StockLevel { on_hand: 0, reserved: 0, available: 0 };

/// What the view knows of the stock of these.
pub(crate) async fn stock_of(
    api: &Api,
    listings: impl IntoIterator<Item = &Listing>,
) -> Result<Stock, Problem> {
    let skus: Vec<_> =
        listings.into_iter().flat_map(|listing| &listing.variants).map(|variant| variant.sku_id).collect();
    let levels = stock::levels(&api.pool, &skus).await?.into_iter().map(|level| {
        let (on_hand, reserved, available) = (level.on_hand, level.reserved, level.available());
        (level.sku_id, StockLevel { on_hand, reserved, available })
    });
    Ok(levels.collect())
}

/// Every SKU on the market has received stock, be it none; of one that the view does not know yet the log does.
pub(super) async fn complete(api: &Api, stock: &mut Stock, listing: &Listing) -> Result<(), Problem> {
    for variant in &listing.variants {
        if let Entry::Vacant(unknown) = stock.entry(variant.sku_id) {
            unknown.insert(stock_level(&api.market, variant.sku_id).await?);
        }
    }
    Ok(())
}
