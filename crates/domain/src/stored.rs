//! How the events that [`domain_events`](crate::domain_events) defines are written and read.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::UnreadableEvent;

/// Our events are structs with string keys: they always serialize.
#[expect(clippy::expect_used, reason = "a struct of strings, numbers and lists always serializes")]
pub fn to_json(event: &impl Serialize) -> Vec<u8> {
    // Most events are no longer than that.
    let mut json = Vec::with_capacity(512);
    serde_json::to_writer(&mut json, event).expect("events serialize");
    json
}

/// Brings the JSON object of an older version to the shape of today.
pub type Upcast = fn(version: u32, data: Value) -> Value;

/// Reads version `version` of an event that is written as version `current` today. An event without a version (0) was
/// written by a stranger, and is taken for one of today.
pub fn read_json<T: DeserializeOwned>(
    event_type: &str,
    version: u32,
    current: u32,
    upcast: &[Upcast],
    data: &[u8],
) -> Result<T, UnreadableEvent> {
    if version > current {
        return Err(UnreadableEvent::Newer { event_type: event_type.to_owned(), version });
    }
    let event = match upcast {
        [upcast, ..] if (1..current).contains(&version) => {
            serde_json::from_slice(data).and_then(|data| serde_json::from_value(upcast(version, data)))
        }
        _ => serde_json::from_slice(data),
    };
    event.map_err(|error| UnreadableEvent::Malformed {
        event_type: event_type.to_owned(),
        message: error.to_string(),
    })
}
