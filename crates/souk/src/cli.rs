//! The command line: what can be asked of the program, and who answers it. Each flag also has a variable in the
//! environment. Usage errors end with status 2, which is clap's own.

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, process::ExitCode, time::Duration};

use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand, ValueEnum};
use nix::sys::stat::Mode;
use souk_event_log::At;

use crate::{
    account, backup, bench,
    config::{Config, ConfigError, EventLogChoice, PaymentsChoice, Role, duration},
    demo, event_server, events, import, serve, telemetry, verify, views,
};

/// An online marketplace whose only source of truth is a log of events.
#[derive(Debug, Parser)]
#[command(name = "souk", version, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Goes with every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Where the data is")]
pub(crate) struct Common {
    /// Folder of everything that is kept: the event log, the private PostgreSQL, the search index
    #[arg(long, global = true, env = "SOUK_DATA_DIR", value_name = "DIR", default_value = "./souk-data")]
    pub(crate) data_dir: PathBuf,

    /// `sqlite`: one file in the data directory; `kurrentdb://user:password@host:2113?tls=false`: a KurrentDB, or the
    /// event server of another Souk
    #[arg(
        long,
        global = true,
        env = "SOUK_EVENT_LOG",
        value_name = "LOG",
        default_value = "sqlite",
        hide_env_values = true
    )]
    pub(crate) event_log: EventLogChoice,

    /// Address of a PostgreSQL; without one a private PostgreSQL runs in the data directory
    #[arg(long, global = true, env = "SOUK_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,

    /// The books of the sandbox's bank, where several processes share one; without it they are in the data directory
    #[arg(long, global = true, env = "SOUK_SANDBOX_BANK", value_name = "FILE")]
    pub(crate) sandbox_bank: Option<PathBuf>,

    /// Key over all keys of the vault: 32 bytes in hexadecimal or base64; without one it is kept in the data directory
    #[arg(long, global = true, env = "SOUK_MASTER_KEY", value_name = "KEY", hide_env_values = true)]
    pub(crate) master_key: Option<String>,

    /// Folder of PostgreSQL's programs `postgres` and `initdb`, if they are not where they usually are
    #[arg(long, global = true, env = "SOUK_POSTGRES_BIN_DIR", value_name = "DIR")]
    pub(crate) postgres_bin_dir: Option<PathBuf>,

    /// The user that a private PostgreSQL runs as when Souk is started by root
    #[arg(long, global = true, env = "SOUK_POSTGRES_USER", value_name = "USER")]
    pub(crate) postgres_user: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the market
    Serve(ServeArgs),
    /// Runs the market with goods, accounts and a few orders in it
    Demo {
        #[command(flatten)]
        serve: ServeArgs,
        /// More goods: NDJSON or CSV, plain or .gz, as `souk import catalog` takes them
        #[arg(long, value_name = "FILE", env = "SOUK_CATALOG", value_delimiter = ',')]
        catalog: Vec<PathBuf>,
    },
    /// Brings in goods, or invoices of another shop
    #[command(subcommand)]
    Import(ImportCommand),
    /// Accounts
    #[command(subcommand)]
    Account(AccountCommand),
    /// The event log, for analysts
    #[command(subcommand)]
    Events(EventsCommand),
    /// Copies event log, vault and the sandbox's bank while the market runs. Into the same place again: only what is new
    Backup(BackupArgs),
    /// Fills an empty data directory from a backup
    Restore {
        /// The folder, or s3://bucket/prefix
        #[arg(value_name = "FROM")]
        from: String,
        /// Leave the vault that is in the database as it is, but for what the log says of accounts
        #[arg(long, env = "SOUK_KEEP_VAULT")]
        keep_vault: bool,
    },
    /// The views that are built from the event log
    #[command(subcommand)]
    Views(ViewsCommand),
    /// Proves stock, money and views against the event log. Status 1 if anything does not add up
    Verify(VerifyArgs),
    /// Measures a market
    #[command(subcommand)]
    Bench(BenchCommand),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where the HTTP API listens
    #[arg(long, env = "SOUK_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// Where Prometheus finds /metrics
    #[arg(long, env = "SOUK_METRICS_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:9090")]
    pub(crate) metrics_listen: SocketAddr,

    /// What this process does: api, process, project, search
    #[arg(long, env = "SOUK_ROLES", value_name = "ROLES", value_delimiter = ',', default_values_t = Role::ALL)]
    pub(crate) roles: Vec<Role>,

    /// How the sandbox of payments and shipping is to misbehave (JSON, see docs/sandbox.md)
    #[arg(long, env = "SOUK_SANDBOX", value_name = "FILE")]
    pub(crate) sandbox: Option<PathBuf>,

    /// Who takes the money: sandbox or stripe
    #[arg(long, env = "SOUK_PAYMENTS", value_name = "GATEWAY", default_value = "sandbox")]
    pub(crate) payments: PaymentsChoice,

    /// Stripe's secret key, sk_… or rk_… (better in a file, or in the variable)
    #[arg(long, env = "SOUK_STRIPE_SECRET_KEY", value_name = "KEY", hide_env_values = true)]
    pub(crate) stripe_secret_key: Option<String>,

    /// A file that holds Stripe's secret key
    #[arg(long, env = "SOUK_STRIPE_SECRET_KEY_FILE", value_name = "FILE")]
    pub(crate) stripe_secret_key_file: Option<PathBuf>,

    /// The secret that Stripe signs its webhooks with, whsec_…
    #[arg(long, env = "SOUK_STRIPE_WEBHOOK_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub(crate) stripe_webhook_secret: Option<String>,

    /// A file that holds the secret of Stripe's webhooks
    #[arg(long, env = "SOUK_STRIPE_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub(crate) stripe_webhook_secret_file: Option<PathBuf>,

    /// Where Stripe answers; another address is for tests
    #[arg(long, env = "SOUK_STRIPE_URL", value_name = "URL", default_value = "https://api.stripe.com")]
    pub(crate) stripe_url: String,

    /// Where Stripe sends a buyer back to after 3-D Secure; without it he confirms in the shop's own page
    #[arg(long, env = "SOUK_STRIPE_RETURN_URL", value_name = "URL")]
    pub(crate) stripe_return_url: Option<String>,

    /// How long a gateway may take to answer; after that nobody knows what came of the call
    #[arg(long, env = "SOUK_GATEWAY_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) gateway_timeout: Duration,

    /// Words that mean the same in a search, a rule a line: `tv, television` or `notebook => laptop`. Read again when it changes
    #[arg(long, env = "SOUK_SYNONYMS", value_name = "FILE")]
    pub(crate) synonyms: Option<PathBuf>,

    /// What shipping and tax cost (JSON, see docs/pricing.md); without it neither costs anything
    #[arg(long, env = "SOUK_PRICING", value_name = "FILE")]
    pub(crate) pricing: Option<PathBuf>,

    /// What the market takes of a sale, by category (JSON, see docs/operations.md); without it nothing
    #[arg(long, env = "SOUK_COMMISSIONS", value_name = "FILE")]
    pub(crate) commissions: Option<PathBuf>,

    /// From checkout until an order is given up, unless it is ready to ship by then
    #[arg(long, env = "SOUK_CHECKOUT_DEADLINE", value_name = "TIME", default_value = "15m", value_parser = duration)]
    pub(crate) checkout_deadline: Duration,

    /// How long the requests under way may take to finish when the market is told to stop
    #[arg(long, env = "SOUK_DRAIN_TIMEOUT", value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) drain_timeout: Duration,

    /// Where the head of the event log is kept now and then, for `souk events verify --anchors`: a folder, or
    /// s3://bucket/prefix
    #[arg(long, env = "SOUK_ANCHOR", value_name = "TARGET")]
    pub(crate) anchor: Option<String>,

    /// How often
    #[arg(long, env = "SOUK_ANCHOR_EVERY", value_name = "TIME", default_value = "5m", value_parser = duration)]
    pub(crate) anchor_every: Duration,

    /// How long a webhook's receiver may take to answer
    #[arg(long, env = "SOUK_WEBHOOK_TIMEOUT", value_name = "TIME", default_value = "15s", value_parser = duration)]
    pub(crate) webhook_timeout: Duration,

    /// Webhooks may be sent to addresses that are not public: within an intranet, or to this machine
    #[arg(long, env = "SOUK_WEBHOOK_ALLOW_PRIVATE")]
    pub(crate) webhook_allow_private: bool,

    /// Where the event server listens: the log, for clients of KurrentDB. Without it there is none
    #[arg(long, env = "SOUK_EVENT_SERVER_LISTEN", value_name = "ADDRESS")]
    pub(crate) event_server_listen: Option<SocketAddr>,

    #[command(flatten)]
    pub(crate) event_server: EventServerArgs,
}

/// What an event server is told wherever it runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct EventServerArgs {
    /// The event server takes appends
    #[arg(long, env = "SOUK_ALLOW_APPEND")]
    pub(crate) allow_append: bool,

    /// Who may append to the event server: the processes of this market
    #[arg(long, env = "SOUK_EVENT_SERVER_CREDENTIAL", value_name = "USER:PASSWORD", hide_env_values = true)]
    pub(crate) event_server_credential: Option<event_server::Credential>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct BackupArgs {
    /// A folder, or s3://bucket/prefix (endpoint, region and credentials from the variables AWS_…)
    #[arg(value_name = "TARGET")]
    pub(crate) target: String,

    /// Goes on: what is appended is in the backup within a second. Until SIGINT or SIGTERM
    #[arg(long, env = "SOUK_FOLLOW")]
    pub(crate) follow: bool,

    /// How often the whole vault is copied while following; what events say of accounts is copied with the events
    #[arg(long, env = "SOUK_VAULT_EVERY", value_name = "TIME", default_value = "10m", value_parser = duration)]
    pub(crate) vault_every: Duration,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The event log alone: neither the views in PostgreSQL nor the sandbox's bank
    #[arg(long, env = "SOUK_LOG_ONLY")]
    pub(crate) log_only: bool,

    /// One JSON object instead of lines for people
    #[arg(long, env = "SOUK_JSON")]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// Goods: NDJSON or CSV, plain or .gz. Again adds nothing
    Catalog {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// The account that sells them; without one each file has a seller of its own
        #[arg(long, env = "SOUK_SELLER", value_name = "ACCOUNT-ID")]
        seller: Option<uuid::Uuid>,
    },
    /// Invoices in the form of the UCI Online Retail data set, CSV or CSV.gz. Again adds nothing
    Invoices {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Makes an account; the password comes on standard input
    Create {
        #[arg(long, env = "SOUK_EMAIL")]
        email: String,
        #[arg(long, env = "SOUK_ROLE")]
        role: AccountRole,
        /// The name that others see; the part of the address before the @ if there is none
        #[arg(long, env = "SOUK_DISPLAY_NAME", value_name = "NAME")]
        display_name: Option<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum AccountRole {
    Buyer,
    Seller,
    Admin,
    Analyst,
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// Shows events that are there
    Read {
        #[command(flatten)]
        filter: FilterArgs,
        /// Begins with the event at this position
        #[arg(long, env = "SOUK_FROM", value_name = "POSITION", default_value_t = 0)]
        from: u64,
        /// So many at most
        #[arg(long, env = "SOUK_LIMIT", value_name = "N", default_value_t = 100)]
        limit: usize,
        /// The newest first, from the end of the log
        #[arg(long, env = "SOUK_BACKWARD", conflicts_with = "from")]
        backward: bool,
        /// One JSON object a line instead of one line for people
        #[arg(long, env = "SOUK_JSON")]
        json: bool,
    },
    /// Shows events as they happen, until interrupted
    Tail {
        #[command(flatten)]
        filter: FilterArgs,
        /// Shows first what follows this position; without it only what is new
        #[arg(long, env = "SOUK_AFTER", value_name = "POSITION")]
        after: Option<u64>,
        /// One JSON object a line instead of one line for people
        #[arg(long, env = "SOUK_JSON")]
        json: bool,
    },
    /// Writes events into a file or a folder, all of them if not told otherwise
    ///
    /// What is appended after it began is not exported.
    Export(ExportArgs),
    /// Shows what the events of one stream add up to
    State {
        /// `order-…`, `inventory-…`, `account-…`
        stream: String,
        /// As of then: a time (`2026-11-22T08:00:00Z`), by when the log had taken it, or a position
        #[arg(long, env = "SOUK_AT", value_name = "TIME|POSITION")]
        at: Option<At>,
    },
    /// Tells the story of one stream: when, who, what, and what led to it
    History {
        /// `order-…`, `item-…`, `cart-…`
        stream: String,
    },
    /// Serves the log to clients of KurrentDB (EventStoreDB), until told to stop
    Serve {
        /// Where to listen; port 0 takes a free one
        #[arg(
            long,
            env = "SOUK_EVENT_SERVER_LISTEN",
            value_name = "ADDRESS",
            default_value = "127.0.0.1:2113"
        )]
        listen: SocketAddr,
        #[command(flatten)]
        args: EventServerArgs,
        /// Asks nobody who he is; on loopback addresses alone
        #[arg(long, env = "SOUK_INSECURE")]
        insecure: bool,
    },
    /// Checks the chain of hashes over every event
    Verify {
        /// Begins with the event at this position
        #[arg(long, env = "SOUK_FROM", value_name = "POSITION", default_value_t = 0)]
        from: u64,
        /// Checks, too, that the log still holds what was anchored there: a folder, or s3://bucket/prefix
        #[arg(long, env = "SOUK_ANCHORS", value_name = "TARGET")]
        anchors: Option<String>,
    },
    /// Keeps the head of the log somewhere else: its position and hash. A chain of hashes cannot see its tail cut
    Anchor {
        /// A folder, or s3://bucket/prefix
        #[arg(value_name = "TARGET")]
        target: String,
    },
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FilterArgs {
    /// Of one stream
    #[arg(long, env = "SOUK_STREAM")]
    pub(crate) stream: Option<String>,
    /// Of these categories of streams: item, inventory, cart, order, payment, shipment, checkout, account
    #[arg(long, env = "SOUK_CATEGORY", value_delimiter = ',')]
    pub(crate) category: Vec<String>,
    /// Of these types: OrderPlaced, StockReserved, …
    #[arg(long = "type", env = "SOUK_TYPE", value_name = "TYPE", value_delimiter = ',')]
    pub(crate) event_type: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) filter: FilterArgs,

    /// Begins with the event at this position
    #[arg(long, env = "SOUK_FROM", value_name = "POSITION", default_value_t = 0)]
    pub(crate) from: u64,

    /// Ends with the event at this position
    #[arg(long, env = "SOUK_TO", value_name = "POSITION")]
    pub(crate) to: Option<u64>,

    /// Events that the log took then or later: `2026-11-22T08:00:00Z`, or a day, which begins at midnight UTC
    #[arg(long, env = "SOUK_SINCE", value_name = "TIME", value_parser = events::time)]
    pub(crate) since: Option<DateTime<Utc>>,

    /// Events that the log took before then
    #[arg(long, env = "SOUK_UNTIL", value_name = "TIME", value_parser = events::time)]
    pub(crate) until: Option<DateTime<Utc>>,

    /// Without one, what the end of the output's name says, or NDJSON
    #[arg(long, env = "SOUK_FORMAT", value_enum)]
    pub(crate) format: Option<events::Format>,

    /// Makes the output a folder with one for each day in it
    #[arg(long, env = "SOUK_PARTITION", value_enum, requires = "output")]
    pub(crate) partition: Option<events::Partition>,

    /// Holds so many events in memory, and writes them, at once
    #[arg(long, env = "SOUK_CHUNK", value_name = "EVENTS", default_value_t = NonZeroUsize::new(1 << 16).unwrap_or(NonZeroUsize::MIN))]
    pub(crate) chunk: NonZeroUsize,

    /// Goes on where an export with the same options was interrupted, without a gap or a double
    #[arg(long, env = "SOUK_RESUME", requires = "output")]
    pub(crate) resume: bool,

    /// Where to; NDJSON and CSV under a name that ends in .gz are compressed. Without one: standard output
    #[arg(long, short, env = "SOUK_OUTPUT", value_name = "FILE|FOLDER")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ViewsCommand {
    /// How far each view is
    Status {
        #[arg(long, env = "SOUK_JSON")]
        json: bool,
    },
    /// Builds a view again from the first event, beside the one that is served
    Rebuild { name: String },
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Buyers who fill a cart, check out, and wait until the order is completed
    Orders(bench::OrdersArgs),
    /// Far more checkouts at once than there are units of one item
    FlashSale(bench::FlashSaleArgs),
    /// Reservations of one SKU, at the executor
    Reservations(bench::ReservationsArgs),
    /// Appends to the embedded event log, beside what the disk and SQLite can do at all
    Log(bench::LogArgs),
    /// How good the hits are by what people judged, or how fast they come
    Search(bench::SearchArgs),
    /// How much of what people bought next is recommended, beside what the most popular would be
    Recommendations(bench::RecommendationsArgs),
    /// Reads the whole log of the data directory, as it is stored and as typed events
    Replay(bench::ReplayArgs),
}

/// Parses, runs, and says how it ended: 0, 2 for a usage error, 1 for anything else.
pub(crate) fn run() -> ExitCode {
    let Cli { common, command } = Cli::parse();
    // What Souk writes is for its owner alone.
    nix::sys::stat::umask(Mode::from_bits_truncate(0o077));
    telemetry::init();
    let config = match Config::new(&common, command.serve_args()) {
        Ok(config) => config,
        Err(error) => return usage(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("souk: the runtime cannot be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        let heeds_signals = command.heeds_signals();
        let running = Box::pin(command.run(config));
        if heeds_signals {
            return running.await;
        }
        tokio::select! {
            result = running => result,
            // What is dropped here ends what it had started: a private PostgreSQL, the server of a benchmark.
            interrupted = serve::signalled() => interrupted.and_then(|()| anyhow::bail!("interrupted")),
        }
    });
    // A blocking read of standard input, say, must not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if let Some(error) = error.downcast_ref::<ConfigError>() {
                return usage(error);
            }
            eprintln!("souk: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn usage(error: &ConfigError) -> ExitCode {
    eprintln!("souk: {error}");
    ExitCode::from(2)
}

impl EventServerArgs {
    pub(crate) fn config(self, listen: SocketAddr, insecure: bool) -> event_server::EventServerConfig {
        let Self { allow_append, event_server_credential: credential } = self;
        event_server::EventServerConfig { listen, allow_append, credential, insecure }
    }
}

impl Command {
    fn serve_args(&self) -> Option<&ServeArgs> {
        match self {
            Self::Serve(args) | Self::Demo { serve: args, .. } => Some(args),
            _ => None,
        }
    }

    /// Others may end wherever they are.
    fn heeds_signals(&self) -> bool {
        matches!(
            self,
            Self::Serve(_)
                | Self::Demo { .. }
                | Self::Events(EventsCommand::Tail { .. } | EventsCommand::Serve { .. })
                | Self::Backup(BackupArgs { follow: true, .. })
        )
    }

    async fn run(self, config: Config) -> anyhow::Result<()> {
        match self {
            Self::Serve(_) => serve::run(config).await,
            Self::Demo { catalog, .. } => Box::pin(demo::run(config, catalog)).await,
            Self::Import(ImportCommand::Catalog { files, seller }) => {
                import::catalog::run(config, &files, seller).await
            }
            Self::Import(ImportCommand::Invoices { file }) => import::invoices::run(config, &file).await,
            Self::Account(AccountCommand::Create { email, role, display_name }) => {
                account::create(config, email, role, display_name).await
            }
            Self::Events(EventsCommand::Serve { listen, args, insecure }) => {
                event_server::run(config, args.config(listen, insecure)).await
            }
            Self::Events(command) => events::run(config, command).await,
            Self::Backup(args) => backup::backup(config, args).await,
            Self::Restore { from, keep_vault } => backup::restore(config, from, keep_vault).await,
            Self::Views(command) => views::run(config, command).await,
            Self::Verify(args) => verify::run(config, args).await,
            Self::Bench(BenchCommand::Orders(args)) => bench::orders::run(config, args).await,
            Self::Bench(BenchCommand::FlashSale(args)) => bench::flash_sale::run(config, args).await,
            Self::Bench(BenchCommand::Reservations(args)) => bench::reservations::run(args).await,
            Self::Bench(BenchCommand::Log(args)) => bench::log::run(args).await,
            Self::Bench(BenchCommand::Search(args)) => bench::search::run(args).await,
            Self::Bench(BenchCommand::Recommendations(args)) => bench::recommendations::run(args).await,
            Self::Bench(BenchCommand::Replay(args)) => bench::replay::run(config, args).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Flags that name where the data is go before the command and after it.
    #[test]
    fn common_flags_go_with_every_command() {
        let commands: &[&[&str]] = &[
            &["serve"],
            &["demo"],
            &["import", "catalog", "goods.csv"],
            &["import", "invoices", "invoices.csv"],
            &["account", "create", "--email", "a@example.com", "--role", "admin"],
            &["events", "read"],
            &["events", "tail"],
            &["events", "export"],
            &[
                "events",
                "export",
                "--partition",
                "day",
                "--output",
                "folder",
                "--resume",
                "--since",
                "2026-11-22",
            ],
            &["events", "state", "order-1"],
            &["events", "verify"],
            &["events", "serve"],
            &["events", "anchor", "anchors"],
            &["backup", "there"],
            &["restore", "there"],
            &["views", "status"],
            &["views", "rebuild", "orders"],
            &["verify", "--json", "--log-only"],
            &["bench", "orders"],
        ];
        let common = ["--data-dir", "there", "--event-log", "sqlite", "--database-url", "postgres://db/souk"];
        for command in commands {
            let line = [&["souk"], *command, &common].concat();
            let cli = Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            assert_eq!(cli.common.data_dir, PathBuf::from("there"), "{line:?}");
        }
    }

    #[test]
    fn every_flag_has_a_variable() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments().filter(|argument| !argument.is_positional()) {
                let name = argument.get_id().as_str();
                if ["help", "version"].contains(&name) {
                    continue;
                }
                let variable = argument.get_env().map(|name| name.to_string_lossy().into_owned());
                assert!(
                    variable.as_deref().is_some_and(|variable| variable.starts_with("SOUK_")),
                    "--{name} of {} has {variable:?}",
                    command.get_name()
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
