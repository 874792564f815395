//! From an item as the domain knows it to the document that the index takes.

use chrono::{DateTime, Utc};
use souk_domain::{ItemId, item::Listing};
use souk_search::{ItemDocument, VariantDocument};

/// An item that is sold under its own SKU alone has no variants to tell apart.
pub(super) fn document(id: ItemId, listing: Listing, listed_at: DateTime<Utc>) -> Option<ItemDocument> {
    let Listing { seller_id, sku, details, variants, .. } = listing;
    let cheapest = variants.iter().map(|variant| variant.price).min_by_key(|price| price.amount)?;
    let skus = variants.iter().map(|variant| variant.sku_id.0).collect();
    let simple = matches!(&*variants, [only] if only.sku == sku && only.options.is_empty());
    let own_images = variants.iter().flat_map(|variant| &variant.images);
    let image = details.images.iter().chain(own_images).next().cloned();
    let variants = if simple {
        Vec::new()
    } else {
        let variant = |variant: souk_domain::item::Variant| VariantDocument {
            sku: variant.sku.into(),
            options: variant.options,
            price: variant.price.amount,
        };
        variants.into_iter().map(variant).collect()
    };
    Some(ItemDocument {
        item_id: id.0,
        seller_id: seller_id.0,
        sku: sku.into(),
        name: details.name,
        description: details.description,
        brand: details.brand,
        category: details.category,
        tags: details.tags.into_iter().collect(),
        attributes: details.attributes,
        price: cheapest.amount,
        currency: cheapest.currency.into(),
        image,
        listed_at,
        rating: None,
        skus,
        variants,
    })
}
