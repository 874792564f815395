//! Completions in memory: for each kind an `fst` from what may be typed to the rank of a name, 0 the most popular. An `fst`
//! keeps the least of all values behind a transition on the way to it, so the best names are reached first, whatever the
//! prefix, without looking at the others. With a Levenshtein automaton beside, the same way leads past typos.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::LazyLock;

use levenshtein_automata::{DFA, Distance, LevenshteinAutomatonBuilder, SINK_STATE};
use tantivy_fst::MapBuilder;
use tantivy_fst::raw::{CompiledAddr, Fst};

use super::{Found, Suggestion, entrances};
use crate::query::SearchError;

/// Steps of one completion at most, so that none takes long: a few hundred suffice without a typo.
const STEPS: usize = 20_000;
/// Names that end in the same words, at most, the one that consists of them first: a key is told apart by a number after it.
const MOST_OF_A_KEY: u8 = 8;
/// Letters beyond this are not looked at for typos.
const LONGEST_MISSPELT: usize = 24;

/// By typos, one or two. Two letters exchanged are one.
static TYPOS: LazyLock<[LevenshteinAutomatonBuilder; 2]> =
    LazyLock::new(|| [1, 2].map(|distance| LevenshteinAutomatonBuilder::new(distance, true)));

#[derive(Default)]
pub(crate) struct Popular([Names; 4]);

/// The names of one kind.
#[derive(Default)]
struct Names {
    by_rank: Vec<Suggestion>,
    ranks: Option<Fst<Vec<u8>>>,
}

impl Popular {
    /// The most popular of each kind first.
    pub(super) fn new(found: Found) -> Result<Self, SearchError> {
        let mut names: [Names; 4] = Default::default();
        for (names, found) in names.iter_mut().zip(found) {
            *names = Names::new(found)?;
        }
        Ok(Self(names))
    }

    pub(super) fn beginning_with(&self, prefix: &str, size: usize) -> Found {
        let way = Way::Straight(prefix.as_bytes());
        self.0.each_ref().map(|names| names.best(&way, size))
    }

    /// With so many letters that are wrong, but never the first, which few people get wrong.
    pub(super) fn nearly_beginning_with(&self, prefix: &str, typos: u8, size: usize) -> Found {
        let end = prefix.char_indices().nth(LONGEST_MISSPELT).map_or(prefix.len(), |(at, _)| at);
        let first = prefix.as_bytes()[0];
        let way =
            Way::Misspelt { first, dfa: TYPOS[usize::from(typos) - 1].build_prefix_dfa(&prefix[..end]) };
        self.0.each_ref().map(|names| names.best(&way, size))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().map(|names| names.by_rank.len()).sum()
    }

    /// In bytes, about: facets are shared.
    pub(crate) fn memory(&self) -> usize {
        let of_name = |name: &Suggestion| name.text.capacity() + size_of::<Suggestion>();
        let of_names = |names: &Names| {
            names.ranks.as_ref().map_or(0, Fst::size) + names.by_rank.iter().map(of_name).sum::<usize>()
        };
        self.0.iter().map(of_names).sum()
    }
}

/// How what was typed leads through the keys.
enum Way<'a> {
    Straight(&'a [u8]),
    Misspelt { first: u8, dfa: DFA },
}

impl Way<'_> {
    fn start(&self) -> u32 {
        match self {
            Self::Straight(_) => 0,
            Self::Misspelt { dfa, .. } => dfa.initial_state(),
        }
    }

    fn step(&self, begins: bool, state: u32, byte: u8) -> Option<u32> {
        match self {
            Self::Straight(prefix) => match prefix.get(state as usize) {
                None => Some(state),
                Some(next) => (*next == byte).then_some(state + 1),
            },
            Self::Misspelt { first, .. } if begins && *first != byte => None,
            Self::Misspelt { dfa, .. } => {
                Some(dfa.transition(state, byte)).filter(|state| *state != SINK_STATE)
            }
        }
    }

    fn arrives(&self, state: u32) -> bool {
        match self {
            Self::Straight(prefix) => state as usize == prefix.len(),
            Self::Misspelt { dfa, .. } => matches!(dfa.distance(state), Distance::Exact(_)),
        }
    }
}

/// A place on the way: the least rank behind it decides which is next.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Name,
    Node(CompiledAddr, u32),
}

impl Names {
    fn new(by_rank: Vec<Suggestion>) -> Result<Self, SearchError> {
        let mut wholes = HashSet::new();
        let mut keys: Vec<(String, bool, u64)> = Vec::new();
        for (rank, name) in (0..).zip(&by_rank) {
            let mut entrances = entrances(&name.text);
            // A name that many items have is one.
            if let Some(whole) = entrances.next().filter(|whole| wholes.insert(whole.clone())) {
                keys.push((whole, false, rank));
                keys.extend(entrances.map(|rest| (rest, true, rank)));
            }
        }
        drop(wholes);
        keys.sort_unstable();
        let built = || {
            let mut map = MapBuilder::memory();
            for names in keys.chunk_by(|(one, ..), (other, ..)| one == other) {
                for (number, (key, _, rank)) in (0..MOST_OF_A_KEY).zip(names) {
                    map.insert([key.as_bytes(), &[0, number]].concat(), *rank)?;
                }
            }
            Fst::new(map.into_inner()?)
        };
        let ranks: Result<_, tantivy_fst::Error> = built();
        Ok(Self { by_rank, ranks: Some(ranks.map_err(std::io::Error::other)?) })
    }

    fn best(&self, way: &Way<'_>, size: usize) -> Vec<Suggestion> {
        let mut found: Vec<u64> = Vec::new();
        let Some(fst) = &self.ranks else { return Vec::new() };
        let root = fst.root().addr();
        let mut places = BinaryHeap::from([Reverse((0, Place::Node(root, way.start())))]);
        for _ in 0..STEPS {
            if found.len() >= size {
                break;
            }
            let Some(Reverse((rank, place))) = places.pop() else { break };
            let Place::Node(address, state) = place else {
                // A name has as many keys as words it may begin at; its rank comes in a row.
                if found.last() != Some(&rank) {
                    found.push(rank);
                }
                continue;
            };
            let node = fst.node(address);
            if node.is_final() && way.arrives(state) {
                places.push(Reverse((rank + node.final_output().value(), Place::Name)));
            }
            for transition in node.transitions() {
                if let Some(next) = way.step(address == root, state, transition.inp) {
                    let least = rank + transition.out.value();
                    places.push(Reverse((least, Place::Node(transition.addr, next))));
                }
            }
        }
        found.iter().filter_map(|rank| self.by_rank.get(*rank as usize)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{SuggestionKind, typos};
    use super::*;

    fn names(by_popularity: &[&str]) -> Popular {
        let name =
            |text: &&str| Suggestion { text: (*text).to_owned(), kind: SuggestionKind::Query, facet: None };
        Popular::new([by_popularity.iter().map(name).collect(), vec![], vec![], vec![]]).unwrap()
    }

    fn texts(found: Found) -> Vec<String> {
        let [queries, ..] = found;
        queries.into_iter().map(|name| name.text).collect()
    }

    #[test]
    fn the_most_popular_of_a_prefix_come_first() {
        let popular = names(&["red lamp", "lamp", "Café lamp", "lantern", "ladder", "red lantern"]);
        let begin = |prefix: &str, size| texts(popular.beginning_with(prefix, size));
        assert_eq!(begin("la", 3), ["red lamp", "lamp", "Café lamp"]);
        assert_eq!(begin("la", 9), ["red lamp", "lamp", "Café lamp", "lantern", "ladder", "red lantern"]);
        assert_eq!(begin("red la", 9), ["red lamp", "red lantern"]);
        assert_eq!(begin("cafe", 9), ["Café lamp"]);
        assert_eq!(begin("lamps", 9), [""; 0]);
        assert_eq!(begin("🦀", 9), [""; 0]);
        let many: Vec<String> = (0..5_000).map(|n| format!("{} {n}", ["lamp", "tent"][n % 2])).collect();
        let popular = names(&many.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(texts(popular.beginning_with("t", 3)), ["tent 1", "tent 3", "tent 5"]);
    }

    #[test]
    fn a_typo_leads_to_the_same_but_for_the_first_letter() {
        let popular = names(&["lantern festival", "Café Crème brûlée", "eastern"]);
        let nearly = |prefix: &str| texts(popular.nearly_beginning_with(prefix, typos(prefix), 5));
        for prefix in ["lentern", "lanetrn", "lantrn", "lanttern", "lantern fastivel"] {
            assert_eq!(nearly(prefix), ["lantern festival"], "{prefix}");
        }
        assert_eq!(nearly("cafe crewe"), ["Café Crème brûlée"]);
        assert_eq!(nearly("fantern"), [""; 0]);
        assert_eq!(nearly(&"x".repeat(500)), [""; 0]);
        assert_eq!(nearly(&"lantern".repeat(70)), [""; 0]);
    }

    #[test]
    fn of_nothing_nothing_is_suggested() {
        assert_eq!(texts(names(&[]).beginning_with("a", 5)), [""; 0]);
        assert_eq!(texts(Popular::default().beginning_with("a", 5)), [""; 0]);
        assert_eq!(names(&["lamp"]).len(), 1);
    }
}
