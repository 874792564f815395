//! Completions of what a buyer types, out of what the shop sells: brands, categories and titles.
//!
//! They are terms of the index itself (kind, folded text, text as shown), so they are as fresh as the index, cost no
//! memory and need no building: a prefix is a range of a sorted dictionary. Words further on in a name are found by a term
//! that begins there. Queries of other buyers will be one more kind.

use std::collections::HashMap;

use tantivy::schema::{Field, IndexRecordOption};
use tantivy::{DocSet, Searcher, TERMINATED};

use crate::document::ItemDocument;
use crate::text::{clip, squash};

/// Longer titles are cut at a word: a suggestion is something to search for.
const LONGEST: usize = 64;
/// So many words of a name, from the first, a completion may begin at.
const ENTRANCES: usize = 3;
/// Of a prefix's range in one segment no more terms than this are looked at.
const SCAN: usize = 2_000;
/// Items beyond this number make a suggestion no more popular.
const COUNTED: u64 = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    pub text: String,
    pub kind: SuggestionKind,
}

/// In the order they are offered in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SuggestionKind {
    /// What others searched for.
    Query,
    Brand,
    Category,
    Title,
}

impl SuggestionKind {
    const OF_ITEMS: [Self; 3] = [Self::Brand, Self::Category, Self::Title];

    fn letter(self) -> char {
        match self {
            Self::Query => 'q',
            Self::Brand => 'b',
            Self::Category => 'c',
            Self::Title => 't',
        }
    }
}

/// The terms under which an item's names are found.
pub(crate) fn keys(item: &ItemDocument) -> Vec<String> {
    let mut keys = Vec::new();
    if let Some(brand) = &item.brand {
        add_keys(SuggestionKind::Brand, brand, &mut keys);
    }
    for name in &item.category {
        add_keys(SuggestionKind::Category, name, &mut keys);
    }
    add_keys(SuggestionKind::Title, &item.name, &mut keys);
    keys
}

fn add_keys(kind: SuggestionKind, text: &str, keys: &mut Vec<String>) {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown = clip(&text, LONGEST);
    if shown.len() < text.len() {
        shown = shown.rsplit_once(' ').map_or(shown, |(whole_words, _)| whole_words);
    }
    let folded = squash(shown);
    let mut entrance = folded.as_str();
    for _ in 0..ENTRANCES {
        if entrance.is_empty() {
            break;
        }
        keys.push(format!("{}{entrance}\0{shown}", kind.letter()));
        entrance = entrance.split_once(' ').map_or("", |(_, rest)| rest);
    }
}

/// At most `size` completions: few of each kind, the most common ones first.
pub(crate) fn suggest(
    searcher: &Searcher,
    field: Field,
    prefix: &str,
    size: usize,
) -> tantivy::Result<Vec<Suggestion>> {
    let prefix = squash(clip(prefix, LONGEST));
    let mut suggestions: Vec<Suggestion> = Vec::new();
    if prefix.is_empty() || size == 0 {
        return Ok(suggestions);
    }
    for kind in SuggestionKind::OF_ITEMS {
        // Brands and categories leave room for titles.
        let room = if kind == SuggestionKind::Title { size } else { size.div_ceil(3) };
        let mut found: Vec<(String, u64)> =
            completions(searcher, field, kind, &prefix)?.into_iter().collect();
        found.sort_unstable_by(|(a, a_count), (b, b_count)| {
            b_count.cmp(a_count).then_with(|| a.len().cmp(&b.len())).then_with(|| a.cmp(b))
        });
        let fresh: Vec<Suggestion> = found
            .into_iter()
            .map(|(text, _)| Suggestion { text, kind })
            .filter(|new| suggestions.iter().all(|known| !known.text.eq_ignore_ascii_case(&new.text)))
            .take(room)
            .collect();
        suggestions.extend(fresh);
    }
    suggestions.truncate(size);
    Ok(suggestions)
}

/// Texts that the prefix leads to, with the number of items that bear them.
fn completions(
    searcher: &Searcher,
    field: Field,
    kind: SuggestionKind,
    prefix: &str,
) -> tantivy::Result<HashMap<String, u64>> {
    let from = format!("{}{prefix}", kind.letter()).into_bytes();
    let mut to = from.clone();
    to.push(0xff); // above every byte of UTF-8
    let mut found: HashMap<String, u64> = HashMap::new();
    for segment in searcher.segment_readers() {
        let inverted = segment.inverted_index(field)?;
        let mut stream = inverted.terms().range().ge(&from).lt(&to).into_stream()?;
        let mut scanned = 0;
        while scanned < SCAN && stream.advance() {
            scanned += 1;
            let Some(shown) = stream.key().splitn(2, |byte| *byte == 0).nth(1) else { continue };
            let info = stream.value();
            let mut count = u64::from(info.doc_freq).min(COUNTED);
            if let Some(alive) = segment.alive_bitset() {
                let mut postings = inverted.read_postings_from_terminfo(info, IndexRecordOption::Basic)?;
                count = 0;
                while count < COUNTED && postings.doc() != TERMINATED {
                    count += u64::from(alive.is_alive(postings.doc()));
                    postings.advance();
                }
            }
            if count > 0 {
                *found.entry(String::from_utf8_lossy(shown).into_owned()).or_default() += count;
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_its_first_words_and_shown_whole() {
        let mut keys = Vec::new();
        add_keys(SuggestionKind::Category, " Hôme  Théâtre big screens ", &mut keys);
        assert_eq!(
            keys,
            [
                "chome theatre big screens\0Hôme Théâtre big screens",
                "ctheatre big screens\0Hôme Théâtre big screens",
                "cbig screens\0Hôme Théâtre big screens",
            ]
        );
        keys.clear();
        add_keys(SuggestionKind::Title, &"word ".repeat(40), &mut keys);
        assert!(keys[0].ends_with("word") && keys[0].len() < 2 * LONGEST + 2);
    }
}
