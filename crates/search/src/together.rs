//! Filters that one variant of an item has to meet together: its options and its price. That an item has some variant in
//! red and some in size M says nothing of a red one in size M, so each document with several variants has a column that
//! says which of them have what; what the item says of itself holds for all of them.
//!
//! The column: how many variants there are, then for each attribute a hash of it and the set of the variants that have it,
//! a bit each, in as many words as that takes. Prices are a column of their own, in the order of the variants.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use tantivy::columnar::Column;
use tantivy::{DocId, SegmentReader};

use crate::document::{ItemDocument, attribute, attribute_key, is_filter};
use crate::facets::price_step;
use crate::filters::Dimension;
use crate::fnv::hash;
use crate::schema::{Key, column};

const BITS: usize = u64::BITS as usize;

/// What one filter wants of a variant.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    /// One of these attributes.
    AnyOf(Vec<u64>),
    Price(RangeInclusive<i64>),
}

/// All that is wanted of one variant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Together(Arc<[(Dimension, Wanted)]>);

impl Together {
    pub(crate) fn new(wanted: Vec<(Dimension, Wanted)>) -> Self {
        Self(wanted.into())
    }

    /// Whether there is anything that different variants could meet.
    pub(crate) fn is_several(&self) -> bool {
        self.0.len() > 1
    }

    /// Without what is wanted in this dimension.
    pub(crate) fn but(&self, dimension: &Dimension) -> Self {
        Self(self.0.iter().filter(|(of, _)| of != dimension).cloned().collect())
    }

    /// `None` if nothing is wanted, or no document there has several variants.
    pub(crate) fn open(&self, segment: &SegmentReader) -> tantivy::Result<Option<Variants>> {
        let columns = segment.fast_fields();
        let opened = match (self.0.is_empty(), columns.column_opt(column::VARIANTS)?) {
            (false, Some(options)) => Some((options, columns.column_opt(column::PRICES)?)),
            _ => None,
        };
        Ok(opened.map(|(options, prices)| Variants {
            wanted: self.clone(),
            options,
            prices,
            read: Vec::new(),
            priced: Vec::new(),
        }))
    }
}

/// An attribute as the column names it.
pub(crate) fn name(key: &str, value: &str) -> u64 {
    name_of_key(&Key::Attribute.text(&attribute(key, value)))
}

/// The same, of its key in the index.
pub(crate) fn name_of_key(key: &str) -> u64 {
    hash(key)
}

/// The column's values for an item; none for one that has not several variants.
pub(crate) fn values(item: &ItemDocument) -> Vec<u64> {
    let count = item.variants.len();
    if count < 2 {
        return Vec::new();
    }
    let mut sets: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut add = |key: &str, value: &str, variant: usize| {
        if is_filter(value.trim()) {
            let set = sets.entry(name(&attribute_key(key), value.trim()));
            set.or_insert_with(|| vec![0; count.div_ceil(BITS)])[variant / BITS] |= 1 << (variant % BITS);
        }
    };
    for (at, variant) in item.variants.iter().enumerate() {
        for (key, value) in item.attributes.iter().chain(&variant.options) {
            add(key, value, at);
        }
    }
    let sets = sets.into_iter().flat_map(|(name, set)| [name].into_iter().chain(set));
    [count as u64].into_iter().chain(sets).collect()
}

/// The variants of one document after another.
pub(crate) struct Variants {
    wanted: Together,
    options: Column<u64>,
    prices: Option<Column<i64>>,
    /// Of the document that was read last.
    read: Vec<u64>,
    priced: Vec<i64>,
}

impl Variants {
    /// Reads a document; false if it has not several variants.
    pub(crate) fn read(&mut self, document: DocId) -> bool {
        self.read.clear();
        self.read.extend(self.options.values_for_doc(document));
        self.priced.clear();
        if self.read.is_empty() {
            return false;
        }
        self.priced.extend(self.prices.iter().flat_map(|prices| prices.values_for_doc(document)));
        true
    }

    /// Whether one variant of the document read meets all but what is wanted in one dimension.
    pub(crate) fn fit(&self, but: Option<&Dimension>) -> bool {
        (0..self.words()).any(|word| self.fitting(but, word) != 0)
    }

    /// Whether one of them meets all and has this attribute.
    pub(crate) fn fit_and_have(&self, name: u64) -> bool {
        (0..self.words()).any(|word| self.having(name, word) & self.fitting(None, word) != 0)
    }

    /// A bit for each step that the price of one that meets all lies in.
    pub(crate) fn price_steps(&self) -> u16 {
        let fits = |at: usize| self.fitting(None, at / BITS) >> (at % BITS) & 1 == 1;
        let prices = self.priced.iter().enumerate().filter(|(at, _)| fits(*at));
        prices.fold(0, |steps, (_, price)| steps | 1 << price_step(*price))
    }

    fn words(&self) -> usize {
        (self.read.first().copied().unwrap_or(0) as usize).div_ceil(BITS)
    }

    /// Those of a word that meet all, or all but one.
    fn fitting(&self, but: Option<&Dimension>, word: usize) -> u64 {
        let wanted = self.wanted.0.iter().filter(|(of, _)| Some(of) != but);
        // Of no variants none, whatever is wanted.
        let there = self.read[0] as usize - word * BITS;
        let all = if there < BITS { (1 << there) - 1 } else { u64::MAX };
        wanted.fold(all, |fitting, (_, wanted)| {
            fitting
                & match wanted {
                    Wanted::AnyOf(names) => {
                        names.iter().fold(0, |having, name| having | self.having(*name, word))
                    }
                    Wanted::Price(range) => {
                        let prices = self.priced.iter().skip(word * BITS).take(BITS).enumerate();
                        let fit = prices.filter(|(_, price)| range.contains(price));
                        fit.fold(0, |priced, (at, _)| priced | 1 << at)
                    }
                }
        })
    }

    /// Those of a word that have an attribute.
    fn having(&self, name: u64, word: usize) -> u64 {
        let sets = self.read[1..].chunks_exact(self.words() + 1);
        sets.filter(|set| set[0] == name).map(|set| set[word + 1]).next().unwrap_or(0)
    }
}
