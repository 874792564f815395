//! A typed term becomes groups of alternatives: each group is one thing the buyer asked for, each alternative one way to
//! say it. Corrections of typos and synonyms are further alternatives of lower weight, nothing else needs to know of them.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::analyzer::{Analyzer, Word};
use crate::text::{clip, fold};

/// More than this many groups are not looked at: nobody describes a product so, and each costs time.
const MOST_GROUPS: usize = 16;
/// In bytes.
const LONGEST_TERM: usize = 1024;

/// Words that say nothing about a product. They are left out of a query that has others.
const STOP_WORDS: &[&str] = &[
    "a", "an", "and", "are", "as", "at", "by", "for", "from", "in", "is", "it", "of", "on", "or", "that",
    "the", "this", "to", "with",
];

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Group {
    #[serde(rename = "a")]
    pub(crate) alternatives: Vec<Alternative>,
    /// How many of the typed words it stands for.
    #[serde(rename = "n")]
    pub(crate) span: usize,
    #[serde(skip)]
    pub(crate) typed: Typed,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Alternative {
    #[serde(rename = "w")]
    pub(crate) words: Vec<String>,
    /// 1 for what was typed.
    #[serde(rename = "b")]
    pub(crate) weight: f32,
    /// Whether several words have to stand in a row.
    #[serde(rename = "p")]
    pub(crate) phrase: bool,
}

/// How a group was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Typed {
    /// Where in the term.
    pub(crate) range: Range<usize>,
    /// A single word of its own, folded; none of compounds and of text in quotes, which are meant as they are.
    pub(crate) word: Option<String>,
    /// Whether it may go on.
    pub(crate) unfinished: bool,
    pub(crate) quoted: bool,
}

impl Alternative {
    pub(crate) fn phrase(words: Vec<String>, weight: f32) -> Self {
        Self { words, weight, phrase: true }
    }
}

impl Group {
    fn new(alternatives: Vec<Vec<String>>, typed: Typed) -> Self {
        let typed_as = |words| Alternative::phrase(words, 1.0);
        Self { alternatives: alternatives.into_iter().map(typed_as).collect(), span: 1, typed }
    }

    /// Whether it could come of a term: the search relies on it.
    pub(crate) fn is_sound(&self) -> bool {
        let sound = |said: &Alternative| {
            !said.words.is_empty()
                && said.words.len() <= LONGEST_TERM
                && said.weight > 0.0
                && said.weight <= 1.0
        };
        !self.alternatives.is_empty()
            && self.alternatives.iter().all(sound)
            && (1..=MOST_GROUPS).contains(&self.span)
    }

    pub(crate) fn words(&self) -> impl Iterator<Item = &String> {
        self.alternatives.iter().flat_map(|alternative| &alternative.words)
    }
}

/// The groups of a term: none if it holds no letter and no digit. Text in quotes is a phrase.
pub(crate) fn parse(analyzer: &Analyzer, term: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    let term = clip(term, LONGEST_TERM);
    for (place, quoted) in pieces(term) {
        let text = &term[place.clone()];
        let words = analyzer.words(text);
        let within = |word: &Word| {
            let (first, last) = (word.parts.first(), word.parts.last());
            place.start + first.map_or(0, |part| part.from)..place.start + last.map_or(0, |part| part.to)
        };
        if quoted && words.len() > 1 {
            let phrase = words.into_iter().flat_map(|word| word.parts).map(|part| part.text).collect();
            groups
                .push((Group::new(vec![phrase], Typed { range: place, quoted, ..Typed::default() }), false));
        } else {
            groups.extend(words.into_iter().map(|word| {
                let stops = word.joined.is_none() && STOP_WORDS.contains(&word.parts[0].text.as_str());
                let range = within(&word);
                let plain = !quoted && word.joined.is_none();
                let unfinished = plain && range.end == term.len();
                let folded = plain.then(|| fold(&term[range.clone()]));
                let typed = Typed { range, word: folded, unfinished, quoted };
                (Group::new(alternatives(word), typed), stops)
            }));
        }
    }
    let only_stops = groups.iter().all(|(_, stops)| *stops);
    let mut kept: Vec<Group> = Vec::new();
    for (group, stops) in groups {
        let known = kept.iter().any(|known| known.alternatives == group.alternatives);
        if (only_stops || !stops) && !known {
            kept.push(group);
        }
    }
    kept.truncate(MOST_GROUPS);
    kept
}

/// A word as a whole, or its parts one after another.
fn alternatives(word: Word) -> Vec<Vec<String>> {
    let parts = word.parts.into_iter().map(|part| part.text).collect();
    match word.joined {
        Some(joined) => vec![vec![joined], parts],
        None => vec![parts],
    }
}

/// Cuts at quotes that stand around something. The inch mark of `15"` is none: it follows no opening quote.
fn pieces(term: &str) -> Vec<(Range<usize>, bool)> {
    let mut pieces = Vec::new();
    let mut from = 0;
    loop {
        let rest = &term[from..];
        let opens = rest.match_indices(['"', '“']).find(|(at, _)| {
            rest[..*at].chars().next_back().is_none_or(char::is_whitespace) && !rest[*at..].ends_with(' ')
        });
        let Some((open, quote)) = opens else { break };
        let inside = open + quote.len();
        let Some(length) = rest[inside..].find(['"', '”']) else { break };
        pieces.push((from..from + open, false));
        pieces.push((from + inside..from + inside + length, true));
        let closing = rest[inside + length..].chars().next().map_or(0, char::len_utf8);
        from += inside + length + closing;
    }
    pieces.push((from..term.len(), false));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(term: &str) -> Vec<Vec<Vec<String>>> {
        let groups = parse(&Analyzer::new(), term);
        groups.into_iter().map(|group| group.alternatives.into_iter().map(|a| a.words).collect()).collect()
    }

    #[test]
    fn a_compound_is_asked_for_joined_or_in_a_row() {
        assert_eq!(words("wi-fi router"), [vec![vec!["wifi"], vec!["wi", "fi"]], vec![vec!["router"]]]);
        assert_eq!(words("15\" laptop"), [vec![vec!["15inch"], vec!["15", "inch"]], vec![vec!["laptop"]]]);
    }

    #[test]
    fn quotes_make_a_phrase_and_an_inch_mark_does_not() {
        assert_eq!(words("\"usb cable\" black"), [vec![vec!["usb", "cabl"]], vec![vec!["black"]]]);
        assert_eq!(words("“usb cable”"), [vec![vec!["usb", "cabl"]]]);
        assert_eq!(words("\"usb"), [vec![vec!["usb"]]]);
        assert_eq!(words("tv 40\" or 42\"").len(), 3);
        assert_eq!(words("\"\" \""), Vec::<Vec<Vec<String>>>::new());
    }

    #[test]
    fn stop_words_count_only_where_there_is_nothing_else() {
        assert_eq!(words("the cables of the printer"), [vec![vec!["cabl"]], vec![vec!["printer"]]]);
        assert_eq!(words("the the of"), [vec![vec!["the"]], vec![vec!["of"]]]);
    }

    #[test]
    fn nothing_is_asked_for_by_signs() {
        assert!(words("🦀 ?!").is_empty());
        assert!(words("").is_empty());
        assert_eq!(words(&"x ".repeat(400)).len(), 1);
        assert_eq!(
            words(&(100..500).map(|n| n.to_string()).collect::<Vec<_>>().join(" ")).len(),
            MOST_GROUPS
        );
    }
}
