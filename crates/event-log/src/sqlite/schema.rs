//! The file: its tables, the views for people with an SQLite tool, and how connections to it are opened.
//!
//! Names of streams, and pairs of category and event type ("kinds"), are stored once and referred to by number, so
//! that a row is little more than its JSON and a filter by category or type compares one small integer.

use std::{
    fs::File,
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, config::DbConfig,
    ffi,
};

use super::{
    OpenError,
    chain::{self, Hash},
};
use crate::Position;

/// "Souk" in the file's header, so that `file` and other tools can tell.
const APPLICATION_ID: i32 = 0x536f_756b;
const VERSION: i32 = 2;

const TABLES: &str = "
CREATE TABLE stream_rows (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE             -- category-id; the category is what stands before the first hyphen
) STRICT;
CREATE TABLE kinds (
    id       INTEGER PRIMARY KEY,         -- 1, 2, 3 … without gaps
    category TEXT NOT NULL,
    type     TEXT NOT NULL,
    UNIQUE (category, type)
) STRICT;
CREATE TABLE event_rows (
    position    INTEGER PRIMARY KEY,      -- 0, 1, 2 … in commit order, without gaps
    stream_id   INTEGER NOT NULL,
    revision    INTEGER NOT NULL,         -- 0, 1, 2 … within the stream, without gaps
    kind_id     INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,         -- microseconds since 1970, UTC; never decreases
    id          BLOB NOT NULL,            -- UUID, 16 bytes
    hash        BLOB NOT NULL,            -- BLAKE3 of the hash before and this event, 32 bytes
    data        BLOB NOT NULL,            -- JSON
    metadata    BLOB NOT NULL             -- JSON
) STRICT;
CREATE UNIQUE INDEX events_by_stream ON event_rows (stream_id, revision);

CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON event_rows
    BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON event_rows
    BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
";

/// For people: docs/analysts.md tells of every column. What is no JSON, which only other programs append, is shown as a
/// JSON string of its hexadecimal digits, so that functions over JSON never fail on it.
const VIEWS: &str = "
CREATE VIEW events AS
    SELECT e.position, s.name AS stream, k.category, substr(s.name, length(k.category) + 2) AS stream_id, e.revision, k.type,
           coalesce(nullif(json_extract(e.envelope, '$.schemaVersion'), 0), 1) AS version,
           e.recorded_at, coalesce(json_extract(e.envelope, '$.occurredAt'), e.recorded_at) AS occurred_at, e.recorded_us,
           json_extract(e.envelope, '$.actor') AS actor,
           coalesce(json_extract(e.document, '$.total.amount'), json_extract(e.document, '$.amount.amount'),
                    json_extract(e.document, '$.price.amount')) AS amount,
           coalesce(json_extract(e.document, '$.total.currency'), json_extract(e.document, '$.amount.currency'),
                    json_extract(e.document, '$.price.currency')) AS currency,
           json_extract(e.envelope, '$.correlationId') AS correlation_id,
           json_extract(e.envelope, '$.causationId') AS causation_id,
           json_extract(e.envelope, '$.commandId') AS command_id,
           coalesce(e.document, json_quote(lower(hex(e.data)))) AS data,
           coalesce(e.envelope, json_quote(lower(hex(e.metadata)))) AS metadata,
           lower(printf('%s-%s-%s-%s-%s', substr(hex(e.id), 1, 8), substr(hex(e.id), 9, 4), substr(hex(e.id), 13, 4),
                        substr(hex(e.id), 17, 4), substr(hex(e.id), 21))) AS id,
           lower(hex(e.hash)) AS hash
    FROM (SELECT position, stream_id, revision, kind_id, id, hash, data, metadata, recorded_at AS recorded_us,
                 strftime('%Y-%m-%dT%H:%M:%S', recorded_at / 1000000, 'unixepoch')
                     || printf('.%06dZ', recorded_at % 1000000) AS recorded_at,
                 CASE WHEN json_valid(CAST(data AS TEXT)) THEN CAST(data AS TEXT) END AS document,
                 CASE WHEN json_valid(CAST(metadata AS TEXT)) THEN CAST(metadata AS TEXT) END AS envelope
          FROM event_rows) e
    JOIN kinds k ON k.id = e.kind_id           -- first: most questions are about a few kinds, and need no other names
    JOIN stream_rows s ON s.id = e.stream_id;
CREATE VIEW streams AS
    SELECT s.name AS stream,
           substr(s.name, 1, instr(s.name || '-', '-') - 1) AS category,
           substr(s.name, instr(s.name || '-', '-') + 1) AS stream_id,
           (SELECT e.revision + 1 FROM event_rows e WHERE e.stream_id = s.id ORDER BY e.revision DESC LIMIT 1) AS events,
           (SELECT e.position FROM event_rows e WHERE e.stream_id = s.id AND e.revision = 0) AS first_position,
           (SELECT e.position FROM event_rows e WHERE e.stream_id = s.id ORDER BY e.revision DESC LIMIT 1) AS last_position
    FROM stream_rows s;
";

/// From format 1, whose tables had the names that the views have now. Their index and triggers go with them.
const FROM_1: &str = "
DROP VIEW all_events;
DROP VIEW all_streams;
ALTER TABLE events RENAME TO event_rows;
ALTER TABLE streams RENAME TO stream_rows;
";

pub(super) const INSERT: &str =
    "INSERT INTO event_rows (position, stream_id, revision, kind_id, recorded_at, id, hash, data, metadata)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";

/// Pages of the write-ahead log after which a commit also copies it into the file, where the copier, who does so much
/// earlier, does not get to it: 128 MiB.
const CHECKPOINT_PAGES: i64 = 32_000;

/// Kilobytes of page cache for the writer: the upper levels of the two indexes of a file with millions of streams, and what
/// a transaction changes. More would cost more: a commit after which tree pages were exchanged looks through all of it.
const WRITER_CACHE_KIB: i64 = 4 * 1024;

/// The same where a whole log is written at once.
const RESTORE_CACHE_KIB: i64 = 32 * 1024;

/// The last event, as far as the next one depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) position: Position,
    pub(super) hash: Hash,
    pub(super) recorded_at: i64,
}

pub(super) fn read_head(connection: &Connection) -> rusqlite::Result<Option<Head>> {
    connection
        .prepare_cached("SELECT position, hash, recorded_at FROM event_rows ORDER BY position DESC LIMIT 1")?
        .query_row([], |row| {
            Ok(Head {
                position: row.get::<_, i64>(0)? as Position,
                hash: row.get(1)?,
                recorded_at: row.get(2)?,
            })
        })
        .optional()
}

/// A connection that may write: the file is made if it is not there, and its last event's hash is checked.
pub(super) fn open_writer(path: &Path, patience: Duration) -> Result<Connection, OpenError> {
    let deadline = Instant::now() + patience;
    loop {
        match try_open_writer(path) {
            // Two processes that make the file at once, or one that recovers it, are in each other's way for a moment.
            Err(OpenError::Sqlite(error)) if is_busy(&error) && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

fn try_open_writer(path: &Path) -> Result<Connection, OpenError> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_millis(200))?;
    check_format(&connection.unchecked_transaction()?)?;
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(OpenError::NoWal(mode));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    keep_plans(&connection)?;

    prepare(&mut connection)?;
    // A process that was killed between writing and syncing leaves events that nobody was told of. They are visible from
    // here on, so they are made durable first.
    if let Some(file) = connection.path() {
        sync_wal(Path::new(file)).map_err(OpenError::Sync)?;
    }
    chain::check_head(&connection)?;
    // Waiting for another process's transaction is the writer's own business from here on.
    connection.busy_timeout(Duration::ZERO)?;
    Ok(connection)
}

/// For [`copy`] beside the writer.
pub(super) fn open_copier(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// Copies what the write-ahead log holds into the file, as far as nobody is in the way, and makes it durable there.
pub(super) fn copy(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Forces the write-ahead log to disk. Copying it into the file (a checkpoint) would do that, too, but takes room, which is
/// what there may not be.
fn sync_wal(file: &Path) -> io::Result<()> {
    let mut wal = file.as_os_str().to_owned();
    wal.push("-wal");
    match File::open(wal) {
        Ok(wal) => wal.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Makes the tables, or brings an older file to the format of today: all of it or nothing, beside whoever has it open.
/// A program that knows only the older format finds names that it does not know, gives its connection up, and says at the
/// next look at the file that it has to be upgraded.
fn prepare(connection: &mut Connection) -> Result<(), OpenError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    match check_format(&transaction)? {
        Format::Current => return Ok(()),
        Format::None => {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        Format::First => transaction.execute_batch(FROM_1)?,
    }
    transaction.execute_batch(VIEWS)?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    Ok(transaction.commit()?)
}

/// A new file that is nobody's log yet: nothing in it is durable, and a crash may leave anything.
pub(super) fn create_unsafe(path: &Path) -> Result<Connection, OpenError> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "cache_size", -RESTORE_CACHE_KIB)?;
    keep_plans(&connection)?;
    prepare(&mut connection)?;
    Ok(connection)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// The file is empty.
    None,
    First,
    Current,
}

/// In a transaction: another process may be about to make the tables.
fn check_format(connection: &Transaction<'_>) -> Result<Format, OpenError> {
    let id: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match (id, version) {
        (0, 0) if tables == 0 => Ok(Format::None),
        (APPLICATION_ID, VERSION) => Ok(Format::Current),
        (APPLICATION_ID, 1) => Ok(Format::First),
        (APPLICATION_ID, version) => Err(OpenError::Version { found: version, known: VERSION }),
        _ => Err(OpenError::NotALog),
    }
}

/// For who reads without having opened the log to write, and may so be the first to meet a file of an older format.
pub(super) fn open_alone(path: &Path) -> Result<Connection, OpenError> {
    let connection = open_reader(path)?;
    let format = check_format(&connection.unchecked_transaction()?)?;
    match format {
        Format::Current => Ok(connection),
        Format::None => Err(OpenError::NotALog),
        Format::First => {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut writer = Connection::open_with_flags(path, flags)?;
            writer.busy_timeout(Duration::from_secs(5))?;
            prepare(&mut writer)?;
            Ok(connection)
        }
    }
}

pub(super) fn open_reader(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    keep_plans(&connection)?;
    Ok(connection)
}

/// Statements are prepared once. Without the second setting this build of SQLite plans a query anew whenever the value
/// of a range is bound, which takes as long as reading a short stream.
fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(64);
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).map(|_| ())
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// The error, with what SQLite was at when the system refused it something.
pub(super) fn described(error: &rusqlite::Error) -> String {
    let at = match error.sqlite_error().map(|error| error.extended_code) {
        Some(ffi::SQLITE_IOERR_READ | ffi::SQLITE_IOERR_SHORT_READ) => "reading",
        Some(ffi::SQLITE_IOERR_WRITE) => "writing: is a file at its limit?",
        Some(ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC) => "forcing what was written to disk",
        Some(ffi::SQLITE_IOERR_SHMOPEN | ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_IOERR_SHMMAP) => {
            "making the file `-shm`: is the disk full?"
        }
        _ => return error.to_string(),
    };
    format!("{error} while {at}")
}
