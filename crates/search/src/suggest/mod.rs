//! Completions of what a buyer types: what others searched for and found, and what the shop sells (brands, categories,
//! titles), each with the filter it leads to.
//!
//! The popular ones are kept in memory ([`popular`]), gathered anew now and then, and found with a typo, too. What is not
//! among them, because it is rare or new, is a key of the index itself ([`fresh`]) and is asked for only where the popular
//! ones are few: then the keys with this beginning are few as well. Words further on in a name are found by a key that begins
//! there.

mod fresh;
mod gather;
mod popular;

use std::sync::Arc;

use tantivy::Searcher;

pub(crate) use self::{
    gather::{Sources, gather},
    popular::Popular,
};
use crate::document::{CATEGORY_SEPARATOR, ItemDocument};
use crate::query::SearchError;
use crate::schema::{Fields, Key};
use crate::text::{clip, squash};

/// Longer titles are cut at a word: a suggestion is something to search for. In bytes.
const LONGEST: usize = 48;
/// Folding makes some letters two.
const LONGEST_PREFIX: usize = 2 * LONGEST;
/// A key of the index ends here: what names have in common is mostly shorter, and the rest would be most of its keys.
const LONGEST_ENTRANCE: usize = 24;
/// So many words of a name, from the first, a completion may begin at.
const ENTRANCES: usize = 3;
/// From so many letters on one may be wrong, and from so many on two.
const ONE_TYPO: usize = 5;
const TWO_TYPOS: usize = 9;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suggestion {
    pub text: String,
    pub kind: SuggestionKind,
    pub facet: Option<SuggestedFacet>,
}

/// A filter of the search, and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SuggestedFacet {
    /// `brand` or `category`
    pub name: Arc<str>,
    /// As the filter takes it.
    pub value: Arc<str>,
}

impl SuggestedFacet {
    pub fn new(name: &str, value: &str) -> Self {
        Self { name: name.into(), value: value.into() }
    }
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
const KINDS: [SuggestionKind; 4] =
    [SuggestionKind::Query, SuggestionKind::Brand, SuggestionKind::Category, SuggestionKind::Title];

/// What others search for and find, to be suggested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundQuery {
    /// As [`normalised`](crate::normalised).
    pub text: String,
    pub facet: Option<SuggestedFacet>,
}

/// The keys under which an item's names are found.
pub(crate) fn keys(item: &ItemDocument) -> Vec<String> {
    let mut keys = Vec::new();
    let mut add = |kind: Key, name: &str| {
        keys.extend(entrances(&shown(name)).map(|entrance| kind.text(cut(&entrance))));
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

/// As much of an entrance as is a key. Keys do not end in a space.
fn cut(entrance: &str) -> &str {
    clip(entrance, LONGEST_ENTRANCE).trim_end()
}

/// What may be typed to get to a name: it, from its first words on.
fn entrances(shown: &str) -> impl Iterator<Item = String> {
    let words: Vec<String> = squash(shown).split(' ').map(str::to_owned).collect();
    (0..ENTRANCES.min(words.len())).map(move |first| words[first..].join(" ")).filter(|text| !text.is_empty())
}

/// The path of a category, as its filter takes it.
fn path(names: &[String]) -> String {
    names.join(CATEGORY_SEPARATOR)
}

/// At most `size` completions: those that begin as was typed before those that nearly do, and of each kind the most popular
/// first.
pub(crate) fn suggest(
    searcher: &Searcher,
    fields: &Fields,
    popular: &Popular,
    prefix: &str,
    size: usize,
) -> Result<Vec<Suggestion>, SearchError> {
    let prefix = squash(prefix);
    let mut chosen = Vec::new();
    if prefix.is_empty() || prefix.len() > LONGEST_PREFIX {
        return Ok(chosen);
    }
    let mut found = popular.beginning_with(&prefix, size);
    if found.iter().map(Vec::len).sum::<usize>() < size {
        // What is known by its name need not be read again.
        let known = found.iter().flatten().map(|name| squash(&name.text)).collect();
        for (kind, rare) in fresh::beginning_with(searcher, fields, &prefix, &known, size)? {
            found[kind as usize].extend(rare);
        }
    }
    choose(&mut chosen, found, size);
    for typos in 1..=typos(&prefix) {
        if chosen.len() < size {
            choose(&mut chosen, popular.nearly_beginning_with(&prefix, typos, size), size);
        }
    }
    Ok(chosen)
}

/// How many letters may be wrong. A digit is meant as it is.
fn typos(prefix: &str) -> u8 {
    match prefix.chars().count() {
        _ if prefix.contains(|char: char| char.is_ascii_digit()) => 0,
        TWO_TYPOS.. => 2,
        ONE_TYPO.. => 1,
        _ => 0,
    }
}

/// By kind.
type Found = [Vec<Suggestion>; KINDS.len()];

/// A few of each kind, so that all have a place; then whatever there is.
fn choose(chosen: &mut Vec<Suggestion>, mut found: Found, size: usize) {
    let places = |kind| match kind {
        SuggestionKind::Query | SuggestionKind::Brand | SuggestionKind::Category => size.div_ceil(3),
        SuggestionKind::Title => size,
    };
    for few in [true, false] {
        for (kind, found) in KINDS.into_iter().zip(&mut found) {
            let mut left = if few { places(kind) } else { size };
            found.retain(|suggestion| {
                let wanted = left > 0 && chosen.len() < size;
                if wanted && chosen.iter().all(|known| !known.text.eq_ignore_ascii_case(&suggestion.text)) {
                    left -= 1;
                    chosen.push(suggestion.clone());
                }
                !wanted
            });
        }
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

    #[test]
    fn letters_may_be_wrong_in_words_that_are_long_enough() {
        let typos = ["lamp", "lampe", "lanterns", "lanterns and", "windows 11"].map(typos);
        assert_eq!(typos, [0, 1, 1, 2, 0]);
    }

    #[test]
    fn every_kind_has_a_place_while_there_is_one() {
        let of_kind = |kind: SuggestionKind| {
            let suggestion = |n| Suggestion { text: format!("{kind:?} {n}"), kind, facet: None };
            (0..9).map(suggestion).collect::<Vec<_>>()
        };
        let mut chosen = Vec::new();
        choose(&mut chosen, KINDS.map(of_kind), 9);
        let kinds: Vec<_> = chosen.iter().map(|suggestion| suggestion.kind).collect();
        assert_eq!(
            kinds,
            [[SuggestionKind::Query; 3], [SuggestionKind::Brand; 3], [SuggestionKind::Category; 3]].concat()
        );
        let mut few = Vec::new();
        let found = [of_kind(SuggestionKind::Query), vec![], vec![], of_kind(SuggestionKind::Title)];
        choose(&mut few, found, 6);
        assert_eq!(few.iter().filter(|suggestion| suggestion.kind == SuggestionKind::Title).count(), 4);
    }
}
