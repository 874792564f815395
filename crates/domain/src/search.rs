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
        SearchMade = 1,
        ResultClicked = 1,
    }
}

/// The first page of a search that somebody typed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchMade {
    pub search_id: Uuid,
    /// In lower case, without accents and superfluous white space.
    pub query: String,
    /// On all pages.
    pub hits: u64,
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

/// Whether a query may stand in the log in the clear: not if it could be an address or the number of a card.
pub fn is_harmless(query: &str) -> bool {
    const LONGEST_NUMBER: usize = 13; // of a product (EAN)
    let mut digits = 0;
    query.chars().all(|char| {
        digits = match char {
            '0'..='9' => digits + 1,
            ' ' | '-' | '.' | '/' => digits,
            _ => 0,
        };
        char != '@' && digits <= LONGEST_NUMBER
    })
}

#[cfg(test)]
mod tests {
    use super::is_harmless;

    #[test]
    fn what_could_be_a_secret_is_not_harmless() {
        for query in ["tv 55", "4006381333931", "usb-c 3.2", "10/100/1000", ""] {
            assert!(is_harmless(query), "{query}");
        }
        for query in ["4242424242424242", "4242 4242 4242 4242", "pay 4242-4242-4242-4242", "ann@example.org"]
        {
            assert!(!is_harmless(query), "{query}");
        }
    }
}
