//! Reading pages of events, each page one short query on a connection of a small pool.
//!
//! No read transaction outlives its page, so a slow reader never keeps the write-ahead log from being reused; as the log
//! only grows, pages read one after another fit together. Large pages run on the blocking pool, the next one while the
//! last is being consumed; the first page of one stream is small enough to be read in place.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_stream::try_stream;
use chrono::DateTime;
use parking_lot::{Mutex, RwLock};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};
use tokio::task::{JoinHandle, spawn_blocking};
use uuid::Uuid;

use super::schema;
use crate::{Direction, EventStream, Filter, Position, ReadError, Recorded, Revision, StreamName};

/// Events in a page.
pub(super) const PAGE: usize = 1_000;
/// Bytes after which a page ends early.
const PAGE_BYTES: usize = 4 << 20;
/// Positions that a filtered page may look through for its events.
const SPAN: u64 = 10_000;
/// Events of a stream that are read in place, without a change of thread (some 100 µs).
const IN_PLACE: usize = 64;
/// Connections that are kept open.
const IDLE: usize = 8;

/// Pages of the whole log that are read at once.
const AHEAD: usize = 2;

pub(super) struct Reader {
    path: PathBuf,
    idle: Mutex<Vec<Session>>,
    /// Rows of `kinds` by number, from 1 on. Rows are only ever added.
    kinds: RwLock<Arc<Vec<Kind>>>,
}

/// A connection with the names of streams it has met lately.
struct Session {
    connection: Connection,
    names: Names,
}

#[derive(Clone)]
struct Kind {
    category: Arc<str>,
    event_type: Arc<str>,
}

pub(super) struct Page {
    pub(super) events: Vec<Arc<Recorded>>,
    /// The last position (or revision) that was looked at; `None`: there was nothing to look at.
    pub(super) covered: Option<u64>,
    /// Whether there may be something beyond.
    pub(super) more: bool,
}

impl Page {
    const EMPTY: Self = Self { events: Vec::new(), covered: None, more: false };
}

/// The one place where SQLite's errors become ours.
pub(super) fn failed(error: rusqlite::Error) -> ReadError {
    match error.sqlite_error_code() {
        // What did not come from SQLite is a value that is not what the schema promises.
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) | None => {
            ReadError::Corrupt(error.to_string())
        }
        Some(_) => ReadError::Unavailable(schema::described(&error)),
    }
}

/// Positions and revisions stay far below this; callers say `u64::MAX` for "from the end".
fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Reader {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), idle: Mutex::default(), kinds: RwLock::default() }
    }

    fn with<R>(&self, work: impl FnOnce(&Connection) -> Result<R, ReadError>) -> Result<R, ReadError> {
        self.with_names(|connection, _| work(connection))
    }

    fn with_names<R>(
        &self,
        work: impl FnOnce(&Connection, &mut Names) -> Result<R, ReadError>,
    ) -> Result<R, ReadError> {
        let pooled = self.idle.lock().pop();
        let mut session = match pooled {
            Some(session) => session,
            None => Session {
                connection: schema::open_reader(&self.path).map_err(failed)?,
                names: Names::default(),
            },
        };
        // A connection that failed is not used again.
        let result = work(&session.connection, &mut session.names)?;
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(session);
        }
        Ok(result)
    }

    pub(super) fn head(&self) -> Result<Option<Position>, ReadError> {
        self.with(head)
    }

    pub(super) fn stream_head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadError> {
        const SQL: &str = "SELECT revision FROM event_rows
            WHERE stream_id = (SELECT id FROM stream_rows WHERE name = ?1) ORDER BY revision DESC LIMIT 1";
        self.with(|connection| {
            let mut statement = connection.prepare_cached(SQL).map_err(failed)?;
            let revision: Option<i64> =
                statement.query_row([stream.as_str()], |row| row.get(0)).optional().map_err(failed)?;
            Ok(revision.map(|revision| revision as Revision))
        })
    }

    fn stream_page(
        &self,
        stream: &StreamName,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let (comparison, order) = match direction {
            Direction::Forward => (">=", "ASC"),
            Direction::Backward => ("<=", "DESC"),
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM event_rows e WHERE e.stream_id = (SELECT id FROM stream_rows WHERE name = ?1)
             AND e.revision {comparison} ?2 ORDER BY e.revision {order} LIMIT ?3"
        );
        self.with(|connection| {
            let mut decoder = Decoder::new(self, connection);
            let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
            let mut rows =
                statement.query(params![stream.as_str(), clamp(from), limit as i64]).map_err(failed)?;
            let mut full = false;
            while !full {
                let Some(row) = rows.next().map_err(failed)? else { break };
                full = decoder.push(row, stream.clone())? || decoder.events.len() == limit;
            }
            let covered = decoder.events.last().map(|event| event.revision);
            Ok(Page { events: decoder.events, covered, more: full })
        })
    }

    /// Events that match from the position on, `limit` at most, out of a bounded number of positions.
    pub(super) fn page(
        &self,
        from: Position,
        filter: &Filter,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, ReadError> {
        self.with_names(|connection, names| {
            // The head is read first: everything up to it, and every kind of it, is visible to the queries that follow.
            let Some(head) = head(connection)? else { return Ok(Page::EMPTY) };
            let from = match direction {
                Direction::Forward if from > head => return Ok(Page::EMPTY),
                Direction::Forward => from,
                Direction::Backward => from.min(head),
            };
            let end = match direction {
                Direction::Forward => head,
                Direction::Backward => 0,
            };
            let Some(condition) = self.condition(connection, filter)? else {
                return Ok(Page { events: Vec::new(), covered: Some(end), more: false });
            };
            if let Some(stream) = &filter.stream {
                return self.page_of_stream(connection, stream, &condition, from, end, direction, limit);
            }
            let span = if condition.is_empty() { limit as u64 } else { SPAN } - 1;
            let (low, high, order) = match direction {
                Direction::Forward => (from, from.saturating_add(span).min(head), "ASC"),
                Direction::Backward => (from.saturating_sub(span), from, "DESC"),
            };
            let sql = format!(
                "SELECT {COLUMNS}, e.stream_id FROM event_rows e
                 WHERE e.position BETWEEN ?1 AND ?2{condition} ORDER BY e.position {order} LIMIT ?3"
            );
            let mut decoder = Decoder::new(self, connection);
            let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
            let mut rows = statement.query(params![low as i64, high as i64, limit as i64]).map_err(failed)?;
            let mut full = false;
            while !full {
                let Some(row) = rows.next().map_err(failed)? else { break };
                let stream = names.find(connection, row.get(8).map_err(failed)?)?;
                full = decoder.push(row, stream)? || decoder.events.len() == limit;
            }
            let covered = match (decoder.events.last(), direction) {
                (Some(last), _) if full => last.position,
                (_, Direction::Forward) => high,
                (_, Direction::Backward) => low,
            };
            if condition.is_empty() && decoder.events.len() as u64 != covered.abs_diff(from) + 1 {
                return Err(ReadError::Corrupt(format!("an event is missing between {low} and {high}")));
            }
            Ok(Page { events: decoder.events, covered: Some(covered), more: covered != end })
        })
    }

    /// As [`Self::page`], by the index over streams.
    #[expect(clippy::too_many_arguments, reason = "the rest of `page` for one case")]
    fn page_of_stream(
        &self,
        connection: &Connection,
        stream: &StreamName,
        condition: &str,
        from: Position,
        end: Position,
        direction: Direction,
        limit: usize,
    ) -> Result<Page, ReadError> {
        let (comparison, order) = match direction {
            Direction::Forward => (">=", "ASC"),
            Direction::Backward => ("<=", "DESC"),
        };
        let Some(revision) = revision_at(connection, stream, from, direction)? else {
            return Ok(Page { events: Vec::new(), covered: Some(end), more: false });
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM event_rows e WHERE e.stream_id = (SELECT id FROM stream_rows WHERE name = ?1)
             AND e.revision {comparison} ?2{condition} ORDER BY e.revision {order} LIMIT ?3"
        );
        let mut decoder = Decoder::new(self, connection);
        let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows =
            statement.query(params![stream.as_str(), revision as i64, limit as i64]).map_err(failed)?;
        let mut full = false;
        while !full {
            let Some(row) = rows.next().map_err(failed)? else { break };
            full = decoder.push(row, stream.clone())? || decoder.events.len() == limit;
        }
        // Events may have come since the head was read; they are covered too.
        let covered = match (decoder.events.last(), direction) {
            (Some(last), _) if full => last.position,
            (Some(last), Direction::Forward) => end.max(last.position),
            _ => end,
        };
        Ok(Page { events: decoder.events, covered: Some(covered), more: full })
    }

    /// The SQL that leaves out other kinds of events; `None` if no event of the log can match.
    fn condition(&self, connection: &Connection, filter: &Filter) -> Result<Option<String>, ReadError> {
        if filter.categories.is_empty() && filter.event_types.is_empty() {
            return Ok(Some(String::new()));
        }
        let kinds = self.refresh(connection)?;
        let wanted: Vec<usize> = (1..)
            .zip(kinds.iter())
            .filter(|(_, kind)| filter.matches_kind(&kind.category, &kind.event_type))
            .map(|(number, _)| number)
            .collect();
        let mut list = String::new();
        match wanted.as_slice() {
            [] => return Ok(None),
            all if all.len() == kinds.len() => return Ok(Some(list)),
            [first, others @ ..] => {
                let _ = write!(list, " AND e.kind_id IN ({first}");
                for other in others {
                    let _ = write!(list, ", {other}");
                }
                list.push(')');
            }
        }
        Ok(Some(list))
    }

    /// Takes up kinds that were added since.
    fn refresh(&self, connection: &Connection) -> Result<Arc<Vec<Kind>>, ReadError> {
        let known = Arc::clone(&self.kinds.read());
        let mut statement = connection
            .prepare_cached("SELECT id, category, type FROM kinds WHERE id > ?1 ORDER BY id")
            .map_err(failed)?;
        let mut rows = statement.query([known.len() as i64]).map_err(failed)?;
        let mut kinds = None;
        while let Some(row) = rows.next().map_err(failed)? {
            let kinds = kinds.get_or_insert_with(|| Vec::clone(&known));
            kinds.push(Kind {
                category: row.get(1).map_err(failed)?,
                event_type: row.get(2).map_err(failed)?,
            });
            if row.get::<_, i64>(0).map_err(failed)? != kinds.len() as i64 {
                return Err(ReadError::Corrupt("the table of kinds has a gap".into()));
            }
        }
        let Some(kinds) = kinds else { return Ok(known) };
        let kinds = Arc::new(kinds);
        let mut shared = self.kinds.write();
        if shared.len() < kinds.len() {
            *shared = Arc::clone(&kinds);
        }
        Ok(kinds)
    }
}

fn head(connection: &Connection) -> Result<Option<Position>, ReadError> {
    let mut statement = connection.prepare_cached("SELECT max(position) FROM event_rows").map_err(failed)?;
    let position: Option<i64> = statement.query_row([], |row| row.get(0)).map_err(failed)?;
    Ok(position.map(|position| position as Position))
}

/// The first (or, backwards, the last) revision of the stream at or beyond the position: a binary search, as positions
/// grow with revisions.
fn revision_at(
    connection: &Connection,
    stream: &StreamName,
    position: Position,
    direction: Direction,
) -> Result<Option<Revision>, ReadError> {
    const LAST: &str = "SELECT stream_id, revision FROM event_rows
        WHERE stream_id = (SELECT id FROM stream_rows WHERE name = ?1) ORDER BY revision DESC LIMIT 1";
    const AT: &str = "SELECT position FROM event_rows WHERE stream_id = ?1 AND revision = ?2";
    let last: Option<(i64, i64)> = connection
        .prepare_cached(LAST)
        .and_then(|mut statement| {
            statement.query_row([stream.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()
        })
        .map_err(failed)?;
    let Some((stream_id, last)) = last else { return Ok(None) };
    let mut statement = connection.prepare_cached(AT).map_err(failed)?;
    // The number of events that stand before the position.
    let (mut low, mut high) = (0, last + 1);
    let bound = match direction {
        Direction::Forward => clamp(position),
        Direction::Backward => clamp(position).saturating_add(1),
    };
    while low < high {
        let middle = low + (high - low) / 2;
        let at: i64 = statement.query_row([stream_id, middle], |row| row.get(0)).map_err(failed)?;
        if at < bound { low = middle + 1 } else { high = middle }
    }
    Ok(match direction {
        Direction::Forward => (low <= last).then_some(low as Revision),
        Direction::Backward => (low > 0).then(|| low as Revision - 1),
    })
}

const COLUMNS: &str = "e.position, e.revision, e.kind_id, e.recorded_at, e.id, e.hash, e.data, e.metadata";

/// Names of streams, each at its number modulo [`STREAMS`]: most events are of a stream that was met shortly before.
#[derive(Default)]
struct Names(Vec<Option<(i64, StreamName)>>);

const STREAMS: usize = 4_096;

impl Names {
    fn find(&mut self, connection: &Connection, id: i64) -> Result<StreamName, ReadError> {
        if self.0.is_empty() {
            self.0.resize(STREAMS, None);
        }
        let place = &mut self.0[id as usize % STREAMS];
        if let Some((known, name)) = place
            && *known == id
        {
            return Ok(name.clone());
        }
        let name = connection
            .prepare_cached("SELECT name FROM stream_rows WHERE id = ?1")
            .and_then(|mut statement| {
                statement.query_row([id], |row| Ok(StreamName::stored(row.get_ref(0)?.as_str()?))).optional()
            })
            .map_err(failed)?
            .ok_or_else(|| ReadError::Corrupt("the name of an event's stream is missing".into()))?;
        *place = Some((id, name.clone()));
        Ok(name)
    }
}

/// Makes events of rows of [`COLUMNS`].
struct Decoder<'a> {
    reader: &'a Reader,
    connection: &'a Connection,
    kinds: Arc<Vec<Kind>>,
    events: Vec<Arc<Recorded>>,
    bytes: usize,
}

impl<'a> Decoder<'a> {
    fn new(reader: &'a Reader, connection: &'a Connection) -> Self {
        let kinds = Arc::clone(&reader.kinds.read());
        Self { reader, connection, kinds, events: Vec::new(), bytes: 0 }
    }

    /// Takes a row; says whether the page has become big.
    fn push(&mut self, row: &Row<'_>, stream: StreamName) -> Result<bool, ReadError> {
        let kind = row.get::<_, i64>(2).map_err(failed)?;
        let event_type = self.event_type(kind)?;
        let event = decode(row, stream, event_type).map_err(failed)?;
        self.bytes += event.data.len() + event.metadata.len();
        self.events.push(Arc::new(event));
        Ok(self.bytes >= PAGE_BYTES)
    }

    fn event_type(&mut self, kind: i64) -> Result<Arc<str>, ReadError> {
        let index = usize::try_from(kind - 1).unwrap_or(usize::MAX);
        if index >= self.kinds.len() {
            self.kinds = self.reader.refresh(self.connection)?;
        }
        let kind = self.kinds.get(index);
        kind.map(|kind| Arc::clone(&kind.event_type))
            .ok_or_else(|| ReadError::Corrupt("the kind of an event is missing".into()))
    }
}

fn decode(row: &Row<'_>, stream: StreamName, event_type: Arc<str>) -> rusqlite::Result<Recorded> {
    let recorded_at = row.get(3)?;
    Ok(Recorded {
        id: Uuid::from_bytes(row.get(4)?),
        stream,
        revision: row.get::<_, i64>(1)? as Revision,
        position: row.get::<_, i64>(0)? as Position,
        event_type,
        recorded_at: DateTime::from_timestamp_micros(recorded_at)
            .ok_or(rusqlite::Error::IntegralValueOutOfRange(3, recorded_at))?,
        data: row.get_ref(6)?.as_blob()?.to_vec(),
        metadata: row.get_ref(7)?.as_blob()?.to_vec().into(),
        hash: Some(row.get(5)?),
    })
}

/// Runs a query on the blocking pool.
pub(super) fn blocking<R: Send + 'static>(
    reader: &Arc<Reader>,
    work: impl FnOnce(&Reader) -> Result<R, ReadError> + Send + 'static,
) -> JoinHandle<Result<R, ReadError>> {
    let reader = Arc::clone(reader);
    spawn_blocking(move || work(&reader))
}

pub(super) fn interrupted(error: tokio::task::JoinError) -> ReadError {
    ReadError::Unavailable(format!("reading was interrupted: {error}"))
}

fn next(covered: u64, direction: Direction) -> Option<u64> {
    match direction {
        Direction::Forward => covered.checked_add(1),
        Direction::Backward => covered.checked_sub(1),
    }
}

pub(super) fn stream(
    reader: Arc<Reader>,
    stream: StreamName,
    from: Revision,
    direction: Direction,
    limit: usize,
) -> EventStream {
    Box::pin(try_stream! {
        if limit == 0 {
            return;
        }
        let mut left = limit;
        let mut page = reader.stream_page(&stream, from, direction, left.min(IN_PLACE))?;
        loop {
            left -= page.events.len();
            let from = page.covered.filter(|_| page.more && left > 0).and_then(|covered| next(covered, direction));
            let following = from.map(|from| {
                let stream = stream.clone();
                blocking(&reader, move |reader| reader.stream_page(&stream, from, direction, left.min(PAGE)))
            });
            for event in page.events {
                yield event;
            }
            let Some(following) = following else { return };
            page = following.await.map_err(interrupted)??;
        }
    })
}

pub(super) fn all(
    reader: Arc<Reader>,
    from: Position,
    filter: Filter,
    direction: Direction,
    limit: usize,
) -> EventStream {
    // Without a filter it is known where a page will end, so the next ones need not wait for it.
    let ahead = if direction == Direction::Forward && filter == Filter::all() { AHEAD } else { 1 };
    let filter = Arc::new(filter);
    let read = move |from: Position, count: usize| {
        let filter = Arc::clone(&filter);
        blocking(&reader, move |reader| reader.page(from, &filter, direction, count))
    };
    Box::pin(try_stream! {
        let mut left = limit;
        let mut next_from = Some(from);
        let mut under_way: VecDeque<Asked> = VecDeque::new();
        let mut events = Vec::new();
        loop {
            while let Some(from) = next_from.filter(|_| under_way.len() < ahead) {
                let asked: usize = under_way.iter().map(|asked| asked.count).sum();
                let count = (left - asked).min(PAGE);
                if count == 0 {
                    break;
                }
                next_from = from.checked_add(count as Position).filter(|_| ahead > 1);
                under_way.push_back(Asked { count, end: next_from, page: read(from, count) });
            }
            for event in std::mem::take(&mut events) {
                yield event;
            }
            let Some(asked) = under_way.pop_front() else { return };
            let page = asked.page.await.map_err(interrupted)??;
            left -= page.events.len();
            let end = page.covered.filter(|_| page.more && left > 0).and_then(|covered| next(covered, direction));
            if end.is_none() || end != asked.end {
                // It ended elsewhere than was expected: what was asked for beyond it is not what follows.
                under_way.clear();
                next_from = end;
            }
            events = page.events;
        }
    })
}

/// A page that is being read.
struct Asked {
    count: usize,
    /// Where the next one begins if this one is full.
    end: Option<Position>,
    page: JoinHandle<Result<Page, ReadError>>,
}
