//! Counts by value. What is counted most lies in memory as numbers ([`Values`]); of attributes a column is read, where within a
//! segment ordinals are counted and text is looked up once at the end.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

use tantivy::columnar::{Column, RowId, StrColumn};
use tantivy::{DocId, SegmentReader};

use crate::availability::Availability;
use crate::document::attribute_key;
use crate::filters::Dimension;
use crate::query::{FacetCount, SearchError};
use crate::schema::column;
use crate::together::{self, Variants};
use crate::values::{Row, Text, Values};

/// The most values of a facet in an answer, the most frequent ones.
pub const FACET_VALUES: usize = 100;
/// The most facets in one search.
const MOST_FACETS: usize = 20;
/// Of a column with more values found than this in a segment (serial numbers, say) the rarest are left out.
const MOST_VALUES: usize = 10_000;
const ATTRIBUTE_PREFIX: &str = "attributes.";

/// Lower ends of the price ranges, in minor units; the last one is open.
const PRICE_STEPS: [i64; 16] = [
    0, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 25_000_000, 50_000_000,
];
// An item keeps a bit for each.
const _: () = assert!(PRICE_STEPS.len() <= u16::BITS as usize);
/// "This many stars and up".
const RATING_STEPS: [i64; 4] = [400, 300, 200, 100];

/// What one facet counted.
pub(crate) enum Counts {
    Texts(HashMap<String, u64>),
    /// By number.
    Numbers(Text, Vec<u32>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facet {
    /// As it was asked for.
    pub(crate) name: String,
    pub(crate) dimension: Dimension,
}

/// The facets of these names, each once.
pub(crate) fn parse(names: &[String]) -> Result<Vec<Facet>, SearchError> {
    let mut facets: Vec<Facet> = Vec::new();
    for name in names.iter().map(|name| name.trim()).filter(|name| !name.is_empty()) {
        let dimension = match name {
            "brand" => Dimension::Brand,
            "category" => Dimension::Category,
            "price" => Dimension::Price,
            "seller" => Dimension::Seller,
            "rating" => Dimension::Rating,
            "inStock" => Dimension::InStock,
            other => match other.strip_prefix(ATTRIBUTE_PREFIX).filter(|key| !key.trim().is_empty()) {
                Some(key) => Dimension::Attribute(attribute_key(key)),
                None => return Err(SearchError::Facet(other.to_owned())),
            },
        };
        if facets.len() < MOST_FACETS && facets.iter().all(|facet| facet.name != name) {
            facets.push(Facet { name: name.to_owned(), dimension });
        }
    }
    Ok(facets)
}

impl Default for Counts {
    fn default() -> Self {
        Self::Texts(HashMap::new())
    }
}

impl Counts {
    pub(crate) fn add(&mut self, more: Self) {
        match (self, more) {
            (Self::Texts(counts), Self::Texts(more)) => {
                for (value, count) in more {
                    *counts.entry(value).or_default() += count;
                }
            }
            (Self::Numbers(_, counts), Self::Numbers(_, more)) => {
                counts.resize(counts.len().max(more.len()), 0);
                for (count, more) in counts.iter_mut().zip(more) {
                    *count += more;
                }
            }
            // Nothing was counted yet.
            (counts, more) => *counts = more,
        }
    }

    /// Most frequent first, equal ones by value.
    pub(crate) fn ordered(self, values: &Values) -> Vec<FacetCount> {
        let of = |(value, count): (Arc<str>, u64)| FacetCount { value: value.to_string(), count };
        match self {
            Self::Texts(counts) => {
                most_frequent(counts).map(|(value, count)| FacetCount { value, count }).collect()
            }
            Self::Numbers(text, counts) => most_frequent(values.names(text).told(&counts)).map(of).collect(),
        }
    }
}

/// At most as many as are shown, in order.
fn most_frequent<T: Ord>(counts: impl IntoIterator<Item = (T, u64)>) -> impl Iterator<Item = (T, u64)> {
    let mut counts: Vec<(T, u64)> = counts.into_iter().collect();
    let order = |a: &(T, u64), b: &(T, u64)| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0));
    if counts.len() > FACET_VALUES {
        counts.select_nth_unstable_by(FACET_VALUES, order);
        counts.truncate(FACET_VALUES);
    }
    counts.sort_unstable_by(order);
    counts.into_iter()
}

/// Counts one facet on one segment.
pub(crate) enum Tally {
    Absent,
    Numbers {
        text: Text,
        counts: Vec<u32>,
    },
    Prices {
        counts: [u64; PRICE_STEPS.len()],
        variants: Option<Variants>,
    },
    Text {
        column: StrColumn,
        counts: Vec<u32>,
        block: Block<u64>,
    },
    /// Only what variants have that meet the filters.
    OfVariants {
        key: String,
        column: StrColumn,
        counts: Vec<u32>,
        names: HashMap<u64, u64>,
        variants: Variants,
    },
    Ratings {
        column: Column<i64>,
        counts: [u64; RATING_STEPS.len()],
        block: Block<i64>,
    },
    Stock {
        slots: Column<u64>,
        availability: Arc<Availability>,
        counts: [u64; 2],
        block: Block<u64>,
    },
}

/// The values that some documents have in a column, each beside its document.
#[derive(Default)]
pub(crate) struct Block<T> {
    documents: Vec<DocId>,
    rows: Vec<RowId>,
    values: Vec<T>,
}

impl<T: PartialOrd + Copy + Default + Debug + Send + Sync + 'static> Block<T> {
    fn read(&mut self, column: &Column<T>, of: &[DocId]) {
        self.documents.clear();
        self.rows.clear();
        column.row_ids_for_docs(of, &mut self.documents, &mut self.rows);
        self.values.resize(self.rows.len(), T::default());
        column.values.get_vals(&self.rows, &mut self.values);
    }
}

impl Tally {
    pub(crate) fn open(
        dimension: &Dimension,
        segment: &SegmentReader,
        availability: &Arc<Availability>,
        values: &Values,
        variants: Option<Variants>,
    ) -> tantivy::Result<Self> {
        let columns = segment.fast_fields();
        let numbers = |text: Text| Self::Numbers { text, counts: vec![0; values.names(text).len()] };
        Ok(match dimension {
            Dimension::Brand => numbers(Text::Brand),
            Dimension::Category => numbers(Text::Category),
            Dimension::Seller => numbers(Text::Seller),
            Dimension::Price => Self::Prices { counts: Default::default(), variants },
            Dimension::Attribute(key) => {
                columns.str(&attribute_column(key))?.map_or(Self::Absent, |column| {
                    let counts = vec![0; column.num_terms()];
                    match variants {
                        None => Self::Text { column, counts, block: Block::default() },
                        Some(variants) => {
                            let (key, names) = (key.clone(), HashMap::new());
                            Self::OfVariants { key, column, counts, names, variants }
                        }
                    }
                })
            }
            Dimension::Rating => columns.column_opt(column::RATING)?.map_or(Self::Absent, |column| {
                Self::Ratings { column, counts: Default::default(), block: Block::default() }
            }),
            Dimension::InStock => Self::Stock {
                slots: columns.u64(column::SLOT)?,
                availability: Arc::clone(availability),
                counts: [0; 2],
                block: Block::default(),
            },
        })
    }

    /// Counts documents, given with their rows.
    pub(crate) fn count(&mut self, documents: &[DocId], rows: &[Row]) {
        match self {
            Self::Absent => {}
            Self::Numbers { text, counts } => {
                for row in rows {
                    // A document without a value has a number that nothing has.
                    if let Some(count) = counts.get_mut(row.number(*text)) {
                        *count += 1;
                    }
                }
            }
            Self::Prices { counts, variants } => {
                // An item with variants counts once in each range that it has a price in.
                for (document, row) in documents.iter().zip(rows) {
                    let mut left = row.prices;
                    if let Some(variants) = variants
                        && variants.read(*document)
                    {
                        left = variants.price_steps();
                    }
                    while left > 0 {
                        counts[left.trailing_zeros() as usize] += 1;
                        left &= left - 1;
                    }
                }
            }
            Self::Text { column, counts, block } => {
                block.read(column.ords(), documents);
                for ordinal in &block.values {
                    counts[*ordinal as usize] += 1;
                }
            }
            Self::OfVariants { key, column, counts, names, variants } => {
                let mut text = String::new();
                for document in documents {
                    let several = variants.read(*document);
                    for ordinal in column.term_ords(*document) {
                        let mut name = || {
                            *names.entry(ordinal).or_insert_with(|| {
                                text.clear();
                                // What cannot be read is nobody's.
                                let there = column.ord_to_str(ordinal, &mut text).unwrap_or(false);
                                if there { together::name(key, &text) } else { 0 }
                            })
                        };
                        if !several || variants.fit_and_have(name()) {
                            counts[ordinal as usize] += 1;
                        }
                    }
                }
            }
            Self::Ratings { column, counts, block } => {
                block.read(column, documents);
                for rating in &block.values {
                    for (count, _) in counts.iter_mut().zip(RATING_STEPS).filter(|(_, least)| rating >= least)
                    {
                        *count += 1;
                    }
                }
            }
            Self::Stock { slots, availability, counts, block } => {
                block.read(slots, documents);
                for slot in &block.values {
                    counts[usize::from(availability.slot_in_stock(*slot as u32))] += 1;
                }
            }
        }
    }

    pub(crate) fn harvest(self) -> tantivy::Result<Counts> {
        let mut texts = HashMap::new();
        let mut add = |value: String, count: u64| {
            if count > 0 {
                texts.insert(value, count);
            }
        };
        match self {
            Self::Absent => {}
            Self::Numbers { text, counts } => return Ok(Counts::Numbers(text, counts)),
            Self::Text { column, counts, .. } | Self::OfVariants { column, counts, .. } => {
                let mut found: Vec<u64> =
                    (0..counts.len() as u64).filter(|at| counts[*at as usize] > 0).collect();
                if found.len() > MOST_VALUES {
                    let count = |at: &u64| std::cmp::Reverse(counts[*at as usize]);
                    found.select_nth_unstable_by_key(MOST_VALUES, count);
                    found.truncate(MOST_VALUES);
                    found.sort_unstable();
                }
                let mut at = found.iter();
                column.dictionary().sorted_ords_to_term_cb(&found, |value| {
                    if let Some(ordinal) = at.next() {
                        let count = counts[*ordinal as usize];
                        add(String::from_utf8_lossy(value).into_owned(), u64::from(count));
                    }
                })?;
            }
            Self::Prices { counts, .. } => {
                for (step, count) in counts.into_iter().enumerate() {
                    add(price_range(step), count);
                }
            }
            Self::Ratings { counts, .. } => {
                for (least, count) in RATING_STEPS.iter().zip(counts) {
                    add((least / 100).to_string(), count);
                }
            }
            Self::Stock { counts, .. } => {
                add("false".to_owned(), counts[0]);
                add("true".to_owned(), counts[1]);
            }
        }
        Ok(Counts::Texts(texts))
    }
}

/// Which range a price is in.
pub(crate) fn price_step(price: i64) -> usize {
    PRICE_STEPS.partition_point(|low| *low <= price).saturating_sub(1)
}

fn price_range(step: usize) -> String {
    match PRICE_STEPS.get(step + 1) {
        Some(next) => format!("{}-{}", PRICE_STEPS[step], next - 1),
        None => format!("{}-", PRICE_STEPS[step]),
    }
}

/// Dots in a key must not read as a path.
fn attribute_column(key: &str) -> String {
    format!("{}.{}", column::ATTRIBUTES, key.replace('\\', "\\\\").replace('.', "\\."))
}
