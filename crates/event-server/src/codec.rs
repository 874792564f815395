//! Events, from the wire and back.
//!
//! The log keeps JSON documents, so that whoever looks into it can rely on that; the protocol takes any bytes. An event
//! whose data and custom metadata are what the log keeps (JSON, and a JSON object) goes in as it is: all of Souk's own do.
//! Any other is kept in a form of which the original bytes come back: data that is no JSON as a string of base64, and
//! beside it, as the metadata, a [`Foreign`] note.

use std::collections::HashMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::IgnoredAny};
use souk_event_log::{NewEvent, Position, Recorded, StreamName};
use uuid::Uuid;

use crate::{
    refusal::Refusal,
    wire::{
        self,
        streams::{
            ProposedMessage, ReadResp,
            read_resp::{Content, ReadEvent, RecordedEvent, read_event},
        },
        uuid as wire_uuid,
    },
};

const JSON: &str = "application/json";

/// How stored metadata begins if it is a note. An object of a client that begins so is kept in a note itself.
const MARK: &str = r#"{"$kurrentdb":"#;

#[derive(Serialize, Deserialize)]
struct Note {
    #[serde(rename = "$kurrentdb")]
    foreign: Foreign,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Foreign {
    /// Absent: JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    /// Whether the data is base64.
    base64: bool,
    /// The custom metadata, as base64.
    metadata: String,
}

/// How a client wants to be shown ids.
#[derive(Clone, Copy)]
pub(crate) enum Ids {
    Text,
    Structured,
}

pub(crate) fn is_json(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn is_plain_object(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{") && !bytes.starts_with(MARK.as_bytes()) && is_json(bytes)
}

/// An event as a client proposes it, as the log keeps it.
pub(crate) fn store(message: ProposedMessage) -> Result<NewEvent, Refusal> {
    let ProposedMessage { id, mut metadata, custom_metadata, data } = message;
    let id = id.and_then(uuid_of).ok_or_else(|| Refusal::Invalid("an event needs an id, a UUID".into()))?;
    let mut required = |name: &str| {
        metadata
            .remove(name)
            .ok_or_else(|| Refusal::Invalid(format!("Required Metadata Property '{name}' is missing")))
    };
    let (event_type, content_type) = (required("type")?, required("content-type")?);
    if event_type.is_empty() {
        return Err(Refusal::Invalid("the type of an event must not be empty".into()));
    }
    let json = is_json(&data);
    let (data, metadata) = if json && content_type == JSON && is_plain_object(&custom_metadata) {
        (data, custom_metadata)
    } else {
        let foreign = Foreign {
            content_type: (content_type != JSON).then_some(content_type),
            base64: !json,
            metadata: STANDARD.encode(custom_metadata),
        };
        let note =
            serde_json::to_vec(&Note { foreign }).map_err(|error| Refusal::Invalid(error.to_string()))?;
        (if json { data } else { format!("\"{}\"", STANDARD.encode(data)).into_bytes() }, note)
    };
    Ok(NewEvent { id, event_type: event_type.into(), data, metadata: metadata.into() })
}

/// An event of the log as the client that wrote it knows it: content type, custom metadata, data.
fn restore(event: &Recorded) -> (String, Vec<u8>, Vec<u8>) {
    noted(event).unwrap_or_else(|| (JSON.to_owned(), event.metadata.to_vec(), event.data.clone()))
}

/// `None` of an event without a note. One that cannot be read is not ours.
fn noted(event: &Recorded) -> Option<(String, Vec<u8>, Vec<u8>)> {
    if !event.metadata.starts_with(MARK.as_bytes()) {
        return None;
    }
    let Note { foreign } = serde_json::from_slice(&event.metadata).ok()?;
    let metadata = STANDARD.decode(foreign.metadata).ok()?;
    let data = if foreign.base64 {
        STANDARD.decode(serde_json::from_slice::<&str>(&event.data).ok()?).ok()?
    } else {
        event.data.clone()
    };
    Some((foreign.content_type.unwrap_or_else(|| JSON.to_owned()), metadata, data))
}

/// An event as it is sent.
pub(crate) fn show(event: &Recorded, ids: Ids) -> ReadResp {
    let (content_type, custom_metadata, data) = restore(event);
    // In ticks of 100 ns.
    let created = event.recorded_at.timestamp_micros() * 10;
    let metadata = HashMap::from([
        ("type".to_owned(), event.event_type.to_string()),
        ("content-type".to_owned(), content_type),
        ("created".to_owned(), created.to_string()),
    ]);
    let shown = RecordedEvent {
        id: Some(match ids {
            Ids::Text => text(event.id),
            Ids::Structured => structured(event.id),
        }),
        stream_identifier: Some(identifier(&event.stream)),
        stream_revision: event.revision,
        prepare_position: event.position,
        commit_position: event.position,
        metadata,
        custom_metadata,
        data,
    };
    let position = Some(read_event::Position::CommitPosition(event.position));
    ReadResp { content: Some(Content::Event(ReadEvent { event: Some(shown), link: None, position })) }
}

pub(crate) fn identifier(stream: &StreamName) -> wire::StreamIdentifier {
    wire::StreamIdentifier { stream_name: stream.as_str().into() }
}

pub(crate) fn stream_of(identifier: Option<wire::StreamIdentifier>) -> Result<StreamName, Refusal> {
    let name = identifier.map(|identifier| identifier.stream_name).unwrap_or_default();
    let name = String::from_utf8(name)
        .map_err(|_| Refusal::Invalid("the name of a stream is text in UTF-8".to_owned()))?;
    StreamName::parse(&name).map_err(|error| Refusal::Invalid(error.to_string()))
}

pub(crate) fn position(position: Position) -> wire::Position {
    wire::Position { commit_position: position, prepare_position: position }
}

pub(crate) fn uuid_of(id: wire::Uuid) -> Option<Uuid> {
    match id.value? {
        wire_uuid::Value::String(text) => text.parse().ok(),
        wire_uuid::Value::Structured(wire_uuid::Structured {
            most_significant_bits,
            least_significant_bits,
        }) => Some(Uuid::from_u64_pair(most_significant_bits as u64, least_significant_bits as u64)),
    }
}

pub(crate) fn text(id: Uuid) -> wire::Uuid {
    wire::Uuid { value: Some(wire_uuid::Value::String(id.to_string())) }
}

pub(crate) fn structured(id: Uuid) -> wire::Uuid {
    let (most, least) = id.as_u64_pair();
    let value =
        wire_uuid::Structured { most_significant_bits: most as i64, least_significant_bits: least as i64 };
    wire::Uuid { value: Some(wire_uuid::Value::Structured(value)) }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    fn proposed(content_type: &str, data: &[u8], custom_metadata: &[u8]) -> ProposedMessage {
        ProposedMessage {
            id: Some(text(Uuid::from_u128(7))),
            metadata: HashMap::from([
                ("type".into(), "Happened".into()),
                ("content-type".into(), content_type.into()),
            ]),
            custom_metadata: custom_metadata.to_vec(),
            data: data.to_vec(),
        }
    }

    fn recorded(event: NewEvent) -> Recorded {
        Recorded {
            id: event.id,
            stream: StreamName::new("a", "b"),
            revision: 1,
            position: 2,
            event_type: event.event_type,
            recorded_at: DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap(),
            data: event.data,
            metadata: event.metadata,
            hash: None,
        }
    }

    #[test]
    fn whatever_comes_in_goes_out_the_same_and_the_log_keeps_json() {
        let cases: [(&str, &[u8], &[u8]); 9] = [
            (JSON, br#"{"a": 1}"#, br#"{"schemaVersion":1}"#),
            (JSON, br#"{"a": 1}"#, b""),
            (JSON, b"[1,\n2]", b"no object"),
            (JSON, b"", b""),
            (JSON, b"no json", b"{}"),
            (JSON, b"\"\xff\"", b"{\"a\":\"\xff\"}"),
            ("application/octet-stream", br#"{"a": 1}"#, b"{}"),
            ("text/plain; \"q\"", b"\x00\x01\xff", br#"{"a":1}"#),
            (JSON, b"{}", br#"{"$kurrentdb":{"base64":true,"metadata":""}}"#),
        ];
        for (content_type, data, metadata) in cases {
            let event = recorded(store(proposed(content_type, data, metadata)).unwrap());
            assert!(is_json(&event.data) && is_plain_or_note(&event.metadata), "{event:?}");
            assert_eq!(restore(&event), (content_type.to_owned(), metadata.to_vec(), data.to_vec()));
        }
        let plain = recorded(store(proposed(JSON, b"{ }", br#"{"actor":"a"}"#)).unwrap());
        assert_eq!((&*plain.data, &*plain.metadata), (&b"{ }"[..], &br#"{"actor":"a"}"#[..]));
    }

    fn is_plain_or_note(metadata: &[u8]) -> bool {
        is_plain_object(metadata) || serde_json::from_slice::<Note>(metadata).is_ok()
    }

    #[test]
    fn what_only_looks_like_a_note_is_shown_as_it_is() {
        for metadata in [r#"{"$kurrentdb":5}"#, r#"{"$kurrentdb":{"base64":true,"metadata":"?"}}"#] {
            let event = NewEvent {
                id: Uuid::nil(),
                event_type: "E".into(),
                data: b"{}".to_vec(),
                metadata: metadata.as_bytes().to_vec().into(),
            };
            assert_eq!(restore(&recorded(event)), (JSON.to_owned(), metadata.into(), b"{}".to_vec()));
        }
    }

    #[test]
    fn an_event_needs_an_id_a_type_and_a_content_type() {
        let whole = proposed(JSON, b"{}", b"{}");
        let mut without_id = whole.clone();
        without_id.id = None;
        assert!(store(without_id).is_err());
        for name in ["type", "content-type"] {
            let mut without = whole.clone();
            without.metadata.remove(name);
            assert!(store(without).unwrap_err().to_string().contains(name));
        }
    }

    #[test]
    fn ids_and_times_are_shown_as_asked() {
        let id = Uuid::from_u128(0xffee_ddcc_bbaa_9988_7766_5544_3322_1100);
        assert_eq!(uuid_of(text(id)), Some(id));
        assert_eq!(uuid_of(structured(id)), Some(id));
        let event = recorded(store(proposed(JSON, b"{}", b"{}")).unwrap());
        let Some(Content::Event(ReadEvent { event: Some(shown), .. })) =
            show(&event, Ids::Structured).content
        else {
            panic!("no event")
        };
        assert_eq!(shown.metadata["created"], "17000000001234560");
        assert_eq!(uuid_of(shown.id.unwrap()), Some(Uuid::from_u128(7)));
    }
}
