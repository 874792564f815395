//! An event as analysts read it: one line of JSON, the same wherever the log is shown, exported or sent.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::{Position, Recorded, Revision};

/// The envelope's parts in places of their own, then the data.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventLine<'a> {
    pub position: Position,
    pub stream: &'a str,
    pub revision: Revision,
    pub id: Uuid,
    #[serde(rename = "type")]
    pub event_type: &'a str,
    /// Of the shape of `data`.
    pub version: u32,
    pub recorded_at: DateTime<Utc>,
    pub occurred_at: DateTime<Utc>,
    pub correlation_id: Option<Uuid>,
    pub causation_id: Option<Uuid>,
    pub command_id: Option<Uuid>,
    pub actor: Option<&'a str>,
    data: Document<'a>,
    hash: Option<Digits<'a>>,
}

struct Document<'a>(&'a [u8]);

struct Digits<'a>(&'a [u8; 32]);

impl<'a> From<&'a Recorded> for EventLine<'a> {
    fn from(event: &'a Recorded) -> Self {
        let metadata = event.metadata();
        Self {
            position: event.position,
            stream: event.stream.as_str(),
            revision: event.revision,
            id: event.id,
            event_type: &event.event_type,
            version: metadata.schema_version.max(1),
            recorded_at: event.recorded_at,
            occurred_at: metadata.occurred_at.unwrap_or(event.recorded_at),
            correlation_id: metadata.correlation_id,
            causation_id: metadata.causation_id,
            command_id: metadata.command_id,
            actor: metadata.actor.as_deref(),
            data: Document(&event.data),
            hash: event.hash.as_ref().map(Digits),
        }
    }
}

impl EventLine<'_> {
    /// Adds the line with the newline at its end.
    pub fn write(&self, lines: &mut Vec<u8>) {
        let begin = lines.len();
        #[expect(clippy::expect_used, reason = "numbers, strings and checked JSON always serialize")]
        serde_json::to_writer(&mut *lines, self).expect("an event serializes");
        // The data keeps its white space, and a line has no end within. In JSON's strings there are none.
        for byte in &mut lines[begin..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
        lines.push(b'\n');
    }
}

/// The line of an event, with the newline at its end.
pub fn line(event: &Recorded) -> String {
    let mut line = Vec::with_capacity(512 + event.data.len());
    EventLine::from(event).write(&mut line);
    String::from_utf8(line).unwrap_or_default()
}

/// A document as JSON, whatever it is: Souk writes JSON alone, but another program may append what is none, and that is
/// shown as a string of base64.
pub fn json_text(document: &[u8]) -> Cow<'_, str> {
    match serde_json::from_slice::<&RawValue>(document) {
        Ok(json) => json.get().into(),
        Err(_) => format!("\"{}\"", BASE64_STANDARD.encode(document)).into(),
    }
}

impl Serialize for Document<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_slice::<&RawValue>(self.0) {
            Ok(json) => json.serialize(serializer),
            Err(_) => serializer.serialize_str(&BASE64_STANDARD.encode(self.0)),
        }
    }
}

impl Serialize for Digits<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&blake3::Hash::from_bytes(*self.0).to_hex())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::StreamName;

    fn recorded(data: &[u8]) -> Recorded {
        Recorded {
            id: Uuid::from_u128(1),
            stream: StreamName::new("item", "x"),
            revision: 2,
            position: 7,
            event_type: "ItemListed".into(),
            recorded_at: DateTime::from_timestamp(0, 0).unwrap(),
            data: data.into(),
            metadata:
                br#"{"schemaVersion":3,"actor":"import","occurredAt":"1999-01-01T00:00:00Z"}"#.to_vec().into(),
            hash: Some([255; 32]),
        }
    }

    #[test]
    fn an_event_is_one_line_with_its_envelope() {
        let text = line(&recorded(b"{\n  \"a\": \"\\n\"\r\n}"));
        assert_eq!(text.find('\n'), Some(text.len() - 1));
        let read: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({
            "position": 7, "stream": "item-x", "revision": 2, "id": "00000000-0000-0000-0000-000000000001",
            "type": "ItemListed", "version": 3, "recordedAt": "1970-01-01T00:00:00Z",
            "occurredAt": "1999-01-01T00:00:00Z", "correlationId": null, "causationId": null, "commandId": null,
            "actor": "import", "data": {"a": "\n"}, "hash": "ff".repeat(32),
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn what_is_no_json_is_shown_as_base64() {
        for document in [&b"not json"[..], &[0, 255], b"", b"{} {}", b"\"\xff\""] {
            let read: Value = serde_json::from_str(&line(&recorded(document))).unwrap();
            let shown = read["data"].as_str().unwrap();
            assert_eq!(BASE64_STANDARD.decode(shown).unwrap(), document);
            assert_eq!(json_text(document), format!("\"{shown}\""));
        }
        assert_eq!(json_text(b" [1]\n"), "[1]");
    }
}
