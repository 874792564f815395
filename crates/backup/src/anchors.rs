//! Head anchors: the position and hash of the log's last event, kept somewhere else now and then. A chain of hashes shows
//! every change but two, a tail that was cut off and a log that was written anew as a whole; an anchor shows these, too.
//!
//! An anchor is an object of its own that is never changed, so that a place where nothing can be overwritten or deleted
//! suits it. Its name holds position and hash: a listing is all that a check reads.

use chrono::{DateTime, Utc};
use futures::StreamExt;
use serde::Serialize;
use souk_event_log::{Direction, EventLog, Filter, Position, ReadError, Recorded};

use crate::{
    BackupError, Store,
    manifest::Head,
    segment::{hex, unhex},
};

const EXTENSION: &str = ".json";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anchor {
    pub position: Position,
    pub hash: [u8; 32],
}

/// An anchor that the log does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("position {} is missing: the log {}", .anchor.position, ended(*.head))]
    Missing { anchor: Anchor, head: Option<Position> },
    #[error("position {} has changed: its hash was {}", .anchor.position, hex(&.anchor.hash))]
    Changed { anchor: Anchor },
}

fn ended(head: Option<Position>) -> String {
    head.map_or_else(|| "is empty".to_owned(), |head| format!("ends at {head}"))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(flatten)]
    head: &'a Head,
    anchored_at: DateTime<Utc>,
}

/// The log's last event; `None` of an empty log.
pub async fn head(log: &dyn EventLog) -> Result<Option<Head>, BackupError> {
    let last = log.read_all(Position::MAX >> 1, Filter::all(), Direction::Backward, 1).next().await;
    let Some(last) = last.transpose()? else { return Ok(None) };
    Head::of(&last).map(Some).ok_or(BackupError::NoChain)
}

/// The same head again is the same object.
pub async fn publish(store: &Store, head: &Head, now: DateTime<Utc>) -> Result<(), BackupError> {
    let name = format!("{:020}-{}{EXTENSION}", head.position, head.hash);
    let body = serde_json::to_vec(&Body { head, anchored_at: now })
        .map_err(|error| BackupError::object(&name, error))?;
    Ok(store.put(&name, body).await?)
}

/// Every anchor that was published, in order of positions.
pub async fn read(store: &Store) -> Result<Vec<Anchor>, BackupError> {
    let parse = |name: String| {
        let (position, hash) = name.strip_suffix(EXTENSION)?.split_once('-')?;
        Some(Anchor { position: position.parse().ok()?, hash: unhex(hash)? })
    };
    Ok(store.list("").await?.into_iter().filter_map(parse).collect())
}

/// Those that the log does not hold; `progress` is told how many were looked at.
pub async fn check(
    log: &dyn EventLog,
    anchors: &[Anchor],
    mut progress: impl FnMut(u64),
) -> Result<Vec<Broken>, ReadError> {
    let head = log.head().await?;
    let mut broken = Vec::new();
    for (index, anchor) in anchors.iter().copied().enumerate() {
        match event_at(log, anchor.position).await? {
            Some(event) if event.hash == Some(anchor.hash) => {}
            Some(_) => broken.push(Broken::Changed { anchor }),
            None => broken.push(Broken::Missing { anchor, head }),
        }
        progress(index as u64 + 1);
    }
    Ok(broken)
}

pub(crate) async fn event_at(
    log: &dyn EventLog,
    position: Position,
) -> Result<Option<std::sync::Arc<Recorded>>, ReadError> {
    let event = log.read_all(position, Filter::all(), Direction::Forward, 1).next().await.transpose()?;
    Ok(event.filter(|event| event.position == position))
}
