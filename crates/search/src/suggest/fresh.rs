//! Completions out of the index as it is now: they are keys of it, so they are as fresh as it is, cost no memory and need no
//! building; a prefix is a range of a sorted dictionary. How a completion is written, with capitals and accents, is read
//! from a document that has it.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;
use tantivy::postings::TermInfo;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocSet, Searcher, TERMINATED, TantivyDocument};

use super::{LONGEST_ENTRANCE, SuggestedFacet, Suggestion, SuggestionKind, cut, entrances, path, shown};
use crate::index::source;
use crate::query::SearchError;
use crate::schema::{Fields, Key};
use crate::text::squash;

/// Of a prefix's range in one segment no more terms than this are looked at.
const SCAN: usize = 500;
/// Names that are read of a key which is cut …
const EXAMPLES: usize = 5;
/// … and when more is typed than a key holds, which leaves one.
const EXAMPLES_OF_ONE: usize = 50;

const KINDS: [(SuggestionKind, Key); 3] = [
    (SuggestionKind::Brand, Key::BrandSuggestion),
    (SuggestionKind::Category, Key::CategorySuggestion),
    (SuggestionKind::Title, Key::TitleSuggestion),
];

/// The most common ones first, but for those that are known.
pub(super) fn beginning_with(
    searcher: &Searcher,
    fields: &Fields,
    prefix: &str,
    known: &HashSet<String>,
    size: usize,
) -> Result<Vec<(SuggestionKind, Vec<Suggestion>)>, SearchError> {
    let mut all = Vec::with_capacity(KINDS.len());
    for (kind, key) in KINDS {
        let mut completions: Vec<Completion> = completions(searcher, fields, key, prefix)?;
        completions.retain(|completion| completion.may_be_cut() || !known.contains(&completion.key[1..]));
        completions.sort_unstable_by(|a, b| {
            b.items.cmp(&a.items).then_with(|| a.key.len().cmp(&b.key.len())).then_with(|| a.key.cmp(&b.key))
        });
        let mut found: Vec<Suggestion> = Vec::new();
        // Several keys may lead to one name, and a key that is cut to several names; not all of them are worth reading.
        let is_long = prefix.len() >= LONGEST_ENTRANCE;
        let mut examples = if is_long { EXAMPLES_OF_ONE } else { 3 * size };
        for completion in completions {
            if found.len() >= size || examples == 0 {
                break;
            }
            let of_key = match completion.may_be_cut() {
                true if is_long => EXAMPLES_OF_ONE,
                true => EXAMPLES,
                false => 1,
            };
            for example in completion.examples(searcher, fields, of_key.min(examples))? {
                if found.len() >= size {
                    break;
                }
                examples -= 1;
                let document: TantivyDocument = searcher.doc(example)?;
                let names: Names = serde_json::from_slice(source(&document, fields))?;
                let Some(suggestion) = names.suggestion(kind, &completion.key[1..], prefix) else { continue };
                let is_known = known.contains(&squash(&suggestion.text));
                if !is_known && found.iter().all(|other| other.text != suggestion.text) {
                    found.push(suggestion);
                }
            }
        }
        all.push((kind, found));
    }
    Ok(all)
}

struct Completion {
    key: String,
    /// How many items have it; some may be deleted by now.
    items: u64,
    /// Its postings, by segment.
    places: Vec<(u32, TermInfo)>,
}

impl Completion {
    /// A cut is where a character begins, so up to three bytes early, and before a space.
    fn may_be_cut(&self) -> bool {
        self.key[1..].len() + 4 >= LONGEST_ENTRANCE
    }

    /// Documents that have the key, as far as there still are some.
    fn examples(
        &self,
        searcher: &Searcher,
        fields: &Fields,
        most: usize,
    ) -> tantivy::Result<Vec<DocAddress>> {
        let mut examples = Vec::new();
        for (ordinal, place) in &self.places {
            let segment = searcher.segment_reader(*ordinal);
            let inverted = segment.inverted_index(fields.keys)?;
            let mut postings = inverted.read_postings_from_terminfo(place, IndexRecordOption::Basic)?;
            while postings.doc() != TERMINATED && examples.len() < most {
                if !segment.is_deleted(postings.doc()) {
                    examples.push(DocAddress::new(*ordinal, postings.doc()));
                }
                postings.advance();
            }
        }
        Ok(examples)
    }
}

/// The keys that the prefix leads to.
fn completions(
    searcher: &Searcher,
    fields: &Fields,
    kind: Key,
    prefix: &str,
) -> tantivy::Result<Vec<Completion>> {
    let from = kind.text(cut(prefix)).into_bytes();
    let mut to = from.clone();
    to.push(0xff); // above every byte of UTF-8
    let mut found: HashMap<String, Completion> = HashMap::new();
    for (ordinal, segment) in (0..).zip(searcher.segment_readers()) {
        let inverted = segment.inverted_index(fields.keys)?;
        let mut stream = inverted.terms().range().ge(&from).lt(&to).into_stream()?;
        let mut scanned = 0;
        while scanned < SCAN && stream.advance() {
            scanned += 1;
            let key = String::from_utf8_lossy(stream.key());
            let known = match found.get_mut(key.as_ref()) {
                Some(known) => known,
                None => found.entry(key.to_string()).or_insert_with(|| Completion {
                    key: key.into_owned(),
                    items: 0,
                    places: Vec::new(),
                }),
            };
            known.items += u64::from(stream.value().doc_freq);
            known.places.push((ordinal, stream.value().clone()));
        }
    }
    Ok(found.into_values().collect())
}

/// What a document's suggestions were made from.
#[derive(Deserialize)]
pub(super) struct Names {
    pub(super) name: String,
    pub(super) brand: Option<String>,
    pub(super) category: Vec<String>,
}

impl Names {
    /// The name that this key stands for and that begins like this, at one of its first words, as it is written.
    fn suggestion(self, kind: SuggestionKind, key: &str, prefix: &str) -> Option<Suggestion> {
        let leads = |name: &str| {
            entrances(&shown(name)).any(|entrance| cut(&entrance) == key && entrance.starts_with(prefix))
        };
        let category =
            |names: &[String]| (!names.is_empty()).then(|| SuggestedFacet::new("category", &path(names)));
        let (name, facet) = match kind {
            SuggestionKind::Brand => {
                let brand = self.brand.filter(|brand| leads(brand))?;
                let facet = SuggestedFacet::new("brand", brand.trim());
                (brand, Some(facet))
            }
            SuggestionKind::Category => {
                let at = self.category.iter().position(|name| leads(name))?;
                (self.category[at].clone(), category(&self.category[..=at]))
            }
            SuggestionKind::Title if leads(&self.name) => (self.name, category(&self.category)),
            SuggestionKind::Title | SuggestionKind::Query => return None,
        };
        Some(Suggestion { text: shown(&name), kind, facet })
    }
}
