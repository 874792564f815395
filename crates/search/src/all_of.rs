//! Documents that match all of several queries. Where each matches about as much as the others, what they match is noted in
//! sets of bits, which are then compared by the word; to look each document up in the next list takes several times as long.

use tantivy::query::{BooleanQuery, EnableScoring, Explanation, Query, Scorer, Weight};
use tantivy::{COLLECT_BLOCK_BUFFER_LEN, DocId, DocSet, Score, SegmentReader, TantivyError};

/// Fewer are looked up.
const MANY: u32 = 2_000;
/// So many times what the rarest of them matches may all of them match together.
const ALIKE: u32 = 8;

#[derive(Debug, Clone)]
pub(crate) struct AllOf(BooleanQuery);

impl AllOf {
    pub(crate) fn new(parts: Vec<Box<dyn Query>>) -> Self {
        Self(BooleanQuery::intersection(parts))
    }
}

impl Query for AllOf {
    fn weight(&self, scoring: EnableScoring<'_>) -> tantivy::Result<Box<dyn Weight>> {
        // Scores are made by the whole.
        let counted = if scoring.is_scoring_enabled() { &[] } else { self.0.clauses() };
        let parts = counted.iter().map(|(_, part)| part.weight(scoring));
        Ok(Box::new(AllOfWeight {
            parts: parts.collect::<Result<_, TantivyError>>()?,
            whole: self.0.weight(scoring)?,
        }))
    }
}

struct AllOfWeight {
    parts: Vec<Box<dyn Weight>>,
    whole: Box<dyn Weight>,
}

impl Weight for AllOfWeight {
    fn for_each_no_score(
        &self,
        segment: &SegmentReader,
        callback: &mut dyn FnMut(&[DocId]),
    ) -> tantivy::Result<()> {
        let parts: Vec<_> =
            self.parts.iter().map(|part| part.scorer(segment, 1.0)).collect::<Result<_, TantivyError>>()?;
        let sizes = || parts.iter().map(DocSet::size_hint);
        let least = sizes().min().unwrap_or(0);
        if least < MANY || sizes().fold(0, u32::saturating_add) > least.saturating_mul(ALIKE) {
            return self.whole.for_each_no_score(segment, callback);
        }
        let mut sets = parts.into_iter().map(|part| bits(part, segment.max_doc()));
        let mut all = sets.next().unwrap_or_default();
        for set in sets {
            all.iter_mut().zip(set).for_each(|(word, other)| *word &= other);
        }
        for_each_bit(&all, callback);
        Ok(())
    }

    fn scorer(&self, segment: &SegmentReader, boost: Score) -> tantivy::Result<Box<dyn Scorer>> {
        self.whole.scorer(segment, boost)
    }

    fn for_each_pruning(
        &self,
        threshold: Score,
        segment: &SegmentReader,
        callback: &mut dyn FnMut(DocId, Score) -> Score,
    ) -> tantivy::Result<()> {
        self.whole.for_each_pruning(threshold, segment, callback)
    }

    fn explain(&self, segment: &SegmentReader, document: DocId) -> tantivy::Result<Explanation> {
        self.whole.explain(segment, document)
    }
}

/// A bit for each document.
fn bits(mut part: Box<dyn Scorer>, documents: DocId) -> Vec<u64> {
    let mut bits = vec![0_u64; documents.div_ceil(64) as usize];
    let mut block = [0; COLLECT_BLOCK_BUFFER_LEN];
    loop {
        let filled = part.fill_buffer(&mut block);
        for document in &block[..filled] {
            bits[*document as usize / 64] |= 1 << (document % 64);
        }
        if filled < block.len() {
            return bits;
        }
    }
}

fn for_each_bit(bits: &[u64], callback: &mut dyn FnMut(&[DocId])) {
    let mut block = [0; COLLECT_BLOCK_BUFFER_LEN];
    for (begin, word) in (0..).step_by(64).zip(bits) {
        let (mut left, mut filled) = (*word, 0);
        while left != 0 {
            block[filled] = begin + left.trailing_zeros();
            left &= left - 1;
            filled += 1;
        }
        if filled > 0 {
            callback(&block[..filled]);
        }
    }
}
