//! Puts the parts together. A [`Site`] is a data directory with its event log and its PostgreSQL, started here or found
//! running; [`Site::market`] is the command side over it, [`Site::follow`] what runs behind it ([`workers`]): process
//! manager, projectors, search index.

mod workers;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use futures::FutureExt;
use souk_commands::{
    Market,
    clock::{Clock, fresh_id},
    executor::Snapshots,
    flows::accounts,
};
use souk_domain::{
    AccountId,
    account::{Role, Standing},
};
use souk_event_log::{EventLog, KurrentLog, SqliteLog, sqlite};
use souk_gateways::{
    Carrier, Chance, Guarded, Limits, Measured, PaymentGateway,
    sandbox::{SandboxBank, Script},
    stripe::Stripe,
};
use souk_local_postgres::LocalPostgres;
use souk_projections::{Projections, read_models};
use souk_vault::{MasterKey, Vault};
use souk_webhooks::{Pace, Webhooks};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

pub(crate) use self::workers::Workers;
use crate::{
    config::{Config, EventLogChoice},
    data_dir::{DataDir, Entry, Lock, Occupant},
    lease,
};

/// Connections for queries and the vault; projectors have their own.
const POOL: u32 = 24;
/// How long a server waits for one of them: whoever asks over HTTP would rather hear that there is none.
const IMPATIENT: Duration = Duration::from_secs(10);
/// How long an import does.
const PATIENT: Duration = Duration::from_mins(5);
/// How long to wait for the PostgreSQL of a server that has only just started.
const ATTACH_PATIENCE: Duration = Duration::from_secs(20);

/// A data directory at work.
pub(crate) struct Site {
    config: Config,
    data: DataDir,
    /// None: another process is the one that starts things here.
    lock: Option<Lock>,
    other: Option<Occupant>,
    postgres: Option<Kept>,
    database: PgConnectOptions,
    pool: PgPool,
    log: Arc<dyn EventLog>,
}

impl Site {
    /// Alone, or beside a server that runs on the same data.
    pub(crate) async fn enter(config: &Config, command: &str) -> anyhow::Result<Self> {
        let data = DataDir::new(&config.data_dir);
        let (lock, other) = match data.enter(&Occupant::new(command))? {
            Entry::Alone(lock) => (Some(lock), None),
            Entry::Beside(other) if other.serves() => (None, Some(other)),
            Entry::Beside(other) => bail!(
                "`{}` (process {}) is at work in {}: wait until it is done",
                other.command,
                other.pid,
                data.path().display()
            ),
        };
        Self::open(config, data, lock, other, PATIENT).await
    }

    /// Alone, or not at all.
    pub(crate) async fn enter_alone(config: &Config, occupant: &Occupant) -> anyhow::Result<Self> {
        let data = DataDir::new(&config.data_dir);
        let lock = data.enter_alone(occupant)?;
        Self::open(config, data, Some(lock), None, IMPATIENT).await
    }

    async fn open(
        config: &Config,
        data: DataDir,
        lock: Option<Lock>,
        other: Option<Occupant>,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        // While PostgreSQL starts, the log is opened.
        let opening = tokio::spawn(open_log(config.event_log.clone(), data.clone()));
        let (postgres, database) = postgres(config, &data, lock.is_some()).await?;
        let postgres = postgres.map(Kept::look_after);
        let log = opening.await??;
        let pool = PgPoolOptions::new()
            .max_connections(POOL)
            .acquire_timeout(patience)
            .connect_lazy_with(database.clone());
        Ok(Self { config: config.clone(), data, lock, other, postgres, database, pool, log })
    }

    pub(crate) fn data(&self) -> &DataDir {
        &self.data
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(crate) fn log(&self) -> &Arc<dyn EventLog> {
        &self.log
    }

    /// Where the vault and the views are.
    pub(crate) fn database(&self) -> &PgConnectOptions {
        &self.database
    }

    /// Where the server answers that runs beside, if one does.
    fn server(&self) -> Option<SocketAddr> {
        self.other.as_ref().and_then(|other| other.listen)
    }

    /// Says who is here, for those who come beside.
    pub(crate) fn tell(&mut self, occupant: &Occupant) -> anyhow::Result<()> {
        self.lock.as_mut().map_or(Ok(()), |lock| lock.write(occupant))
    }

    pub(crate) async fn vault(&self) -> anyhow::Result<Vault> {
        let master_key = match &self.config.master_key {
            Some(key) => key.clone(),
            None => MasterKey::load_or_create(&self.data.master_key())?,
        };
        Vault::open(self.pool.clone(), master_key).await.context("the vault")
    }

    /// The command side. One per process.
    pub(crate) async fn market(&self, script: Script) -> anyhow::Result<Arc<Market>> {
        let gateways = Box::pin(self.gateways(script)).await?;
        Box::pin(self.market_with(&gateways)).await
    }

    /// Who takes the money and who brings the goods, as configured.
    pub(crate) async fn gateways(&self, script: Script) -> anyhow::Result<Gateways> {
        let clock = Clock::system();
        let bank = self.config.sandbox_bank.clone().unwrap_or_else(|| self.data.bank());
        let limits = Limits { deadline: self.config.serve.gateway_timeout, ..Limits::default() };
        // The script's delays are wanted.
        let patient = Limits { deadline: limits.deadline + script.longest_delay(), ..limits };
        let now = clock.clone();
        let bank = tokio::task::spawn_blocking(move || {
            SandboxBank::open(&bank, script, move || now.now())
                .with_context(|| format!("the sandbox {}", bank.display()))
        })
        .await??;
        let carrier = Guarded::new("carrier", Measured::new("carrier", bank.clone()), patient, chance());
        let Some(stripe) = &self.config.serve.stripe else {
            let payments = Guarded::new("payment", Measured::new("payment", bank.clone()), patient, chance());
            return Ok(Gateways {
                payments: Arc::new(payments),
                carrier: Arc::new(carrier),
                stripe: None,
                sandbox: Some(bank),
            });
        };
        let stripe = Stripe::new(stripe.clone(), move || clock.now()).context("the client of Stripe")?;
        // Each call is a few requests.
        let limits = Limits { deadline: 2 * limits.deadline, ..limits };
        let payments = Guarded::new("payment", Measured::new("payment", stripe.clone()), limits, chance());
        Ok(Gateways {
            payments: Arc::new(payments),
            carrier: Arc::new(carrier),
            stripe: Some(stripe),
            sandbox: None,
        })
    }

    pub(crate) async fn market_with(&self, gateways: &Gateways) -> anyhow::Result<Arc<Market>> {
        let clock = Clock::system();
        let vault = self.vault().await?;
        let snapshots = self.data.snapshots();
        let snapshots = tokio::task::spawn_blocking(move || Snapshots::open(&snapshots)).await??;
        let market = Market::new(
            Arc::clone(&self.log),
            Some(snapshots),
            vault,
            Arc::clone(&gateways.payments),
            Arc::clone(&gateways.carrier),
            clock,
        );
        Ok(Arc::new(market.with_prices(self.config.serve.prices.clone())))
    }

    /// Writes the views, unless a server beside does.
    pub(crate) fn project(&self) -> Projections {
        let theirs = self.other.as_ref().is_some_and(|other| other.has_role("project"));
        let projectors = if theirs { vec![] } else { read_models() };
        Projections::start(Arc::clone(&self.log), self.database.clone(), projectors, None, None)
    }

    /// Sends webhooks, in turn with other processes on the same database.
    pub(crate) fn send_webhooks(&self, market: &Arc<Market>) -> anyhow::Result<Sender> {
        let (readers, clock) = (Arc::clone(market), market.clock.clone());
        let settings = &self.config.serve;
        let webhooks = Webhooks::new(souk_webhooks::Parts {
            log: Arc::clone(&self.log),
            vault: market.vault.clone(),
            owners: Arc::new(move |account| may_read_events(Arc::clone(&readers), account).boxed()),
            reach: settings.webhook_reach,
            pace: Pace { timeout: settings.webhook_timeout, ..Pace::default() },
            clock: Arc::new(move || clock.now()),
        })?;
        let stop = CancellationToken::new();
        let work = move |turn| Arc::clone(&webhooks).run(turn);
        let running = tokio::spawn(lease::lead(self.database.clone(), "webhooks", stop.clone(), work));
        Ok(Sender { stop, running })
    }

    /// Stops what was started here. Whoever still holds a part of the site must have let go of it.
    pub(crate) async fn leave(self) -> anyhow::Result<()> {
        let Self { postgres, pool, log, lock, .. } = self;
        pool.close().await;
        // The last reference closes the file, which waits for its writer.
        tokio::task::spawn_blocking(move || drop(log)).await?;
        if let Some(postgres) = postgres {
            postgres.stop().await?;
        }
        drop(lock);
        Ok(())
    }
}

/// The ways to the outside.
pub(crate) struct Gateways {
    payments: Arc<dyn PaymentGateway>,
    carrier: Arc<dyn Carrier>,
    /// Where payments go through it: its webhooks do not pass the port.
    pub(crate) stripe: Option<Stripe>,
    /// Where it takes the money: its buyers confirm here.
    pub(crate) sandbox: Option<SandboxBank>,
}

/// The random part of a fresh id.
fn chance() -> Chance {
    Arc::new(|| f64::from(fresh_id().as_u128() as u32) / f64::from(u32::MAX))
}

/// The private PostgreSQL, which is started again should it end.
struct Kept {
    enough: CancellationToken,
    keeping: JoinHandle<Result<(), souk_local_postgres::Error>>,
}

impl Kept {
    fn look_after(postgres: LocalPostgres) -> Self {
        let enough = CancellationToken::new();
        let keeping = tokio::spawn(postgres.keep(enough.clone().cancelled_owned()));
        Self { enough, keeping }
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.enough.cancel();
        Ok(self.keeping.await??)
    }
}

/// The sending of webhooks.
pub(crate) struct Sender {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Sender {
    /// What is under way may end, for some seconds.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.running.await {
            tracing::error!(%error, "the sending of webhooks ended badly");
        }
    }
}

/// Those who may read the log may be told of it.
async fn may_read_events(market: Arc<Market>, account: AccountId) -> Result<bool, String> {
    let account = accounts::find(&market, account).await.map_err(|error| error.to_string())?.value;
    let reads = [Role::Analyst, Role::Admin].iter().any(|role| account.roles.contains(role));
    Ok(reads && account.standing == Standing::Active)
}

/// The log that the configuration names.
pub(crate) async fn open_log(choice: EventLogChoice, data: DataDir) -> anyhow::Result<Arc<dyn EventLog>> {
    Ok(match choice {
        EventLogChoice::Sqlite => {
            let path = data.log();
            let opened =
                tokio::task::spawn_blocking(move || SqliteLog::open(&path, sqlite::Options::default()));
            opened.await?.with_context(|| format!("the event log {}", data.log().display()))?
        }
        EventLogChoice::Server(address) => {
            KurrentLog::connect(address.clone()).await.with_context(|| format!("--event-log: {address:?}"))?
        }
    })
}

impl Occupant {
    /// A server answers to others for as long as it runs; an import is done some time.
    fn serves(&self) -> bool {
        ["souk serve", "souk demo"].contains(&&*self.command)
    }
}

/// The database, and the server if this process is the one that runs it.
pub(crate) async fn postgres(
    config: &Config,
    data: &DataDir,
    alone: bool,
) -> anyhow::Result<(Option<LocalPostgres>, PgConnectOptions)> {
    if let Some(database) = &config.database {
        return Ok((None, database.clone()));
    }
    let dir = data.postgres();
    if alone {
        let options = souk_local_postgres::Options {
            bin_dir: config.postgres_bin_dir.clone(),
            user: config.postgres_user.clone(),
            ..souk_local_postgres::Options::default()
        };
        let postgres = LocalPostgres::start(&dir, options).await?;
        let database = postgres.url().parse()?;
        return Ok((Some(postgres), database));
    }
    let deadline = tokio::time::Instant::now() + ATTACH_PATIENCE;
    loop {
        if let Some(url) = LocalPostgres::attach(&dir).await? {
            return Ok((None, url.parse()?));
        }
        if tokio::time::Instant::now() > deadline {
            bail!(
                "the server that runs on {} has no PostgreSQL there: give its --database-url",
                data.path().display()
            );
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// What time it is, for those who show it or need a name that nobody else has.
pub(crate) fn now() -> chrono::DateTime<chrono::Utc> {
    Clock::system().now()
}
