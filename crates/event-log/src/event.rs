//! What is stored: events, their envelope, and the names of streams.

use std::{
    fmt,
    ops::Deref,
    sync::{Arc, OnceLock},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Place of an event in commit order over all streams; 0 is the first.
pub type Position = u64;

/// Place of an event within its stream; 0 is the first, always without gaps.
pub type Revision = u64;

/// The name of a stream, `category-id`. The category is what stands before the first hyphen.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

#[derive(Debug, thiserror::Error)]
#[error("a stream name is 1 to 512 bytes without control characters, got {0:?}")]
pub struct StreamNameError(String);

impl StreamName {
    pub fn new(category: &str, id: impl fmt::Display) -> Self {
        Self(format!("{category}-{id}").into())
    }

    /// Takes a name from outside.
    pub fn parse(name: &str) -> Result<Self, StreamNameError> {
        if name.is_empty() || name.len() > 512 || name.chars().any(char::is_control) {
            return Err(StreamNameError(name.chars().take(80).collect()));
        }
        Ok(Self(name.into()))
    }

    /// Takes a name as an adapter, or a backup, stored it.
    pub fn stored(name: &str) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn category(&self) -> &str {
        self.0.split_once('-').map_or(&*self.0, |(category, _)| category)
    }

    /// What follows the category and its hyphen.
    pub fn id(&self) -> &str {
        self.0.split_once('-').map_or("", |(_, id)| id)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An event to be appended. `data` and `metadata` are JSON documents.
#[derive(Clone, Debug)]
pub struct NewEvent {
    pub id: Uuid,
    pub event_type: Arc<str>,
    pub data: Vec<u8>,
    pub metadata: Envelope,
}

/// An event as the log holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub id: Uuid,
    pub stream: StreamName,
    pub revision: Revision,
    pub position: Position,
    pub event_type: Arc<str>,
    /// When the log took it, in whole microseconds; never earlier than that of the event before.
    pub recorded_at: DateTime<Utc>,
    pub data: Vec<u8>,
    pub metadata: Envelope,
    /// BLAKE3 of the stored bytes chained to the event before; `None` where the adapter keeps no chain.
    pub hash: Option<[u8; 32]>,
}

/// What Souk writes beside each event's data. Events appended by others may lack any of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Version of the shape of `data`; 1 is the first.
    pub schema_version: u32,
    /// When it happened in business terms. Imports set it to the past; otherwise it is the time of the decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub occurred_at: Option<DateTime<Utc>>,
    /// Common to all that follows from one request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<Uuid>,
    /// The event or command that led to this event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command_id: Option<Uuid>,
    /// Who: `account:{id}`, `process:checkout`, `worker:payment`, `import`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// Keyed hash of the command's body, so that a repeated key with another body is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

impl Recorded {
    /// Version of the shape of `data`, without reading the rest of the envelope.
    pub fn schema_version(&self) -> u32 {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Shape {
            schema_version: u32,
        }
        let version = match self.metadata.parsed.get() {
            Some(metadata) => metadata.schema_version,
            None => serde_json::from_slice::<Shape>(&self.metadata.json).unwrap_or_default().schema_version,
        };
        version.max(1)
    }

    /// What the envelope says; an event of a stranger without one reads as the default.
    pub fn metadata(&self) -> &Metadata {
        self.metadata.parsed.get_or_init(|| serde_json::from_slice(&self.metadata.json).unwrap_or_default())
    }
}

/// Metadata as it is stored, read at most once, since an event just appended has half a dozen readers; what is written here
/// is not read at all.
#[derive(Clone, Default)]
pub struct Envelope {
    json: Vec<u8>,
    parsed: OnceLock<Box<Metadata>>,
}

impl From<Vec<u8>> for Envelope {
    fn from(json: Vec<u8>) -> Self {
        Self { json, parsed: OnceLock::new() }
    }
}

impl From<Metadata> for Envelope {
    #[expect(clippy::expect_used, reason = "a struct of strings and times always serializes")]
    fn from(metadata: Metadata) -> Self {
        // As long as Souk's own are, so that it need not grow.
        let mut json = Vec::with_capacity(512);
        serde_json::to_writer(&mut json, &metadata).expect("metadata serializes");
        Self { json, parsed: OnceLock::from(Box::new(metadata)) }
    }
}

impl From<Envelope> for Vec<u8> {
    fn from(envelope: Envelope) -> Self {
        envelope.json
    }
}

impl Deref for Envelope {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.json
    }
}

impl PartialEq for Envelope {
    fn eq(&self, other: &Self) -> bool {
        self.json == other.json
    }
}

impl Eq for Envelope {}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", String::from_utf8_lossy(&self.json))
    }
}
