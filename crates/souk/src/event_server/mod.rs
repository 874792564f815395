//! The event server beside everything else (`souk serve --event-server-listen`), or alone (`souk events serve`). Who may
//! use it is told by Souk's accounts: analysts and admins read. The one who appends is no account, but the credential that
//! the processes of one market share.

mod accounts;

use std::{collections::BTreeSet, io::Write, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use souk_commands::{Market, checkout::Checkout, clock::Clock};
use souk_domain::{
    Decider, account::Account, cart::Cart, credit::Credit, inventory::Inventory, item::Item, ledger::Ledger,
    order::Orders, payment::Payment, promotion::Promotion, returns::Returns, search, shipment::Shipment,
    synonyms::Synonyms,
};
use souk_event_log::EventLog;
use souk_event_server::{Access, Options};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, ConfigError},
    data_dir::DataDir,
    serve::Signals,
    wiring::open_log,
};
use accounts::Accounts;
pub(crate) use accounts::Credential;

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

/// An event server that answers.
pub(crate) struct EventServer {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl EventServer {
    /// Beside a market, with its accounts.
    pub(crate) fn beside(
        market: &Market,
        config: &Config,
        server: &EventServerConfig,
        listener: TcpListener,
    ) -> anyhow::Result<Self> {
        Self::start(Arc::clone(&market.log), server, Accounts::of(market, config, server), listener)
    }

    fn start(
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
        Ledger::CATEGORY,
        Payment::CATEGORY,
        Returns::CATEGORY,
        Shipment::CATEGORY,
        search::CATEGORY,
        Synonyms::CATEGORY,
        Promotion::CATEGORY,
        Credit::CATEGORY,
    ];
    categories.into_iter().map(str::to_owned).collect()
}

/// Serves the log of the data directory until told to stop, beside a running server or without one.
pub(crate) async fn run(config: Config, server: EventServerConfig) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let server = server.check()?;
    let listener = listen("--listen", server.listen).await?;
    let data = DataDir::new(&config.data_dir);
    data.create()?;
    let log = open_log(config.event_log.clone(), data).await?;
    let access =
        if server.insecure { Access::Open } else { Accounts::later(Arc::clone(&log), &config, &server) };
    let server = EventServer::start(log, &server, access, listener)?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "event server listening on {}", server.address)?;
    output.flush()?;
    drop(output);
    signals.first.cancelled().await;
    server.drain(DRAIN).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_categories_of_the_catalogue_are_protected() {
        let catalogue = include_str!("../../../../docs/events.md");
        let headings = catalogue.lines().filter_map(|line| line.strip_prefix("## `")?.split('-').next());
        assert_eq!(headings.map(str::to_owned).collect::<BTreeSet<_>>(), categories());
    }
}
