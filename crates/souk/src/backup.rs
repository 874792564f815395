//! `souk backup` and `souk restore`. A backup works beside a running server; one that follows the log needs no more of it
//! than its PostgreSQL, and waits for that as long as it must. A restore fills an empty data directory.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, bail, ensure};
use async_trait::async_trait;
use souk_backup::{
    Store,
    follow::follow,
    manifest::Manifest,
    restore::Restore,
    ship::{Backup, Database, Source, Step},
};
use souk_commands::clock::Clock;
use souk_event_log::{EventLog, SqliteLog, sqlite};
use souk_local_postgres::LocalPostgres;
use souk_vault::{MasterKey, copies};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

use crate::{
    cli::BackupArgs,
    config::{Config, EventLogChoice},
    data_dir::{DataDir, Occupant},
    progress::{Progress, grouped},
    serve::Signals,
    wiring::{self, Site},
};

pub(crate) async fn backup(config: Config, args: BackupArgs) -> anyhow::Result<()> {
    ensure!(
        config.event_log == EventLogChoice::Sqlite,
        "--event-log: a backup is of the embedded log; a KurrentDB has means of its own"
    );
    let data = DataDir::new(&config.data_dir);
    if !data.log().is_file() {
        bail!("there is no event log at {}", data.log().display());
    }
    let store = Store::create(&args.target)?;
    if args.follow {
        return keep_up(config, data, store, args.vault_every).await;
    }
    let site = Site::enter(&config, "souk backup").await?;
    let vault = Arc::new(Known(site.database().clone()));
    let result = take(source(&config, &data, Arc::clone(site.log()), vault), store).await;
    site.leave().await?;
    let manifest = result?;
    println!(
        "{} events and the keys of {} people are in {}",
        grouped(manifest.events()),
        grouped(manifest.vault.contents.subjects),
        args.target
    );
    println!("the master key is not: keep it in another place");
    Ok(())
}

async fn take(source: Source, store: Store) -> anyhow::Result<Manifest> {
    let events = source.log.head().await?.map_or(0, |head| head + 1);
    let mut backup = Backup::open(source, store).await?;
    let progress = Progress::new("events", events);
    let manifest = backup.run(|step| show(&progress, step)).await?;
    progress.finish();
    Ok(manifest)
}

/// Beside a server, whether that runs yet or not: nothing is started here, and nobody is kept from starting it.
async fn keep_up(config: Config, data: DataDir, store: Store, whole_every: Duration) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let path = data.log();
    let opening = tokio::task::spawn_blocking(move || SqliteLog::open(&path, sqlite::Options::default()));
    let log: Arc<dyn EventLog> = opening.await?.context("the event log")?;
    let vault: Arc<dyn Database> = match &config.database {
        Some(options) => Arc::new(Known(options.clone())),
        None => Arc::new(Private(data.postgres())),
    };
    let target = store.target().to_owned();
    let mut backup = Backup::open(source(&config, &data, log, vault), store).await?;
    tracing::info!(target, events = backup.events(), "following the log");
    let progress = Progress::new("events", 0);
    follow(&mut backup, whole_every, signals.first.cancelled(), |step| show(&progress, step)).await?;
    progress.finish();
    tracing::info!(target, events = backup.events(), "the backup is complete");
    Ok(())
}

fn source(config: &Config, data: &DataDir, log: Arc<dyn EventLog>, vault: Arc<dyn Database>) -> Source {
    let clock = Clock::system();
    Source { log, vault, bank: bank(config, data), clock: Arc::new(move || clock.now()) }
}

/// The sandbox's books.
fn bank(config: &Config, data: &DataDir) -> PathBuf {
    config.sandbox_bank.clone().unwrap_or_else(|| data.bank())
}

fn show(progress: &Progress, step: Step) {
    match step {
        Step::Events { done, of } => {
            progress.set_total(of);
            progress.set(done);
        }
        Step::Vault { .. } | Step::Bank => {}
    }
}

struct Known(PgConnectOptions);

/// A private PostgreSQL, which comes and goes with its server.
struct Private(PathBuf);

#[async_trait]
impl Database for Known {
    async fn connect(&self) -> Result<PgConnection, String> {
        PgConnection::connect_with(&self.0).await.map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Database for Private {
    async fn connect(&self) -> Result<PgConnection, String> {
        match LocalPostgres::attach(&self.0).await {
            Ok(Some(url)) => PgConnection::connect(&url).await.map_err(|error| error.to_string()),
            Ok(None) => Err(format!("no PostgreSQL runs in {}: start `souk serve`", self.0.display())),
            Err(error) => Err(error.to_string()),
        }
    }
}

pub(crate) async fn restore(config: Config, from: String, keep_vault: bool) -> anyhow::Result<()> {
    let restore = Restore::open(Store::open(&from)?).await?;
    let manifest = restore.manifest().clone();
    let data = DataDir::new(&config.data_dir);
    check_master_key(&config, &data, &manifest)?;
    let lock = data.enter_alone(&Occupant::new(RESTORE))?;
    let interrupted = data.clear_for_restore()?;

    let unfinished = data.unfinished_log();
    let progress = Progress::new("events", manifest.events());
    let accounts = restore.log(&unfinished, |step| show(&progress, step)).await?;
    progress.finish();
    // Books that are kept elsewhere may have outlived the rest.
    let bank = bank(&config, &data);
    if !bank.exists() {
        restore.bank(&bank).await?;
    }

    let (postgres, database) = wiring::postgres(&config, &data, true).await?;
    let mut connection = PgConnection::connect_with(&database).await.context("the vault's database")?;
    let vault = if keep_vault {
        copies::agree(&mut connection, &accounts.in_log()).await.map_err(Into::into)
    } else {
        // In the private PostgreSQL of a directory that a restore was interrupted in is nothing but what that left.
        let replace = interrupted && config.database.is_none();
        restore.vault(&mut connection, &accounts, replace).await.map_err(anyhow::Error::from)
    };
    let vault = vault.context(
        "the vault cannot be restored. One that is in the database already is kept with --keep-vault; \
         `drop schema vault cascade` makes room for the one of the backup",
    );
    let _ = connection.close().await;
    if let Some(postgres) = postgres {
        postgres.stop().await?;
    }
    vault?;
    // From here on it is a data directory like any other.
    data.finish_restore()?;
    drop(lock);
    println!("{} events, {} accounts", grouped(manifest.events()), grouped(accounts.registered.len() as u64));
    if let Some(head) = &manifest.head {
        println!("head {} {}, recorded {}", head.position, head.hash, head.recorded_at);
    }
    println!("`souk serve` builds views and index from the log; everybody has to log in again");
    Ok(())
}

pub(crate) const RESTORE: &str = "souk restore";

/// Before anything is written: without its master key a vault is of no use.
fn check_master_key(config: &Config, data: &DataDir, manifest: &Manifest) -> anyhow::Result<()> {
    let path = data.master_key();
    let key = match &config.master_key {
        Some(key) => Some(key.clone()),
        None => MasterKey::load(&path)?,
    };
    let Some(key) = key else {
        bail!(
            "the master key is missing: it is not in a backup. Put the one that the vault was made with into {} (mode \
             0600), or give it as SOUK_MASTER_KEY",
            path.display()
        );
    };
    manifest.vault.contents.check(&key).context("the master key")
}
