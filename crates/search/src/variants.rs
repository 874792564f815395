//! An item is found once, whichever of its variants match. This picks the one to show with it: that which fits the filters
//! and the typed words best, then one in stock, then the cheapest.

use std::collections::{BTreeMap, HashSet};

use serde::Deserialize;

use crate::analyzer::Analyzer;
use crate::document::attribute_key;
use crate::query::{Query, VariantHit};
use crate::terms::Group;
use crate::text::squash;

#[derive(Deserialize)]
pub(crate) struct CardVariant {
    pub(crate) sku: String,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) price: i64,
}

/// The variant that matched; none of an item without variants. `in_stock` tells it of one by its place.
pub(crate) fn matching(
    variants: &[CardVariant],
    query: &Query,
    analyzer: &Analyzer,
    groups: &[Group],
    in_stock: impl Fn(usize) -> bool,
) -> Option<VariantHit> {
    let wanted: HashSet<&str> = groups.iter().flat_map(Group::words).map(String::as_str).collect();
    let filters: Vec<(String, String)> =
        query.attributes.iter().map(|(key, value)| (attribute_key(key), squash(value))).collect();
    let prices = query.min_price.unwrap_or(i64::MIN)..=query.max_price.unwrap_or(i64::MAX);
    let (at, variant) = variants.iter().enumerate().max_by_key(|(at, variant)| {
        let has = |(key, value): &&(String, String)| {
            variant.options.iter().any(|(option, of)| attribute_key(option) == *key && squash(of) == *value)
        };
        let texts = variant.options.values().chain([&variant.sku]);
        let words: HashSet<String> = texts
            .flat_map(|text| analyzer.words(text))
            .flat_map(|word| word.parts.into_iter().map(|part| part.text).chain(word.joined))
            .filter(|word| wanted.contains(word.as_str()))
            .collect();
        let fits = filters.iter().filter(has).count() + usize::from(prices.contains(&variant.price));
        // Of equal ones the first.
        (fits, words.len(), in_stock(*at), std::cmp::Reverse((variant.price, *at)))
    })?;
    Some(VariantHit {
        sku: variant.sku.clone(),
        options: variant.options.clone(),
        price: variant.price,
        in_stock: in_stock(at),
    })
}
