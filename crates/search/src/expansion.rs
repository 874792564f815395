//! Words that the shop does not know. The last word may not be finished: what begins with it is meant. Any other is taken
//! for a typo: the words of the dictionary that differ by as few letters become further alternatives, so that they are
//! scored and highlighted like any word, and the likeliest one makes the term that is answered instead (`correctedTerm`).

use std::collections::HashMap;

use serde::Deserialize;
use tantivy::query::FuzzyTermQuery;
use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocSet, Searcher, TERMINATED, TantivyDocument, Term};

use crate::analyzer::Analyzer;
use crate::index::{find, source};
use crate::schema::Fields;
use crate::terms::{Alternative, Group};
use crate::text::fold;

/// From so many letters on one may be wrong, and from so many on two.
const ONE_TYPO: usize = 5;
const TWO_TYPOS: usize = 9;
/// The most alternatives of one word, the most frequent ones.
const MOST: usize = 10;
/// Of a prefix's range in one segment no more terms than this are looked at.
const SCAN: usize = 2_000;
const PREFIX_WEIGHT: f32 = 0.8;
/// A word so many times rarer than what was typed is not what was begun.
const RARE: u64 = 20;
/// By how many letters are wrong.
const TYPO_WEIGHTS: [f32; 2] = [0.7, 0.5];
/// What the others count beside the likeliest.
const UNLIKELIER: f32 = 0.9;
/// A word is shown as this many items write it, at most, to choose from.
const SPELLINGS: usize = 5;

/// Fills in what is meant by words that no item has. The answer is the term in other words, where there were typos.
pub(crate) fn expand(
    searcher: &Searcher,
    fields: &Fields,
    analyzer: &Analyzer,
    term: &str,
    groups: &mut [Group],
) -> tantivy::Result<Option<String>> {
    let mut corrections = Vec::new();
    for group in groups.iter_mut() {
        let Some(typed) = group.typed.word.clone() else { continue };
        let Some(stem) = group.alternatives.first().and_then(|own| own.words.first()).cloned() else {
            continue;
        };
        let own = Term::from_field_text(fields.all, &stem);
        let known = find(searcher, &own)?.is_some();
        // `printe` has the stem of `print`, which there is.
        if group.typed.unfinished && (!known || typed != stem) {
            let least = if known { searcher.doc_freq(&own)? / RARE } else { 0 };
            let found = beginning_with(searcher, fields.all, &typed, least)?;
            add(group, found.iter().filter(|word| **word != stem), PREFIX_WEIGHT);
        }
        if known || group.alternatives.len() > 1 {
            continue;
        }
        let letters = typed.chars().count();
        let most = if letters >= TWO_TYPOS { 2 } else { usize::from(letters >= ONE_TYPO) };
        // A digit that differs is another product.
        if most == 0 || !typed.chars().all(char::is_alphabetic) {
            continue;
        }
        for (distance, weight) in (1..).zip(TYPO_WEIGHTS).take(most) {
            let found = resembling(searcher, fields.all, &stem, distance)?;
            if let Some(likeliest) = found.first() {
                corrections.push((
                    group.typed.range.clone(),
                    spelling(searcher, fields, analyzer, likeliest, &typed)?,
                ));
                add(group, found.iter().take(1), weight);
                add(group, found.iter().skip(1), weight * UNLIKELIER);
                break;
            }
        }
    }
    if corrections.is_empty() {
        return Ok(None);
    }
    let mut corrected = String::with_capacity(term.len());
    let mut at = 0;
    for (range, word) in corrections {
        corrected.push_str(&term[at..range.start]);
        corrected.push_str(&word);
        at = range.end;
    }
    corrected.push_str(&term[at..]);
    Ok(Some(corrected))
}

fn add<'a>(group: &mut Group, words: impl Iterator<Item = &'a String>, weight: f32) {
    group.alternatives.extend(words.map(|word| Alternative::phrase(vec![word.clone()], weight)));
}

/// The most frequent words with this beginning, of those that so many items have.
fn beginning_with(
    searcher: &Searcher,
    field: Field,
    prefix: &str,
    least: u64,
) -> tantivy::Result<Vec<String>> {
    let (from, to) = range(prefix);
    let segments = searcher.segment_readers();
    let mut found = HashMap::new();
    for segment in segments {
        let inverted = segment.inverted_index(field)?;
        let mut stream = inverted.terms().range().ge(from).lt(&to).into_stream()?;
        for _ in 0..SCAN {
            if !stream.advance() {
                break;
            }
            // So rare that it would have to be as frequent in every segment is not even written down.
            let items = stream.value().doc_freq;
            if u64::from(items) * segments.len() as u64 >= least {
                count(&mut found, stream.key(), items);
            }
        }
    }
    found.retain(|_, items| *items >= least);
    Ok(most_frequent(found))
}

/// The most frequent words without digits at this distance: a letter more, less, other, or two exchanged are one each. Few
/// people get the first letter wrong, so those that begin with another are looked at only where there are no others.
fn resembling(searcher: &Searcher, field: Field, word: &str, distance: u8) -> tantivy::Result<Vec<String>> {
    let query = FuzzyTermQuery::new(Term::from_field_text(field, word), distance, true);
    let first = word.chars().next().map(String::from).unwrap_or_default();
    for beginning in [first.as_str(), ""] {
        let mut found = HashMap::new();
        for segment in searcher.segment_readers() {
            let inverted = segment.inverted_index(field)?;
            let (from, to) = range(beginning);
            let mut stream = inverted.terms().search(query.automaton()?).ge(from).lt(to).into_stream()?;
            while stream.advance() {
                count(&mut found, stream.key(), stream.value().doc_freq);
            }
        }
        found.retain(|word, _| word.chars().all(char::is_alphabetic));
        if !found.is_empty() {
            return Ok(most_frequent(found));
        }
    }
    Ok(Vec::new())
}

/// Where the words with this beginning are in a dictionary.
fn range(beginning: &str) -> (&[u8], Vec<u8>) {
    // Above every byte of UTF-8.
    (beginning.as_bytes(), [beginning.as_bytes(), &[0xff]].concat())
}

fn count(found: &mut HashMap<String, u64>, word: &[u8], items: u32) {
    let word = String::from_utf8_lossy(word);
    match found.get_mut(word.as_ref()) {
        Some(sum) => *sum += u64::from(items),
        None => drop(found.insert(word.into_owned(), u64::from(items))),
    }
}

fn most_frequent(found: HashMap<String, u64>) -> Vec<String> {
    let mut found: Vec<(String, u64)> = found.into_iter().collect();
    found.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    found.truncate(MOST);
    found.into_iter().map(|(word, _)| word).collect()
}

#[derive(Deserialize)]
struct Texts {
    name: String,
    brand: Option<String>,
    description: String,
}

/// How a word that is known by its stem is written: of what some items say, what is nearest to what was typed.
fn spelling(
    searcher: &Searcher,
    fields: &Fields,
    analyzer: &Analyzer,
    stem: &str,
    typed: &str,
) -> tantivy::Result<String> {
    let mut spellings: Vec<String> = Vec::new();
    'fields: for field in [fields.title, fields.brand_text, fields.all] {
        let term = Term::from_field_text(field, stem);
        for (segment, ordinal) in searcher.segment_readers().iter().zip(0..) {
            let inverted = segment.inverted_index(field)?;
            let Some(mut postings) = inverted.read_postings(&term, IndexRecordOption::Basic)? else {
                continue;
            };
            while postings.doc() != TERMINATED {
                if spellings.len() >= SPELLINGS {
                    break 'fields;
                }
                if !segment.is_deleted(postings.doc()) {
                    let document: TantivyDocument =
                        searcher.doc(tantivy::DocAddress::new(ordinal, postings.doc()))?;
                    let texts = serde_json::from_slice::<Texts>(source(&document, fields));
                    spellings.extend(texts.ok().and_then(|texts| texts.spelling(analyzer, stem)));
                }
                postings.advance();
            }
        }
        if !spellings.is_empty() {
            break;
        }
    }
    let nearest = spellings.into_iter().min_by_key(|spelling| distance(spelling, typed));
    Ok(nearest.unwrap_or_else(|| stem.to_owned()))
}

impl Texts {
    fn spelling(&self, analyzer: &Analyzer, stem: &str) -> Option<String> {
        let texts = [Some(&self.name), self.brand.as_ref(), Some(&self.description)];
        texts.into_iter().flatten().find_map(|text| {
            let words = analyzer.words(text);
            let part = words.iter().flat_map(|word| &word.parts).find(|part| part.text == stem)?;
            Some(fold(&text[part.from..part.to]))
        })
    }
}

/// Levenshtein's, by letters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in b.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn letters_that_differ_are_counted() {
        for (a, b, letters) in [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("café", "cafe", 1)] {
            assert_eq!(distance(a, b), letters, "{a} {b}");
        }
    }
}
