//! Counts by value, over columns. Within a segment ordinals are counted; text is looked up once per segment at the end.

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

/// The most values of a facet in an answer, the most frequent ones.
pub const FACET_VALUES: usize = 100;
/// The most facets in one search.
const MOST_FACETS: usize = 20;
/// Of a column with more values found than this in a segment (serial numbers, say) the rarest are left out.
const MOST_VALUES: usize = 10_000;
/// Documents whose values are read together.
const BLOCK: usize = 256;
const ATTRIBUTE_PREFIX: &str = "attributes.";

/// Lower ends of the price ranges, in minor units; the last one is open.
const PRICE_STEPS: [i64; 16] = [
    0, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 25_000_000, 50_000_000,
];
/// "This many stars and up".
const RATING_STEPS: [i64; 4] = [400, 300, 200, 100];

pub(crate) type Counts = HashMap<String, u64>;

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

/// Most frequent first, equal ones by value.
pub(crate) fn ordered(counts: Counts) -> Vec<FacetCount> {
    let mut counts: Vec<FacetCount> =
        counts.into_iter().map(|(value, count)| FacetCount { value, count }).collect();
    counts.sort_unstable_by(|a, b| b.count.cmp(&a.count).then_with(|| a.value.cmp(&b.value)));
    counts.truncate(FACET_VALUES);
    counts
}

/// Counts one facet on one segment: documents gather, and a column is read for all of them at once.
pub(crate) struct Counter {
    tally: Tally,
    waiting: Vec<DocId>,
}

enum Tally {
    Absent,
    Text { column: StrColumn, counts: Vec<u32>, block: Block<u64> },
    Prices { column: Column<i64>, counts: [u64; PRICE_STEPS.len()], block: Block<i64> },
    Ratings { column: Column<i64>, counts: [u64; RATING_STEPS.len()], block: Block<i64> },
    Stock { slots: Column<u64>, availability: Arc<Availability>, counts: [u64; 2], block: Block<u64> },
}

/// The values that some documents have in a column, each beside its document.
#[derive(Default)]
struct Block<T> {
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

impl Counter {
    pub(crate) fn open(
        dimension: &Dimension,
        segment: &SegmentReader,
        availability: &Arc<Availability>,
    ) -> tantivy::Result<Self> {
        let tally = Tally::open(dimension, segment, availability)?;
        Ok(Self { tally, waiting: Vec::with_capacity(BLOCK) })
    }

    pub(crate) fn count(&mut self, document: DocId) {
        self.waiting.push(document);
        if self.waiting.len() == BLOCK {
            self.tally.count(&self.waiting);
            self.waiting.clear();
        }
    }

    pub(crate) fn harvest(mut self, into: &mut Counts) -> tantivy::Result<()> {
        self.tally.count(&self.waiting);
        self.tally.harvest(into)
    }
}

impl Tally {
    fn open(
        dimension: &Dimension,
        segment: &SegmentReader,
        availability: &Arc<Availability>,
    ) -> tantivy::Result<Self> {
        let columns = segment.fast_fields();
        let text = |name: &str| {
            tantivy::Result::Ok(columns.str(name)?.map_or(Self::Absent, |column| {
                let counts = vec![0; column.num_terms()];
                Self::Text { column, counts, block: Block::default() }
            }))
        };
        Ok(match dimension {
            Dimension::Brand => text(column::BRAND)?,
            Dimension::Category => text(column::CATEGORY)?,
            Dimension::Seller => text(column::SELLER)?,
            Dimension::Attribute(key) => text(&attribute_column(key))?,
            Dimension::Price => columns.column_opt(column::PRICES)?.map_or(Self::Absent, |column| {
                Self::Prices { column, counts: Default::default(), block: Block::default() }
            }),
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

    fn count(&mut self, documents: &[DocId]) {
        match self {
            Self::Absent => {}
            Self::Text { column, counts, block } => {
                block.read(column.ords(), documents);
                for ordinal in &block.values {
                    counts[*ordinal as usize] += 1;
                }
            }
            Self::Prices { column, counts, block } => {
                block.read(column, documents);
                // An item with variants counts once in each range that it has a price in.
                let (mut at, mut seen) = (DocId::MAX, 0_u32);
                for (document, price) in block.documents.iter().zip(&block.values) {
                    if *document != at {
                        (at, seen) = (*document, 0);
                    }
                    let step = PRICE_STEPS.partition_point(|low| low <= price).saturating_sub(1);
                    if seen & (1 << step) == 0 {
                        seen |= 1 << step;
                        counts[step] += 1;
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

    fn harvest(self, into: &mut Counts) -> tantivy::Result<()> {
        let mut add = |value: String, count: u64| {
            if count > 0 {
                *into.entry(value).or_default() += count;
            }
        };
        match self {
            Self::Absent => {}
            Self::Text { column, counts, .. } => {
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
        Ok(())
    }
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
