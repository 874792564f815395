//! Who may use the event server: analysts and admins of the market, by their accounts, and whoever has the service credential.

use std::{borrow::Cow, fmt, str::FromStr, sync::Arc, time::Duration};

use anyhow::{Context, bail};
use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use souk_commands::{Aggregates, Market, clock::Clock};
use souk_domain::account::{AccountState, Role, Standing};
use souk_event_log::EventLog;
use souk_event_server::{Access, Authenticator, CannotTell, Rights};
use souk_local_postgres::LocalPostgres;
use souk_vault::{MasterKey, Vault};
use sqlx::postgres::PgPoolOptions;
use tokio::sync::OnceCell;

use super::EventServerConfig;
use crate::{config::Config, data_dir::DataDir};

/// To PostgreSQL, and how long one of them is waited for.
const CONNECTIONS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(5);
/// As the HTTP interface has it.
const LONGEST_PASSWORD: usize = 200;

/// A user and a password that are no account's.
#[derive(Clone)]
pub(crate) struct Credential {
    user: String,
    password: blake3::Hash,
}

impl FromStr for Credential {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (user, password) = text.split_once(':').ok_or("expected USER:PASSWORD")?;
        // Both go into addresses, and clients do not agree on how anything else is written there.
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
        if user.is_empty() || password.len() < 16 || !plain(user) || !plain(password) {
            let hint = "a name and 16 characters at least, of letters, digits, `-`, `.`, `_` and `~`";
            return Err(format!("expected USER:PASSWORD, {hint}"));
        }
        Ok(Self { user: user.to_owned(), password: blake3::hash(password.as_bytes()) })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:…", self.user)
    }
}

pub(super) struct Accounts {
    service: Option<Credential>,
    aggregates: Aggregates,
    /// Where the vault is to be found, and the vault once it was needed.
    config: Config,
    vault: OnceCell<Vault>,
}

impl Accounts {
    /// With the vault of a market that runs in this process.
    pub(super) fn of(market: &Market, config: &Config, server: &EventServerConfig) -> Access {
        let vault = OnceCell::new_with(Some(market.vault.clone()));
        Self::access(Arc::clone(&market.log), config, server, vault)
    }

    /// With a vault that is looked for when an account first comes by: what the log alone is needed for does not wait
    /// for it.
    pub(super) fn later(log: Arc<dyn EventLog>, config: &Config, server: &EventServerConfig) -> Access {
        Self::access(log, config, server, OnceCell::new())
    }

    fn access(
        log: Arc<dyn EventLog>,
        config: &Config,
        server: &EventServerConfig,
        vault: OnceCell<Vault>,
    ) -> Access {
        let aggregates = Aggregates::new(log, Clock::system(), None);
        let (service, config) = (server.credential.clone(), config.clone());
        Access::Checked(Arc::new(Self { service, aggregates, config, vault }))
    }

    async fn vault(&self) -> anyhow::Result<&Vault> {
        self.vault.get_or_try_init(|| open_vault(&self.config)).await
    }

    /// What an account may do. The log knows its roles, the vault its password.
    async fn rights_of(&self, email: &str, password: &str) -> anyhow::Result<Option<Rights>> {
        // More than a password can have is not worth hashing.
        if password.chars().count() > LONGEST_PASSWORD {
            return Ok(None);
        }
        let Some(account) = self.vault().await?.verify_password(email, password).await? else {
            return Ok(None);
        };
        let state = self.aggregates.accounts.read(account, AccountState::clone).await?.value;
        let read = [Role::Analyst, Role::Admin].iter().any(|role| state.roles.contains(role));
        Ok((state.standing == Standing::Active).then_some(Rights { read, append: false }))
    }
}

/// The vault of a PostgreSQL that is named or that runs in the data directory; none is started for it.
async fn open_vault(config: &Config) -> anyhow::Result<Vault> {
    let data = DataDir::new(&config.data_dir);
    let database = match &config.database {
        Some(database) => database.clone(),
        None => match LocalPostgres::attach(&data.postgres()).await? {
            Some(url) => url.parse()?,
            None => bail!("no PostgreSQL runs in {}: give --database-url", data.path().display()),
        },
    };
    let master_key = match &config.master_key {
        Some(key) => key.clone(),
        None if data.master_key().is_file() => MasterKey::load_or_create(&data.master_key())?,
        None => bail!("there is no {}: give --master-key", data.master_key().display()),
    };
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(PATIENCE)
        .connect_lazy_with(database);
    Vault::open(pool, master_key).await.context("the vault")
}

#[async_trait]
impl Authenticator for Accounts {
    async fn rights(&self, user: &str, password: &str) -> Result<Option<Rights>, CannotTell> {
        if let Some(service) = self.service.as_ref().filter(|service| service.user == user) {
            // Hashes of this kind are compared in constant time.
            let same = service.password == blake3::hash(password.as_bytes());
            return Ok(same.then_some(Rights { read: true, append: true }));
        }
        let (email, password) = unescaped(user, password);
        self.rights_of(&email, &password).await.map_err(|error| CannotTell(format!("{error:#}")))
    }

    /// By the address, of which the vault takes upper and lower case for the same. The credential is not guessed.
    fn account(&self, user: &str) -> Option<String> {
        let service = self.service.as_ref().is_some_and(|service| service.user == user);
        (!service).then(|| unescaped(user, "").0.trim().to_lowercase())
    }
}

/// Some clients send user and password as they are written in their address, `ana%40example.com`: an account's name has an
/// @, so they show.
fn unescaped<'a>(user: &'a str, password: &'a str) -> (Cow<'a, str>, Cow<'a, str>) {
    let decoded = |text: &'a str| percent_decode_str(text).decode_utf8();
    match (decoded(user), decoded(password)) {
        (Ok(name), Ok(password)) if !user.contains('@') && name.contains('@') => (name, password),
        _ => (user.into(), password.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_a_user_and_a_long_password() {
        let credential: Credential = "roles:0123456789abcdef".parse().unwrap();
        assert!(!format!("{credential:?}").contains("0123"));
        for wrong in [
            "",
            "roles",
            ":0123456789abcdef",
            "roles:short",
            "a@b:0123456789abcdef",
            "roles:0123456789abcde/",
        ] {
            assert!(wrong.parse::<Credential>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_clients_leave_escaped_is_told_from_what_is_meant() {
        for (sent, meant) in [
            (("ana%40example.com", "a%20b%2B"), ("ana@example.com", "a b+")),
            (("ana@example.com", "100%25"), ("ana@example.com", "100%25")),
            (("roles", "a%20b"), ("roles", "a%20b")),
            (("ana%40example.com", "%ff"), ("ana%40example.com", "%ff")),
        ] {
            let (user, password) = unescaped(sent.0, sent.1);
            assert_eq!((&*user, &*password), meant);
        }
    }
}
