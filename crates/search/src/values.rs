//! The values that facets count most, in memory: of each document of a segment its brand, category and seller as numbers
//! that mean the same in all segments, and the steps that its prices lie in. To count is to look a number up, where a
//! column would have to be unpacked and its texts be read in each search. A million items take 16 MB.
//!
//! A segment never changes, so what was read of it stays right until it is merged into another.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tantivy::columnar::Column;
use tantivy::index::SegmentId;
use tantivy::{DocId, Searcher, SegmentReader};

use crate::facets::price_step;
use crate::schema::column;

/// Of a segment, by document.
pub(crate) type Rows = Arc<[Row]>;

/// Of a document without a value.
const NONE: u32 = u32::MAX;

#[derive(Default)]
pub(crate) struct Values {
    /// Each locked while it is read: who comes second waits.
    segments: Mutex<HashMap<SegmentId, Arc<Mutex<Option<Rows>>>>>,
    brands: Names,
    categories: Names,
    sellers: Names,
}

/// A document's. They lie together, so that the second facet that asks finds them in the processor's cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    brand: u32,
    /// The end of its path.
    category: u32,
    seller: u32,
    /// A bit for each step that one of the prices lies in.
    pub(crate) prices: u16,
}

/// Texts that are counted by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    Brand,
    Category,
    Seller,
}

impl Row {
    /// One that no text has, where there is none.
    pub(crate) fn number(&self, text: Text) -> usize {
        let number = match text {
            Text::Brand => self.brand,
            Text::Category => self.category,
            Text::Seller => self.seller,
        };
        number as usize
    }
}

impl Values {
    pub(crate) fn of(&self, segment: &SegmentReader) -> tantivy::Result<Rows> {
        let known = Arc::clone(self.segments.lock().entry(segment.segment_id()).or_default());
        let mut known = known.lock();
        if let Some(rows) = &*known {
            return Ok(Arc::clone(rows));
        }
        let rows = self.read(segment)?;
        *known = Some(Arc::clone(&rows));
        Ok(rows)
    }

    fn read(&self, segment: &SegmentReader) -> tantivy::Result<Rows> {
        let brands = self.brands.read(segment, column::BRAND)?;
        let categories = self.categories.read(segment, column::CATEGORY)?;
        let sellers = self.sellers.read(segment, column::SELLER)?;
        let prices: Option<Column<i64>> = segment.fast_fields().column_opt(column::PRICES)?;
        let row = |document: DocId| {
            let at = document as usize;
            let prices = prices.iter().flat_map(|column| column.values_for_doc(document));
            Row {
                brand: brands[at],
                category: categories[at],
                seller: sellers[at],
                prices: prices.fold(0, |steps, price| steps | 1 << price_step(price)),
            }
        };
        Ok((0..segment.max_doc()).map(row).collect())
    }

    pub(crate) fn names(&self, text: Text) -> &Names {
        match text {
            Text::Brand => &self.brands,
            Text::Category => &self.categories,
            Text::Seller => &self.sellers,
        }
    }

    /// Reads new segments, so that no search has to, and forgets those that are no longer searched.
    pub(crate) fn follow(&self, searcher: &Searcher) -> tantivy::Result<()> {
        for segment in searcher.segment_readers() {
            self.of(segment)?;
        }
        let there =
            |id: &SegmentId| searcher.segment_readers().iter().any(|segment| segment.segment_id() == *id);
        self.segments.lock().retain(|id, _| there(id));
        Ok(())
    }
}

/// The texts of a column, numbered as they come. What is no longer there keeps its number until the next start.
#[derive(Default)]
pub(crate) struct Names(RwLock<Known>);

#[derive(Default)]
struct Known {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Name>,
}

struct Name {
    text: Arc<str>,
    /// A path counts for what it is in, too.
    parent: u32,
}

impl Names {
    /// By document its number; of a path that of its end.
    fn read(&self, segment: &SegmentReader, column: &str) -> tantivy::Result<Vec<u32>> {
        let Some(column) = segment.fast_fields().str(column)? else {
            return Ok(vec![NONE; segment.max_doc() as usize]);
        };
        let mut numbers = Vec::with_capacity(column.num_terms());
        let mut terms = column.dictionary().stream()?;
        let mut known = self.0.write();
        while terms.advance() {
            numbers.push(known.number(&String::from_utf8_lossy(terms.key())));
        }
        drop(known);
        let mut parents = vec![NONE; numbers.len()];
        let last = |document: DocId| {
            let mut at = NONE;
            // The values of a document are a path from its root, of which no part is in itself.
            for ordinal in column.term_ords(document) {
                let number = numbers[ordinal as usize];
                if at != NONE && at != number {
                    parents[ordinal as usize] = at;
                }
                at = number;
            }
            at
        };
        let read = (0..segment.max_doc()).map(last).collect();
        let mut known = self.0.write();
        // A seller may write a path as one name: that takes it out of nothing for the others.
        for (number, parent) in numbers.into_iter().zip(parents).filter(|(_, parent)| *parent != NONE) {
            known.names[number as usize].parent = parent;
        }
        Ok(read)
    }

    /// How many there are: numbers are below.
    pub(crate) fn len(&self) -> usize {
        self.0.read().names.len()
    }

    /// What was counted, by text, with all that it is in.
    pub(crate) fn told(&self, counts: &[u32]) -> Vec<(Arc<str>, u64)> {
        let known = self.0.read();
        let mut sums: HashMap<u32, u64> = HashMap::new();
        for (number, count) in (0..).zip(counts).filter(|(_, count)| **count > 0) {
            let mut at: u32 = number;
            while at != NONE {
                *sums.entry(at).or_default() += u64::from(*count);
                at = known.names[at as usize].parent;
            }
        }
        sums.into_iter().map(|(at, count)| (Arc::clone(&known.names[at as usize].text), count)).collect()
    }
}

impl Known {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let (number, text) = (self.names.len() as u32, Arc::<str>::from(text));
        self.numbers.insert(Arc::clone(&text), number);
        self.names.push(Name { text, parent: NONE });
        number
    }
}
