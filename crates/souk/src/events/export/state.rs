//! What is kept beside an export until it is complete, so that one that was interrupted can go on.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use chrono::{DateTime, NaiveDate, Utc};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use souk_event_log::Position;
use uuid::Uuid;

use super::{
    format::Format,
    output::{Chunk, beside, replace, sync_folder_of},
};

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) format: Format,
    pub(super) partition: Option<Partition>,
    pub(super) stream: Option<String>,
    pub(super) categories: Vec<String>,
    pub(super) event_types: Vec<String>,
    pub(super) from: Position,
    pub(super) to: Option<Position>,
    pub(super) since: Option<DateTime<Utc>>,
    pub(super) until: Option<DateTime<Utc>>,
}

impl Request {
    /// The same but for when: two of these go into one folder of days.
    fn is_for_other_days(&self, other: &Self) -> bool {
        let Self { from, to, since, until, .. } = other.clone();
        self.partition.is_some() && Self { from, to, since, until, ..self.clone() } == *other
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Partition {
    /// By the day (UTC) that the log took them, into day=2026-11-22/part-….parquet
    Day,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    pub(super) request: Request,
    /// Where the next chunk begins.
    pub(super) next: Position,
    /// The last position, fixed when the export began; none of a log without such events.
    pub(super) end: Option<Position>,
    /// The first day and the last.
    pub(super) days: Option<(NaiveDate, NaiveDate)>,
    /// Bytes of the file that are done.
    pub(super) length: u64,
    /// How many events are done, and the last one of them.
    pub(super) events: u64,
    pub(super) last: Option<(Position, Uuid)>,
    #[serde(skip)]
    path: PathBuf,
}

impl State {
    pub(super) fn new(
        request: Request,
        next: Position,
        end: Option<Position>,
        output: Option<&Path>,
    ) -> Self {
        let path = output.map(|output| beside(output, SUFFIX)).unwrap_or_default();
        Self { request, next, end, days: None, length: 0, events: 0, last: None, path }
    }

    /// Of an export that was interrupted: of the same, or of other days into the same folder.
    pub(super) fn find(request: &Request, output: &Path) -> anyhow::Result<Option<Self>> {
        let path = beside(output, SUFFIX);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let state: Self = serde_json::from_slice(&text).with_context(|| {
            format!("{} cannot be read: without --resume the export begins anew", path.display())
        })?;
        if state.request != *request && !state.request.is_for_other_days(request) {
            bail!("{} was begun with other options: say --resume with the same ones", output.display());
        }
        Ok(Some(Self { path, ..state }))
    }

    pub(super) fn count(&mut self, chunk: &Chunk) {
        self.next = chunk.next;
        self.events += chunk.events.len() as u64;
        self.last = chunk.events.last().map(|event| (event.position, event.id)).or(self.last);
    }

    pub(super) fn save(&self) -> anyhow::Result<()> {
        let text = serde_json::to_vec(self)?;
        replace(&self.path, |file| file.write_all(&text)).with_context(|| self.path.display().to_string())
    }

    /// From here on there is nothing to go on with.
    pub(super) fn forget(&self) -> anyhow::Result<()> {
        match fs::remove_file(&self.path).and_then(|()| sync_folder_of(&self.path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| self.path.display().to_string())
            }
            _ => Ok(()),
        }
    }
}

const SUFFIX: &str = ".resume";
