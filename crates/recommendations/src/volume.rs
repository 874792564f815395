//! One file of what was learnt: a SQLite database with a row an item, a row a buyer, and the position in the log that it
//! stands for, all of a batch in one transaction. A file that says nothing of its format is one that was not finished.
//!
//! Every row is bounded: an item has so many neighbours, a buyer so many purchases that are remembered. A batch keeps the
//! rows it touches until it is written.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    fs,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use uuid::Uuid;

use crate::neighbours::{Neighbour, Neighbours};

/// Of everything that is kept; a file of another one is written anew.
const FORMAT: u32 = 1;

/// When an order counts half.
const HALF_LIFE_MILLIS: f64 = 60.0 * DAY_MILLIS as f64;
/// Where time is counted from: 2020-01-01, in milliseconds since 1970. The scale reaches centuries from it.
const SCALE_BEGINS: i64 = 1_577_836_800_000;
const DAY_MILLIS: i64 = 86_400_000;

/// Items of one order that are looked at: who orders more takes some of everything.
const LARGEST_ORDER: usize = 100;
/// Orders of today that are supposed to hold other things, so that in a young shop two that met at all have something to do
/// with each other.
const UNKNOWN: f64 = 10.0;
/// How long after an order the next one may belong to it, …
const SHORTLY: i64 = 30 * DAY_MILLIS;
/// … how many items of before count then, and how much against what stands in the same order.
const EARLIER: usize = 20;
const EARLIER_WEIGHT: f64 = 0.25;
/// Items that are remembered of a buyer.
const REMEMBERED: usize = 64;
const ENTRY: usize = 12;

/// Rows that a batch may hold before it writes them.
const HELD: usize = 4_096;
/// Of the file that is mapped, in bytes; what is beyond it is read.
const MAPPED: i64 = 1 << 30;

#[derive(Debug, thiserror::Error)]
pub enum BookError {
    #[error("the book of recommendations: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the folder of recommendations: {0}")]
    Io(#[from] std::io::Error),
}

impl BookError {
    /// Whether only writing it anew can help.
    pub fn is_damaged(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
    }
}

/// An order that was completed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase {
    pub buyer: Uuid,
    /// In the order of its lines; the same one more than once counts once.
    pub items: Vec<Uuid>,
    pub at: DateTime<Utc>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Bought(Purchase),
    /// Nothing of this buyer's is remembered from now on. What belongs together, of which he was a part, names nobody.
    Forgotten(Uuid),
}

pub(crate) struct Volume {
    pub(crate) path: PathBuf,
    writer: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    position: Mutex<Option<u64>>,
}

impl Volume {
    /// An empty one; `finished`: there is none that it would have to be as good as.
    pub(crate) fn create(path: PathBuf, finished: bool) -> Result<Self, BookError> {
        remove(&path)?;
        let connection = connect(&path)?;
        connection.execute_batch(
            "BEGIN;
            CREATE TABLE item (number INTEGER PRIMARY KEY, id BLOB NOT NULL UNIQUE, weight REAL NOT NULL,
                orders INTEGER NOT NULL, again INTEGER NOT NULL);
            CREATE TABLE neighbours (number INTEGER PRIMARY KEY, list BLOB NOT NULL);
            CREATE TABLE buyer (id BLOB PRIMARY KEY, history BLOB) WITHOUT ROWID;
            CREATE TABLE stand (position INTEGER, weight REAL NOT NULL, latest REAL NOT NULL);
            INSERT INTO stand VALUES (NULL, 0, 0);
            COMMIT;",
        )?;
        let volume = Self::of(path, connection, None);
        if finished {
            volume.finish()?;
        }
        Ok(volume)
    }

    /// `None` of a file that cannot be used.
    pub(crate) fn open(path: PathBuf) -> Result<Option<Self>, BookError> {
        let read = || {
            let connection = connect(&path)?;
            let format: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
            if format != FORMAT {
                return Ok(None);
            }
            let position: Option<i64> =
                connection.query_row("SELECT position FROM stand", [], |row| row.get(0))?;
            Ok(Some((connection, position)))
        };
        match read() {
            Ok(Some((connection, position))) => {
                Ok(Some(Self::of(path, connection, position.map(|position| position as u64))))
            }
            Ok(None) => Ok(None),
            Err(error) => {
                let error = BookError::Sqlite(error);
                if !error.is_damaged() {
                    return Err(error);
                }
                tracing::warn!(path = %path.display(), %error, "recommendations not usable, learning them anew");
                Ok(None)
            }
        }
    }

    fn of(path: PathBuf, writer: Connection, position: Option<u64>) -> Self {
        Self { path, writer: Mutex::new(writer), readers: Mutex::default(), position: Mutex::new(position) }
    }

    /// From now on it counts.
    pub(crate) fn finish(&self) -> Result<(), BookError> {
        Ok(self.writer.lock().pragma_update(None, "user_version", FORMAT)?)
    }

    pub(crate) fn position(&self) -> Option<u64> {
        *self.position.lock()
    }

    pub(crate) fn apply(&self, changes: &[Change], position: u64) -> Result<(), BookError> {
        let mut writer = self.writer.lock();
        let transaction = writer.transaction()?;
        let (weight, latest) = transaction
            .query_row("SELECT weight, latest FROM stand", [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut batch =
            Batch { transaction, weight, latest, numbers: HashMap::new(), items: BTreeMap::new() };
        for change in changes {
            match change {
                Change::Bought(purchase) => batch.learn(purchase)?,
                Change::Forgotten(buyer) => batch.remember(*buyer, None)?,
            }
            if batch.items.len() > HELD {
                batch.write()?;
            }
        }
        batch.write()?;
        let Batch { transaction, weight, latest, .. } = batch;
        transaction.execute(
            "UPDATE stand SET position = ?, weight = ?, latest = ?",
            params![position as i64, weight, latest],
        )?;
        transaction.commit()?;
        *self.position.lock() = Some(position);
        Ok(())
    }

    /// One state of the file, whatever is written meanwhile.
    pub(crate) fn read<T>(
        &self,
        query: impl FnOnce(&Reader<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, BookError> {
        let connection = self.readers.lock().pop();
        let mut connection = match connection {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        let transaction = connection.transaction()?;
        let answer = query(&Reader(&transaction))?;
        drop(transaction);
        self.readers.lock().push(connection);
        Ok(answer)
    }

    /// All that is known, to compare.
    pub(crate) fn dump(&self) -> Result<Vec<String>, BookError> {
        self.read(|reader| dump(reader.0))
    }
}

/// With the journals that SQLite keeps beside it.
pub(crate) fn remove(path: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // What the last moments before a power cut had learnt is learnt again.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "mmap_size", MAPPED)?;
    Ok(connection)
}

/// What an order of then adds.
fn worth(at: DateTime<Utc>) -> f64 {
    ((at.timestamp_millis() - SCALE_BEGINS) as f64 / HALF_LIFE_MILLIS).clamp(-1_000.0, 1_000.0).exp2()
}

/// How much what was bought then says of who bought last at the other time.
pub(crate) fn fading(then: DateTime<Utc>, last: DateTime<Utc>) -> f64 {
    ((then - last).num_milliseconds().min(0) as f64 / HALF_LIFE_MILLIS).exp2()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bought {
    /// Of the item.
    pub(crate) number: u32,
    pub(crate) at: DateTime<Utc>,
}

fn history_bytes(history: &[Bought]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(history.len() * ENTRY);
    for Bought { number, at } in history {
        bytes.extend(number.to_le_bytes());
        bytes.extend(at.timestamp_millis().to_le_bytes());
    }
    bytes
}

fn read_history(bytes: &[u8]) -> Vec<Bought> {
    let (entries, _) = bytes.as_chunks::<ENTRY>();
    let read = |entry: &[u8; ENTRY]| {
        let (number, rest) = entry.split_first_chunk()?;
        let at = DateTime::from_timestamp_millis(i64::from_le_bytes(*rest.first_chunk()?))?;
        Some(Bought { number: u32::from_le_bytes(*number), at })
    };
    entries.iter().filter_map(read).collect()
}

#[derive(Clone, Copy)]
pub(crate) struct ItemRow {
    /// Of the orders that hold it.
    pub(crate) weight: f64,
    /// The same, counted.
    pub(crate) orders: u32,
    /// Orders of buyers who had bought it before.
    pub(crate) again: u32,
}

/// What is there to read. An item goes by its number.
pub(crate) struct Reader<'a>(&'a Connection);

impl Reader<'_> {
    pub(crate) fn number(&self, item: Uuid) -> rusqlite::Result<Option<u32>> {
        let mut query = self.0.prepare_cached("SELECT number FROM item WHERE id = ?")?;
        query.query_row([item.as_bytes()], |row| row.get(0)).optional()
    }

    pub(crate) fn id(&self, number: u32) -> rusqlite::Result<Uuid> {
        let mut query = self.0.prepare_cached("SELECT id FROM item WHERE number = ?")?;
        query.query_row([number], |row| Ok(Uuid::from_bytes(row.get(0)?)))
    }

    pub(crate) fn item(&self, number: u32) -> rusqlite::Result<ItemRow> {
        let mut query = self.0.prepare_cached("SELECT weight, orders, again FROM item WHERE number = ?")?;
        query.query_row([number], |row| {
            Ok(ItemRow { weight: row.get(0)?, orders: row.get(1)?, again: row.get(2)? })
        })
    }

    pub(crate) fn neighbours(&self, number: u32) -> rusqlite::Result<Neighbours> {
        let mut query = self.0.prepare_cached("SELECT list FROM neighbours WHERE number = ?")?;
        let list = query.query_row([number], |row| Ok(Neighbours::from_bytes(row.get_ref(0)?.as_blob()?)));
        Ok(list.optional()?.unwrap_or_default())
    }

    /// Of all orders, and of [`UNKNOWN`] more.
    pub(crate) fn weight(&self) -> rusqlite::Result<f64> {
        let mut query = self.0.prepare_cached("SELECT weight + ? * latest FROM stand")?;
        query.query_row([UNKNOWN], |row| row.get(0))
    }

    /// What was bought last comes last. `None` of one who was forgotten.
    pub(crate) fn history(&self, buyer: Uuid) -> rusqlite::Result<Option<Vec<Bought>>> {
        let mut query = self.0.prepare_cached("SELECT history FROM buyer WHERE id = ?")?;
        let history = query
            .query_row([buyer.as_bytes()], |row| Ok(row.get_ref(0)?.as_blob_or_null()?.map(read_history)));
        Ok(history.optional()?.unwrap_or_else(|| Some(Vec::new())))
    }
}

/// Every row as text.
fn dump(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut query = connection.prepare(
        "SELECT format('item %d %s %!.17g %d %d', number, hex(id), weight, orders, again) FROM item
        UNION ALL SELECT format('neighbours %d %s', number, hex(list)) FROM neighbours
        UNION ALL SELECT format('buyer %s %s', hex(id), hex(history)) FROM buyer ORDER BY 1",
    )?;
    query.query_map([], |row| row.get(0))?.collect()
}

/// A batch on its way into the file.
struct Batch<'a> {
    transaction: Transaction<'a>,
    /// Of all orders.
    weight: f64,
    /// Of the latest order.
    latest: f64,
    numbers: HashMap<Uuid, u32>,
    /// By number; what was read of the file and has changed since.
    items: BTreeMap<u32, (ItemRow, Neighbours)>,
}

impl Batch<'_> {
    fn learn(&mut self, purchase: &Purchase) -> Result<(), BookError> {
        let mut members = Vec::with_capacity(purchase.items.len());
        for item in &purchase.items {
            let number = self.number(*item)?;
            if !members.contains(&number) && members.len() < LARGEST_ORDER {
                members.push(number);
            }
        }
        members.sort_unstable();
        let history = Reader(&self.transaction).history(purchase.buyer)?;
        let known = history.clone().unwrap_or_default();

        let scale = worth(purchase.at);
        self.weight += scale;
        self.latest = self.latest.max(scale);
        // Of much in one order, each says less of any other.
        let company = scale / (1.0 + purchase.items.len() as f64).log2().max(1.0);
        let earlier = earlier(&known, &members, purchase.at);
        let mut all: Vec<Neighbour> =
            members.iter().map(|number| Neighbour { number: *number, weight: company }).collect();
        all.extend(
            earlier.iter().map(|number| Neighbour { number: *number, weight: company * EARLIER_WEIGHT }),
        );
        all.sort_unstable_by_key(|neighbour| neighbour.number);
        for number in &members {
            let again = known.iter().any(|bought| bought.number == *number);
            let (row, neighbours) = self.item(*number)?;
            row.weight += scale;
            row.orders = row.orders.saturating_add(1);
            row.again = row.again.saturating_add(u32::from(again));
            neighbours.gather(all.iter().copied().filter(|neighbour| neighbour.number != *number));
        }
        for number in earlier {
            let later =
                members.iter().map(|number| Neighbour { number: *number, weight: company * EARLIER_WEIGHT });
            self.item(number)?.1.gather(later);
        }

        let Some(mut history) = history else { return Ok(()) };
        history.retain(|bought| !members.contains(&bought.number));
        history.extend(members.iter().map(|number| Bought { number: *number, at: purchase.at }));
        let surplus = history.len().saturating_sub(REMEMBERED);
        self.remember(purchase.buyer, Some(&history[surplus..]))
    }

    fn remember(&mut self, buyer: Uuid, history: Option<&[Bought]>) -> Result<(), BookError> {
        self.transaction
            .prepare_cached("INSERT OR REPLACE INTO buyer (id, history) VALUES (?, ?)")?
            .execute(params![buyer.as_bytes(), history.map(history_bytes)])?;
        Ok(())
    }

    fn number(&mut self, item: Uuid) -> Result<u32, BookError> {
        if let Some(number) = self.numbers.get(&item) {
            return Ok(*number);
        }
        let known = Reader(&self.transaction).number(item)?;
        let number = match known {
            Some(number) => number,
            None => self
                .transaction
                .prepare_cached(
                    "INSERT INTO item (id, weight, orders, again) VALUES (?, 0, 0, 0) RETURNING number",
                )?
                .query_row([item.as_bytes()], |row| row.get(0))?,
        };
        self.numbers.insert(item, number);
        Ok(number)
    }

    fn item(&mut self, number: u32) -> Result<&mut (ItemRow, Neighbours), BookError> {
        match self.items.entry(number) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let reader = Reader(&self.transaction);
                Ok(new.insert((reader.item(number)?, reader.neighbours(number)?)))
            }
        }
    }

    fn write(&mut self) -> Result<(), BookError> {
        self.numbers.clear();
        for (number, (row, neighbours)) in std::mem::take(&mut self.items) {
            self.transaction
                .prepare_cached("UPDATE item SET weight = ?, orders = ?, again = ? WHERE number = ?")?
                .execute(params![row.weight, row.orders, row.again, number])?;
            self.transaction
                .prepare_cached("INSERT OR REPLACE INTO neighbours (number, list) VALUES (?, ?)")?
                .execute(params![number, neighbours.to_bytes()])?;
        }
        Ok(())
    }
}

/// What was bought shortly before, but for what is bought now; the latest of it.
fn earlier(history: &[Bought], members: &[u32], at: DateTime<Utc>) -> Vec<u32> {
    let shortly = |bought: &&Bought| {
        let passed = (at - bought.at).num_milliseconds();
        (0..=SHORTLY).contains(&passed) && members.binary_search(&bought.number).is_err()
    };
    let mut earlier: Vec<u32> =
        history.iter().rev().filter(shortly).take(EARLIER).map(|bought| bought.number).collect();
    earlier.sort_unstable();
    earlier
}
