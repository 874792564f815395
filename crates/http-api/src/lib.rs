//! Souk over HTTP: the contract of `docs/http.md`, one file per resource.
//!
//! A handler parses (`extract`, `validation`), runs a flow of the command side or a query of a view, and answers. What
//! can go wrong is mapped to a [`problem`] in one place per family (`errors`). Who asks is checked by the type of the
//! handler's first argument (`auth`). Commands run in tasks of their own, so that a client that hangs up tears nothing
//! in half.

mod accounts;
mod admin;
mod answer;
mod auth;
mod cart;
mod charges;
mod checkout;
mod consumers;
mod credit;
mod errors;
mod events;
mod extract;
mod health;
mod hub;
mod items;
mod ledger;
mod observe;
mod openapi;
mod orders;
mod past;
mod payments;
pub mod problem;
mod quote;
mod recommendations;
mod returns;
mod search;
mod search_events;
mod seller;
mod sessions;
mod shipments;
mod suggestions;
mod tracking;
mod validation;

use std::{future::Future, sync::Arc};

use axum::{Router, extract::DefaultBodyLimit, middleware};
use chrono::{DateTime, Utc};
use souk_commands::{Market, checkout::ProcessManager, searches::Searches};
use souk_domain::{AccountId, account::Role};
use souk_gateways::{sandbox::SandboxBank, stripe::Stripe};
use souk_projections::{Projections, recommendations::Recommender};
use souk_search::SearchIndex;
use souk_webhooks::Reach;
use sqlx::PgPool;
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_http::catch_panic::CatchPanicLayer;
use tracing::Instrument;

use crate::{
    auth::{Attempts, Revocations, Tokens},
    hub::Hub,
    observe::InFlight,
    payments::Payments,
    problem::{Kind, Problem},
    search_events::Measure,
};

/// An access token as logging in makes one, for a benchmark whose buyers are more than passwords could be hashed for.
///
/// # Errors
///
/// If the token cannot be signed, which a key of any length can.
pub fn access_token(
    signing_key: &[u8],
    account: AccountId,
    roles: impl IntoIterator<Item = Role>,
    now: DateTime<Utc>,
) -> Result<String, jsonwebtoken::errors::Error> {
    Tokens::new(signing_key).issue(account, roles, now)
}

/// The largest body taken, in bytes.
const BODY_LIMIT: usize = 1 << 20;

/// What the API works with; the binary puts it together.
pub struct Parts {
    pub market: Arc<Market>,
    /// For queries; the projections have connections of their own.
    pub pool: PgPool,
    pub projections: Projections,
    /// None where this process has no index: then there is no search here.
    pub search: Option<Arc<SearchIndex>>,
    /// Where there is an index.
    pub recommender: Option<Arc<Recommender>>,
    /// None where this process runs no checkouts.
    pub process: Option<Arc<ProcessManager>>,
    pub settings: Settings,
    /// None: there is nobody who would send webhooks.
    pub stripe: Option<Stripe>,
    /// None: the bank is a real one.
    pub sandbox: Option<SandboxBank>,
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Requests that are answered at the same time; the next one is sent away. Open event streams do not count.
    pub max_in_flight: usize,
    /// Live streams of all events, at the same time.
    pub max_event_streams: usize,
    /// Live streams of one order's statuses, at the same time.
    pub max_tracking_streams: usize,
    /// Searches that work at the same time; others wait for their turn.
    pub max_searches: usize,
    /// Looks into the past that work at the same time, each over whole streams; others wait for their turn.
    pub max_replays: usize,
    /// Where webhooks may be sent to.
    pub webhook_reach: Reach,
}

impl Default for Settings {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            max_in_flight: 20_000,
            max_event_streams: 64,
            max_tracking_streams: 20_000,
            max_searches: 2 * processors,
            max_replays: processors,
            webhook_reach: Reach::Public,
        }
    }
}

pub struct Api {
    market: Arc<Market>,
    pool: PgPool,
    projections: Projections,
    search: Option<Arc<SearchIndex>>,
    recommender: Option<Arc<Recommender>>,
    process: Option<Arc<ProcessManager>>,
    settings: Settings,
    tokens: Tokens,
    attempts: Attempts,
    revocations: Arc<Revocations>,
    hub: Arc<Hub>,
    in_flight: InFlight,
    payments: Payments,
    /// What is searched for goes to the log by this.
    noted: Searches,
    measure: Measure,
    searches: Semaphore,
    replays: Semaphore,
    event_streams: Arc<Semaphore>,
    tracking_streams: Arc<Semaphore>,
    commands: TaskTracker,
    stop: CancellationToken,
}

impl Api {
    /// Begins to follow the log, which needs a tokio runtime. When `stop` is cancelled, event streams end: connections
    /// can be drained.
    pub fn start(parts: Parts, stop: CancellationToken) -> Arc<Self> {
        let Parts { market, pool, projections, search, recommender, process, settings, stripe, sandbox } =
            parts;
        let (hub, revocations) = (Arc::<Hub>::default(), Arc::<Revocations>::default());
        let commands = TaskTracker::new();
        commands.spawn(hub::follow_orders(Arc::clone(&hub), Arc::clone(&market), stop.clone()));
        commands.spawn(hub::follow_accounts(Arc::clone(&revocations), Arc::clone(&market), stop.clone()));
        let (noted, recording) = Searches::begin(Arc::clone(&market), stop.clone());
        commands.spawn(recording);
        let api = Arc::new(Self {
            tokens: Tokens::new(market.vault.signing_key()),
            market,
            pool,
            projections,
            search,
            recommender,
            process,
            attempts: Attempts::default(),
            revocations,
            hub,
            in_flight: InFlight::default(),
            payments: Payments::new(stripe, sandbox),
            noted,
            measure: Measure::default(),
            searches: Semaphore::new(settings.max_searches),
            replays: Semaphore::new(settings.max_replays),
            event_streams: Arc::new(Semaphore::new(settings.max_event_streams)),
            tracking_streams: Arc::new(Semaphore::new(settings.max_tracking_streams)),
            settings,
            commands,
            stop,
        });
        if let Some(index) = &api.search {
            api.commands.spawn(suggestions::keep(Arc::clone(&api), Arc::clone(index)));
        }
        api
    }

    /// A turn to replay streams, of which only so many are at work at once.
    async fn turn_to_replay(&self) -> Result<SemaphorePermit<'_>, Problem> {
        match timeout(answer::SHORT_PATIENCE, self.replays.acquire()).await {
            Ok(turn) => turn.map_err(Problem::internal),
            Err(_) => {
                Err(Problem::new(Kind::Unavailable).detail("Too many look at the past.").retry_after(2))
            }
        }
    }

    /// Waits for commands whose clients have hung up; call it after the last connection is gone and `stop` is cancelled.
    pub async fn finish(&self) {
        self.commands.close();
        self.commands.wait().await;
    }

    /// Runs a command to its end, whether or not somebody still waits for the answer.
    async fn run<T: Send + 'static>(
        &self,
        command: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        self.commands.spawn(command.in_current_span()).await.map_err(|error| match error.try_into_panic() {
            Ok(panic) => {
                Problem::internal(format_args!("a command panicked: {}", observe::panic_message(&*panic)))
            }
            Err(error) => Problem::unavailable(error),
        })
    }
}

/// Every call of the contract, with OpenAPI at `/openapi.json` and a page to try it at `/docs`. Serve it with
/// `into_make_service_with_connect_info::<SocketAddr>()`, so that failed log-ins are counted by address.
pub fn router(api: Arc<Api>) -> Router {
    openapi::routes()
        .fallback(observe::not_found)
        .method_not_allowed_fallback(observe::method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(CatchPanicLayer::custom(observe::panicked))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), observe::observe))
        .with_state(api)
}
