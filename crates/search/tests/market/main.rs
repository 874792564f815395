//! The index from outside, on a small market made by hand.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod files;
mod filters;
mod pages;
mod suggestions;
mod variants;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use souk_search::{Config, Hits, IndexWriter, ItemDocument, Origin, Query, SearchIndex};
use uuid::Uuid;

fn id(number: u32) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number))
}

fn sku_id(number: u32) -> Uuid {
    Uuid::from_u128(0xffff_0000 + u128::from(number))
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn item(number: u32, name: &str) -> ItemDocument {
    ItemDocument {
        item_id: id(number),
        seller_id: id(900 + number % 2),
        sku: format!("SKU-{number}"),
        name: name.to_owned(),
        description: String::new(),
        brand: None,
        category: Vec::new(),
        tags: Vec::new(),
        attributes: BTreeMap::new(),
        price: i64::from(number) * 100,
        currency: "USD".to_owned(),
        image: None,
        listed_at: DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(i64::from(number)),
        rating: None,
        skus: vec![sku_id(number)],
        variants: Vec::new(),
    }
}

fn lamp(number: u32, brand: &str, colour: &str) -> ItemDocument {
    ItemDocument {
        brand: Some(brand.to_owned()),
        category: vec!["Home".to_owned(), "Lighting".to_owned(), "Desk Lamps".to_owned()],
        attributes: pairs(&[("Colour", colour), ("Power", "60 W")]),
        ..item(number, "Desk lamp with a shade")
    }
}

struct Market {
    directory: tempfile::TempDir,
    index: Arc<SearchIndex>,
    writer: IndexWriter,
}

impl Market {
    fn new(items: impl IntoIterator<Item = ItemDocument>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let index = SearchIndex::open(directory.path(), Config::default()).unwrap();
        assert_eq!(*index.origin(), Origin::Created);
        assert_eq!(index.position(), None);
        let mut writer = index.writer().unwrap();
        for item in items {
            writer.upsert(item).unwrap();
        }
        writer.commit(1).unwrap();
        Self { directory, index, writer }
    }

    fn find(&self, query: &Query) -> Hits {
        self.index.search(query).unwrap()
    }

    /// Numbers of the items found, in order.
    fn numbers(&self, query: &Query) -> Vec<u32> {
        self.find(query).hits.iter().map(|hit| (hit.item_id.as_u128() & 0xffff_ffff) as u32).collect()
    }

    fn set(&self, query: &Query) -> BTreeSet<u32> {
        self.numbers(query).into_iter().collect()
    }
}

fn reopen(directory: &Path) -> Arc<SearchIndex> {
    SearchIndex::open(directory, Config::default()).unwrap()
}

/// Where the files of the index lie.
fn place(directory: &Path) -> PathBuf {
    let mut entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries.find(|entry| entry.file_name().to_string_lossy().starts_with("index")).unwrap().path()
}

fn term(term: &str) -> Query {
    Query { term: Some(term.to_owned()), ..Query::default() }
}

fn facet(hits: &Hits, name: &str) -> Vec<(String, u64)> {
    hits.facets[name].iter().map(|count| (count.value.clone(), count.count)).collect()
}

fn counts(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(value, count)| ((*value).to_owned(), *count)).collect()
}
