//! The hash chain: each event's hash covers its stored fields and the hash of the event before, so that no event can
//! be changed, removed or put in between without every later hash being wrong.

use std::{collections::HashMap, path::Path};

use rusqlite::{Connection, Row};
use uuid::Uuid;

use super::{OpenError, reader::failed, schema};
use crate::{Position, ReadError, Recorded, Revision, StreamName};

pub type Hash = [u8; 32];

/// What stands before the first event.
pub(super) const GENESIS: Hash = [0; 32];

/// The fields that a hash covers, as they are stored.
pub(super) struct Link<'a> {
    pub(super) position: i64,
    pub(super) stream: &'a str,
    pub(super) revision: i64,
    pub(super) id: &'a Uuid,
    pub(super) event_type: &'a str,
    pub(super) recorded_at: i64,
    pub(super) data: &'a [u8],
    pub(super) metadata: &'a [u8],
}

impl Link<'_> {
    /// BLAKE3(hash before ‖ fields in the order above, each as its length in four bytes and its bytes). Integers are
    /// eight bytes, all numbers little-endian.
    pub(super) fn hash(&self, before: &Hash, buffer: &mut Vec<u8>) -> Hash {
        buffer.clear();
        buffer.extend_from_slice(before);
        for field in [
            &self.position.to_le_bytes()[..],
            self.stream.as_bytes(),
            &self.revision.to_le_bytes(),
            self.id.as_bytes(),
            self.event_type.as_bytes(),
            &self.recorded_at.to_le_bytes(),
            self.data,
            self.metadata,
        ] {
            buffer.extend_from_slice(&(field.len() as u32).to_le_bytes());
            buffer.extend_from_slice(field);
        }
        *blake3::hash(buffer).as_bytes()
    }
}

impl<'a> From<&'a Recorded> for Link<'a> {
    fn from(event: &'a Recorded) -> Self {
        Self {
            position: event.position as i64,
            stream: event.stream.as_str(),
            revision: event.revision as i64,
            id: &event.id,
            event_type: &event.event_type,
            recorded_at: event.recorded_at.timestamp_micros(),
            data: &event.data,
            metadata: &event.metadata,
        }
    }
}

/// Follows the chain from event to event: over a copy on its way to another place and back, say.
#[derive(Default)]
pub struct Chain {
    /// The last event and its hash; `None` before the first.
    head: Option<(Position, Hash)>,
    recorded_at: Option<i64>,
    buffer: Vec<u8>,
}

impl Chain {
    /// Goes on after an event that is taken on trust.
    pub fn after(head: Option<(Position, Hash)>) -> Self {
        Self { head, ..Self::default() }
    }

    pub fn head(&self) -> Option<(Position, Hash)> {
        self.head
    }

    /// Whether the event is the next, and whole. What does not fit leaves the chain where it is.
    pub fn check(&mut self, event: &Recorded) -> Result<(), Damage> {
        if event.position != self.head.map_or(0, |(position, _)| position + 1) {
            return Err(Damage::Missing);
        }
        self.link(&event.into(), event.hash.as_ref().ok_or(Damage::Shape)?)
    }

    fn link(&mut self, link: &Link<'_>, stored: &Hash) -> Result<(), Damage> {
        let before = self.head.map_or(GENESIS, |(_, hash)| hash);
        if link.hash(&before, &mut self.buffer) != *stored {
            return Err(Damage::Hash);
        }
        if self.recorded_at.is_some_and(|before| link.recorded_at < before) {
            return Err(Damage::RecordedAt);
        }
        self.recorded_at = Some(link.recorded_at);
        self.head = Some((link.position as Position, *stored));
        Ok(())
    }
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// Events looked at, without the bad one.
    pub events: u64,
    /// The last good event and its hash. A copy of this pair kept elsewhere also shows a log that was cut short or
    /// written anew, which the chain alone cannot.
    pub head: Option<(Position, Hash)>,
    /// The first bad position and what is wrong there.
    pub bad: Option<(Position, Damage)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("the event is missing")]
    Missing,
    #[error("an event was inserted before the first")]
    Inserted,
    #[error("the event does not match its hash")]
    Hash,
    #[error("the name of its stream or type is missing, or its category is not its stream's")]
    Name,
    #[error("a field has the wrong shape")]
    Shape,
    #[error("its revision does not follow the one before in its stream")]
    Revision,
    #[error("it was recorded before its predecessor")]
    RecordedAt,
}

const PAGE: u64 = 10_000;

const SELECT: &str = "SELECT e.position, s.name, e.revision, e.id, k.type, e.recorded_at, e.data, e.metadata, e.hash, e.stream_id,
    k.category FROM event_rows e LEFT JOIN stream_rows s ON s.id = e.stream_id LEFT JOIN kinds k ON k.id = e.kind_id
    WHERE e.position >= ?1 ORDER BY e.position LIMIT ?2";

/// Checks every event from the position on: its hash, its place in the chain and in its stream. `progress` is told the
/// last good position after every 10,000 events. Blocks; works beside a running server.
pub fn verify(
    path: &Path,
    from: Position,
    progress: impl FnMut(Position),
) -> Result<VerifyReport, ReadError> {
    let connection = schema::open_alone(path).map_err(|error| match error {
        OpenError::Sqlite(error) => failed(error),
        error => ReadError::Unavailable(error.to_string()),
    })?;
    verify_on(&connection, from, progress)
}

/// Checks the last event alone, as cheap assurance before the next is chained to it.
pub(super) fn check_head(connection: &Connection) -> Result<(), OpenError> {
    let Some(head) = schema::read_head(connection)? else { return Ok(()) };
    match verify_on(connection, head.position, |_| ()) {
        Ok(VerifyReport { bad: None, .. }) => Ok(()),
        Ok(VerifyReport { bad: Some((position, damage)), .. }) => {
            Err(OpenError::Damaged { position, damage })
        }
        Err(error) => Err(OpenError::Unreadable(error)),
    }
}

fn verify_on(
    connection: &Connection,
    from: Position,
    mut progress: impl FnMut(Position),
) -> Result<VerifyReport, ReadError> {
    let first: Option<i64> =
        connection.query_row("SELECT min(position) FROM event_rows", [], |row| row.get(0)).map_err(failed)?;
    if first.is_some_and(|first| first < 0) {
        return Ok(VerifyReport { events: 0, head: None, bad: Some((0, Damage::Inserted)) });
    }
    // The event before the first is taken on trust, for its hash and time.
    let mut next = from.saturating_sub(1);
    let mut check = Check { whole: from == 0, ..Check::default() };
    let mut report = VerifyReport { events: 0, head: None, bad: None };
    loop {
        // Page by page: one long read would keep a running server from reusing its write-ahead log.
        let page = next;
        let mut statement = connection.prepare_cached(SELECT).map_err(failed)?;
        let mut rows = statement.query([page as i64, PAGE as i64]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            let position = row.get::<_, i64>(0).map_err(failed)? as Position;
            let outcome = if position != next {
                Err(Damage::Missing)
            } else if position < from {
                check.trust(row).map_err(|_| Damage::Shape)
            } else {
                check.event(row)
            };
            if let Err(damage) = outcome {
                report.bad = Some((next, damage));
                return Ok(report);
            }
            if position >= from {
                report.events += 1;
                report.head = check.chain.head();
            }
            next += 1;
        }
        if next - page < PAGE {
            return Ok(report);
        }
        progress(next - 1);
    }
}

#[derive(Default)]
struct Check {
    /// Whether it began with the first event, so that each stream has to begin with revision 0.
    whole: bool,
    chain: Chain,
    /// Last revision by number of the stream.
    revisions: HashMap<i64, Revision>,
}

impl Check {
    fn trust(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        self.chain = Chain::after(Some((row.get::<_, i64>(0)? as Position, row.get(8)?)));
        self.chain.recorded_at = Some(row.get(5)?);
        self.revisions.insert(row.get(9)?, row.get::<_, i64>(2)? as Revision);
        Ok(())
    }

    fn event(&mut self, row: &Row<'_>) -> Result<(), Damage> {
        let shape = |_| Damage::Shape;
        let name = |_| Damage::Name;
        let stream_id: i64 = row.get(9).map_err(shape)?;
        let link = Link {
            position: row.get(0).map_err(shape)?,
            stream: row.get_ref(1).and_then(|name| Ok(name.as_str()?)).map_err(name)?,
            revision: row.get(2).map_err(shape)?,
            id: &Uuid::from_bytes(row.get(3).map_err(shape)?),
            event_type: row.get_ref(4).and_then(|name| Ok(name.as_str()?)).map_err(name)?,
            recorded_at: row.get(5).map_err(shape)?,
            data: row.get_ref(6).and_then(|data| Ok(data.as_blob()?)).map_err(shape)?,
            metadata: row.get_ref(7).and_then(|data| Ok(data.as_blob()?)).map_err(shape)?,
        };
        let category = row.get_ref(10).and_then(|category| Ok(category.as_str()?)).map_err(name)?;
        if category != StreamName::stored(link.stream).category() {
            return Err(Damage::Name);
        }
        let revision = link.revision as Revision;
        self.chain.link(&link, &row.get(8).map_err(shape)?)?;
        let follows = match self.revisions.insert(stream_id, revision) {
            Some(before) => revision == before + 1,
            None => revision == 0 || !self.whole,
        };
        if follows { Ok(()) } else { Err(Damage::Revision) }
    }
}
