//! One pass over the matching documents: checks filters, counts facets that each ignore their own filter, counts hits, and
//! keeps the best ones.
//!
//! A document that fails one filter alone still counts in that filter's facet; one that fails two counts nowhere.

use std::sync::Arc;

use tantivy::collector::{Collector, SegmentCollector};
use tantivy::columnar::Column;
use tantivy::{DocAddress, DocId, Score, SegmentOrdinal, SegmentReader};

use crate::availability::Availability;
use crate::facets::{Counter, Counts, Facet};
use crate::filters::{Check, Filter};
use crate::schema::column;

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

    pub(crate) fn parts(self) -> (u64, u64) {
        ((self.0 >> 64) as u64, !(self.0 as u64))
    }

    pub(crate) fn tie(self) -> u64 {
        self.parts().1
    }
}

fn score_key(score: Score) -> u64 {
    (score.max(0.0) * 1024.0).round() as u64
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Score,
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
    pub(crate) facets: Vec<Facet>,
    pub(crate) availability: Arc<Availability>,
    pub(crate) order: Order,
    /// Keep the best so many …
    pub(crate) limit: usize,
    /// … of those that come after this rank …
    pub(crate) after: Option<Rank>,
    /// … and at or before this one.
    pub(crate) until: Option<Rank>,
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
        let counters = self.facets.iter().map(|facet| {
            let counter = Counter::open(&facet.dimension, segment, &self.availability)?;
            Ok(counter)
        });
        let columns = segment.fast_fields();
        Ok(SegmentPass {
            ordinal,
            checks,
            counters: counters.collect::<tantivy::Result<_>>()?,
            key: match self.order {
                Order::Score => Key::Score,
                Order::Ascending(name) => Key::Ascending(columns.column_opt(name)?),
                Order::Descending(name) => Key::Descending(columns.column_opt(name)?),
                Order::Popular => Key::Popular(columns.u64(column::SLOT)?, self.availability.clone()),
            },
            ties: columns.u64(column::TIE)?,
            total: 0,
            best: Best::new(self.limit, self.after, self.until),
        })
    }

    fn requires_scoring(&self) -> bool {
        matches!(self.order, Order::Score)
    }

    fn merge_fruits(&self, segments: Vec<tantivy::Result<Outcome>>) -> tantivy::Result<Outcome> {
        let mut merged = Outcome { facets: vec![Counts::new(); self.facets.len()], ..Outcome::default() };
        for segment in segments {
            let segment = segment?;
            merged.total += segment.total;
            merged.best.extend(segment.best);
            for (counts, more) in merged.facets.iter_mut().zip(segment.facets) {
                if counts.is_empty() {
                    *counts = more;
                } else {
                    for (value, count) in more {
                        *counts.entry(value).or_default() += count;
                    }
                }
            }
        }
        merged.best.sort_unstable_by_key(|candidate| std::cmp::Reverse(candidate.rank));
        merged.best.truncate(self.limit);
        Ok(merged)
    }
}

enum Key {
    Score,
    Ascending(Option<Column<i64>>),
    Descending(Option<Column<i64>>),
    /// Slots.
    Popular(Column<u64>, Arc<Availability>),
}

impl Key {
    fn of(&self, document: DocId, score: Score) -> u64 {
        // An item without a value (a rating) comes last, in either direction.
        let number = |column: &Option<Column<i64>>, missing: i64| {
            column.as_ref().and_then(|column| column.first(document)).unwrap_or(missing)
        };
        match self {
            Self::Score => score_key(score),
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
    counters: Vec<Counter>,
    key: Key,
    ties: Column<u64>,
    total: usize,
    best: Best,
}

impl SegmentCollector for SegmentPass {
    type Fruit = tantivy::Result<Outcome>;

    fn collect(&mut self, document: DocId, score: Score) {
        let mut ignored_by = None;
        for (check, facet) in &mut self.checks {
            if !check.passes(document) {
                match (&facet, ignored_by) {
                    (Some(facet), None) => ignored_by = Some(*facet),
                    _ => return,
                }
            }
        }
        if let Some(facet) = ignored_by {
            self.counters[facet].count(document);
            return;
        }
        self.total += 1;
        for counter in &mut self.counters {
            counter.count(document);
        }
        let key = self.key.of(document, score);
        // Most do not come so far that their tie-breaker matters.
        if Rank::first_of(key) >= self.best.least {
            let rank = Rank::new(key, self.ties.first(document).unwrap_or(0));
            self.best.offer(Candidate { rank, address: DocAddress::new(self.ordinal, document) });
        }
    }

    fn harvest(self) -> Self::Fruit {
        let mut facets = Vec::with_capacity(self.counters.len());
        for counter in self.counters {
            let mut counts = Counts::new();
            counter.harvest(&mut counts)?;
            facets.push(counts);
        }
        Ok(Outcome { total: self.total, best: self.best.kept, facets })
    }
}

/// The best candidates of a range, gathered in a buffer of twice their number.
struct Best {
    kept: Vec<Candidate>,
    limit: usize,
    after: Rank,
    /// Only what is at least this can still get in.
    least: Rank,
    unbounded: bool,
}

impl Best {
    fn new(limit: usize, after: Option<Rank>, until: Option<Rank>) -> Self {
        Self {
            kept: Vec::new(),
            limit,
            after: after.unwrap_or(Rank::FIRST),
            least: until.unwrap_or(Rank(0)),
            unbounded: after.is_none(),
        }
    }

    fn offer(&mut self, candidate: Candidate) {
        if candidate.rank < self.least || (!self.unbounded && candidate.rank >= self.after) || self.limit == 0
        {
            return;
        }
        self.kept.push(candidate);
        if self.kept.len() >= 2 * self.limit {
            let by_rank = |candidate: &Candidate| std::cmp::Reverse(candidate.rank);
            self.kept.select_nth_unstable_by_key(self.limit - 1, by_rank);
            self.kept.truncate(self.limit);
            self.least = self.kept[self.limit - 1].rank;
        }
    }
}
