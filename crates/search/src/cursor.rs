//! Where a page ended, as an opaque text. A page goes on after a sort key and an item's tie-breaker, not after a number of
//! hits, so that items listed, changed or withdrawn in between neither repeat nor hide others.
//!
//! Scores depend on the whole index, so a cursor by relevance carries the statistics of the first page, and how far down
//! the first phase's order the second phase reached there.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::collector::Rank;
use crate::query::{SearchError, Sort};

const LONGEST: usize = 4096;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    #[serde(rename = "s")]
    pub(crate) sort: Sort,
    /// How many groups of the term had to be found.
    #[serde(rename = "r")]
    pub(crate) required: usize,
    #[serde(rename = "a")]
    pub(crate) after: Place,
    #[serde(rename = "n", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) statistics: Vec<u64>,
    /// The last rank of the first phase that was rescored; none if all were.
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub(crate) floor: Option<Place>,
    /// Whether `after` is a rank of the second phase.
    #[serde(rename = "p", default)]
    pub(crate) rescored: bool,
}

/// A rank, as a sort key and a tie-breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place(u64, u64);

impl From<Rank> for Place {
    fn from(rank: Rank) -> Self {
        let (key, tie) = rank.parts();
        Self(key, tie)
    }
}

impl From<Place> for Rank {
    fn from(place: Place) -> Self {
        Self::new(place.0, place.1)
    }
}

impl Cursor {
    pub(crate) fn encode(&self) -> Result<String, SearchError> {
        Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(self)?))
    }

    pub(crate) fn decode(text: &str) -> Result<Self, SearchError> {
        if text.len() > LONGEST {
            return Err(SearchError::Cursor);
        }
        let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| SearchError::Cursor)?;
        serde_json::from_slice(&json).map_err(|_| SearchError::Cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_as_it_was() {
        let cursor = Cursor {
            sort: Sort::PriceDesc,
            required: 3,
            after: Rank::new(u64::MAX, 5).into(),
            statistics: vec![1, 2, 3],
            floor: Some(Rank::new(7, u64::MAX).into()),
            rescored: true,
        };
        assert_eq!(Cursor::decode(&cursor.encode().unwrap()).unwrap(), cursor);
        assert_eq!(Rank::from(cursor.after), Rank::new(u64::MAX, 5));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "x", "AAAA", "bm90IGpzb24", &"A".repeat(5000), "🦀"] {
            assert!(matches!(Cursor::decode(text), Err(SearchError::Cursor)), "{text}");
        }
    }
}
