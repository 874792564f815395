//! What the program was told, checked as a whole before anything is started. Relies on [`crate::cli`] for the parsing of
//! single values; every error names the field.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use souk_domain::pricing::PriceList;
use souk_event_log::kurrentdb::{Address, AddressError};
use souk_gateways::{Limits, Secret, stripe::StripeConfig};
use souk_vault::MasterKey;
use souk_webhooks::{Pace, Reach};
use sqlx::postgres::PgConnectOptions;

use crate::{
    cli::{Common, ServeArgs},
    event_server::EventServerConfig,
};

#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) data_dir: PathBuf,
    pub(crate) event_log: EventLogChoice,
    /// None: in the data directory.
    pub(crate) sandbox_bank: Option<PathBuf>,
    /// None: a private PostgreSQL in the data directory.
    pub(crate) database: Option<PgConnectOptions>,
    /// None: in a file of the data directory.
    pub(crate) master_key: Option<MasterKey>,
    pub(crate) postgres_bin_dir: Option<PathBuf>,
    pub(crate) postgres_user: Option<String>,
    pub(crate) serve: ServeConfig,
}

#[derive(Clone, Debug)]
pub(crate) struct ServeConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) metrics_listen: SocketAddr,
    pub(crate) roles: Roles,
    pub(crate) sandbox: Option<PathBuf>,
    /// None: the sandbox takes the money.
    pub(crate) stripe: Option<StripeConfig>,
    pub(crate) gateway_timeout: Duration,
    /// Rules for searches.
    pub(crate) synonyms: Option<PathBuf>,
    pub(crate) prices: PriceList,
    pub(crate) checkout_deadline: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) webhook_timeout: Duration,
    pub(crate) webhook_reach: Reach,
    /// None: no event server.
    pub(crate) event_server: Option<EventServerConfig>,
    /// Where the head of the log is kept, and how often.
    pub(crate) anchor: Option<(String, Duration)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Roles {
    pub(crate) api: bool,
    pub(crate) process: bool,
    pub(crate) project: bool,
    pub(crate) search: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Answers over HTTP.
    Api,
    /// Carries orders from placed to completed or cancelled.
    Process,
    /// Writes the views in PostgreSQL.
    Project,
    /// Writes the search index.
    Search,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PaymentsChoice {
    /// A bank that exists on this machine alone.
    Sandbox,
    Stripe,
}

/// A setting that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {field}: {problem}")]
pub(crate) struct ConfigError {
    pub(crate) field: &'static str,
    pub(crate) problem: String,
}

impl ConfigError {
    pub(crate) fn new(field: &'static str, problem: impl fmt::Display) -> Self {
        Self { field, problem: problem.to_string() }
    }
}

/// Which event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventLogChoice {
    /// The file in the data directory.
    Sqlite,
    /// A KurrentDB, or the event server of another Souk.
    Server(Address),
}

impl FromStr for EventLogChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "sqlite" {
            return Ok(Self::Sqlite);
        }
        let server = ["kurrentdb", "kurrentdb+discover"]
            .iter()
            .any(|scheme| text.starts_with(&format!("{scheme}://")));
        if !server {
            return Err("expected `sqlite`, or an address like `kurrentdb://host:2113?tls=false`".to_owned());
        }
        text.parse().map(Self::Server).map_err(|error: AddressError| error.to_string())
    }
}

impl Role {
    pub(crate) const ALL: [Self; 4] = [Self::Api, Self::Process, Self::Project, Self::Search];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Process => "process",
            Self::Project => "project",
            Self::Search => "search",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Roles {
    pub(crate) const ALL: Self = Self { api: true, process: true, project: true, search: true };

    pub(crate) fn of(roles: &[Role]) -> Self {
        let has = |role| roles.contains(&role);
        Self {
            api: has(Role::Api),
            process: has(Role::Process),
            project: has(Role::Project),
            search: has(Role::Search),
        }
    }

    pub(crate) fn names(self) -> Vec<&'static str> {
        let has = |role: &Role| match role {
            Role::Api => self.api,
            Role::Process => self.process,
            Role::Project => self.project,
            Role::Search => self.search,
        };
        Role::ALL.iter().filter(|role| has(role)).map(|role| role.name()).collect()
    }
}

impl Default for ServeConfig {
    fn default() -> Self {
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            listen: loopback(8080),
            metrics_listen: loopback(9090),
            roles: Roles::ALL,
            sandbox: None,
            stripe: None,
            gateway_timeout: Limits::default().deadline,
            synonyms: None,
            prices: PriceList::default(),
            checkout_deadline: Duration::from_mins(15),
            drain_timeout: Duration::from_secs(10),
            webhook_timeout: Pace::default().timeout,
            webhook_reach: Reach::Public,
            event_server: None,
            anchor: None,
        }
    }
}

impl Config {
    pub(crate) fn new(common: &Common, serve: Option<&ServeArgs>) -> Result<Self, ConfigError> {
        // A variable that is set to nothing is not set.
        let given = |value: &'_ Option<String>| value.clone().filter(|value| !value.is_empty());
        let database = given(&common.database_url).map(|url| database(&url)).transpose()?;
        let master_key = given(&common.master_key).map(|key| key.parse()).transpose();
        let master_key = master_key.map_err(|error| ConfigError::new("--master-key", error))?;
        let serve = serve.map_or_else(|| Ok(ServeConfig::default()), ServeConfig::new)?;
        Ok(Self {
            data_dir: common.data_dir.clone(),
            event_log: common.event_log.clone(),
            sandbox_bank: common.sandbox_bank.clone().filter(|path| !path.as_os_str().is_empty()),
            database,
            master_key,
            postgres_bin_dir: common.postgres_bin_dir.clone(),
            postgres_user: given(&common.postgres_user),
            serve,
        })
    }
}

impl ServeConfig {
    fn new(args: &ServeArgs) -> Result<Self, ConfigError> {
        if args.listen == args.metrics_listen && args.listen.port() != 0 {
            return Err(ConfigError::new("--metrics-listen", "it is the address of --listen"));
        }
        if args.checkout_deadline < Duration::from_secs(1) {
            return Err(ConfigError::new("--checkout-deadline", "it is a second at least"));
        }
        if args.anchor_every < Duration::from_secs(1) {
            return Err(ConfigError::new("--anchor-every", "it is a second at least"));
        }
        if args.webhook_timeout < Duration::from_millis(100) {
            return Err(ConfigError::new("--webhook-timeout", "it is a tenth of a second at least"));
        }
        if let Some(file) = args.sandbox.as_ref().filter(|file| !file.is_file()) {
            return Err(ConfigError::new("--sandbox", format!("there is no file {}", file.display())));
        }
        if args.gateway_timeout < Duration::from_millis(100) {
            return Err(ConfigError::new("--gateway-timeout", "it is a tenth of a second at least"));
        }
        let given = args.pricing.as_ref().filter(|file| !file.as_os_str().is_empty());
        let prices = given.map_or_else(|| Ok(PriceList::default()), |file| prices(file))?;
        let event_server = match args.event_server_listen {
            Some(listen) => Some(args.event_server.clone().config(listen, false).check()?),
            None if args.event_server.allow_append => {
                return Err(ConfigError::new(
                    "--allow-append",
                    "there is no event server: give --event-server-listen",
                ));
            }
            None => None,
        };
        Ok(Self {
            listen: args.listen,
            metrics_listen: args.metrics_listen,
            roles: Roles::of(&args.roles),
            sandbox: args.sandbox.clone(),
            stripe: stripe(args)?,
            gateway_timeout: args.gateway_timeout,
            synonyms: args.synonyms.clone().filter(|file| !file.as_os_str().is_empty()),
            prices,
            checkout_deadline: args.checkout_deadline,
            drain_timeout: args.drain_timeout,
            webhook_timeout: args.webhook_timeout,
            webhook_reach: if args.webhook_allow_private { Reach::Anywhere } else { Reach::Public },
            event_server,
            anchor: args.anchor.clone().map(|target| (target, args.anchor_every)),
        })
    }
}

fn stripe(args: &ServeArgs) -> Result<Option<StripeConfig>, ConfigError> {
    if args.payments != PaymentsChoice::Stripe {
        return Ok(None);
    }
    let given = |value: &'_ Option<String>| value.clone().filter(|value| !value.is_empty());
    let secret_key = secret(
        "--stripe-secret-key-file",
        args.stripe_secret_key.as_ref(),
        args.stripe_secret_key_file.as_ref(),
    )?;
    let Some(secret_key) = secret_key else {
        return Err(ConfigError::new("--stripe-secret-key-file", "--payments stripe needs a secret key"));
    };
    if !["sk_", "rk_"].iter().any(|prefix| secret_key.expose().starts_with(prefix)) {
        return Err(ConfigError::new("--stripe-secret-key-file", "a secret key begins with sk_ or rk_"));
    }
    let (text, file) = (args.stripe_webhook_secret.as_ref(), args.stripe_webhook_secret_file.as_ref());
    let webhook_secret = secret("--stripe-webhook-secret-file", text, file)?;
    if webhook_secret.as_ref().is_some_and(|secret| !secret.expose().starts_with("whsec_")) {
        return Err(ConfigError::new(
            "--stripe-webhook-secret-file",
            "a secret of webhooks begins with whsec_",
        ));
    }
    let return_url =
        given(&args.stripe_return_url).map(|url| web("--stripe-return-url", &url)).transpose()?;
    Ok(Some(StripeConfig {
        secret_key,
        webhook_secret,
        url: web("--stripe-url", &args.stripe_url)?,
        return_url,
        timeout: args.gateway_timeout,
    }))
}

/// Given itself, or the file that holds it; its text is in no error.
fn secret(
    field: &'static str,
    text: Option<&String>,
    file: Option<&PathBuf>,
) -> Result<Option<Secret>, ConfigError> {
    let text = match (text.filter(|text| !text.is_empty()), file) {
        (Some(_), Some(_)) => {
            return Err(ConfigError::new(field, "it is given twice: as a file, and itself"));
        }
        (Some(text), None) => text.clone(),
        (None, Some(file)) => std::fs::read_to_string(file)
            .map_err(|error| ConfigError::new(field, format!("{}: {error}", file.display())))?,
        (None, None) => return Ok(None),
    };
    let text = zeroize::Zeroizing::new(text);
    Ok(Some(Secret::new(text.trim())))
}

fn web(field: &'static str, url: &str) -> Result<reqwest::Url, ConfigError> {
    let url = reqwest::Url::parse(url).map_err(|error| ConfigError::new(field, error))?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err(ConfigError::new(field, "it begins with http:// or https://"))
    }
}

fn prices(file: &Path) -> Result<PriceList, ConfigError> {
    let wrong = |problem: String| ConfigError::new("--pricing", format!("{}: {problem}", file.display()));
    let text = std::fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let mut json = serde_json::Deserializer::from_slice(&text);
    let prices: PriceList = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| wrong(format!("{}: {}", error.path(), error.inner())))?;
    json.end().map_err(|error| wrong(error.to_string()))?;
    prices.check().map_err(|error| wrong(error.to_string()))?;
    Ok(prices)
}

fn database(url: &str) -> Result<PgConnectOptions, ConfigError> {
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(ConfigError::new("--database-url", "it begins with postgres://"));
    }
    // The parser's own message may hold the address, and that a password.
    url.parse().map_err(|_| ConfigError::new("--database-url", "it is not an address of a PostgreSQL"))
}

/// `250ms`, `30s`, `15m`, `2h`; a number alone counts seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number with a unit, such as 250ms, 30s, 15m or 2h".to_owned();
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let millis = match &text[digits..] {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn config(arguments: &[&str]) -> Result<Config, ConfigError> {
        let cli = Cli::try_parse_from([&["souk", "serve"], arguments].concat()).expect("the line parses");
        let Command::Serve(args) = &cli.command else { panic!("not serve") };
        Config::new(&cli.common, Some(args))
    }

    #[test]
    fn durations_are_read_with_their_unit() {
        for (text, millis) in
            [("250ms", 250), ("30s", 30_000), ("15m", 900_000), ("2h", 7_200_000), ("7", 7_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "m", "1.5s", "-1s", "3 days", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wrong_setting_is_named() {
        let key = "0".repeat(63);
        let cases: &[(&[&str], &str)] = &[
            (&["--database-url", "mysql://db"], "--database-url"),
            (&["--database-url", "postgres://db:notaport/x"], "--database-url"),
            (&["--master-key", &key], "--master-key"),
            (&["--checkout-deadline", "0s"], "--checkout-deadline"),
            (&["--anchor", "there", "--anchor-every", "0s"], "--anchor-every"),
            (&["--webhook-timeout", "1ms"], "--webhook-timeout"),
            (&["--listen", "127.0.0.1:1", "--metrics-listen", "127.0.0.1:1"], "--metrics-listen"),
            (&["--sandbox", "no/such/file.json"], "--sandbox"),
            (&["--gateway-timeout", "1ms"], "--gateway-timeout"),
            (&["--payments", "stripe"], "--stripe-secret-key-file"),
            (&["--payments", "stripe", "--stripe-secret-key", "pk_live_1"], "--stripe-secret-key-file"),
            (
                &["--payments", "stripe", "--stripe-secret-key-file", "no/such/file"],
                "--stripe-secret-key-file",
            ),
            (
                &["--payments", "stripe", "--stripe-secret-key", "sk_1", "--stripe-webhook-secret", "sk_1"],
                "--stripe-webhook-secret-file",
            ),
            (
                &["--payments", "stripe", "--stripe-secret-key", "sk_1", "--stripe-url", "ftp://x"],
                "--stripe-url",
            ),
            (&["--allow-append"], "--allow-append"),
            (&["--event-server-listen", "127.0.0.1:0", "--allow-append"], "--allow-append"),
        ];
        for (arguments, field) in cases {
            assert_eq!(config(arguments).expect_err("wrong").field, *field, "{arguments:?}");
        }
    }

    #[test]
    fn a_wrong_price_names_its_field() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("a path").to_owned();
        let read = |text: &str| {
            std::fs::write(&path, text).expect("written");
            config(&["--pricing", &path])
        };
        for (text, field) in [
            (r#"{"tax": {"GB": "a fifth"}}"#, "tax.GB"),
            (r#"{"tax": {"GB": 20000}}"#, "tax.GB"),
            (r#"{"shipping": {"USD": {"GB": {"flat": 1, "freeAbowe": 2}}}}"#, "shipping.USD.GB"),
            (r#"{"shipping": {"USD": {"GB": {"flat": -1}}}}"#, "shipping.USD.GB.flat"),
            ("{} {}", "trailing"),
        ] {
            let error = read(text).expect_err("wrong");
            assert_eq!(error.field, "--pricing");
            assert!(error.problem.contains(field), "{text}: {error}");
        }
        let prices = read(r#"{"tax": {"GB": 2000}}"#).expect("right").serve.prices;
        assert_eq!(prices.tax["GB"], 2000);
        let missing = config(&["--pricing", "no/such/file.json"]).expect_err("wrong");
        assert_eq!(missing.field, "--pricing");
    }

    #[test]
    fn an_address_with_a_password_is_not_repeated_in_the_error() {
        let error = config(&["--database-url", "postgres://u:secret@db:notaport/x"]).expect_err("wrong");
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn a_secret_of_stripe_is_shown_nowhere() {
        let arguments = ["--payments", "stripe", "--stripe-secret-key", "sk_hidden"];
        let config = config(&arguments).expect("right");
        assert!(config.serve.stripe.is_some());
        assert!(!format!("{config:?}").contains("hidden"));
        let wrong = ["--payments", "stripe", "--stripe-secret-key", "hidden"];
        assert!(!self::config(&wrong).expect_err("wrong").to_string().contains("hidden"));
    }

    #[test]
    fn roles_are_a_subset() {
        let roles = config(&["--roles", "api,search"]).expect("right").serve.roles;
        assert_eq!(roles.names(), ["api", "search"]);
        assert_eq!(config(&[]).expect("right").serve.roles, Roles::ALL);
        assert!(Cli::try_parse_from(["souk", "serve", "--roles", "api,cook"]).is_err());
    }

    #[test]
    fn the_event_log_is_a_file_or_a_server() {
        let log = |text: &str| Cli::try_parse_from(["souk", "serve", "--event-log", text]);
        for good in [
            "sqlite",
            "kurrentdb://host:2113?tls=false",
            "kurrentdb://u:p@one:2113,two:2113",
            "kurrentdb+discover://name",
        ] {
            assert!(log(good).is_ok(), "{good}");
        }
        for bad in ["postgres://host", "kurrentdb://", "kurrentdb://secret@host:notaport"] {
            let error = log(bad).expect_err("wrong").to_string();
            assert!(error.contains("--event-log"), "{error}");
        }
    }
}
