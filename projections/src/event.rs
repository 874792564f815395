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
    let version = event.metadata().schema_version;
    if E::TYPES.iter().any(|(name, current)| *name == &*event.event_type && version <= *current) {
        return Ok(());
    }
    Err(ApplyError::event(event, "it is newer than this program: upgrade it"))
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
    use souk_domain::item::ItemEvent;
    use souk_event_log::StreamName;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_event_of_tomorrow_is_refused_whether_it_is_read_or_not() {
        let recorded = |event_type: &str, version: u32| Recorded {
            id: Uuid::nil(),
            stream: StreamName::new("item", Uuid::nil()),
            revision: 0,
            position: 7,
            event_type: event_type.into(),
            recorded_at: DateTime::UNIX_EPOCH,
            data: b"{}".to_vec(),
            metadata: format!(r#"{{"schemaVersion":{version}}}"#).into_bytes().into(),
            hash: None,
        };
        for known in [recorded("ItemRelisted", 1), recorded("ItemRelisted", 0)] {
            assert!(check::<ItemEvent>(&known).is_ok() && read::<ItemEvent>(&known).is_ok());
        }
        for newer in [recorded("ItemRelisted", 2), recorded("ItemTeleported", 1)] {
            for refused in [check::<ItemEvent>(&newer).unwrap_err(), read::<ItemEvent>(&newer).unwrap_err()] {
                let message = refused.to_string();
                assert!(message.contains("event 7") && message.contains("upgrade"), "{message}");
            }
        }
    }

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
