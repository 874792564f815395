//! The best documents by score: the first phase of a search by relevance. What cannot be among them is not scored: a block of
//! postings says how much its documents score at most.

use std::sync::Arc;

use tantivy::query::{Bm25StatisticsProvider, EnableScoring, Query as IndexQuery};
use tantivy::{DocAddress, Score, Searcher, SegmentReader};

use crate::availability::Availability;
use crate::collector::{Best, Candidate, Rank};
use crate::filters::Filter;
use crate::schema::{Fields, column};
use crate::together::Together;

/// What is looked for, and among what.
pub(crate) struct Ranked<'a> {
    pub(crate) searcher: &'a Searcher,
    pub(crate) fields: &'a Fields,
    pub(crate) statistics: &'a dyn Bm25StatisticsProvider,
    /// All of them have to be passed.
    pub(crate) filters: Vec<Filter>,
    /// By one variant.
    pub(crate) together: Together,
    pub(crate) availability: &'a Arc<Availability>,
}

impl Ranked<'_> {
    /// The candidates in order.
    pub(crate) fn best(&self, query: &dyn IndexQuery, mut best: Best) -> tantivy::Result<Vec<Candidate>> {
        let scoring = EnableScoring::enabled_from_statistics_provider(self.statistics, self.searcher);
        let weight = query.weight(scoring)?;
        for (ordinal, segment) in (0..).zip(self.searcher.segment_readers()) {
            let certain = self.certain(segment)?;
            let ties = segment.fast_fields().u64(column::TIE)?;
            let mut checks = Vec::with_capacity(self.filters.len());
            for filter in &self.filters {
                checks.push(filter.open(segment, self.availability)?);
            }
            let mut variants = if self.together.is_several() { self.together.open(segment)? } else { None };
            weight.for_each_pruning(best.threshold() * certain, segment, &mut |document, score| {
                if best.may_take(Rank::first_of_score(score))
                    && !segment.is_deleted(document)
                    && checks.iter_mut().all(|check| check.passes(document))
                    && variants.as_mut().is_none_or(|variants| !variants.read(document) || variants.fit(None))
                {
                    let rank = Rank::of_score(score, ties.first(document).unwrap_or(0));
                    best.offer(Candidate { rank, address: DocAddress::new(ordinal, document) });
                }
                best.threshold() * certain
            })?;
        }
        Ok(best.in_order())
    }

    /// A block knows which of its documents scores most for fields of the mean length of its own segment. By how much that
    /// can be wrong for the mean over all segments: BM25 is concave in the length's reciprocal, so not by more than the
    /// means differ.
    fn certain(&self, segment: &SegmentReader) -> tantivy::Result<Score> {
        let documents = self.statistics.total_num_docs()?.max(1) as Score;
        let mut certain: Score = 1.0;
        for field in self.fields.text().into_iter().chain([self.fields.all]) {
            let there =
                segment.inverted_index(field)?.total_num_tokens() as Score / segment.max_doc() as Score;
            let over_all = self.statistics.total_num_tokens(field)? as Score / documents;
            if there > 0.0 && over_all > 0.0 {
                certain = certain.min(there / over_all).min(over_all / there);
            }
        }
        Ok(certain)
    }
}
