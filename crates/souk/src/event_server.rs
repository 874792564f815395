//! The event server beside everything else (`souk serve --event-server-listen`), or alone (`souk events serve`). Who may
//! use it is told by Souk's accounts: analysts and admins read. The one who appends is no account, but the credential that
//! the processes of one market share.

use std::{
    borrow::Cow, collections::BTreeSet, fmt, io::Write, net::SocketAddr, str::FromStr, sync::Arc,
    time::Duration,
};

use anyhow::Context;
use async_trait::async_trait;
use percent_encoding::percent_decode_str;
use souk_commands::{Market, checkout::Checkout, clock::Clock, flows::accounts};
use souk_domain::{
    Decider,
    account::{Account, Role, Standing},
    cart::Cart,
    inventory::Inventory,
    item::Item,
    order::Orders,
    payment::Payment,
    shipment::Shipment,
};
use souk_event_log::EventLog;
use souk_event_server::{Access, Authenticator, CannotTell, Options, Rights};
use souk_gateways::sandbox::Script;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, ConfigError},
    data_dir::DataDir,
    serve::Signals,
    wiring::{Site, open_log},
};

/// As `souk help events serve` has it.
pub(crate) const COMMAND: &str = "souk events serve";
/// How long appends under way may take when the server alone is told to stop.
const DRAIN: Duration = Duration::from_secs(10);

#[derive(Clone, Debug)]
pub(crate) struct EventServerConfig {
    pub(crate) listen: SocketAddr,
    pub(crate) allow_append: bool,
    pub(crate) credential: Option<Credential>,
    /// Anybody may do anything.
    pub(crate) insecure: bool,
}

impl EventServerConfig {
    pub(crate) fn check(self) -> Result<Self, ConfigError> {
        if self.insecure && !self.listen.ip().is_loopback() {
            let problem =
                format!("{} can be reached from elsewhere: only a loopback address may be", self.listen);
            return Err(ConfigError::new("--insecure", problem));
        }
        if self.insecure && self.credential.is_some() {
            return Err(ConfigError::new("--insecure", "with --event-server-credential it makes no sense"));
        }
        if self.allow_append && !self.insecure && self.credential.is_none() {
            return Err(ConfigError::new(
                "--allow-append",
                "nobody could: give --event-server-credential too",
            ));
        }
        Ok(self)
    }
}

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

/// An event server that answers.
pub(crate) struct EventServer {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl EventServer {
    pub(crate) fn start(
        log: Arc<dyn EventLog>,
        config: &EventServerConfig,
        access: Access,
        listener: TcpListener,
    ) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let clock = Clock::system();
        let options = Options {
            allow_append: config.allow_append,
            protected: categories(),
            ..Options::new(access, Arc::new(move || clock.now()))
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(souk_event_server::serve(log, options, listener, stop.clone()));
        Ok(Self { address, stop, running })
    }

    /// Ends subscriptions and waits for appends under way, but not for ever.
    pub(crate) async fn drain(mut self, patience: Duration) {
        self.stop.cancel();
        match tokio::time::timeout(patience, &mut self.running).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "the event server ended badly"),
            Ok(Err(error)) => tracing::error!(%error, "the event server ended badly"),
            Err(_) => {
                tracing::warn!(
                    ?patience,
                    "some calls of the event server did not end in time and are cut off"
                );
                self.running.abort();
            }
        }
    }
}

pub(crate) async fn listen(flag: &'static str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{flag} {address}: nobody can listen there"))
}

/// The market's own: docs/events.md.
fn categories() -> BTreeSet<String> {
    let categories = [
        Account::CATEGORY,
        Cart::CATEGORY,
        Checkout::CATEGORY,
        Inventory::CATEGORY,
        Item::CATEGORY,
        Orders::CATEGORY,
        Payment::CATEGORY,
        Shipment::CATEGORY,
    ];
    categories.into_iter().map(str::to_owned).collect()
}

/// Serves the log of the data directory until told to stop, beside a running server or without one.
pub(crate) async fn run(config: Config, server: EventServerConfig) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let server = server.check()?;
    let listener = listen("--listen", server.listen).await?;
    if server.insecure {
        let data = DataDir::new(&config.data_dir);
        data.create()?;
        let log = open_log(config.event_log, data).await?;
        return answer(log, &server, Access::Open, listener, &signals.first).await;
    }
    let site = Site::enter(&config, COMMAND).await?;
    let market = site.market(Script::default()).await?;
    let access = accounts(&market, &server);
    let answered = answer(Arc::clone(&market.log), &server, access, listener, &signals.first).await;
    drop(market);
    site.leave().await?;
    answered
}

async fn answer(
    log: Arc<dyn EventLog>,
    config: &EventServerConfig,
    access: Access,
    listener: TcpListener,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let server = EventServer::start(log, config, access, listener)?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "event server listening on {}", server.address)?;
    output.flush()?;
    drop(output);
    stop.cancelled().await;
    server.drain(DRAIN).await;
    Ok(())
}

/// Access by the accounts of the market, and by the service credential.
pub(crate) fn accounts(market: &Arc<Market>, config: &EventServerConfig) -> Access {
    let (market, service) = (Arc::clone(market), config.credential.clone());
    Access::Checked(Arc::new(Accounts { market, service }))
}

struct Accounts {
    market: Arc<Market>,
    service: Option<Credential>,
}

#[async_trait]
impl Authenticator for Accounts {
    async fn rights(&self, user: &str, password: &str) -> Result<Option<Rights>, CannotTell> {
        if let Some(service) = self.service.as_ref().filter(|service| service.user == user) {
            // Hashes of this kind are compared in constant time.
            let same = service.password == blake3::hash(password.as_bytes());
            return Ok(same.then_some(Rights { read: true, append: true }));
        }
        let (user, password) = unescaped(user, password);
        let account = self.market.vault.verify_password(&user, &password).await.map_err(cannot_tell)?;
        let Some(account) = account else { return Ok(None) };
        let state = accounts::find(&self.market, account).await.map_err(cannot_tell)?.value;
        let read = [Role::Analyst, Role::Admin].iter().any(|role| state.roles.contains(role));
        Ok((state.standing == Standing::Active).then_some(Rights { read, append: false }))
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

fn cannot_tell(error: impl fmt::Display) -> CannotTell {
    CannotTell(error.to_string())
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

    #[test]
    fn what_makes_no_sense_is_refused() {
        let config = |listen: &str, allow_append, credential: Option<&str>, insecure| EventServerConfig {
            listen: listen.parse().unwrap(),
            allow_append,
            credential: credential.map(|credential| credential.parse().unwrap()),
            insecure,
        };
        let credential = Some("roles:0123456789abcdef");
        for right in [
            config("127.0.0.1:2113", true, None, true),
            config("[::1]:2113", false, None, true),
            config("0.0.0.0:2113", false, None, false),
            config("0.0.0.0:2113", true, credential, false),
        ] {
            assert!(right.clone().check().is_ok(), "{right:?}");
        }
        for (wrong, field) in [
            (config("0.0.0.0:2113", true, None, true), "--insecure"),
            (config("127.0.0.1:2113", true, credential, true), "--insecure"),
            (config("127.0.0.1:2113", true, None, false), "--allow-append"),
        ] {
            assert_eq!(wrong.check().unwrap_err().field, field);
        }
    }
}
