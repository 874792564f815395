//! The way back: the event log, each event with its own hash; the bank; the vault, made to agree with the log. Exactly what
//! the manifest counts on, and nothing that was written after it.

use std::path::Path;

use bytes::Bytes;
use futures::{StreamExt, stream};
use souk_domain::{AccountId, Decider, account::Account};
use souk_event_log::{
    Position, Recorded,
    sqlite::{RestoreError, Restorer},
};
use souk_vault::copies::{CopyError, InLog, Restoring, Text};
use sqlx::PgConnection;
use tokio::{io::AsyncWriteExt, task::spawn_blocking};

use crate::{
    BackupError, Store,
    manifest::Manifest,
    segment::{self, cover},
    ship::{Step, account_copy, ranges},
};

/// Objects that are fetched ahead.
const AHEAD: usize = 4;
/// How often objects may go while they are being read, because whoever follows the log has made others of them.
const LISTINGS: usize = 10;
const CHUNK: usize = 256 << 10;

pub struct Restore {
    store: Store,
    manifest: Manifest,
}

/// What the log says of accounts, and where it ends.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    pub registered: Vec<AccountId>,
    pub forgotten: Vec<AccountId>,
    pub head: Option<Position>,
}

impl Accounts {
    /// Takes note of what an event says.
    pub fn note(&mut self, event: &Recorded) {
        self.head = Some(event.position);
        if event.stream.category() != Account::CATEGORY {
            return;
        }
        let Ok(account) = event.stream.id().parse().map(AccountId) else { return };
        match &*event.event_type {
            "AccountRegistered" => self.registered.push(account),
            "AccountForgotten" => self.forgotten.push(account),
            _ => {}
        }
    }

    pub fn in_log(&self) -> InLog<'_> {
        InLog { registered: &self.registered, forgotten: &self.forgotten, head: self.head }
    }
}

impl Restore {
    pub async fn open(store: Store) -> Result<Self, BackupError> {
        let manifest = Manifest::read(&store).await?.ok_or_else(|| {
            BackupError::object(
                &format!("{}/manifest.json", store.target()),
                "there is none: no backup was ever completed here",
            )
        })?;
        Ok(Self { store, manifest })
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Makes the file of the log. There must be none of that name; after an error it is of no use.
    pub async fn log(&self, path: &Path, mut progress: impl FnMut(Step)) -> Result<Accounts, BackupError> {
        let end = self.manifest.events();
        let restorer = Restorer::create(path).map_err(|error| failed(path, error))?;
        let mut work = Work { restorer, accounts: Accounts::default(), next: 0, end };
        let mut listings = 0;
        while work.next < end {
            listings += 1;
            if listings > LISTINGS {
                return Err(self.missing(work.next));
            }
            let mut known = ranges(&self.store, "log").await?;
            known.extend(ranges(&self.store, "tail").await?);
            let needed = cover(&known, work.next).into_iter().filter(|(range, _)| range.first < end);
            let mut objects = stream::iter(needed.map(async |(range, folder)| {
                let name = format!("{folder}/{}", range.name());
                self.store.get(&name).await.map(|bytes| (name, bytes))
            }))
            .buffered(AHEAD);
            let before = work.next;
            while let Some(object) = objects.next().await {
                // It was there when it was listed: look again.
                let (name, Some(bytes)) = object? else { break };
                work = spawn_blocking(move || work.take(&name, &bytes)).await??;
                progress(Step::Events { done: work.next, of: end });
            }
            if work.next == before && listings > 1 {
                return Err(self.missing(work.next));
            }
        }
        let Work { restorer, accounts, .. } = work;
        let wanted = self.manifest.head.as_ref().and_then(|head| Some((head.position, head.hash()?)));
        if restorer.head() != wanted {
            return Err(BackupError::object(
                "manifest.json",
                "the log does not end with the event that it names",
            ));
        }
        let path = path.to_owned();
        spawn_blocking(move || restorer.finish().map_err(|error| failed(&path, error))).await??;
        Ok(accounts)
    }

    fn missing(&self, position: Position) -> BackupError {
        let name = format!("{}/log", self.store.target());
        BackupError::object(&name, format!("no object holds the event at position {position}"))
    }

    /// Writes the sandbox's books, if the backup has any.
    pub async fn bank(&self, path: &Path) -> Result<bool, BackupError> {
        let Some(name) = &self.manifest.bank else { return Ok(false) };
        let bytes = self.store.get(name).await?.ok_or_else(|| BackupError::object(name, "it is gone"))?;
        let mut file = tokio::fs::File::create_new(path).await?;
        let mut chunks = decompressed(name, bytes);
        while let Some(chunk) = chunks.next().await {
            file.write_all(&chunk?).await?;
        }
        file.sync_all().await?;
        Ok(true)
    }

    /// Makes the vault, and makes it agree with the log. A vault that is there is refused; `replace` drops it.
    pub async fn vault(
        &self,
        connection: &mut PgConnection,
        accounts: &Accounts,
        replace: bool,
    ) -> Result<(), BackupError> {
        // Whoever follows the log may have replaced the copies since the manifest was read: newer ones will do.
        let mut manifest = self.manifest.clone();
        for _ in 0..LISTINGS {
            let copies = self.copies(&manifest).await?;
            if let Some(copies) = copies {
                let mut restoring = Restoring::begin(connection, &manifest.vault.contents, replace).await?;
                for (name, bytes) in copies {
                    let text: Text<'_> = decompressed(&name, bytes)
                        .map(|chunk| chunk.map_err(|error| CopyError::Damaged(error.to_string())))
                        .boxed();
                    restoring.load(text).await.map_err(|error| BackupError::object(&name, error))?;
                }
                restoring.agree(&accounts.in_log()).await?;
                return Ok(restoring.commit().await?);
            }
            manifest = Self::open(self.store.clone()).await?.manifest;
        }
        Err(BackupError::object(&manifest.vault.object, "it is gone"))
    }

    /// The whole copy and those of accounts since; `None` if one of them has gone.
    async fn copies(&self, manifest: &Manifest) -> Result<Option<Vec<(String, Bytes)>>, BackupError> {
        let mut names = vec![manifest.vault.object.clone()];
        let since = manifest.vault.events + 1..=manifest.events();
        let listed = self.store.list("vault").await?;
        let of_accounts =
            listed.iter().filter(|name| account_copy(name).is_some_and(|events| since.contains(&events)));
        names.extend(of_accounts.map(|name| format!("vault/{name}")));
        let mut objects = stream::iter(names.into_iter().map(async |name| {
            let bytes = self.store.get(&name).await;
            bytes.map(|bytes| bytes.map(|bytes| (name, bytes)))
        }))
        .buffered(AHEAD);
        let mut copies = Vec::new();
        while let Some(copy) = objects.next().await {
            let Some(copy) = copy? else { return Ok(None) };
            copies.push(copy);
        }
        Ok(Some(copies))
    }
}

/// A log that is being made.
struct Work {
    restorer: Restorer,
    accounts: Accounts,
    next: Position,
    end: Position,
}

impl Work {
    /// Takes of an object's events those that are needed.
    fn take(mut self, name: &str, bytes: &[u8]) -> Result<Self, BackupError> {
        let events = segment::decode(name, bytes)?;
        let needed = self.next..self.end;
        let needed = || events.iter().filter(|event| needed.contains(&event.position));
        self.restorer.insert(needed()).map_err(|error| BackupError::object(name, error))?;
        for event in needed() {
            self.accounts.note(event);
            self.next = event.position + 1;
        }
        Ok(self)
    }
}

fn failed(path: &Path, error: RestoreError) -> BackupError {
    BackupError::object(&path.display().to_string(), error)
}

fn decompressed(name: &str, bytes: Bytes) -> stream::BoxStream<'static, Result<Bytes, BackupError>> {
    use std::io::Read;

    let name = name.to_owned();
    async_stream::try_stream! {
        let failed = |error: std::io::Error| BackupError::object(&name, error);
        let mut reader = zstd::Decoder::new(std::io::Cursor::new(bytes)).map_err(failed)?;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            if reader.by_ref().take(CHUNK as u64).read_to_end(&mut chunk).map_err(failed)? == 0 {
                return;
            }
            yield Bytes::from(chunk);
        }
    }
    .boxed()
}
