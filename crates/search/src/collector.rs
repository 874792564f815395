//! One pass over the matching documents: checks filters, counts facets that each ignore their own filter, counts hits, and
//! keeps the best ones by a column. Scores have a pass of their own (`best`), which need not come by all of them.
//!
//! A document that fails one filter alone still counts in that filter's facet; one that fails two counts nowhere. One that
//! passes each, but has no variant that passes all, counts in the facets of those without which it has one.

use std::sync::Arc;

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::Column;
use tantivy::{DocAddress, DocId, Score, SegmentOrdinal, SegmentReader};

use crate::availability::Availability;
use crate::facets::{Counts, Facet, Tally};
use crate::filters::{Check, Dimension, Filter};
use crate::schema::column;
use crate::together::{Together, Variants};
use crate::values::{Row, Rows, Values};

/// Documents that are counted together.
const BLOCK: usize = 256;

/// Where a hit stands: the larger, the earlier. The sort key above, the complement of the item's tie-breaker below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank(u128);

impl Rank {
    /// Before every hit.
    pub(crate) const FIRST: Self = Self(u128::MAX);

    pub(crate) fn new(key: u64, tie: u64) -> Self {
        Self(u128::from(key) << 64 | u128::from(!tie))
    }

    /// Scores that differ by rounding only are equal.
    pub(crate) fn of_score(score: Score, tie: u64) -> Self {
        Self::new(score_key(score), tie)
    }

    /// Before everything else that has this sort key.
    fn first_of(key: u64) -> Self {
        Self::new(key, 0)
    }

    /// Before everything else that has this score.
    pub(crate) fn first_of_score(score: Score) -> Self {
        Self::first_of(score_key(score))
    }

    pub(crate) fn parts(self) -> (u64, u64) {
        ((self.0 >> 64) as u64, !(self.0 as u64))
    }

    pub(crate) fn tie(self) -> u64 {
        self.parts().1
    }
}

const STEPS: Score = 1024.0;

fn score_key(score: Score) -> u64 {
    (score.max(0.0) * STEPS).round() as u64
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    /// The first that come by: to see whether there are more.
    Any,
    Ascending(&'static str),
    Descending(&'static str),
    /// What can be had first, then by what was sold lately.
    Popular,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) rank: Rank,
    pub(crate) address: DocAddress,
}

/// What a pass is to do.
pub(crate) struct Pass {
    /// Each with the facet that ignores it.
    pub(crate) filters: Vec<(Filter, Option<usize>)>,
    /// What one variant has to meet of them.
    pub(crate) together: Together,
    pub(crate) facets: Vec<Facet>,
    pub(crate) availability: Arc<Availability>,
    pub(crate) values: Arc<Values>,
    pub(crate) order: Order,
    /// Keep the best so many …
    pub(crate) limit: usize,
    /// … of those that come after this rank.
    pub(crate) after: Option<Rank>,
}

#[derive(Default)]
pub(crate) struct Outcome {
    /// All that match, whatever their rank.
    pub(crate) total: usize,
    /// In order.
    pub(crate) best: Vec<Candidate>,
    /// One per facet.
    pub(crate) facets: Vec<Counts>,
}

impl Collector for Pass {
    type Fruit = Outcome;
    type Child = SegmentPass;

    fn for_segment(&self, ordinal: SegmentOrdinal, segment: &SegmentReader) -> tantivy::Result<SegmentPass> {
        let mut checks = Vec::with_capacity(self.filters.len());
        for (filter, facet) in &self.filters {
            checks.push((filter.open(segment, &self.availability)?, *facet));
        }
        // Before the facets ask how many names there are.
        let rows = if self.facets.is_empty() { Arc::default() } else { self.values.of(segment)? };
        let facets = self.facets.iter().map(|facet| {
            let variants = match facet.dimension {
                Dimension::Price | Dimension::Attribute(_) => {
                    self.together.but(&facet.dimension).open(segment)?
                }
                _ => None,
            };
            let tally = Tally::open(&facet.dimension, segment, &self.availability, &self.values, variants)?;
            Ok(Counted { dimension: facet.dimension.clone(), tally, but: Vec::new() })
        });
        let columns = segment.fast_fields();
        Ok(SegmentPass {
            ordinal,
            variants: if self.together.is_several() { self.together.open(segment)? } else { None },
            ignoring: self
                .filters
                .iter()
                .filter_map(|(filter, facet)| facet.filter(|_| filter.is_of_variants()))
                .collect(),
            checks,
            facets: facets.collect::<tantivy::Result<_>>()?,
            rows,
            block: Vec::with_capacity(BLOCK),
            matched: Vec::with_capacity(BLOCK),
            key: match self.order {
                Order::Any => Key::None,
                Order::Ascending(name) => Key::Ascending(columns.column_opt(name)?),
                Order::Descending(name) => Key::Descending(columns.column_opt(name)?),
                Order::Popular => Key::Popular(columns.u64(column::SLOT)?, self.availability.clone()),
            },
            ties: columns.u64(column::TIE)?,
            total: 0,
            best: Best::new(self.limit, self.after, None),
        })
    }

    fn requires_scoring(&self) -> bool {
        false
    }

    fn merge_fruits(&self, segments: Vec<tantivy::Result<Outcome>>) -> tantivy::Result<Outcome> {
        let facets = self.facets.iter().map(|_| Counts::default()).collect();
        let mut merged = Outcome { facets, ..Outcome::default() };
        for segment in segments {
            let segment = segment?;
            merged.total += segment.total;
            merged.best.extend(segment.best);
            for (counts, more) in merged.facets.iter_mut().zip(segment.facets) {
                counts.add(more);
            }
        }
        merged.best.sort_unstable_by_key(|candidate| std::cmp::Reverse(candidate.rank));
        merged.best.truncate(self.limit);
        Ok(merged)
    }
}

enum Key {
    None,
    Ascending(Option<Column<i64>>),
    Descending(Option<Column<i64>>),
    /// Slots.
    Popular(Column<u64>, Arc<Availability>),
}

impl Key {
    fn of(&self, document: DocId) -> u64 {
        // An item without a value (a rating) comes last, in either direction.
        let number = |column: &Option<Column<i64>>, missing: i64| {
            column.as_ref().and_then(|column| column.first(document)).unwrap_or(missing)
        };
        match self {
            Self::None => 0,
            Self::Ascending(column) => !tantivy::i64_to_u64(number(column, i64::MAX)),
            Self::Descending(column) => tantivy::i64_to_u64(number(column, i64::MIN)),
            Self::Popular(slots, availability) => {
                let slot = slots.first(document).unwrap_or(u64::MAX) as u32;
                // The bits of floats that are not negative are in the order of the floats.
                let sold = u64::from(availability.slot_popularity(slot).to_bits());
                u64::from(availability.slot_in_stock(slot)) << 63 | sold
            }
        }
    }
}

pub(crate) struct SegmentPass {
    ordinal: SegmentOrdinal,
    checks: Vec<(Check, Option<usize>)>,
    /// Those that one variant has to meet together, where several could.
    variants: Option<Variants>,
    /// Facets that ignore one of these.
    ignoring: Vec<usize>,
    facets: Vec<Counted>,
    rows: Rows,
    /// Those of documents that are counted.
    block: Vec<Row>,
    /// Not counted yet.
    matched: Vec<DocId>,
    key: Key,
    ties: Column<u64>,
    total: usize,
    best: Best,
}

/// A facet, and documents that its own filter alone leaves out.
struct Counted {
    dimension: Dimension,
    tally: Tally,
    but: Vec<DocId>,
}

impl SegmentPass {
    fn count(&mut self) {
        // All of them first: a processor waits for many places in memory at once when nothing else is done in between.
        if !self.facets.is_empty() {
            gather(&self.rows, &self.matched, &mut self.block);
        }
        for facet in &mut self.facets {
            facet.tally.count(&self.matched, &self.block);
        }
        self.total += self.matched.len();
        self.matched.clear();
    }

    /// For a facet that ignores what leaves this out.
    fn put_by(&mut self, facet: usize, document: DocId) {
        self.facets[facet].but.push(document);
        if self.facets[facet].but.len() == BLOCK {
            self.count_but(facet);
        }
    }

    fn count_but(&mut self, facet: usize) {
        let Counted { tally, but, .. } = &mut self.facets[facet];
        gather(&self.rows, but, &mut self.block);
        tally.count(but, &self.block);
        but.clear();
    }
}

fn gather(rows: &[Row], documents: &[DocId], block: &mut Vec<Row>) {
    block.clear();
    block.extend(documents.iter().map(|document| rows[*document as usize]));
}

impl SegmentCollector for SegmentPass {
    type Fruit = tantivy::Result<Outcome>;

    fn collect(&mut self, document: DocId, _: Score) {
        let mut ignored_by = None;
        for (check, facet) in &mut self.checks {
            if !check.passes(document) {
                match (&facet, ignored_by) {
                    (Some(facet), None) => ignored_by = Some(*facet),
                    _ => return,
                }
            }
        }
        if let Some(variants) = &mut self.variants
            && variants.read(document)
        {
            let facets = &self.facets;
            let but = |facet: usize| variants.fit(Some(&facets[facet].dimension));
            match ignored_by {
                Some(facet) if !but(facet) => return,
                None if !variants.fit(None) => {
                    let counting: Vec<usize> =
                        self.ignoring.iter().copied().filter(|facet| but(*facet)).collect();
                    for facet in counting {
                        self.put_by(facet, document);
                    }
                    return;
                }
                _ => {}
            }
        }
        if let Some(facet) = ignored_by {
            self.put_by(facet, document);
            return;
        }
        self.matched.push(document);
        if self.matched.len() >= BLOCK {
            self.count();
        }
        if matches!(self.key, Key::None) && self.best.is_full() {
            return;
        }
        let key = self.key.of(document);
        // Most do not come so far that their tie-breaker matters.
        if self.best.may_take(Rank::first_of(key)) {
            let rank = Rank::new(key, self.ties.first(document).unwrap_or(0));
            self.best.offer(Candidate { rank, address: DocAddress::new(self.ordinal, document) });
        }
    }

    fn collect_block(&mut self, documents: &[DocId]) {
        if self.checks.is_empty()
            && self.variants.is_none()
            && matches!(self.key, Key::None)
            && self.best.is_full()
        {
            self.matched.extend_from_slice(documents);
            if self.matched.len() >= BLOCK {
                self.count();
            }
        } else {
            for document in documents {
                self.collect(*document, 0.0);
            }
        }
    }

    fn harvest(mut self) -> Self::Fruit {
        self.count();
        (0..self.facets.len()).for_each(|facet| self.count_but(facet));
        let mut facets = Vec::with_capacity(self.facets.len());
        for facet in self.facets {
            facets.push(facet.tally.harvest()?);
        }
        Ok(Outcome { total: self.total, best: self.best.kept, facets })
    }
}

/// The best candidates of a range, gathered in a buffer of a quarter more.
pub(crate) struct Best {
    kept: Vec<Candidate>,
    limit: usize,
    after: Rank,
    /// Only what is at least this can still get in.
    least: Rank,
    unbounded: bool,
}

impl Best {
    /// Keeps the best `limit` of those after one rank and at or before another.
    pub(crate) fn new(limit: usize, after: Option<Rank>, until: Option<Rank>) -> Self {
        Self {
            kept: Vec::new(),
            limit,
            after: after.unwrap_or(Rank::FIRST),
            least: until.unwrap_or(Rank(0)),
            unbounded: after.is_none(),
        }
    }

    fn is_full(&self) -> bool {
        self.kept.len() >= self.limit
    }

    pub(crate) fn may_take(&self, rank: Rank) -> bool {
        rank >= self.least
    }

    /// A score has to be above this to get in.
    pub(crate) fn threshold(&self) -> Score {
        let (key, _) = self.least.parts();
        // Rounded, and equal scores are told apart by their ties.
        if key == 0 { Score::MIN } else { (key as Score - 1.0) / STEPS }
    }

    pub(crate) fn offer(&mut self, candidate: Candidate) {
        if candidate.rank < self.least || (!self.unbounded && candidate.rank >= self.after) || self.limit == 0
        {
            return;
        }
        self.kept.push(candidate);
        if self.kept.len() > self.limit + self.limit / 4 {
            let by_rank = |candidate: &Candidate| std::cmp::Reverse(candidate.rank);
            self.kept.select_nth_unstable_by_key(self.limit - 1, by_rank);
            self.kept.truncate(self.limit);
            self.least = self.kept[self.limit - 1].rank;
        }
    }

    pub(crate) fn in_order(mut self) -> Vec<Candidate> {
        self.kept.sort_unstable_by_key(|candidate| std::cmp::Reverse(candidate.rank));
        self.kept.truncate(self.limit);
        self.kept
    }
}
