//! One product as a catalogue file has it, and the item it becomes. The fields are those of `docs/operations.md`, section
//! "Importing goods"; unknown ones are ignored, since catalogues carry much that no shop shows.

use std::collections::{BTreeMap, BTreeSet};

use csv::StringRecord;
use serde::Deserialize;
use serde_json::{Map, Value};
use souk_commands::flows::items::{NewItem, NewVariant};
use souk_domain::{AccountId, Currency, ItemId, Money, Sku, item::Details};
use uuid::Uuid;

/// Of which nothing is said how many there are.
const QUANTITY: u32 = 100;
/// As long as the HTTP interface lets a name be.
const LONGEST_NAME: usize = 300;

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub(crate) struct Product {
    /// The source's own name for it; also its SKU, unless it has one.
    id: String,
    sku: Option<String>,
    title: String,
    /// The name of the model.
    name: Option<String>,
    description: Option<String>,
    brand: Option<String>,
    /// The path from the root.
    categories: Vec<String>,
    tags: Vec<String>,
    price_minor: Option<i64>,
    currency: Option<String>,
    quantity: Option<u32>,
    image: Option<String>,
    images: Vec<String>,
    ean: Vec<String>,
    released: Option<String>,
    popularity: Option<i64>,
    attributes: Map<String, Value>,
    specifications: Map<String, Value>,
    variants: Vec<ProductVariant>,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct ProductVariant {
    sku: String,
    options: Map<String, Value>,
    price_minor: Option<i64>,
    quantity: Option<u32>,
    images: Vec<String>,
}

/// Why a line of a catalogue becomes no item.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProductError {
    #[error("not a JSON object of a product: {0}")]
    Json(String),
    #[error("not a line of CSV: {0}")]
    Csv(String),
    #[error("`{field}` is {problem}")]
    Field { field: &'static str, problem: String },
}

fn field(field: &'static str, problem: impl ToString) -> ProductError {
    ProductError::Field { field, problem: problem.to_string() }
}

impl Product {
    pub(crate) fn from_json(line: &str) -> Result<Self, ProductError> {
        serde_json::from_str(line).map_err(|error| ProductError::Json(error.to_string()))
    }

    /// Lists in a cell are separated: categories by `>`, others by `;`. Attributes are a JSON object or `key=value; …`.
    pub(crate) fn from_csv(header: &StringRecord, record: &StringRecord) -> Result<Self, ProductError> {
        let mut product = Self::default();
        for (name, cell) in header.iter().zip(record).map(|(name, cell)| (name.trim(), cell.trim())) {
            if cell.is_empty() {
                continue;
            }
            let text = || Some(cell.to_owned());
            match name {
                "id" => cell.clone_into(&mut product.id),
                "sku" => product.sku = text(),
                "title" => cell.clone_into(&mut product.title),
                "name" => product.name = text(),
                "description" => product.description = text(),
                "brand" => product.brand = text(),
                "currency" => product.currency = text(),
                "image" => product.image = text(),
                "released" => product.released = text(),
                "categories" => product.categories = list(cell, '>'),
                "tags" => product.tags = list(cell, ';'),
                "images" => product.images = list(cell, ';'),
                "ean" => product.ean = list(cell, ';'),
                "price_minor" => product.price_minor = Some(number("price_minor", cell)?),
                "popularity" => product.popularity = Some(number("popularity", cell)?),
                "quantity" => product.quantity = Some(number("quantity", cell)?),
                "attributes" => product.attributes = pairs("attributes", cell)?,
                "specifications" => product.specifications = pairs("specifications", cell)?,
                _ => {}
            }
        }
        Ok(product)
    }

    #[cfg(test)]
    pub(crate) fn category(&self) -> &[String] {
        &self.categories
    }

    /// The ids derive from the seller and the source's own name, so that the same product is the same item.
    pub(crate) fn into_item(self, seller_id: AccountId) -> Result<NewItem, ProductError> {
        if self.id.is_empty() && self.sku.is_none() {
            return Err(field("id", "missing"));
        }
        let source = if self.id.is_empty() { self.sku.clone().unwrap_or_default() } else { self.id.clone() };
        let name = if self.title.trim().is_empty() {
            self.name.clone().unwrap_or_default()
        } else {
            self.title.clone()
        };
        let name = name.trim().to_owned();
        if name.is_empty() {
            return Err(field("title", "missing"));
        }
        if name.chars().count() > LONGEST_NAME {
            return Err(field("title", format!("longer than {LONGEST_NAME} characters")));
        }
        let currency = match &self.currency {
            None => Currency::USD,
            Some(text) => text.parse().map_err(|error| field("currency", format!("{text:?}: {error}")))?,
        };
        let price = self.price_minor.map(|amount| price(amount, currency)).transpose()?;
        let sku = sku("id", self.sku.as_deref().unwrap_or(&source))?;
        let mut variants = Vec::with_capacity(self.variants.len());
        for variant in &self.variants {
            variants.push(variant.to_variant(currency)?);
        }
        if price.is_none() && (variants.is_empty() || variants.iter().any(|variant| variant.price.is_none()))
        {
            return Err(field("price_minor", "missing"));
        }
        // Where there are variants the item's own SKU is sold only if the file says how many there are.
        let quantity =
            if variants.is_empty() { Some(self.quantity.unwrap_or(QUANTITY)) } else { self.quantity };
        Ok(NewItem {
            item_id: Some(item_id(seller_id, &source)),
            seller_id,
            sku,
            details: self.details(name),
            price,
            quantity,
            variants,
        })
    }

    fn details(self, name: String) -> Details {
        let mut attributes = texts(&self.attributes);
        let mut specifications = texts(&self.specifications);
        // Buyers look for these, so they are attributes; the index leaves long lists of them out of its facets.
        if let Some(model) = self.name.filter(|model| !model.trim().is_empty() && *model != name) {
            attributes.entry("model".to_owned()).or_insert(model);
        }
        if !self.ean.is_empty() {
            attributes.entry("ean".to_owned()).or_insert(self.ean.join(" "));
        }
        if let Some(released) = self.released {
            let day = released.split_once('T').map_or(&*released, |(day, _)| day).to_owned();
            specifications.entry("released".to_owned()).or_insert(day);
        }
        if let Some(popularity) = self.popularity {
            specifications.entry("popularity".to_owned()).or_insert(popularity.to_string());
        }
        let mut images = self.images;
        if let Some(image) = self.image.filter(|image| !image.is_empty() && !images.contains(image)) {
            images.insert(0, image);
        }
        Details {
            name,
            description: self.description.unwrap_or_default(),
            brand: self.brand.map(|brand| brand.trim().to_owned()).filter(|brand| !brand.is_empty()),
            category: self
                .categories
                .into_iter()
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect(),
            tags: self.tags.into_iter().collect::<BTreeSet<_>>(),
            attributes,
            specifications,
            images,
        }
    }
}

impl ProductVariant {
    fn to_variant(&self, currency: Currency) -> Result<NewVariant, ProductError> {
        Ok(NewVariant {
            sku: sku("variants.sku", &self.sku)?,
            options: texts(&self.options),
            price: self.price_minor.map(|amount| price(amount, currency)).transpose()?,
            quantity: Some(self.quantity.unwrap_or(QUANTITY)),
            images: Some(self.images.clone()),
        })
    }
}

pub(crate) fn item_id(seller: AccountId, source: &str) -> ItemId {
    ItemId(Uuid::new_v5(&seller.0, format!("import/{source}").as_bytes()))
}

fn sku(name: &'static str, text: &str) -> Result<Sku, ProductError> {
    Sku::parse(text.trim()).map_err(|error| field(name, format!("no SKU: {error}")))
}

fn price(amount: i64, currency: Currency) -> Result<Money, ProductError> {
    if amount > 0 { Ok(Money::new(amount, currency)) } else { Err(field("price_minor", "not above zero")) }
}

fn number<T: std::str::FromStr>(name: &'static str, cell: &str) -> Result<T, ProductError> {
    cell.parse().map_err(|_| field(name, format!("not such a number: {cell}")))
}

fn list(cell: &str, separator: char) -> Vec<String> {
    cell.split(separator).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn pairs(name: &'static str, cell: &str) -> Result<Map<String, Value>, ProductError> {
    if cell.starts_with('{') {
        return serde_json::from_str(cell).map_err(|error| field(name, format!("no JSON object: {error}")));
    }
    list(cell, ';')
        .iter()
        .map(|pair| {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| field(name, format!("not key=value: {pair}")))?;
            Ok((key.trim().to_owned(), Value::from(value.trim())))
        })
        .collect()
}

/// Attributes are text: of a whole number that the source wrote with a fraction (`6.0`) the fraction is left out.
fn texts(values: &Map<String, Value>) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Value::Number(number) => {
            let text = number.to_string();
            Some(text.strip_suffix(".0").map_or(text.clone(), str::to_owned))
        }
        Value::Array(parts) => {
            let parts: Vec<_> = parts
                .iter()
                .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
                .collect();
            Some(parts.join(", ")).filter(|text| !text.is_empty())
        }
        other => Some(other.to_string()),
    };
    values.iter().filter_map(|(key, value)| Some((key.trim().to_owned(), text(value)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seller() -> AccountId {
        AccountId(Uuid::from_u128(1))
    }

    fn item(json: &str) -> Result<NewItem, ProductError> {
        Product::from_json(json)?.into_item(seller())
    }

    #[test]
    fn a_line_of_json_becomes_an_item() {
        let new = item(
            r#"{"id": "7722", "title": "Intel networking card", "name": "PWLA8490MFBLK5", "description": "Fast",
                "brand": "Intel", "price_minor": 49295, "currency": "USD", "released": "2005-06-27T00:00:00Z",
                "ean": ["0735858156523", "00735858156523"], "image": "http://images/1.jpg",
                "attributes": {"quantity_per_pack": 6.0, "halogen_free": false, "empty": "", "size": 0.5}}"#,
        )
        .expect("an item");
        assert_eq!(new.sku.as_str(), "7722");
        assert_eq!(new.price, Some(Money::new(49_295, Currency::USD)));
        assert_eq!(new.quantity, Some(100));
        let expected = [
            ("ean", "0735858156523 00735858156523"),
            ("halogen_free", "false"),
            ("model", "PWLA8490MFBLK5"),
            ("quantity_per_pack", "6"),
            ("size", "0.5"),
        ];
        let attributes: Vec<_> =
            new.details.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(attributes, expected);
        assert_eq!(new.details.specifications["released"], "2005-06-27");
        assert_eq!(new.details.images, ["http://images/1.jpg"]);
    }

    #[test]
    fn a_line_of_csv_becomes_the_same_item() {
        let header = StringRecord::from(vec![
            "id",
            "title",
            "price_minor",
            "currency",
            "categories",
            "attributes",
            "ean",
        ]);
        let record = StringRecord::from(vec![
            "1",
            "Lamp",
            "999",
            "EUR",
            "Home > Light",
            "colour=red; watts=5",
            "12;34",
        ]);
        let from_csv = Product::from_csv(&header, &record).expect("a product");
        let from_json = Product::from_json(
            r#"{"id": "1", "title": "Lamp", "price_minor": 999, "currency": "EUR", "categories": ["Home", "Light"],
                "attributes": {"colour": "red", "watts": "5"}, "ean": ["12", "34"]}"#,
        );
        assert_eq!(Ok(from_csv), from_json);
    }

    #[test]
    fn variants_bring_their_own_sku_and_price() {
        let new = item(
            r#"{"id": "shirt", "title": "Shirt", "price_minor": 1000, "currency": "USD", "variants": [
                {"sku": "shirt-m", "options": {"size": "M"}, "quantity": 3},
                {"sku": "shirt-l", "options": {"size": "L"}, "price_minor": 1200}]}"#,
        )
        .expect("an item");
        assert_eq!(new.quantity, None);
        assert_eq!(new.variants[0].price, None);
        assert_eq!(new.variants[0].quantity, Some(3));
        assert_eq!(new.variants[1].price, Some(Money::new(1_200, Currency::USD)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (json, part) in [
            ("{", "not a JSON object"),
            (r#"{"title": "x", "price_minor": 1}"#, "`id`"),
            (r#"{"id": "1", "price_minor": 1}"#, "`title`"),
            (r#"{"id": "1", "title": "x"}"#, "`price_minor` is missing"),
            (r#"{"id": "1", "title": "x", "price_minor": 0}"#, "above zero"),
            (r#"{"id": "1", "title": "x", "price_minor": 1, "currency": "dollar"}"#, "`currency`"),
            (r#"{"id": "1", "title": "x", "price_minor": 1.5}"#, "1.5"),
        ] {
            let error = item(json).expect_err("wrong").to_string();
            assert!(error.contains(part), "{json}: {error}");
        }
    }

    #[test]
    fn the_same_line_is_the_same_item() {
        let json = r#"{"id": "1", "title": "x", "price_minor": 1, "currency": "USD"}"#;
        assert_eq!(item(json).expect("an item").item_id, item(json).expect("an item").item_id);
    }
}
