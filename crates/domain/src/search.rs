//! What people search for and where they click: facts of their own, written some time after they were answered. Nothing is
//! decided on them, so no decider stands behind them; a stream holds what the shop was asked in a day.
//!
//! Nobody is named here. Who agreed to be known is in there sealed, under a key that is forgotten with the person.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{ItemId, domain_events};

/// Streams are named after it and a day, `search-2026-01-31`.
pub const CATEGORY: &str = "search";
/// Characters of a query that is recorded, at most: nobody types more.
pub const MAX_QUERY_LENGTH: usize = 200;

domain_events! {
    pub enum SearchEvent {
        SearchMade = 2,
        ResultClicked = 1,
    }
}

/// The first page of a search that somebody typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchMade {
    pub search_id: Uuid,
    /// In lower case, without accents and superfluous white space.
    pub query: String,
    /// On all pages.
    pub hits: u64,
    /// What was searched for instead: the query has a word that no item has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrected_query: Option<String>,
    /// No item has all of its words, so items that have most of them are among the hits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fewer_words: bool,
    /// The names of those that were set.
    pub filters: Vec<String>,
    /// What most of the first hits have in common.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leads_to: Option<Facet>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searcher: Option<String>,
}

/// A hit was opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultClicked {
    pub search_id: Uuid,
    pub query: String,
    pub item_id: ItemId,
    /// 1 is the first.
    pub position: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub searcher: Option<String>,
}

/// A filter and its value, `brand` or `category`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facet {
    pub name: String,
    pub value: String,
}

impl SearchEvent {
    /// Says who searched: text that only the person's key opens.
    pub fn by(&mut self, sealed: String) {
        match self {
            Self::SearchMade(event) => event.searcher = Some(sealed),
            Self::ResultClicked(event) => event.searcher = Some(sealed),
        }
    }
}

/// Whether a query may stand in the log in the clear: not if it could be an address, the number of a card or of a telephone.
pub fn is_harmless(query: &str) -> bool {
    const LONGEST_NUMBER: usize = 13; // of a product (EAN)
    const LONGEST_AFTER_PLUS: usize = 6;
    let (mut digits, mut most) = (0, LONGEST_NUMBER);
    query.chars().all(|char| {
        // Whatever stands between digits, only a letter ends a number.
        match char {
            '+' => (digits, most) = (0, LONGEST_AFTER_PLUS),
            char if char.is_numeric() => digits += 1,
            char if char.is_alphabetic() => (digits, most) = (0, LONGEST_NUMBER),
            _ => {}
        }
        char != '@' && !char.is_control() && digits <= most
    })
}

#[cfg(test)]
mod tests {
    use super::{SearchEvent, SearchMade, is_harmless};
    use crate::DomainEvent;

    #[test]
    fn a_search_says_how_it_was_found_and_one_that_does_not_still_reads() {
        let before =
            br#"{"searchId":"00000000-0000-0000-0000-000000000015","query":"red","hits":1,"filters":[]}"#;
        let read = |json: &[u8]| match SearchEvent::from_json("SearchMade", 1, json) {
            Ok(SearchEvent::SearchMade(made)) => made,
            other => panic!("{other:?}"),
        };
        let made = read(before);
        assert_eq!((&made.corrected_query, made.fewer_words), (&None, false));
        let made = SearchMade { corrected_query: Some("rad".to_owned()), fewer_words: true, ..made };
        assert_eq!(read(&SearchEvent::from(made.clone()).to_json()), made);
    }

    #[test]
    fn what_could_be_a_secret_is_not_harmless() {
        for query in ["tv 55", "4006381333931", "usb-c 3.2", "10/100/1000", "c++ 2023", ""] {
            assert!(is_harmless(query), "{query}");
        }
        for query in [
            "4242424242424242",
            "4242 4242 4242 4242",
            "pay 4242-4242-4242-4242",
            "4242_4242,4242:4242",
            "+49 151 2345678",
            "ann@example.org",
            "a\tb",
        ] {
            assert!(!is_harmless(query), "{query}");
        }
    }
}
