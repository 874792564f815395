//! What the index is given: one document per item, variants inside. Kept in the index as JSON, so that whoever changes a
//! part of an item (its price, say) can read the rest back.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tantivy::TantivyDocument;
use tantivy::schema::OwnedValue;
use uuid::Uuid;

use crate::analyzer::Analyzer;
use crate::schema::{Fields, Key};
use crate::suggest;
use crate::text::{fold, strip_html};
use crate::together;

/// Between the names of a category's path, in filters and facets.
pub const CATEGORY_SEPARATOR: &str = " > ";

/// How often a title stands in the catch-all: the first phase of a search scores nothing else.
const TITLE_WEIGHT: usize = 3;
/// A longer attribute value is text to be found, but neither filter nor facet.
const LONGEST_FACET_VALUE: usize = 128;

/// An item as a buyer may find it. A withdrawn one is deleted from the index instead.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ItemDocument {
    pub item_id: Uuid,
    pub seller_id: Uuid,
    /// The seller's own text.
    pub sku: String,
    pub name: String,
    /// May hold HTML.
    pub description: String,
    pub brand: Option<String>,
    /// The path from the root.
    pub category: Vec<String>,
    pub tags: Vec<String>,
    pub attributes: BTreeMap<String, String>,
    /// In minor units. Where there are variants, theirs count.
    pub price: i64,
    pub currency: String,
    pub image: Option<String>,
    pub listed_at: DateTime<Utc>,
    pub rating: Option<f32>,
    /// Stock-keeping ids of the item and its variants: the item is in stock when any of them is.
    pub skus: Vec<Uuid>,
    pub variants: Vec<VariantDocument>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VariantDocument {
    pub sku: String,
    pub options: BTreeMap<String, String>,
    pub price: i64,
}

impl ItemDocument {
    /// The price an item is shown and sorted with: the lowest one it can be had for.
    pub fn lowest_price(&self) -> i64 {
        self.prices().min().unwrap_or(self.price)
    }

    fn prices(&self) -> impl Iterator<Item = i64> {
        let own = self.variants.is_empty().then_some(self.price);
        own.into_iter().chain(self.variants.iter().map(|variant| variant.price))
    }

    fn all_attributes(&self) -> impl Iterator<Item = (&String, &String)> {
        self.attributes.iter().chain(self.variants.iter().flat_map(|variant| &variant.options))
    }

    /// The document as the index takes it.
    pub(crate) fn to_index(
        &self,
        fields: &Fields,
        analyzer: &Analyzer,
        slot: u32,
    ) -> Result<TantivyDocument, serde_json::Error> {
        let mut document = TantivyDocument::new();
        document.add_text(fields.keys, Key::Id.text(&id_text(self.item_id)));
        document.add_bytes(fields.source, &serde_json::to_vec(self)?);
        self.add_text(fields, analyzer, &mut document);
        self.add_filters(fields, &mut document);

        document.add_i64(fields.price, self.lowest_price());
        for price in self.prices() {
            document.add_i64(fields.prices, price);
        }
        for value in together::values(self) {
            document.add_u64(fields.variants, value);
        }
        if let Some(rating) = self.rating.filter(|rating| rating.is_finite()) {
            document.add_i64(fields.rating, (rating * 100.0).round() as i64);
        }
        document.add_i64(fields.listed, self.listed_at.timestamp_millis());
        document.add_u64(fields.tie, tie(self.item_id));
        document.add_u64(fields.slot, u64::from(slot));
        for id in [self.item_id].iter().chain(&self.skus) {
            let (high, low) = id.as_u64_pair();
            document.add_u64(fields.ids, high);
            document.add_u64(fields.ids, low);
        }
        Ok(document)
    }

    fn add_text(&self, fields: &Fields, analyzer: &Analyzer, document: &mut TantivyDocument) {
        let mut add = |field, text: &str| {
            let written = analyzer.written(text);
            if !written.is_empty() {
                let times = if field == fields.title { TITLE_WEIGHT } else { 1 };
                (0..times).for_each(|_| document.add_text(fields.all, &written));
                document.add_text(field, written);
            }
        };
        add(fields.title, &self.name);
        add(fields.model, &self.sku);
        for variant in &self.variants {
            add(fields.model, &variant.sku);
        }
        if let Some(brand) = &self.brand {
            add(fields.brand_text, brand);
        }
        for name in self.category.iter().chain(&self.tags) {
            add(fields.category_text, name);
        }
        add(fields.attribute_text, &self.attribute_words());
        add(fields.description, &strip_html(&self.description));

        let wholes =
            [&self.name, &self.sku].into_iter().chain(self.variants.iter().map(|variant| &variant.sku));
        for whole in wholes {
            document.add_text(fields.keys, Key::Exact.text(whole));
        }
        for key in suggest::keys(self) {
            document.add_text(fields.keys, key);
        }
    }

    /// Values of attributes in words. Of a feature that is or is not there, only its name counts, and only where it is.
    fn attribute_words(&self) -> String {
        let mut words = String::new();
        for (key, value) in self.all_attributes() {
            let _ = match value.to_ascii_lowercase().as_str() {
                "true" | "yes" | "y" => writeln!(words, "{}", key.replace('_', " ")),
                "false" | "no" | "n" => Ok(()),
                _ => writeln!(words, "{value}"),
            };
        }
        words
    }

    fn add_filters(&self, fields: &Fields, document: &mut TantivyDocument) {
        if let Some(brand) = self.brand.as_deref().map(str::trim).filter(|brand| !brand.is_empty()) {
            document.add_text(fields.brand, brand);
            document.add_text(fields.keys, Key::Brand.text(brand));
        }
        let seller = self.seller_id.to_string();
        document.add_text(fields.seller, &seller);
        document.add_text(fields.keys, Key::Seller.text(&seller));
        let mut path = String::new();
        for name in &self.category {
            if !path.is_empty() {
                path.push_str(CATEGORY_SEPARATOR);
                document.add_text(fields.keys, Key::Category.text(name));
            }
            path.push_str(name);
            document.add_text(fields.category, &path);
            document.add_text(fields.keys, Key::Category.text(&path));
        }

        let mut columns: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (key, value) in self.all_attributes() {
            let values = columns.entry(attribute_key(key)).or_default();
            let value = value.trim();
            if is_filter(value) && !values.contains(&value) {
                values.push(value);
            }
        }
        for (key, values) in &columns {
            for value in values {
                document.add_text(fields.keys, Key::Attribute.text(&attribute(key, value)));
            }
        }
        let columns = columns.into_iter().map(|(key, values)| {
            (
                key,
                OwnedValue::Array(
                    values.into_iter().map(|value| OwnedValue::Str(value.to_owned())).collect(),
                ),
            )
        });
        document.add_object(fields.attributes, columns.collect());
    }
}

pub(crate) fn id_text(item_id: Uuid) -> String {
    item_id.simple().to_string()
}

/// Sixty-four bits of an item id, mixed: ids made one after another differ in few bits only.
pub(crate) fn tie(item_id: Uuid) -> u64 {
    let (high, low) = item_id.as_u64_pair();
    (high.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

/// Whether a value of an attribute is filter and facet.
pub(crate) fn is_filter(value: &str) -> bool {
    !value.is_empty() && value.len() <= LONGEST_FACET_VALUE
}

pub(crate) fn attribute_key(key: &str) -> String {
    fold(key.trim())
}

/// As a filter of both is looked up.
pub(crate) fn attribute(key: &str, value: &str) -> String {
    format!("{key}={value}")
}
