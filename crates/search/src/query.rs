//! The language of a search: what is asked, what is answered, what can be wrong.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The most hits on a page.
pub const LARGEST_PAGE: usize = 100;

/// A search. Everything left out asks for everything.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    pub term: Option<String>,
    /// A path joined by ` > `, or the name or path of any ancestor. Case and accents do not matter, here and below.
    pub category: Option<String>,
    /// Any of these.
    pub brand: Vec<String>,
    /// In minor units, inclusive. One variant has to be within the range and have the attributes.
    pub min_price: Option<i64>,
    pub max_price: Option<i64>,
    pub min_rating: Option<f32>,
    pub seller: Option<Uuid>,
    pub in_stock: Option<bool>,
    /// Values of one key are alternatives; every key must match. Variants' options count as well: one variant has to match all
    /// of them, beside what the item says of itself.
    pub attributes: Vec<(String, String)>,
    pub sort: Sort,
    /// `brand`, `category`, `price`, `seller`, `rating`, `inStock`, `attributes.KEY`.
    pub facets: Vec<String>,
    /// `next_cursor` of the page before, with the rest of the query unchanged.
    pub cursor: Option<String>,
    /// Taken into 1..=100.
    pub size: usize,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            term: None,
            category: None,
            brand: Vec::new(),
            min_price: None,
            max_price: None,
            min_rating: None,
            seller: None,
            in_stock: None,
            attributes: Vec::new(),
            sort: Sort::default(),
            facets: Vec::new(),
            cursor: None,
            size: 20,
        }
    }
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Sort {
    /// By how well the text matches; without a term, newest first.
    #[default]
    Relevance,
    Price,
    PriceDesc,
    Newest,
    Rating,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub struct Hits {
    pub hits: Vec<Hit>,
    /// How many items match, on all pages together.
    pub total: usize,
    /// `None` on the last page.
    pub next_cursor: Option<String>,
    /// By the names asked for; each counts as if its own filter were not set, most frequent value first.
    pub facets: BTreeMap<String, Vec<FacetCount>>,
    /// What was searched for instead of what was typed.
    pub corrected_term: Option<String>,
    /// Nothing has all words of the term: these have some. Said of a first page.
    pub fewer_words: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    pub item_id: Uuid,
    pub sku: String,
    pub name: String,
    pub brand: Option<String>,
    pub category: Vec<String>,
    /// The lowest one among variants.
    pub price: i64,
    pub currency: String,
    pub rating: Option<f32>,
    pub in_stock: bool,
    pub image: Option<String>,
    /// HTML: escaped text with matches in `<em>`.
    pub highlight: Option<String>,
    /// Of an item with variants the one that fits best what was asked for.
    pub variant: Option<VariantHit>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct VariantHit {
    pub sku: String,
    pub options: BTreeMap<String, String>,
    pub price: i64,
    pub in_stock: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FacetCount {
    /// As the filter of the same name takes it; of `price` a range `low-high` in minor units, or `low-`.
    pub value: String,
    pub count: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    #[error("this cursor does not belong to this search")]
    Cursor,
    #[error("there is no facet `{0}`")]
    Facet(String),
    #[error("another writer has the index open")]
    Locked,
    #[error("the index cannot be read or written: {0}")]
    Index(tantivy::TantivyError),
    #[error("a file of the index cannot be read or written: {0}")]
    Io(#[from] std::io::Error),
    #[error("a stored document is not readable: {0}")]
    Document(#[from] serde_json::Error),
}

impl From<tantivy::TantivyError> for SearchError {
    fn from(error: tantivy::TantivyError) -> Self {
        match error {
            tantivy::TantivyError::LockFailure(..) => Self::Locked,
            other => Self::Index(other),
        }
    }
}
