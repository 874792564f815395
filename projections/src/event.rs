//! Reading events for projectors: typed, with the time they count for, and fit for PostgreSQL's text.

use std::{borrow::Cow, str::FromStr};

use chrono::{DateTime, Utc};
use souk_domain::DomainEvent;
use souk_event_log::Recorded;

use crate::runner::ApplyError;

/// An event with the time it happened in business terms, or was recorded if nobody said when it happened.
pub(crate) fn read<E: DomainEvent>(event: &Recorded) -> Result<(E, DateTime<Utc>), ApplyError> {
    let metadata = event.metadata();
    let read = E::from_json(&event.event_type, metadata.schema_version.max(1), &without_nul(&event.data))
        .map_err(|error| ApplyError::event(event, error))?;
    Ok((read, metadata.occurred_at.unwrap_or(event.recorded_at)))
}

/// Refuses an event that is newer than this program, without reading it.
pub(crate) fn check<E: DomainEvent>(event: &Recorded) -> Result<(), ApplyError> {
    if E::TYPES.iter().any(|(name, _)| *name == &*event.event_type) {
        return Ok(());
    }
    Err(ApplyError::event(event, "its type is newer than this program: upgrade it"))
}

/// The id in the name of the event's stream.
pub(crate) fn id<T: FromStr<Err: std::fmt::Display>>(event: &Recorded) -> Result<T, ApplyError> {
    event.stream.id().parse().map_err(|error| ApplyError::event(event, error))
}

/// JSON may hold U+0000, PostgreSQL's text may not: a name with one in it must not stop a view for everybody, so it
/// is shown as U+FFFD there.
pub(crate) fn without_nul(json: &[u8]) -> Cow<'_, [u8]> {
    const NUL: &[u8] = b"\\u0000";
    if memchr::memmem::find(json, NUL).is_none() {
        return Cow::Borrowed(json);
    }
    let mut clean = json.to_vec();
    let mut at = 0;
    while at < clean.len() {
        if clean[at..].starts_with(NUL) {
            clean[at..at + NUL.len()].copy_from_slice(b"\\ufffd");
        }
        // An escape is two bytes long at least: what follows a backslash begins none.
        at += if clean[at] == b'\\' { 2 } else { 1 };
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nul_is_replaced_where_it_is_one() {
        let json = br#"{"name":"a\u0000b","path":"c:\\u0000","quote":"\"\u0000"}"#;
        let read: serde_json::Value = serde_json::from_slice(&without_nul(json)).unwrap();
        assert_eq!(
            read,
            serde_json::json!({ "name": "a\u{fffd}b", "path": "c:\\u0000", "quote": "\"\u{fffd}" })
        );
        assert!(matches!(without_nul(br#"{"name":"plain"}"#), Cow::Borrowed(_)));
    }
}
