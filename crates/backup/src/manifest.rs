//! `manifest.json`: what of the objects belongs together and is complete. Written last, after everything it names.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use souk_event_log::{Position, Recorded};
use souk_vault::copies::Contents;

use crate::{
    BackupError, Store,
    segment::{hex, unhex},
};

pub const FORMAT: u32 = 1;

const NAME: &str = "manifest.json";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub format: u32,
    pub written_at: DateTime<Utc>,
    /// The last event; `null` of an empty log.
    pub head: Option<Head>,
    pub vault: VaultCopy,
    /// The copy of the sandbox's bank, if there is one.
    pub bank: Option<String>,
}

/// An event as the chain of hashes knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    pub position: Position,
    /// In hexadecimal.
    pub hash: String,
    pub recorded_at: DateTime<Utc>,
}

impl Head {
    /// `None` for an event of a log without a chain.
    pub fn of(event: &Recorded) -> Option<Self> {
        Some(Self {
            position: event.position,
            hash: hex(event.hash.as_ref()?),
            recorded_at: event.recorded_at,
        })
    }

    pub fn hash(&self) -> Option<[u8; 32]> {
        unhex(&self.hash)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VaultCopy {
    /// The newest whole copy.
    pub object: String,
    /// How many events the log had when it was taken; copies of some accounts that were taken after more belong to it.
    pub events: u64,
    #[serde(flatten)]
    pub contents: Contents,
}

impl Manifest {
    /// `None` if no backup was ever completed here.
    pub async fn read(store: &Store) -> Result<Option<Self>, BackupError> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Some(bytes) = store.get(NAME).await? else { return Ok(None) };
        let damaged = |error: serde_json::Error| BackupError::object(NAME, error);
        let Format { format: found } = serde_json::from_slice(&bytes).map_err(damaged)?;
        if found > FORMAT {
            return Err(BackupError::Format { found });
        }
        serde_json::from_slice(&bytes).map(Some).map_err(damaged)
    }

    pub(crate) async fn write(&self, store: &Store) -> Result<(), BackupError> {
        let json = serde_json::to_vec_pretty(self).map_err(|error| BackupError::object(NAME, error))?;
        Ok(store.put(NAME, json).await?)
    }

    /// How many events are in the backup.
    pub fn events(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.position + 1)
    }
}
