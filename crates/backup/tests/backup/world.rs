//! A log and a vault with people in them.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use rusqlite::Connection;
use serde_json::json;
use souk_backup::{
    Store,
    restore::Restore,
    ship::{Database, Source},
};
use souk_domain::{AccountId, Sealed};
use souk_event_log::{
    Direction, EventLog, Expected, Filter, NewEvent, Recorded, SqliteLog, StreamName, sqlite::Options,
};
use souk_local_postgres::{TestDatabase, TestPostgres};
use souk_vault::{MasterKey, Vault};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) struct World {
    folder: TempDir,
    database: TestDatabase,
    pub(crate) log: Arc<SqliteLog>,
    vault: Vault,
    next: AtomicU64,
}

#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) account: AccountId,
    pub(crate) name: String,
    sealed: Sealed,
}

pub(crate) fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).unwrap()
}

fn master_key() -> MasterKey {
    MasterKey::new([7; 32])
}

fn event(event_type: &str, data: serde_json::Value) -> NewEvent {
    NewEvent {
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, data.to_string().as_bytes()),
        event_type: event_type.into(),
        data: data.to_string().into_bytes(),
        metadata: br#"{"schemaVersion":1}"#.to_vec().into(),
    }
}

pub(crate) async fn wait_until(what: &str, done: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_mins(1), "after a minute not yet: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::of(tempfile::tempdir().unwrap(), TestPostgres::shared().await.database().await).await
    }

    async fn of(folder: TempDir, database: TestDatabase) -> Self {
        let options = Options { poll_interval: Duration::from_millis(5), ..Options::default() };
        let log = SqliteLog::open(&folder.path().join("events.sqlite"), options).unwrap();
        let vault = Vault::open(database.pool().await, master_key()).await.unwrap();
        Self { folder, database, log, vault, next: AtomicU64::new(0) }
    }

    /// Everything made anew from a backup.
    pub(crate) async fn restored(&self, store: &Store) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = TestPostgres::shared().await.database().await;
        let restore = Restore::open(store.clone()).await.unwrap();
        restore.manifest().vault.contents.check(&master_key()).unwrap();
        let accounts = restore.log(&folder.path().join("events.sqlite"), |_| ()).await.unwrap();
        restore.bank(&folder.path().join("bank.sqlite")).await.unwrap();
        let mut connection = PgConnection::connect(database.url()).await.unwrap();
        restore.vault(&mut connection, &accounts, false).await.unwrap();
        connection.close().await.unwrap();
        Self::of(folder, database).await
    }

    pub(crate) fn source(&self) -> Source {
        Source {
            log: Arc::clone(&self.log) as Arc<dyn EventLog>,
            vault: Arc::new(At(self.database.url().to_owned())),
            bank: self.bank(),
            clock: Arc::new(now),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("events.sqlite")
    }

    fn bank(&self) -> PathBuf {
        self.folder.path().join("bank.sqlite")
    }

    pub(crate) fn write_bank(&self, text: &str) {
        let bank = Connection::open(self.bank()).unwrap();
        bank.pragma_update(None, "journal_mode", "WAL").unwrap();
        bank.execute_batch("CREATE TABLE books (text TEXT)").unwrap();
        bank.execute("INSERT INTO books VALUES (?1)", [text]).unwrap();
    }

    pub(crate) fn read_bank(&self) -> String {
        let bank = Connection::open(self.bank()).unwrap();
        bank.query_row("SELECT text FROM books", [], |row| row.get(0)).unwrap()
    }

    fn fresh(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// So many events that name nobody, in appends of up to a thousand.
    pub(crate) async fn fill(&self, events: u64) {
        let mut left = events;
        while left > 0 {
            let count = left.min(1_000);
            let stream = StreamName::new("order", Uuid::from_u128(u128::from(self.fresh() % 50)));
            let tag = std::ptr::from_ref(self) as usize;
            let events = (0..count).map(|_| {
                event("OrderPlaced", json!({"n": self.fresh(), "of": tag, "filling": "x".repeat(100)}))
            });
            self.log.append(&stream, Expected::Any, events.collect()).await.unwrap();
            left -= count;
        }
    }

    pub(crate) async fn register(&self, people: usize) -> Vec<Person> {
        let mut registered = Vec::new();
        for _ in 0..people {
            let n = self.fresh();
            let name = format!("{n}@example.com");
            let account = AccountId(Uuid::from_u128(0xacc0 << 64 | u128::from(n)));
            self.vault.claim_address(&name, "a password", account, now()).await.unwrap();
            let sealed = self.vault.seal(account, name.as_bytes()).await.unwrap();
            let data = json!({"email": sealed, "of": n});
            let stream = StreamName::new("account", account);
            self.log
                .append(&stream, Expected::NoStream, vec![event("AccountRegistered", data)])
                .await
                .unwrap();
            self.vault.mark_registered(account).await.unwrap();
            registered.push(Person { account, name, sealed });
        }
        registered
    }

    pub(crate) async fn forget(&self, account: AccountId) {
        let stream = StreamName::new("account", account);
        let forgotten = event("AccountForgotten", json!({"account": account}));
        self.log.append(&stream, Expected::Any, vec![forgotten]).await.unwrap();
        self.vault.forget(account).await.unwrap();
    }

    pub(crate) async fn events(&self) -> Vec<Arc<Recorded>> {
        let events = self.log.read_all(0, Filter::all(), Direction::Forward, usize::MAX);
        events.try_collect().await.unwrap()
    }

    pub(crate) async fn name_of(&self, person: &Person) -> Option<String> {
        let opened = self.vault.open_sealed(&person.sealed).await.unwrap();
        opened.map(|name| String::from_utf8(name).unwrap())
    }

    pub(crate) async fn can_log_in(&self, person: &Person) -> bool {
        self.vault.verify_password(&person.name, "a password").await.unwrap() == Some(person.account)
    }
}

struct At(String);

#[async_trait]
impl Database for At {
    async fn connect(&self) -> Result<PgConnection, String> {
        PgConnection::connect(&self.0).await.map_err(|error| error.to_string())
    }
}
