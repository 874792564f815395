//! Takes a backup, or goes on with one that is there.
//!
//! Events are read in order, checked against the chain of hashes, and gathered. As soon as there are enough they become an
//! object under `log/` for good; what is left over goes to `tail/`, to be replaced. Objects of events are written before the
//! manifest that counts on them, and what a manifest counts on is deleted only after the next one was written.
//!
//! Everything that is kept in memory between two steps describes what *was* written, so that a step that failed is simply
//! done again.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use futures::StreamExt;
use souk_domain::{AccountId, Decider, account::Account};
use souk_event_log::{Clock, Direction, EventLog, Filter, Position, Recorded, sqlite::Chain};
use souk_vault::copies::{Contents, Copying};
use sqlx::{Connection, PgConnection};
use tokio::task::spawn_blocking;

use crate::{
    BackupError, Store, anchors, bank,
    manifest::{FORMAT, Head, Manifest, VaultCopy},
    segment::{self, Range, cover},
};

/// Events in an object, and bytes before they are compressed, from which on it is complete.
const SEGMENT_EVENTS: u64 = 10_000;
const SEGMENT_BYTES: usize = 16 << 20;
/// Objects in the tail from which on they are made one.
const TAIL_OBJECTS: usize = 64;
/// Copies of some accounts, laid over the whole one, from which on a new whole one is due.
pub(crate) const ACCOUNT_COPIES: usize = 1_000;

/// Where the vault is. A connection is asked for whenever there is something to copy.
#[async_trait]
pub trait Database: Send + Sync {
    async fn connect(&self) -> Result<PgConnection, String>;
}

/// What is to be kept.
#[derive(Clone)]
pub struct Source {
    pub log: Arc<dyn EventLog>,
    pub vault: Arc<dyn Database>,
    /// The sandbox's books, if that file is there.
    pub bank: PathBuf,
    pub clock: Clock,
}

/// What a backup is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Events { done: u64, of: u64 },
    Vault { people: u64 },
    Bank,
}

pub struct Backup {
    pub(crate) source: Source,
    store: Store,
    /// Over everything that was gathered.
    chain: Chain,
    gathered: Gathered,
    tail: Vec<Range>,
    manifest: Option<Manifest>,
    /// The last event that is in the store.
    head: Option<Head>,
    /// Copies of some accounts since the whole one.
    pub(crate) account_copies: usize,
}

/// A copy of everything but the log, which is in the store, but not in a manifest yet.
pub(crate) struct WholeCopy {
    vault: VaultCopy,
    bank: Option<String>,
    /// Copies of some accounts that it makes superfluous.
    replaces: usize,
}

/// Events that are not in an object under `log/` yet.
#[derive(Default)]
struct Gathered {
    first: Position,
    events: u64,
    lines: Vec<u8>,
    last: Option<Head>,
    /// Of these, so many are in the tail.
    shipped: u64,
    shipped_bytes: usize,
    /// Accounts that the events which are not in the tail name.
    accounts: BTreeSet<AccountId>,
}

impl Gathered {
    fn next(&self) -> Position {
        self.first + self.events
    }

    fn is_full(&self) -> bool {
        self.events >= SEGMENT_EVENTS || self.lines.len() >= SEGMENT_BYTES
    }
}

impl Backup {
    /// Looks at what the place holds already, and makes sure that it is of this log.
    pub async fn open(source: Source, store: Store) -> Result<Self, BackupError> {
        let manifest = Manifest::read(&store).await?;
        let sealed = cover(&ranges(&store, "log").await?, 0);
        let tail: Vec<Range> = ranges(&store, "tail").await?.into_iter().map(|(range, _)| range).collect();
        let mut chain = Chain::default();
        let mut head = None;
        if let Some((range, folder)) = sealed.last() {
            let last = last_event(&store, &format!("{folder}/{}", range.name())).await?;
            head = Head::of(&last);
            same(&source, last.position, last.hash).await?;
            chain = Chain::after(last.hash.map(|hash| (last.position, hash)));
        }
        if let Some(kept) = manifest.as_ref().and_then(|manifest| manifest.head.as_ref()) {
            same(&source, kept.position, kept.hash()).await?;
        }
        let first = chain.head().map_or(0, |(position, _)| position + 1);
        let gathered = Gathered { first, ..Gathered::default() };
        Ok(Self { source, store, chain, gathered, tail, manifest, head, account_copies: 0 })
    }

    /// How many events are in the store.
    pub fn events(&self) -> u64 {
        self.gathered.first + self.gathered.shipped
    }

    /// The position of the last event that was gathered.
    pub(crate) fn gathered(&self) -> Option<Position> {
        self.gathered.next().checked_sub(1)
    }

    pub(crate) fn is_full(&self) -> bool {
        self.gathered.is_full()
    }

    pub(crate) fn has_news(&self) -> bool {
        self.gathered.shipped < self.gathered.events
    }

    /// Brings the backup to where the log is now: events, vault, bank.
    pub async fn run(&mut self, mut progress: impl FnMut(Step)) -> Result<Manifest, BackupError> {
        let end = self.source.log.head().await?.map_or(0, |head| head + 1);
        let from = self.gathered.next();
        let count = end.saturating_sub(from) as usize;
        let mut events = self.source.log.read_all(from, Filter::all(), Direction::Forward, count);
        while let Some(event) = events.next().await {
            self.gather(&*event?)?;
            if self.gathered.is_full() {
                self.ship().await?;
                progress(Step::Events { done: self.events(), of: end });
            }
        }
        self.ship().await?;
        progress(Step::Events { done: self.events(), of: end });
        self.copy_whole(&mut progress).await?;
        self.anchor().await?;
        Ok(self.written()?.clone())
    }

    pub(crate) fn gather(&mut self, event: &Recorded) -> Result<(), BackupError> {
        let position = event.position;
        self.chain.check(event).map_err(|damage| BackupError::Damaged { position, damage })?;
        let gathered = &mut self.gathered;
        segment::encode(event, &mut gathered.lines)?;
        gathered.events += 1;
        gathered.last = Head::of(event);
        if event.stream.category() == Account::CATEGORY
            && let Ok(id) = event.stream.id().parse()
        {
            gathered.accounts.insert(AccountId(id));
        }
        Ok(())
    }

    /// Writes what was gathered.
    pub(crate) async fn ship(&mut self) -> Result<(), BackupError> {
        if !self.has_news() && !self.is_full() {
            return Ok(());
        }
        let gathered = &self.gathered;
        let last = gathered.next() - 1;
        let whole = gathered.is_full();
        let afresh = whole || gathered.shipped == 0 || self.tail.len() >= TAIL_OBJECTS;
        let (shipped, from) = if afresh { (0, 0) } else { (gathered.shipped, gathered.shipped_bytes) };
        let first = gathered.first + shipped;
        let range = Range { first, last };
        let lines = gathered.lines[from..].to_vec();
        let object = spawn_blocking(move || segment::compress(&lines)).await??;
        let folder = if whole { "log" } else { "tail" };
        self.store.put(&format!("{folder}/{}", range.name()), object).await?;

        let gathered = &mut self.gathered;
        self.head.clone_from(&gathered.last);
        gathered.accounts.clear();
        if whole {
            *gathered = Gathered { first: last + 1, last: gathered.last.take(), ..Gathered::default() };
        } else {
            (gathered.shipped, gathered.shipped_bytes) = (gathered.events, gathered.lines.len());
            self.tail.retain(|known| *known != range);
            self.tail.push(range);
        }
        Ok(())
    }

    /// Copies what the vault has of the accounts that the events to be shipped name. False: the vault has another shape than
    /// the whole copy, over which nothing can be laid any more, so that another one is needed first.
    pub(crate) async fn copy_accounts(&mut self) -> Result<bool, BackupError> {
        if self.gathered.accounts.is_empty() {
            return Ok(true);
        }
        let mut connection = self.connect().await?;
        let accounts = self.gathered.accounts.iter().copied().collect();
        let copying = Copying::begin(&mut connection, Some(accounts)).await?;
        if let Some(manifest) = &self.manifest {
            let (kept, found) = (&manifest.vault.contents, copying.contents());
            same_vault(kept, found)?;
            if kept.migration != found.migration {
                return Ok(false);
            }
        }
        let name = vault_object(self.gathered.next(), ACCOUNTS);
        self.store.put_compressed(&name, copying.text()).await?;
        self.account_copies += 1;
        close(connection).await;
        Ok(true)
    }

    /// Copies the whole vault and the bank, and writes a manifest that counts on them.
    pub(crate) async fn copy_whole(&mut self, progress: impl FnMut(Step)) -> Result<(), BackupError> {
        let whole = self.whole_copy(progress).await?;
        self.adopt(whole).await
    }

    /// Copies the whole vault and the bank, beside whatever else is done meanwhile.
    pub(crate) fn whole_copy<F: FnMut(Step)>(
        &self,
        mut progress: F,
    ) -> impl Future<Output = Result<WholeCopy, BackupError>> + use<F> {
        let (source, store) = (self.source.clone(), self.store.clone());
        let kept = self.manifest.as_ref().map(|manifest| manifest.vault.contents.clone());
        let (events, replaces) = (self.events(), self.account_copies);
        async move {
            let mut connection = source.vault.connect().await.map_err(BackupError::Database)?;
            let copying = Copying::begin(&mut connection, None).await?;
            let contents = copying.contents().clone();
            if let Some(kept) = &kept {
                same_vault(kept, &contents)?;
            }
            progress(Step::Vault { people: contents.subjects });
            let object = vault_object(events, WHOLE);
            store.put_compressed(&object, copying.text()).await?;
            close(connection).await;
            let mut bank = None;
            if source.bank.is_file() {
                progress(Step::Bank);
                let name = format!("bank/{events:020}.sqlite.zst");
                store.put_compressed(&name, bank::copy(&source.bank).await?).await?;
                bank = Some(name);
            }
            Ok(WholeCopy { vault: VaultCopy { object, events, contents }, bank, replaces })
        }
    }

    /// Writes a manifest that counts on the copy, and deletes what that replaces.
    pub(crate) async fn adopt(&mut self, whole: WholeCopy) -> Result<(), BackupError> {
        let WholeCopy { vault, bank, replaces } = whole;
        self.manifest = Some(Manifest {
            format: FORMAT,
            written_at: (self.source.clock)(),
            head: self.head.clone(),
            vault,
            bank,
        });
        self.publish().await?;
        self.account_copies -= replaces;
        self.clear_copies().await
    }

    /// Writes the manifest, and deletes what only the one before counted on.
    pub(crate) async fn publish(&mut self) -> Result<(), BackupError> {
        let Some(manifest) = &mut self.manifest else { return Ok(()) };
        manifest.head.clone_from(&self.head);
        manifest.written_at = (self.source.clock)();
        manifest.write(&self.store).await?;
        // The last one that begins where the tail does holds all that those before it do.
        let begins = self.gathered.first;
        let needed = self.tail.iter().rposition(|range| range.first == begins).unwrap_or(self.tail.len());
        for range in self.tail.drain(..needed).collect::<Vec<_>>() {
            self.store.delete(&format!("tail/{}", range.name())).await?;
        }
        Ok(())
    }

    /// Deletes copies of vault and bank that the manifest does not count on. Keys of people who were forgotten since go
    /// with them.
    async fn clear_copies(&mut self) -> Result<(), BackupError> {
        let manifest = self.written()?.clone();
        for name in self.store.list("vault").await? {
            let object = format!("vault/{name}");
            let needed = object == manifest.vault.object
                || account_copy(&name).is_some_and(|events| events > manifest.vault.events);
            if !needed {
                self.store.delete(&object).await?;
            }
        }
        for name in self.store.list("bank").await? {
            let object = format!("bank/{name}");
            if manifest.bank.as_ref() != Some(&object) {
                self.store.delete(&object).await?;
            }
        }
        Ok(())
    }

    /// Keeps the head of the log apart.
    pub(crate) async fn anchor(&self) -> Result<(), BackupError> {
        match &self.head {
            Some(head) => anchors::publish(&self.store.folder("anchors"), head, (self.source.clock)()).await,
            None => Ok(()),
        }
    }

    fn written(&self) -> Result<&Manifest, BackupError> {
        self.manifest.as_ref().ok_or_else(|| BackupError::object("manifest.json", "it was never written"))
    }

    async fn connect(&self) -> Result<PgConnection, BackupError> {
        self.source.vault.connect().await.map_err(BackupError::Database)
    }
}

/// Whether a vault is the one that was copied before: no key is ever deleted, and its own never changes.
fn same_vault(kept: &Contents, found: &Contents) -> Result<(), BackupError> {
    if found.subjects < kept.subjects || found.signing_key != kept.signing_key {
        return Err(BackupError::OtherVault { found: found.subjects, kept: kept.subjects });
    }
    Ok(())
}

/// It has done its work, whether it ends well or not.
async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the connection to the vault ended badly");
    }
}

const WHOLE: &str = "whole.sql.zst";
const ACCOUNTS: &str = "accounts.sql.zst";

fn vault_object(events: u64, what: &str) -> String {
    format!("vault/{events:020}-{what}")
}

/// After how many events a copy of some accounts was taken.
pub(crate) fn account_copy(name: &str) -> Option<u64> {
    name.strip_suffix(ACCOUNTS)?.strip_suffix('-')?.parse().ok()
}

pub(crate) async fn ranges(
    store: &Store,
    folder: &'static str,
) -> Result<Vec<(Range, &'static str)>, BackupError> {
    let names = store.list(folder).await?;
    Ok(names.iter().filter_map(|name| Some((Range::parse(name)?, folder))).collect())
}

async fn last_event(store: &Store, name: &str) -> Result<Recorded, BackupError> {
    let bytes = store.get(name).await?.ok_or_else(|| BackupError::object(name, "it is gone"))?;
    let last = segment::decode(name, &bytes)?.pop();
    last.ok_or_else(|| BackupError::object(name, "it is empty"))
}

/// Whether the log holds an event of the backup.
async fn same(source: &Source, position: Position, hash: Option<[u8; 32]>) -> Result<(), BackupError> {
    let event = anchors::event_at(&*source.log, position).await?;
    let problem = match event {
        Some(event) if event.hash == hash => return Ok(()),
        Some(_) => format!("position {position} holds another event there"),
        None => format!("it holds position {position}, which the log has not"),
    };
    Err(BackupError::OtherLog(problem))
}
