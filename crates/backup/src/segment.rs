//! Events as an object: a line of JSON each, compressed as a whole with zstd.
//!
//! ```json
//! {"position":7,"stream":"order-…","revision":0,"id":"…","type":"OrderPlaced","recordedAt":"2026-11-22T08:00:00.000123Z",
//!  "data":{…},"metadata":{…},"hash":"…"}
//! ```
//!
//! `data` and `metadata` are the stored bytes, letter for letter, since the hash covers them. Bytes that are no JSON, or
//! that would break the line, stand in `dataBase64` or `metadataBase64` instead.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use souk_event_log::{Position, Recorded, Revision, StreamName};
use uuid::Uuid;

use crate::{BackupError, store::COMPRESSION};

const EXTENSION: &str = ".ndjson.zst";

/// Which events an object holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Range {
    pub(crate) first: Position,
    pub(crate) last: Position,
}

impl Range {
    pub(crate) fn name(self) -> String {
        format!("{:020}-{:020}{EXTENSION}", self.first, self.last)
    }

    /// `None` for a name that is not of ours.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (first, last) = name.strip_suffix(EXTENSION)?.split_once('-')?;
        let range = Self { first: first.parse().ok()?, last: last.parse().ok()? };
        (range.first <= range.last).then_some(range)
    }
}

/// Those of the ranges that hold every event from a position on, as far as there are any. Where several do, the one
/// that reaches farthest.
pub(crate) fn cover<T: Copy>(ranges: &[(Range, T)], mut next: Position) -> Vec<(Range, T)> {
    let mut chosen = Vec::new();
    let reaches = |next: Position| {
        let with = ranges.iter().filter(|(range, _)| range.first <= next && next <= range.last);
        with.max_by_key(|(range, _)| range.last).copied()
    };
    while let Some((range, place)) = reaches(next) {
        chosen.push((range, place));
        next = range.last + 1;
    }
    chosen
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    position: Position,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    revision: Revision,
    id: Uuid,
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    recorded_at: DateTime<Utc>,
    #[serde(borrow, default, deserialize_with = "verbatim", skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
    #[serde(borrow, default, deserialize_with = "verbatim", skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata_base64: Option<String>,
    #[serde(borrow)]
    hash: Cow<'a, str>,
}

/// A `null` that is there is a value as any other.
fn verbatim<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The bytes as JSON in a line, or else in base64.
fn written(bytes: &[u8]) -> (Option<&RawValue>, Option<String>) {
    let json: Option<&RawValue> = serde_json::from_slice(bytes).ok();
    let fits = |json: &&RawValue| json.get().len() == bytes.len() && !bytes.contains(&b'\n');
    match json.filter(fits) {
        Some(json) => (Some(json), None),
        None => (None, Some(STANDARD.encode(bytes))),
    }
}

fn read(json: Option<&RawValue>, base64: Option<String>) -> Option<Vec<u8>> {
    match (json, base64) {
        (Some(json), None) => Some(json.get().as_bytes().to_vec()),
        (None, Some(base64)) => STANDARD.decode(base64).ok(),
        _ => None,
    }
}

/// Adds an event's line.
pub(crate) fn encode(event: &Recorded, lines: &mut Vec<u8>) -> Result<(), std::io::Error> {
    let (data, data_base64) = written(&event.data);
    let (metadata, metadata_base64) = written(&event.metadata);
    let hash = event.hash.as_ref().map(hex).unwrap_or_default();
    let line = Line {
        position: event.position,
        stream: event.stream.as_str().into(),
        revision: event.revision,
        id: event.id,
        event_type: (&*event.event_type).into(),
        recorded_at: event.recorded_at,
        data,
        data_base64,
        metadata,
        metadata_base64,
        hash: hash.into(),
    };
    serde_json::to_writer(&mut *lines, &line)?;
    lines.push(b'\n');
    Ok(())
}

fn decode_line(line: &[u8]) -> Result<Recorded, String> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let position = line.position;
    let missing = |field: &str| format!("event {position} has no {field}");
    Ok(Recorded {
        id: line.id,
        stream: StreamName::stored(&line.stream),
        revision: line.revision,
        position,
        event_type: (&*line.event_type).into(),
        recorded_at: line.recorded_at,
        data: read(line.data, line.data_base64).ok_or_else(|| missing("data"))?,
        metadata: read(line.metadata, line.metadata_base64).ok_or_else(|| missing("metadata"))?.into(),
        hash: Some(unhex(&line.hash).ok_or_else(|| missing("hash"))?),
    })
}

pub(crate) fn compress(lines: &[u8]) -> Result<Vec<u8>, std::io::Error> {
    zstd::encode_all(lines, COMPRESSION)
}

/// The events of an object.
pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Vec<Recorded>, BackupError> {
    let failed = |problem: String| BackupError::object(name, problem);
    let lines = zstd::decode_all(bytes).map_err(|error| failed(error.to_string()))?;
    let whole = lines.is_empty() || lines.ends_with(b"\n");
    if !whole {
        return Err(failed("its last line was cut off".into()));
    }
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(decode_line).collect::<Result<_, _>>().map_err(failed)
}

pub(crate) fn hex(hash: &[u8; 32]) -> String {
    blake3::Hash::from_bytes(*hash).to_string()
}

pub(crate) fn unhex(text: &str) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(text).ok().map(|hash| *hash.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_bytes_come_back_as_they_were() {
        let cases: &[&[u8]] = &[
            b"{}",
            b"null",
            b"\"text\"",
            br#"{"a": 1,  "b":"\u00e9"}"#,
            "{\"ä\":\"日本\"}".as_bytes(),
            b"",
            b" {}",
            b"{}\n",
            b"{\"a\":\n1}",
            b"{",
            b"\xff\xfe",
            b"12345678901234567890123456789012345678901234567890",
            b"[1e400]",
        ];
        let mut lines = Vec::new();
        for (position, bytes) in cases.iter().enumerate() {
            let event = Recorded {
                id: Uuid::from_u128(position as u128),
                stream: StreamName::stored("strange \u{2028} \"name\" without hyphen"),
                revision: 3,
                position: position as u64,
                event_type: "Type \\".into(),
                recorded_at: DateTime::from_timestamp_micros(1_700_000_000_000_001).unwrap(),
                data: bytes.to_vec(),
                metadata: bytes.to_vec().into(),
                hash: Some([position as u8; 32]),
            };
            encode(&event, &mut lines).unwrap();
            let object = compress(&lines).unwrap();
            assert_eq!(
                decode("x", &object).unwrap().last(),
                Some(&event),
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
        assert_eq!(lines.split(|byte| *byte == b'\n').count(), cases.len() + 1, "a line each");
        let cut = compress(&lines[..lines.len() - 1]).unwrap();
        assert!(decode("x", &cut).unwrap_err().to_string().contains("cut off"));
        assert!(decode("x", &compress(&lines).unwrap()[..100]).is_err());
    }

    #[test]
    fn the_farthest_of_overlapping_ranges_are_chosen() {
        let range = |first, last| (Range { first, last }, ());
        let ranges = [range(0, 9), range(10, 19), range(20, 21), range(22, 22), range(20, 25), range(30, 31)];
        let chosen = cover(&ranges, 0).into_iter().map(|(range, ())| (range.first, range.last));
        assert_eq!(chosen.collect::<Vec<_>>(), [(0, 9), (10, 19), (20, 25)]);
        assert!(cover(&ranges, 26).is_empty());
        let name = Range { first: 20, last: 25 }.name();
        assert_eq!(name, "00000000000000000020-00000000000000000025.ndjson.zst");
        assert_eq!(Range::parse(&name), Some(Range { first: 20, last: 25 }));
        assert_eq!(Range::parse("notes.txt"), None);
    }
}
