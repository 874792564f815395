//! Products of a real catalogue, one JSON object a line, plain or compressed: `id`, `title`, and, where known, `name` (the
//! model), `description`, `brand`, `price_minor`, `currency`, `released`, `image`, `attributes`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use chrono::{DateTime, Utc};
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use uuid::Uuid;

use super::EvaluationError;
use crate::document::ItemDocument;

#[derive(Deserialize)]
struct Product {
    id: String,
    title: String,
    name: Option<String>,
    description: Option<String>,
    brand: Option<String>,
    price_minor: Option<i64>,
    currency: Option<String>,
    released: Option<DateTime<Utc>>,
    image: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, serde_json::Value>,
}

/// The item that a product of the file becomes. It is sold under one SKU of the same id.
pub fn item_id(product_id: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, product_id.as_bytes())
}

/// The products of a file, in its order.
pub fn products(
    path: &Path,
) -> Result<impl Iterator<Item = Result<ItemDocument, EvaluationError>>, EvaluationError> {
    let shown = path.display().to_string();
    let unreadable = |error| EvaluationError::File { path: shown.clone(), error };
    let file = File::open(path).map_err(unreadable)?;
    let compressed = path.extension().is_some_and(|end| end == "gz");
    let bytes: Box<dyn Read + Send> =
        if compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(BufReader::new(bytes).lines().enumerate().map(move |(at, line)| {
        let line = line.map_err(|error| EvaluationError::File { path: shown.clone(), error })?;
        let product: Product = serde_json::from_str(&line).map_err(|error| EvaluationError::Line {
            path: shown.clone(),
            line: at + 1,
            reason: error.to_string(),
        })?;
        Ok(product.into())
    }))
}

impl From<Product> for ItemDocument {
    fn from(product: Product) -> Self {
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        let id = item_id(&product.id);
        Self {
            item_id: id,
            seller_id: Uuid::from_u128(1),
            sku: product.name.unwrap_or(product.id),
            name: product.title,
            description: product.description.unwrap_or_default(),
            brand: product.brand,
            category: Vec::new(),
            tags: Vec::new(),
            attributes: product.attributes.into_iter().map(|(key, value)| (key, text(value))).collect(),
            price: product.price_minor.unwrap_or(0),
            currency: product.currency.unwrap_or_else(|| "USD".to_owned()),
            image: product.image,
            listed_at: product.released.unwrap_or(DateTime::UNIX_EPOCH),
            rating: None,
            skus: vec![id],
            variants: Vec::new(),
        }
    }
}
