//! The second phase: the best candidates of the first are scored again, over all text fields. A word is as rare in every
//! field as over all (so that a brand's name in a title does not count as a sensation); its frequencies in the fields are
//! weighed, added and saturated together (BM25F: S. Robertson, H. Zaragoza and M. Taylor, CIKM 2004), so that the same word
//! again in another field says little more; and the sum is multiplied by the square of the share of what was asked for that
//! was found: a product that has all of it comes before one that has half of it often.
//!
//! What does not depend on the text multiplies that: how much was sold lately, stars, stock. These change from page to page;
//! the cursor carries the order that the first page found. The figures below were tuned on judged queries, see
//! `docs/performance.md`.

use std::collections::HashMap;

use tantivy::postings::Postings;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocId, DocSet, Searcher, SegmentReader, Term};

use crate::availability::Availability;
use crate::collector::{Candidate, Rank};
use crate::schema::{Fields, Key, TEXT_FIELDS, column};
use crate::statistics::Statistics;
use crate::terms::Group;

/// Title, model, brand, category and tags, attributes, description.
const WEIGHTS: [f32; TEXT_FIELDS] = [3.0, 2.0, 2.0, 1.0, 0.5, 3.0];
/// How much the length of a field counts, in the same order: BM25's b.
const LENGTH: [f32; TEXT_FIELDS] = [0.5, 0.75, 0.75, 0.75, 0.75, 0.75];
/// The weighed frequency at which a word has half of its most.
const SATURATION: f32 = 4.8;
/// What an item gains, as a share of its score, when its name or SKU is exactly what was asked for …
const EXACT_BONUS: f32 = 1.0;
/// … when it sells without end, half of it at so many units lately …
const POPULARITY_BONUS: f32 = 0.3;
const POPULAR: f32 = 20.0;
/// … for each star above three, and loses for each below …
const STAR_BONUS: f32 = 0.05;
/// … and loses when it cannot be had.
const OUT_OF_STOCK_LOSS: f32 = 0.2;

/// The candidates with their new ranks, in order.
pub(crate) fn rescore(
    searcher: &Searcher,
    fields: &Fields,
    statistics: &Statistics,
    availability: &Availability,
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
        let mut scores = segment.scores(groups, term)?;
        segment.weigh_standing(availability, &mut scores)?;
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
                found[at] += group.span;
            }
        }
        let asked = groups.iter().map(|group| group.span).sum::<usize>().max(1);
        let exact = self.holders(&Key::Exact.term(self.fields, term))?;
        for ((sum, found), exact) in sums.iter_mut().zip(found).zip(exact) {
            let coverage = found as f32 / asked as f32;
            *sum *= coverage * coverage * if exact { 1.0 + EXACT_BONUS } else { 1.0 };
        }
        Ok(sums)
    }

    /// What an item gains or loses whatever was asked for.
    fn weigh_standing(&self, availability: &Availability, scores: &mut [f32]) -> tantivy::Result<()> {
        let slots = self.segment.fast_fields().u64(column::SLOT)?;
        let ratings = self.segment.fast_fields().column_opt::<i64>(column::RATING)?;
        for (score, document) in scores.iter_mut().zip(&self.documents) {
            if let Some(slot) = slots.first(*document) {
                let sold = availability.slot_popularity(slot as u32);
                *score *= 1.0 + POPULARITY_BONUS * sold / (sold + POPULAR);
                if !availability.slot_in_stock(slot as u32) {
                    *score *= 1.0 - OUT_OF_STOCK_LOSS;
                }
            }
            // In hundredths; what nobody rated has none.
            if let Some(rating) = ratings.as_ref().and_then(|column| column.first(*document)) {
                *score *= 1.0 + STAR_BONUS * (rating.clamp(100, 500) as f32 / 100.0 - 3.0);
            }
        }
        Ok(())
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
        let mut frequencies = vec![0.0; self.documents.len()];
        for (at, field) in self.fields.text().into_iter().enumerate() {
            let term = Term::from_field_text(field, word);
            let inverted = self.segment.inverted_index(field)?;
            let Some(mut postings) = inverted.read_postings(&term, IndexRecordOption::WithFreqs)? else {
                continue;
            };
            let norms = self.segment.get_fieldnorms_reader(field)?;
            let mean = self.statistics.mean_length(at).max(1.0);
            for (frequency, document) in frequencies.iter_mut().zip(&self.documents) {
                if postings.doc() < *document {
                    postings.seek(*document);
                }
                if postings.doc() == *document {
                    let length = norms.fieldnorm(*document) as f32 / mean;
                    let shortened = 1.0 - LENGTH[at] + LENGTH[at] * length;
                    *frequency += WEIGHTS[at] * postings.term_freq() as f32 / shortened;
                }
            }
        }
        let rarity = self.statistics.rarity(word);
        Ok(frequencies.into_iter().map(|frequency| rarity * frequency / (frequency + SATURATION)).collect())
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
