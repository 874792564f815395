//! `souk serve`: starts the roles, answers, and drains when told to stop: no new connections, the requests under way,
//! the process manager, the projectors, the log, PostgreSQL. A second signal stops at once; what is durable is durable
//! at any moment, and the next start takes up the rest.

use std::{
    io::IsTerminal,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use axum::serve::ListenerExt;
use souk_backup::Store;
use souk_commands::Market;
use souk_gateways::sandbox::Script;
use souk_http_api::{Api, Parts, Settings};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use crate::{
    anchors::Anchoring,
    config::{Config, ConfigError},
    data_dir::Occupant,
    event_server::{self, EventServer},
    telemetry,
    wiring::{Gateways, Sender, Site, Workers},
};

/// How long a start waits for the views before it answers without them.
const VIEWS_PATIENCE: Duration = Duration::from_secs(3);

pub(crate) async fn run(config: Config) -> anyhow::Result<()> {
    let signals = Signals::listen()?;
    let script = match &config.serve.sandbox {
        Some(file) => Script::read(file).map_err(|error| ConfigError::new("--sandbox", error))?,
        None => Script::default(),
    };
    let server = tokio::select! {
        server = Server::start(&config, "souk serve", script) => server?,
        // Nothing was acknowledged yet, so nothing is lost.
        () = signals.first.cancelled() => return Ok(()),
    };
    signals.first.cancelled().await;
    server.drain().await
}

/// A market that answers.
pub(crate) struct Server {
    config: Config,
    site: Site,
    pub(crate) market: Arc<Market>,
    pub(crate) workers: Workers,
    anchoring: Option<Anchoring>,
    /// None without the role `process`.
    webhooks: Option<Sender>,
    /// None without the role `api`.
    http: Option<Http>,
    events: Option<EventServer>,
    metrics: SocketAddr,
    stop_metrics: CancellationToken,
}

struct Http {
    api: Arc<Api>,
    address: SocketAddr,
    stop: CancellationToken,
    running: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start(config: &Config, command: &str, script: Script) -> anyhow::Result<Self> {
        let began = Instant::now();
        let recorder = telemetry::collect()?;
        let settings = &config.serve;
        // Before anything else is started: two servers on one address, or on one directory, find out at once.
        let anchors = match &settings.anchor {
            Some((target, every)) => {
                let store = Store::create(target).map_err(|error| ConfigError::new("--anchor", error))?;
                Some((store, *every))
            }
            None => None,
        };
        let listener = if settings.roles.api { Some(listen(settings.listen).await?) } else { None };
        let event_listener = match &settings.event_server {
            Some(events) => Some(event_server::listen("--event-server-listen", events.listen).await?),
            None => None,
        };
        let roles = settings.roles.names().into_iter().map(str::to_owned).collect();
        let mut occupant = Occupant { roles, ..Occupant::new(command) };
        let mut site = Site::enter_alone(config, &occupant).await?;
        let stop_metrics = CancellationToken::new();
        let metrics = telemetry::expose(settings.metrics_listen, recorder, stop_metrics.clone()).await?;
        let gateways = Box::pin(site.gateways(script)).await?;
        let market = Box::pin(site.market_with(&gateways)).await?;
        let events = match (&settings.event_server, event_listener) {
            (Some(events), Some(listener)) => Some(EventServer::beside(&market, config, events, listener)?),
            _ => None,
        };
        let workers = site.follow(&market, settings.roles).await?;
        let anchoring = anchors.map(|(store, every)| Anchoring::start(store, Arc::clone(site.log()), every));
        let webhooks = settings.roles.process.then(|| site.send_webhooks(&market)).transpose()?;
        // A first start on a long log: the views fill while everything else is answered.
        if workers.projections.ready(VIEWS_PATIENCE).await.is_err() {
            tracing::warn!("some views are still being built; /readyz tells how far they are");
        }
        let http = match listener {
            Some(listener) => Some(Http::start(&site, &market, &workers, gateways, listener)?),
            None => None,
        };
        occupant.listen = http.as_ref().map(|http| http.address);
        occupant.metrics_listen = Some(metrics);
        site.tell(&occupant)?;
        let config = config.clone();
        let server =
            Self { config, site, market, workers, anchoring, webhooks, http, events, metrics, stop_metrics };
        server.announce(began.elapsed());
        Ok(server)
    }

    /// Where the API answers.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.http.as_ref().map(|http| http.address)
    }

    fn announce(&self, took: Duration) {
        let roles = self.config.serve.roles.names().join(",");
        let api = self.address().map(|address| format!("http://{address}"));
        let metrics = format!("http://{}/metrics", self.metrics);
        let events = self.events.as_ref().map(|server| server.address.to_string());
        let data = self.site.data().path().display();
        tracing::info!(api, metrics, events, %data, roles, took_ms = took.as_millis() as u64, "souk is ready");
        if std::io::stdout().is_terminal() {
            if let Some(api) = api {
                println!("API      {api}   (try it: {api}/docs)");
            }
            if let Some(events) = events {
                println!("events   {events}");
            }
            println!("metrics  {metrics}");
            println!("data     {data}");
        }
    }

    pub(crate) async fn drain(self) -> anyhow::Result<()> {
        tracing::info!("draining; a second signal stops at once");
        let Self { config, site, market, workers, webhooks, anchoring, http, events, stop_metrics, .. } =
            self;
        if let Some(http) = http {
            http.drain(config.serve.drain_timeout).await;
        }
        if let Some(events) = events {
            events.drain(config.serve.drain_timeout).await;
        }
        if let Some(webhooks) = webhooks {
            webhooks.stop().await;
        }
        workers.stop().await;
        if let Some(anchoring) = anchoring {
            anchoring.stop().await;
        }
        drop(market);
        stop_metrics.cancel();
        site.leave().await?;
        tracing::info!("drained");
        Ok(())
    }
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("--listen {address}: nobody can listen there"))
}

impl Http {
    fn start(
        site: &Site,
        market: &Arc<Market>,
        workers: &Workers,
        gateways: Gateways,
        listener: TcpListener,
    ) -> anyhow::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let parts = Parts {
            market: Arc::clone(market),
            pool: site.pool().clone(),
            projections: workers.projections.clone(),
            search: workers.index.clone(),
            recommender: workers.recommender.clone(),
            process: workers.process(),
            settings: Settings { webhook_reach: site.config().serve.webhook_reach, ..Settings::default() },
            stripe: gateways.stripe,
            sandbox: gateways.sandbox,
        };
        let api = Api::start(parts, stop.clone());
        let service =
            souk_http_api::router(Arc::clone(&api)).into_make_service_with_connect_info::<SocketAddr>();
        // Otherwise the second of two small writes, as of events that are followed, waits for the client's delayed
        // acknowledgement of the first: up to 40 ms.
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(%error, "a connection keeps its delay");
            }
        });
        let server = axum::serve(listener, service).with_graceful_shutdown(stop.clone().cancelled_owned());
        let running = tokio::spawn(server.into_future());
        Ok(Self { api, address, stop, running })
    }

    /// Waits for the requests under way, but not for ever: a client that reads nothing is left behind.
    async fn drain(mut self, patience: Duration) {
        self.stop.cancel();
        match tokio::time::timeout(patience, &mut self.running).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => tracing::error!(%error, "the HTTP server ended badly"),
            Ok(Err(error)) => tracing::error!(%error, "the HTTP server ended badly"),
            Err(_) => {
                tracing::warn!(?patience, "some requests did not end in time and are cut off");
                self.running.abort();
            }
        }
        self.api.finish().await;
    }
}

/// The first SIGINT or SIGTERM cancels a token, the second ends the process.
pub(crate) struct Signals {
    pub(crate) first: CancellationToken,
}

impl Signals {
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let mut signals = Both::listen()?;
        let first = CancellationToken::new();
        let token = first.clone();
        tokio::spawn(async move {
            signals.next().await;
            token.cancel();
            signals.next().await;
            eprintln!("souk: stopped at once");
            std::process::exit(1);
        });
        Ok(Self { first })
    }
}

/// Returns at the first SIGINT or SIGTERM.
pub(crate) async fn signalled() -> anyhow::Result<()> {
    Both::listen()?.next().await;
    Ok(())
}

struct Both {
    interrupt: Signal,
    terminate: Signal,
}

impl Both {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
