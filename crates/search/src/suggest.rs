//! Completions of what a buyer types, out of what the shop sells: brands, categories and titles.
//!
//! They are keys of the index itself, so they are as fresh as the index, cost no memory and need no building: a prefix is a
//! range of a sorted dictionary. Words further on in a name are found by a key that begins there. How a completion is
//! written, with capitals and accents, is read from a document that has it. Queries of other buyers will be one more kind.

use std::collections::HashMap;

use serde::Deserialize;
use tantivy::postings::TermInfo;
use tantivy::schema::IndexRecordOption;
use tantivy::{DocAddress, DocSet, Searcher, TERMINATED, TantivyDocument};

use crate::document::ItemDocument;
use crate::index::source;
use crate::query::SearchError;
use crate::schema::{Fields, Key};
use crate::text::{clip, squash};

/// Longer titles are cut at a word: a suggestion is something to search for.
const LONGEST: usize = 48;
/// So many words of a name, from the first, a completion may begin at.
const ENTRANCES: usize = 3;
/// Of a prefix's range in one segment no more terms than this are looked at.
const SCAN: usize = 500;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    pub text: String,
    pub kind: SuggestionKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SuggestionKind {
    /// What others searched for.
    Query,
    Brand,
    Category,
    Title,
}

/// In the order they are offered in.
const KINDS: [(SuggestionKind, Key); 3] = [
    (SuggestionKind::Brand, Key::BrandSuggestion),
    (SuggestionKind::Category, Key::CategorySuggestion),
    (SuggestionKind::Title, Key::TitleSuggestion),
];

/// The keys under which an item's names are found.
pub(crate) fn keys(item: &ItemDocument) -> Vec<String> {
    let mut keys = Vec::new();
    let mut add = |kind: Key, name: &str| {
        keys.extend(entrances(&shown(name)).map(|entrance| kind.text(&entrance)));
    };
    if let Some(brand) = &item.brand {
        add(Key::BrandSuggestion, brand);
    }
    for name in &item.category {
        add(Key::CategorySuggestion, name);
    }
    add(Key::TitleSuggestion, &item.name);
    keys
}

/// A name as it is suggested.
fn shown(name: &str) -> String {
    let name = name.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut = clip(&name, LONGEST);
    if cut.len() < name.len() && !name[cut.len()..].starts_with(' ') {
        return cut.rsplit_once(' ').map_or(cut, |(whole_words, _)| whole_words).to_owned();
    }
    cut.to_owned()
}

/// What may be typed to get to a name: it, from its first words on.
fn entrances(shown: &str) -> impl Iterator<Item = String> {
    let words: Vec<String> = squash(shown).split(' ').map(str::to_owned).collect();
    (0..ENTRANCES.min(words.len())).map(move |first| words[first..].join(" ")).filter(|text| !text.is_empty())
}

/// At most `size` completions: few of each kind, the most common ones first.
pub(crate) fn suggest(
    searcher: &Searcher,
    fields: &Fields,
    prefix: &str,
    size: usize,
) -> Result<Vec<Suggestion>, SearchError> {
    let mut suggestions: Vec<Suggestion> = Vec::new();
    if squash(prefix).is_empty() {
        return Ok(suggestions);
    }
    for (kind, key) in KINDS {
        // Brands and categories leave room for titles.
        let room = if kind == SuggestionKind::Title { size } else { size.div_ceil(3) };
        let mut completions: Vec<Completion> = completions(searcher, fields, key, prefix)?;
        completions.sort_unstable_by(|a, b| {
            b.items.cmp(&a.items).then_with(|| a.key.len().cmp(&b.key.len())).then_with(|| a.key.cmp(&b.key))
        });
        let full = size.min(suggestions.len() + room);
        // Several keys may lead to one name; not all of them are worth reading.
        for completion in completions.into_iter().take(3 * room) {
            if suggestions.len() >= full {
                break;
            }
            let Some(example) = completion.example(searcher, fields)? else { continue };
            let document: TantivyDocument = searcher.doc(example)?;
            let names: Names = serde_json::from_slice(source(&document, fields))?;
            let Some(text) = names.written(kind, key, &completion.key) else { continue };
            if suggestions.iter().all(|known| !known.text.eq_ignore_ascii_case(&text)) {
                suggestions.push(Suggestion { text, kind });
            }
        }
    }
    Ok(suggestions)
}

struct Completion {
    key: String,
    /// How many items have it; some may be deleted by now.
    items: u64,
    /// Its postings, by segment.
    places: Vec<(u32, TermInfo)>,
}

impl Completion {
    /// A document that has the key, if there still is one.
    fn example(&self, searcher: &Searcher, fields: &Fields) -> tantivy::Result<Option<DocAddress>> {
        for (ordinal, place) in &self.places {
            let segment = searcher.segment_reader(*ordinal);
            let inverted = segment.inverted_index(fields.keys)?;
            let mut postings = inverted.read_postings_from_terminfo(place, IndexRecordOption::Basic)?;
            while postings.doc() != TERMINATED {
                if !segment.is_deleted(postings.doc()) {
                    return Ok(Some(DocAddress::new(*ordinal, postings.doc())));
                }
                postings.advance();
            }
        }
        Ok(None)
    }
}

/// The keys that the prefix leads to.
fn completions(
    searcher: &Searcher,
    fields: &Fields,
    kind: Key,
    prefix: &str,
) -> tantivy::Result<Vec<Completion>> {
    let from = kind.text(prefix).into_bytes();
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
struct Names {
    name: String,
    brand: Option<String>,
    category: Vec<String>,
}

impl Names {
    /// The name that has this key, as it is written.
    fn written(self, kind: SuggestionKind, key: Key, text: &str) -> Option<String> {
        let names = match kind {
            SuggestionKind::Brand => self.brand.into_iter().collect(),
            SuggestionKind::Category => self.category,
            SuggestionKind::Title => vec![self.name],
            SuggestionKind::Query => Vec::new(),
        };
        let leads = |name: &String| entrances(name).any(|entrance| key.text(&entrance) == text);
        names.iter().map(|name| shown(name)).find(leads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_its_first_words() {
        let name = shown(" Hôme  Théâtre big screens ");
        assert_eq!(name, "Hôme Théâtre big screens");
        let entrances: Vec<String> = entrances(&name).collect();
        assert_eq!(entrances, ["home theatre big screens", "theatre big screens", "big screens"]);
    }

    #[test]
    fn a_long_name_is_cut_at_a_word() {
        assert_eq!(shown(&"four ".repeat(40)), "four ".repeat(8) + "four");
        assert_eq!(shown(&"x".repeat(100)).len(), LONGEST);
        assert_eq!(shown(""), "");
        assert_eq!(entrances("").count(), 0);
    }
}
