//! Stock beside the index, so that a sale never rewrites a document: quantities by SKU, and a table by item that filters
//! read without a lock while a query runs. An item's place in the table (its slot) is a column of the index. What was sold
//! of an item lies here for the same reason, and how often it was clicked.
//!
//! A sold unit counts for less as time goes by: half as much each month. "Now" is the latest sale that is known of, so that
//! the same events give the same figures whenever they are read.
//!
//! Which SKUs belong to which item comes from the documents; quantities come from the caller and are absolute, so setting
//! them again changes nothing. [`Availability::save`] writes quantities with the caller's position; after a start the
//! caller goes on from [`Availability::position`].

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};
use foldhash::HashMap;
use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use crate::fnv::Fnv;

/// First bytes of a snapshot; the digit is its format.
const MAGIC: &[u8; 8] = b"soukavl2";

/// When a sold unit counts half.
const HALF_LIFE_MILLIS: f64 = 30.0 * 86_400_000.0;
/// What a click counts of a sale.
const CLICK: f64 = 0.05;
/// Where sales are counted from: 2020-01-01, in milliseconds since 1970. The scale reaches centuries from it.
const SCALE_BEGINS: i64 = 1_577_836_800_000;

pub struct Availability {
    path: PathBuf,
    book: RwLock<Book>,
    /// Units available by slot, over all SKUs of the item.
    table: Table,
    /// Units sold by slot on the scale of [`worth`], as the bits of a float.
    sold: Table,
    /// The latest sale or click, in milliseconds since 1970.
    latest: AtomicI64,
    position: Mutex<Option<u64>>,
}

#[derive(Default)]
struct Book {
    skus: HashMap<Uuid, Stock>,
    slots: HashMap<Uuid, u32>,
    /// The SKUs of each slot's item.
    members: Vec<Vec<Uuid>>,
}

#[derive(Default, Clone, Copy)]
struct Stock {
    slot: Option<u32>,
    available: i64,
    sold: f64,
}

/// What is known of one SKU.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Quantities {
    /// Units that can be sold now.
    pub available: i64,
    /// Units sold, each by its [`worth`].
    pub sold: f64,
}

/// What a unit sold then adds: twice as much for each month later.
pub fn worth(at: DateTime<Utc>) -> f64 {
    ((at.timestamp_millis() - SCALE_BEGINS) as f64 / HALF_LIFE_MILLIS).clamp(-1_000.0, 1_000.0).exp2()
}

/// What a click then adds to an item's popularity.
pub fn clicked(at: DateTime<Utc>) -> f64 {
    CLICK * worth(at)
}

impl Book {
    /// What is known of a SKU, or of the clicks on an item.
    fn stock(&mut self, id: Uuid) -> &mut Stock {
        let slot = self.slots.get(&id).copied();
        self.skus.entry(id).or_insert_with(|| Stock { slot, ..Stock::default() })
    }
}

impl Availability {
    /// Reads the snapshot at `path`. One that is missing or damaged counts as empty, at no position.
    pub(crate) fn open(path: PathBuf) -> Self {
        let snapshot = load(&path).unwrap_or_else(|error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error, "availability snapshot not read, starting empty");
            }
            Snapshot::default()
        });
        let stock = |Quantities { available, sold }| Stock { slot: None, available, sold };
        let skus = snapshot.quantities.into_iter().map(|(sku, quantities)| (sku, stock(quantities)));
        let book = Book { skus: skus.collect(), ..Book::default() };
        Self {
            path,
            book: RwLock::new(book),
            table: Table::default(),
            sold: Table::default(),
            latest: AtomicI64::new(snapshot.latest),
            position: Mutex::new(snapshot.position),
        }
    }

    /// The position of the last snapshot: quantities set up to there are known.
    pub fn position(&self) -> Option<u64> {
        *self.position.lock()
    }

    /// Sets what can be sold of a SKU now, in units.
    pub fn set(&self, sku: Uuid, available: i64) {
        let mut book = self.book.write();
        let stock = book.stock(sku);
        let change = available.max(0) - stock.available.max(0);
        stock.available = available;
        if let Some(slot) = stock.slot {
            self.table.add(slot, change);
        }
    }

    /// So many units of a SKU were sold then. Unlike [`Self::set`] this adds: tell it once.
    pub fn sell(&self, sku: Uuid, units: u32, at: DateTime<Utc>) {
        let mut book = self.book.write();
        let stock = book.skus.entry(sku).or_default();
        let more = f64::from(units) * worth(at);
        stock.sold += more;
        if let Some(slot) = stock.slot {
            self.sold.add_float(slot, more);
        }
        self.latest.fetch_max(at.timestamp_millis(), Ordering::Relaxed);
    }

    /// Somebody opened an item that a search found. It is kept under the item's own id, like a SKU of which there is none.
    pub fn click(&self, item_id: Uuid, at: DateTime<Utc>) {
        let mut book = self.book.write();
        let stock = book.stock(item_id);
        let more = clicked(at);
        stock.sold += more;
        if let Some(slot) = stock.slot {
            self.sold.add_float(slot, more);
        }
        self.latest.fetch_max(at.timestamp_millis(), Ordering::Relaxed);
    }

    /// Puts what was counted elsewhere in the place of what is known of a SKU; the latest sale was then.
    pub fn replace(&self, sku: Uuid, quantities: Quantities, latest: Option<DateTime<Utc>>) {
        self.set(sku, quantities.available);
        let mut book = self.book.write();
        let stock = book.stock(sku);
        if let Some(slot) = stock.slot {
            self.sold.add_float(slot, quantities.sold - stock.sold);
        }
        stock.sold = quantities.sold;
        if let Some(latest) = latest {
            self.latest.fetch_max(latest.timestamp_millis(), Ordering::Relaxed);
        }
    }

    /// Units of the item sold lately.
    pub(crate) fn slot_popularity(&self, slot: u32) -> f32 {
        let sold = self.sold.get_float(slot);
        if sold <= 0.0 {
            return 0.0;
        }
        let now = DateTime::from_timestamp_millis(self.latest.load(Ordering::Relaxed)).unwrap_or_default();
        (sold / worth(now)) as f32
    }

    /// What can be sold of a SKU, or `None` for one never heard of.
    pub fn available(&self, sku: Uuid) -> Option<i64> {
        self.book.read().skus.get(&sku).map(|stock| stock.available)
    }

    /// Whether any SKU of the item can be sold.
    pub fn in_stock(&self, item_id: Uuid) -> bool {
        let slot = self.book.read().slots.get(&item_id).copied();
        slot.is_some_and(|slot| self.slot_in_stock(slot))
    }

    pub(crate) fn slot_in_stock(&self, slot: u32) -> bool {
        self.table.get(slot) > 0
    }

    /// The item's slot, new for a new item, with these as its SKUs from now on.
    pub(crate) fn bind(&self, item_id: Uuid, skus: &[Uuid]) -> u32 {
        let mut book = self.book.write();
        let slot = match book.slots.get(&item_id) {
            Some(slot) => *slot,
            None => book.members.len() as u32,
        };
        self.assign(&mut book, item_id, slot, skus);
        slot
    }

    /// Takes over the slots that the index remembers, of about so many items.
    pub(crate) fn restore(&self, count: usize, items: impl Iterator<Item = (Uuid, u32, Vec<Uuid>)>) {
        let mut book = self.book.write();
        book.slots.reserve(count);
        book.members.reserve(count);
        for (item_id, slot, skus) in items {
            self.assign(&mut book, item_id, slot, &skus);
        }
    }

    fn assign(&self, book: &mut Book, item_id: Uuid, slot: u32, skus: &[Uuid]) {
        let index = slot as usize;
        if book.members.len() <= index {
            book.members.resize(index + 1, Vec::new());
        }
        book.slots.insert(item_id, slot);
        if book.skus.contains_key(&item_id) {
            self.move_sku(book, item_id, Some(slot));
        }
        if book.members[index] == skus {
            return;
        }
        let former = std::mem::replace(&mut book.members[index], skus.to_vec());
        for sku in former.iter().filter(|sku| !skus.contains(sku)) {
            self.move_sku(book, *sku, None);
        }
        for sku in skus {
            self.move_sku(book, *sku, Some(slot));
        }
    }

    fn move_sku(&self, book: &mut Book, sku: Uuid, to: Option<u32>) {
        let stock = book.skus.entry(sku).or_default();
        if stock.slot == to {
            return;
        }
        let units = stock.available.max(0);
        if let Some(from) = stock.slot {
            self.table.add(from, -units);
            self.sold.add_float(from, -stock.sold);
        }
        if let Some(to) = to {
            self.table.add(to, units);
            self.sold.add_float(to, stock.sold);
        }
        stock.slot = to;
    }

    /// Writes all quantities with the position they stand for, whole or not at all.
    pub fn save(&self, position: u64) -> io::Result<()> {
        let quantities: Vec<(Uuid, i64, f64)> =
            self.book.read().skus.iter().map(|(sku, stock)| (*sku, stock.available, stock.sold)).collect();
        let next = self.path.with_extension("next");
        let mut file = BufWriter::new(File::create(&next)?);
        let mut sum = Fnv::default();
        let mut put = |bytes: &[u8]| {
            sum.update(bytes);
            file.write_all(bytes)
        };
        put(MAGIC)?;
        put(&position.to_le_bytes())?;
        put(&self.latest.load(Ordering::Relaxed).to_le_bytes())?;
        put(&(quantities.len() as u64).to_le_bytes())?;
        for (sku, available, sold) in &quantities {
            put(sku.as_bytes())?;
            put(&available.to_le_bytes())?;
            put(&sold.to_le_bytes())?;
        }
        file.write_all(&sum.0.to_le_bytes())?;
        file.into_inner()?.sync_all()?;
        fs::rename(&next, &self.path)?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        *self.position.lock() = Some(position);
        Ok(())
    }
}

#[derive(Default)]
struct Snapshot {
    quantities: Vec<(Uuid, Quantities)>,
    latest: i64,
    position: Option<u64>,
}

fn load(path: &Path) -> io::Result<Snapshot> {
    let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut file = BufReader::new(file);
    let mut sum = Fnv::default();
    let mut take = |into: &mut [u8]| {
        file.read_exact(into)?;
        sum.update(into);
        io::Result::Ok(())
    };
    let (mut magic, mut number) = ([0; 8], [0; 8]);
    take(&mut magic)?;
    if &magic != MAGIC {
        return Err(damaged("not a snapshot of this format"));
    }
    take(&mut number)?;
    let position = Some(u64::from_le_bytes(number));
    take(&mut number)?;
    let latest = i64::from_le_bytes(number);
    take(&mut number)?;
    let count = u64::from_le_bytes(number);
    if size != count.saturating_mul(32).saturating_add(40) {
        return Err(damaged("its length is not that of its entries"));
    }
    let mut quantities = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let mut sku = [0; 16];
        take(&mut sku)?;
        take(&mut number)?;
        let available = i64::from_le_bytes(number);
        take(&mut number)?;
        let sold = f64::from_le_bytes(number);
        quantities.push((Uuid::from_bytes(sku), Quantities { available, sold }));
    }
    let expected = sum.0;
    file.read_exact(&mut number)?;
    if u64::from_le_bytes(number) != expected {
        return Err(damaged("its checksum does not match"));
    }
    Ok(Snapshot { quantities, latest, position })
}

const CHUNK: usize = 8192;
const CHUNKS: usize = 16_384;

/// Numbers by slot that grow chunk by chunk without ever moving, so that readers need no lock.
struct Table(Vec<OnceLock<Box<[AtomicI64]>>>);

impl Default for Table {
    fn default() -> Self {
        Self((0..CHUNKS).map(|_| OnceLock::new()).collect())
    }
}

impl Table {
    fn add(&self, slot: u32, units: i64) {
        let (chunk, place) = (slot as usize / CHUNK, slot as usize % CHUNK);
        // Items beyond the table's 134 million count as out of stock.
        if let Some(chunk) = self.0.get(chunk) {
            let chunk = chunk.get_or_init(|| (0..CHUNK).map(|_| AtomicI64::new(0)).collect());
            chunk[place].fetch_add(units, Ordering::Relaxed);
        }
    }

    /// For those who hold the book's lock: nobody else writes meanwhile.
    fn add_float(&self, slot: u32, more: f64) {
        let (chunk, place) = (slot as usize / CHUNK, slot as usize % CHUNK);
        if let Some(chunk) = self.0.get(chunk) {
            let chunk = chunk.get_or_init(|| (0..CHUNK).map(|_| AtomicI64::new(0)).collect());
            let sum = f64::from_bits(chunk[place].load(Ordering::Relaxed) as u64) + more;
            chunk[place].store(sum.to_bits() as i64, Ordering::Relaxed);
        }
    }

    fn get_float(&self, slot: u32) -> f64 {
        f64::from_bits(self.get(slot) as u64)
    }

    fn get(&self, slot: u32) -> i64 {
        let (chunk, place) = (slot as usize / CHUNK, slot as usize % CHUNK);
        let chunk = self.0.get(chunk).and_then(OnceLock::get);
        chunk.map_or(0, |chunk| chunk[place].load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn empty(directory: &tempfile::TempDir) -> Availability {
        Availability::open(directory.path().join("availability"))
    }

    #[test]
    fn an_item_is_in_stock_while_any_of_its_skus_is() {
        let directory = tempfile::tempdir().unwrap();
        let stock = empty(&directory);
        stock.set(id(10), 2);
        stock.bind(id(1), &[id(10), id(11)]);
        assert!(stock.in_stock(id(1)), "stock that was known before the item counts");
        stock.set(id(10), 0);
        assert!(!stock.in_stock(id(1)));
        stock.set(id(11), 1);
        stock.set(id(11), 1);
        stock.set(id(10), -3);
        assert!(stock.in_stock(id(1)));
        stock.set(id(11), 0);
        assert!(!stock.in_stock(id(1)));
        assert!(!stock.in_stock(id(2)));
        assert_eq!(stock.available(id(10)), Some(-3));
        assert_eq!(stock.available(id(12)), None);
    }

    #[test]
    fn a_sku_that_leaves_its_item_takes_its_stock_along() {
        let directory = tempfile::tempdir().unwrap();
        let stock = empty(&directory);
        stock.set(id(10), 1);
        let slot = stock.bind(id(1), &[id(10)]);
        assert_eq!(stock.bind(id(1), &[id(11)]), slot, "an item keeps its slot");
        assert!(!stock.in_stock(id(1)));
        assert_ne!(stock.bind(id(2), &[id(10)]), slot);
        assert!(stock.in_stock(id(2)));
    }

    #[test]
    fn what_sold_lately_counts_most() {
        let directory = tempfile::tempdir().unwrap();
        let stock = empty(&directory);
        let day = |day: i64| DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000 + day);
        let (old, new) = (stock.bind(id(1), &[id(10)]), stock.bind(id(2), &[id(11), id(12)]));
        stock.sell(id(10), 8, day(0));
        stock.sell(id(11), 3, day(60));
        assert!((stock.slot_popularity(old) - 2.0).abs() < 1e-3, "eight, two half-lives ago");
        assert!((stock.slot_popularity(new) - 3.0).abs() < 1e-3);
        stock.sell(id(12), 1, day(60));
        assert!((stock.slot_popularity(new) - 4.0).abs() < 1e-3, "an item is as popular as its variants");
        stock.click(id(1), day(60));
        stock.click(id(3), day(60));
        assert!((stock.slot_popularity(old) - 2.05).abs() < 1e-3, "a click counts less than a sale");
        let clicked = stock.bind(id(3), &[]);
        assert!((stock.slot_popularity(clicked) - 0.05).abs() < 1e-3, "also one that came before the item");
        stock.save(1).unwrap();
        let again = empty(&directory);
        again.restore(1, [(id(1), 3, vec![id(10)])].into_iter());
        assert!((again.slot_popularity(3) - 2.05).abs() < 1e-3);
    }

    #[test]
    fn a_snapshot_is_read_back_and_a_damaged_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let stock = empty(&directory);
        stock.bind(id(1), &[id(10)]);
        stock.set(id(10), 5);
        stock.save(42).unwrap();

        let again = empty(&directory);
        assert_eq!((again.position(), again.available(id(10))), (Some(42), Some(5)));
        again.restore(1, [(id(1), 7, vec![id(10)])].into_iter());
        assert!(again.in_stock(id(1)));
        assert_eq!(again.bind(id(2), &[]), 8, "new slots come after the restored ones");

        let path = directory.path().join("availability");
        let mut bytes = fs::read(&path).unwrap();
        bytes[20] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(empty(&directory).position(), None);
        bytes[20] ^= 1;
        bytes[40] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!((empty(&directory).position(), empty(&directory).available(id(10))), (None, None));
    }
}
