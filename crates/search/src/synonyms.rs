//! Words that mean the same, as the shop's people write them: `tv, television, telly` for words that stand for each other,
//! `notebook => laptop` for one that is to find another as well, a line each, `#` before a remark. They are looked up when a
//! query is read, so that a new list counts from the next search on and nothing is indexed again.

use std::collections::HashMap;

use crate::analyzer::{Analyzer, Word};
use crate::terms::{Alternative, Group};

/// What a synonym counts beside the word that was typed.
const WEIGHT: f32 = 0.9;
/// Words of one side of a rule.
const MOST_WORDS: usize = 6;

/// A rule that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct SynonymError {
    /// From 1.
    pub line: usize,
    pub reason: &'static str,
}

#[derive(Debug, Default)]
pub struct Synonyms {
    /// By the words that were typed, in the form they are indexed in.
    by_words: HashMap<Vec<String>, Vec<Vec<String>>>,
    longest: usize,
}

impl Synonyms {
    /// Reads rules, one a line.
    pub fn parse(rules: &str) -> Result<Self, SynonymError> {
        let analyzer = Analyzer::new();
        let mut synonyms = Self::default();
        for (at, rule) in rules.lines().enumerate() {
            let rule = rule.split('#').next().unwrap_or_default().trim();
            if !rule.is_empty() {
                synonyms.add(&analyzer, rule).map_err(|reason| SynonymError { line: at + 1, reason })?;
            }
        }
        Ok(synonyms)
    }

    fn add(&mut self, analyzer: &Analyzer, rule: &str) -> Result<(), &'static str> {
        let one_way = rule.split_once("=>");
        let (from, to) = one_way.unwrap_or((rule, rule));
        let (from, to) = (sides(analyzer, from)?, sides(analyzer, to)?);
        if one_way.is_none() && from.len() < 2 {
            return Err("a word alone means nothing else: write `a, b` or `a => b`");
        }
        for words in from {
            self.longest = self.longest.max(words.len());
            let known = self.by_words.entry(words.clone()).or_default();
            for other in &to {
                if *other != words && !known.contains(other) {
                    known.push(other.clone());
                }
            }
        }
        Ok(())
    }

    pub fn is_empty(&self) -> bool {
        self.by_words.is_empty()
    }

    /// Adds what means the same to the groups. Typed words that a rule takes together become one group: either all of them
    /// are found, or what stands for them.
    pub(crate) fn apply(&self, groups: Vec<Group>) -> Vec<Group> {
        if self.is_empty() {
            return groups;
        }
        let mut applied = Vec::with_capacity(groups.len());
        let mut rest = groups.as_slice();
        while let Some(first) = rest.first() {
            let spans = (1..=self.longest.min(rest.len())).rev();
            let found = spans.map(|span| &rest[..span]).find_map(|typed| Some((typed, self.meant(typed)?)));
            let (typed, others) = found.unwrap_or((&rest[..1], &[]));
            let mut group = first.clone();
            if typed.len() > 1 {
                let words = typed.iter().flat_map(|group| group.alternatives[0].words.clone()).collect();
                group.alternatives = vec![Alternative { words, weight: 1.0, phrase: false }];
                group.span = typed.len();
            }
            for words in others {
                if group.alternatives.iter().all(|known| known.words != *words) {
                    group.alternatives.push(Alternative::phrase(words.clone(), WEIGHT));
                }
            }
            if !others.is_empty() {
                group.typed.word = None;
            }
            applied.push(group);
            rest = &rest[typed.len()..];
        }
        applied
    }

    /// What else these groups may be called; nothing of text in quotes, which is meant as it is.
    fn meant(&self, typed: &[Group]) -> Option<&[Vec<String>]> {
        if typed.iter().any(|group| group.typed.quoted) {
            return None;
        }
        let words: Vec<String> = typed.iter().flat_map(|group| group.alternatives[0].words.clone()).collect();
        self.by_words.get(&words).map(Vec::as_slice)
    }
}

/// The names between commas, each as the words it is indexed as.
fn sides(analyzer: &Analyzer, text: &str) -> Result<Vec<Vec<String>>, &'static str> {
    let mut sides = Vec::new();
    for name in text.split(',') {
        let whole = |word: Word| match word.joined {
            Some(joined) => joined,
            None => word.parts.into_iter().map(|part| part.text).collect(),
        };
        let words: Vec<String> = analyzer.words(name).into_iter().map(whole).collect();
        if words.is_empty() {
            return Err("there is nothing between two signs");
        }
        if words.len() > MOST_WORDS {
            return Err("a name has six words at most");
        }
        sides.push(words);
    }
    Ok(sides)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::terms::parse;

    fn groups(rules: &str, term: &str) -> Vec<Vec<String>> {
        let groups = Synonyms::parse(rules).unwrap().apply(parse(&Analyzer::new(), term));
        let said = |group: Group| group.alternatives.iter().map(|said| said.words.join(" ")).collect();
        groups.into_iter().map(said).collect()
    }

    #[test]
    fn words_of_a_rule_stand_for_each_other_or_one_for_another() {
        let rules = "tv, television  # both ways\n\nnotebook => laptop\nhard drive, HDD";
        assert_eq!(groups(rules, "televisions black"), [vec!["televis", "tv"], vec!["black"]]);
        assert_eq!(groups(rules, "Notebooks"), [["notebook", "laptop"]]);
        assert_eq!(groups(rules, "laptop"), [["laptop"]]);
        assert_eq!(groups(rules, "usb hard drives"), [vec!["usb"], vec!["hard drive", "hdd"]]);
        assert_eq!(groups(rules, "hdd"), [["hdd", "hard drive"]]);
        assert_eq!(groups(rules, "\"tv\""), [["tv"]], "what is quoted is meant as it is");
    }

    #[test]
    fn what_is_no_rule_is_told_by_its_line() {
        for (rules, line) in [("a, b\nalone", 2), ("a,,b", 1), ("=> a", 1), ("a b c d e f g, h", 1)] {
            assert_eq!(Synonyms::parse(rules).unwrap_err().line, line, "{rules}");
        }
        assert!(Synonyms::parse("# nothing\n\n").unwrap().is_empty());
    }
}
