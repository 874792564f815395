//! The second phase: the best candidates of the first are scored again, each text field on its own. A word is as rare in
//! every field as over all (so that a brand's name in a title does not count as a sensation), fields have weights, and the
//! sum is multiplied by the square of the share of groups that were found: a product that has all that was asked for
//! comes before one that has half of it often.
//!
//! Further signals (popularity, rating, stock) belong here. Whatever is added must stay the same for an item from page to
//! page, see `cursor`.

use std::collections::HashMap;

use tantivy::fieldnorm::FieldNormReader;
use tantivy::postings::{Postings, SegmentPostings};
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocId, DocSet, Searcher, SegmentReader, Term};

use crate::collector::{Candidate, Rank};
use crate::schema::{Fields, Key, TEXT_FIELDS};
use crate::statistics::Statistics;
use crate::terms::Group;

/// Title, model, brand, category and tags, attributes, description.
const WEIGHTS: [f32; TEXT_FIELDS] = [3.0, 2.0, 2.0, 1.0, 0.5, 1.0];
/// What an item gains, as a share of its score, when its name or SKU is exactly what was asked for.
const EXACT_BONUS: f32 = 1.0;
/// BM25's saturation and length normalisation.
const K1: f32 = 1.2;
const B: f32 = 0.75;

/// The candidates with their new ranks, in order.
pub(crate) fn rescore(
    searcher: &Searcher,
    fields: &Fields,
    statistics: &Statistics,
    groups: &[Group],
    term: &str,
    candidates: &[Candidate],
) -> tantivy::Result<Vec<Candidate>> {
    let mut by_segment: HashMap<u32, Vec<Candidate>> = HashMap::new();
    for candidate in candidates {
        by_segment.entry(candidate.address.segment_ord).or_default().push(*candidate);
    }
    let mut rescored = Vec::with_capacity(candidates.len());
    for (ordinal, mut candidates) in by_segment {
        candidates.sort_unstable_by_key(|candidate| candidate.address.doc_id);
        let documents: Vec<DocId> = candidates.iter().map(|candidate| candidate.address.doc_id).collect();
        let segment =
            SegmentScorer { segment: searcher.segment_reader(ordinal), fields, statistics, documents };
        let scores = segment.scores(groups, term)?;
        rescored.extend(candidates.iter().zip(scores).map(|(candidate, score)| Candidate {
            rank: Rank::of_score(score, candidate.rank.tie()),
            address: DocAddress::new(ordinal, candidate.address.doc_id),
        }));
    }
    rescored.sort_unstable_by_key(|candidate| std::cmp::Reverse(candidate.rank));
    Ok(rescored)
}

struct SegmentScorer<'a> {
    segment: &'a SegmentReader,
    fields: &'a Fields,
    statistics: &'a Statistics,
    /// Ascending.
    documents: Vec<DocId>,
}

impl SegmentScorer<'_> {
    fn scores(&self, groups: &[Group], term: &str) -> tantivy::Result<Vec<f32>> {
        let mut sums = vec![0.0; self.documents.len()];
        let mut found = vec![0_usize; self.documents.len()];
        for group in groups {
            for (at, score) in self.group(group)?.into_iter().enumerate().filter(|(_, score)| *score > 0.0) {
                sums[at] += score;
                found[at] += 1;
            }
        }
        let exact = self.holders(&Key::Exact.term(self.fields, term))?;
        for ((sum, found), exact) in sums.iter_mut().zip(found).zip(exact) {
            let coverage = found as f32 / groups.len() as f32;
            *sum *= coverage * coverage * if exact { 1.0 + EXACT_BONUS } else { 1.0 };
        }
        Ok(sums)
    }

    /// By document: its best alternative. One of several words counts where all of them are found.
    fn group(&self, group: &Group) -> tantivy::Result<Vec<f32>> {
        let mut best = vec![0.0_f32; self.documents.len()];
        for alternative in &group.alternatives {
            let mut sums = vec![0.0_f32; self.documents.len()];
            for word in &alternative.words {
                let scores = self.word(word)?;
                for (sum, score) in sums.iter_mut().zip(scores) {
                    *sum = if score > 0.0 && *sum >= 0.0 { *sum + score } else { f32::NEG_INFINITY };
                }
            }
            for (best, sum) in best.iter_mut().zip(sums) {
                *best = best.max(sum * alternative.weight);
            }
        }
        Ok(best)
    }

    /// By document: the word's score over all fields.
    fn word(&self, word: &str) -> tantivy::Result<Vec<f32>> {
        let rarity = self.statistics.rarity(word);
        let mut scores = vec![0.0; self.documents.len()];
        for (at, field) in self.fields.text().into_iter().enumerate() {
            let term = Term::from_field_text(field, word);
            let inverted = self.segment.inverted_index(field)?;
            let Some(postings) = inverted.read_postings(&term, IndexRecordOption::WithFreqs)? else {
                continue;
            };
            let norms = self.segment.get_fieldnorms_reader(field)?;
            let mean = self.statistics.mean_length(at).max(1.0);
            let weight = WEIGHTS[at] * rarity;
            self.add_field(postings, &norms, mean, weight, &mut scores);
        }
        Ok(scores)
    }

    fn add_field(
        &self,
        mut postings: SegmentPostings,
        norms: &FieldNormReader,
        mean: f32,
        weight: f32,
        scores: &mut [f32],
    ) {
        for (score, document) in scores.iter_mut().zip(&self.documents) {
            if postings.doc() < *document {
                postings.seek(*document);
            }
            if postings.doc() == *document {
                let frequency = postings.term_freq() as f32;
                let length = norms.fieldnorm(*document) as f32;
                *score += weight * frequency * (K1 + 1.0) / (frequency + K1 * (1.0 - B + B * length / mean));
            }
        }
    }

    /// By document: whether it holds the term.
    fn holders(&self, term: &Term) -> tantivy::Result<Vec<bool>> {
        let inverted = self.segment.inverted_index(term.field())?;
        let Some(mut postings) = inverted.read_postings(term, IndexRecordOption::Basic)? else {
            return Ok(vec![false; self.documents.len()]);
        };
        Ok(self
            .documents
            .iter()
            .map(|document| {
                if postings.doc() < *document {
                    postings.seek(*document);
                }
                postings.doc() == *document
            })
            .collect())
    }
}
