//! The book that is read, and the one that is written anew beside it.
//!
//! Each is a file of its own, `book-N.sqlite`. What is read is the newest one that was finished; the rest is removed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::{RwLock, RwLockReadGuard};
use uuid::Uuid;

use crate::{
    likelihood::ratio,
    volume::{self, BookError, Bought, Change, Reader, Volume, fading},
};

/// Of what a buyer has bought and has in the cart, the latest that picks are made from.
const SEEDS: usize = 40;
/// An item is used up and bought again if so many orders were by buyers who had it before, …
const AGAIN: u32 = 3;
/// … and at least one in so many.
const AGAIN_OF: u32 = 4;
/// How long what is used up lasts.
const LASTS: TimeDelta = TimeDelta::days(7);

/// What people buy together. Reading blocks, for about a millisecond.
pub struct Book {
    directory: PathBuf,
    volume: RwLock<Volume>,
}

/// An item that fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pick {
    pub item: Uuid,
    /// How well; to be compared with others of the same answer.
    pub score: f64,
    /// The item that it fits best, of those that were asked about.
    pub because: Uuid,
}

/// What is known of a buyer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Taste {
    /// What would suit him, the best first; nothing that [`Taste::had`] names.
    pub picks: Vec<Pick>,
    /// What he bought, the latest first.
    pub bought: Vec<Uuid>,
    /// What is not to be offered to him: in the cart, or bought, and not used up and due again.
    pub had: BTreeSet<Uuid>,
}

/// A book on its way: to be filled from the beginning of the log, and read once it is published.
pub struct Draft(Volume);

impl Book {
    /// Opens the book in the directory, or begins one. One that cannot be used is begun anew, at no position.
    pub fn open(directory: &Path) -> Result<Arc<Self>, BookError> {
        fs::create_dir_all(directory)?;
        let mut found = volumes(directory)?;
        let mut volume = None;
        while let Some((_, path)) = found.pop_last() {
            volume = match volume {
                None => Volume::open(path.clone())?,
                some => some,
            };
            if volume.as_ref().is_none_or(|volume| volume.path != path) {
                volume::remove(&path)?;
            }
        }
        let volume = match volume {
            Some(volume) => volume,
            None => Volume::create(path(directory, 1), true)?,
        };
        Ok(Arc::new(Self { directory: directory.to_owned(), volume: RwLock::new(volume) }))
    }

    /// Everything up to there is learnt. `None` asks for all of the log.
    pub fn position(&self) -> Option<u64> {
        self.volume().position()
    }

    /// Learns, all or nothing, and stands at the position then.
    pub fn apply(&self, changes: &[Change], position: u64) -> Result<(), BookError> {
        self.volume().apply(changes, position)
    }

    /// Begins another one. Only one at a time: what one that was given up has left is removed.
    pub fn draft(&self) -> Result<Draft, BookError> {
        let read = self.volume().path.clone();
        let mut number = 0;
        for (other, path) in volumes(&self.directory)? {
            if path == read {
                number = other;
            } else {
                volume::remove(&path)?;
            }
        }
        Ok(Draft(Volume::create(path(&self.directory, number + 1), false)?))
    }

    /// Reads the draft from now on.
    pub fn publish(&self, draft: Draft) -> Result<(), BookError> {
        draft.0.finish()?;
        let former = std::mem::replace(&mut *self.volume.write(), draft.0);
        Ok(volume::remove(&former.path)?)
    }

    /// What is bought with the item, the best first.
    pub fn together(&self, item: Uuid, most: usize) -> Result<Vec<Pick>, BookError> {
        self.volume().read(|reader| {
            let Some(number) = reader.number(item)? else { return Ok(Vec::new()) };
            let mut fits = Fits::default();
            fits.add(reader, number, 1.0)?;
            fits.best(reader, most, &BTreeSet::new())
        })
    }

    /// What would suit a buyer with this in the cart; nobody's cart has a taste, too.
    pub fn taste(
        &self,
        buyer: Option<Uuid>,
        cart: &[Uuid],
        now: DateTime<Utc>,
        most: usize,
    ) -> Result<Taste, BookError> {
        self.volume().read(|reader| {
            let mut history = match buyer {
                Some(buyer) => reader.history(buyer)?.unwrap_or_default(),
                None => Vec::new(),
            };
            history.reverse();
            let mut in_cart = Vec::new();
            for item in cart {
                in_cart.extend(reader.number(*item)?);
            }
            let last = history.iter().map(|bought| bought.at).max().unwrap_or(now);
            let seeds = in_cart.iter().map(|number| (*number, 1.0));
            let seeds = seeds.chain(history.iter().map(|bought| (bought.number, fading(bought.at, last))));
            let mut fits = Fits::default();
            let mut seen = BTreeSet::new();
            for (number, weight) in seeds.take(SEEDS) {
                if seen.insert(number) {
                    fits.add(reader, number, weight)?;
                }
            }
            let mut had: BTreeSet<u32> = in_cart.into_iter().collect();
            for bought in &history {
                if !due_again(reader, bought, now)? {
                    had.insert(bought.number);
                }
            }
            let ids = |numbers: &mut dyn Iterator<Item = u32>| {
                numbers.map(|number| reader.id(number)).collect::<rusqlite::Result<Vec<_>>>()
            };
            Ok(Taste {
                picks: fits.best(reader, most, &had)?,
                bought: ids(&mut history.iter().map(|bought| bought.number))?,
                had: ids(&mut had.into_iter())?.into_iter().chain(cart.iter().copied()).collect(),
            })
        })
    }

    /// All that is known, as text: two books that learnt the same are the same.
    pub fn dump(&self) -> Result<Vec<String>, BookError> {
        self.volume().dump()
    }

    fn volume(&self) -> RwLockReadGuard<'_, Volume> {
        self.volume.read()
    }
}

impl Draft {
    /// As [`Book::apply`].
    pub fn apply(&self, changes: &[Change], position: u64) -> Result<(), BookError> {
        self.0.apply(changes, position)
    }
}

/// Whether people buy it again and again, and his may be used up.
fn due_again(reader: &Reader<'_>, bought: &Bought, now: DateTime<Utc>) -> rusqlite::Result<bool> {
    let row = reader.item(bought.number)?;
    Ok(row.again >= AGAIN && row.again * AGAIN_OF >= row.orders && now - bought.at >= LASTS)
}

/// Candidates by number: how well they fit, and what they fit best.
#[derive(Default)]
struct Fits {
    candidates: BTreeMap<u32, Fit>,
    /// By number, as far as they were looked up.
    weights: BTreeMap<u32, f64>,
}

#[derive(Clone, Copy, Default)]
struct Fit {
    score: f64,
    best: f64,
    because: u32,
}

impl Fits {
    fn add(&mut self, reader: &Reader<'_>, seed: u32, weight: f64) -> rusqlite::Result<()> {
        let (one, all) = (reader.item(seed)?.weight, reader.weight()?);
        for neighbour in reader.neighbours(seed)?.iter() {
            let other = if let Some(known) = self.weights.get(&neighbour.number) {
                *known
            } else {
                let read = reader.item(neighbour.number)?.weight;
                self.weights.insert(neighbour.number, read);
                read
            };
            let score = weight * ratio(neighbour.weight, one, other, all);
            if score > 0.0 {
                let fit = self.candidates.entry(neighbour.number).or_default();
                fit.score += score;
                if score > fit.best {
                    (fit.best, fit.because) = (score, seed);
                }
            }
        }
        Ok(())
    }

    fn best(self, reader: &Reader<'_>, most: usize, without: &BTreeSet<u32>) -> rusqlite::Result<Vec<Pick>> {
        let mut fits: Vec<(u32, Fit)> =
            self.candidates.into_iter().filter(|(number, _)| !without.contains(number)).collect();
        fits.sort_by(|(_, a), (_, b)| b.score.total_cmp(&a.score));
        let pick = |(number, fit): &(u32, Fit)| {
            Ok(Pick { item: reader.id(*number)?, score: fit.score, because: reader.id(fit.because)? })
        };
        fits.iter().take(most).map(pick).collect()
    }
}

fn path(directory: &Path, number: u32) -> PathBuf {
    directory.join(format!("book-{number}.sqlite"))
}

/// Those there are, by number.
fn volumes(directory: &Path) -> std::io::Result<BTreeMap<u32, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("book-").and_then(|rest| rest.strip_suffix(".sqlite"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found.insert(number, path);
        }
    }
    Ok(found)
}
