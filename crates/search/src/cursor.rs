//! Where a page ended, as an opaque text. A page goes on after a sort key and an item's tie-breaker, not after a number of
//! hits, so that items listed, changed or withdrawn in between neither repeat nor hide others.
//!
//! Scores depend on the whole index, so a cursor by relevance carries the statistics of the first page, and how far down
//! the first phase's order the second phase reached there. What the second phase weighs (stock, sales) changes from one
//! moment to the next, so the order it found is carried as well. So are the words that were not typed: those of typos,
//! synonyms and unfinished words may be others by now.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::collector::Rank;
use crate::fnv::hash;
use crate::query::{SearchError, Sort};
use crate::terms::Group;

const LONGEST: usize = 16_384;
/// Bytes of a tie-breaker that tell an item among those of one search.
const TIE_BYTES: usize = 6;

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
    /// Of a page within the second phase's order: how many of it were shown.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub(crate) shown: Option<usize>,
    /// The second phase's order: see [`pack`].
    #[serde(rename = "o", default, skip_serializing_if = "String::is_empty")]
    pub(crate) order: String,
    /// A fingerprint of the term.
    #[serde(rename = "t")]
    pub(crate) term: u32,
    /// The groups, where they hold words that were not typed.
    #[serde(rename = "g", default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) groups: Vec<Group>,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub(crate) corrected: Option<String>,
}

/// Tells a cursor that is used with another term by mistake.
pub(crate) fn fingerprint(term: &str) -> u32 {
    hash(term) as u32
}

/// What tells an item in an order.
pub(crate) fn mark(tie: u64) -> [u8; TIE_BYTES] {
    let bytes = tie.to_le_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5]]
}

/// Items in order, by their tie-breakers, as text.
pub(crate) fn pack(ties: impl Iterator<Item = u64>) -> String {
    URL_SAFE_NO_PAD.encode(ties.flat_map(mark).collect::<Vec<u8>>())
}

pub(crate) fn unpack(order: &str) -> Result<Vec<[u8; TIE_BYTES]>, SearchError> {
    let bytes = URL_SAFE_NO_PAD.decode(order).map_err(|_| SearchError::Cursor)?;
    let (marks, rest) = bytes.as_chunks();
    if rest.is_empty() { Ok(marks.to_vec()) } else { Err(SearchError::Cursor) }
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
        let cursor: Self = serde_json::from_slice(&json).map_err(|_| SearchError::Cursor)?;
        // Who makes one up gets no further than who asks for nonsense.
        if cursor.groups.iter().all(Group::is_sound) { Ok(cursor) } else { Err(SearchError::Cursor) }
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
            shown: Some(20),
            order: pack([1, u64::MAX].into_iter()),
            term: fingerprint("lamp"),
            groups: Vec::new(),
            corrected: Some("lamp".to_owned()),
        };
        assert_eq!(unpack(&cursor.order).unwrap(), [mark(1), mark(u64::MAX)]);
        assert_eq!(Cursor::decode(&cursor.encode().unwrap()).unwrap(), cursor);
        assert_eq!(Rank::from(cursor.after), Rank::new(u64::MAX, 5));
    }

    #[test]
    fn groups_that_nobody_could_have_typed_are_refused() {
        let group = |text: &str| {
            let json = format!(r#"{{"s": "price", "r": 1, "a": [1, 2], "t": 3, "g": [{text}]}}"#);
            Cursor::decode(&URL_SAFE_NO_PAD.encode(json)).is_ok()
        };
        assert!(group(r#"{"a": [{"w": ["lamp"], "b": 0.7, "p": true}], "n": 1}"#));
        for made_up in [
            r#"{"a": [], "n": 1}"#,
            r#"{"a": [{"w": [], "b": 1, "p": true}], "n": 1}"#,
            r#"{"a": [{"w": ["lamp"], "b": -1, "p": true}], "n": 1}"#,
            r#"{"a": [{"w": ["lamp"], "b": 1, "p": true}], "n": 18446744073709551615}"#,
        ] {
            assert!(!group(made_up), "{made_up}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "x", "AAAA", "bm90IGpzb24", &"A".repeat(20_000), "🦀"] {
            assert!(matches!(Cursor::decode(text), Err(SearchError::Cursor)), "{text}");
        }
    }
}
