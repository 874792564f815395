//! What runs behind the command side: process manager, bookkeeper and returns, projectors, search index.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, bail};
use serde_json::Value;
use souk_commands::{
    Market,
    after::{self, AfterSales},
    checkout::{ProcessManager, Settings},
};
use souk_event_log::EventLog;
use souk_projections::{
    Projections, read_models,
    recommendations::{RecommendationsProjector, Recommender},
    runner::BESIDE,
    search::SearchProjector,
};
use souk_recommendations::Book;
use souk_search::SearchIndex;
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

use super::Site;
use crate::{
    client::Client,
    config::{EventLogChoice, Roles},
    lease,
    progress::Progress,
    synonyms,
};

/// Tries of one effect of a checkout before an operator has to look.
const ATTEMPTS: u32 = 12;

/// What runs behind the command side.
pub(crate) struct Workers {
    log: Arc<dyn EventLog>,
    /// The names of all there are.
    views: Vec<&'static str>,
    /// The server beside, if one runs.
    server: Option<Client>,
    pub(crate) projections: Projections,
    pub(crate) index: Option<Arc<SearchIndex>>,
    pub(crate) recommender: Option<Arc<Recommender>>,
    process: Option<(Arc<ProcessManager>, JoinHandle<()>)>,
    /// Bookkeeper and returns.
    after: Option<JoinHandle<()>>,
    stop: CancellationToken,
}

impl Workers {
    pub(crate) fn process(&self) -> Option<Arc<ProcessManager>> {
        self.process.as_ref().map(|(manager, _)| Arc::clone(manager))
    }

    /// Every generation of every view, as `/readyz` has them. A server beside is asked: nobody else can look into its
    /// search index.
    pub(crate) async fn statuses(&self) -> anyhow::Result<Vec<Value>> {
        let statuses = match &self.server {
            Some(server) => server.ready().await.context("the running server")?["projectors"].clone(),
            None => serde_json::to_value(self.projections.status().await)?,
        };
        Ok(statuses.as_array().cloned().unwrap_or_default())
    }

    /// Waits until every view, whoever writes it, holds what the log holds now.
    pub(crate) async fn catch_up(&self) -> anyhow::Result<()> {
        let Some(head) = self.log.head().await? else { return Ok(()) };
        let progress = Progress::new("views", head + 1);
        loop {
            let statuses = self.statuses().await?;
            if let Some(stopped) = statuses.iter().find(|status| status["state"] == "stopped") {
                bail!("the view {} has stopped: {}", stopped["name"], stopped["error"]);
            }
            // `None` of a view that does not answer yet.
            let behind = self.views.iter().map(|name| {
                let served =
                    statuses.iter().find(|status| status["name"] == *name && status["served"] == true)?;
                served["position"].as_u64()
            });
            let slowest = behind.min().flatten();
            progress.set(slowest.map_or(0, |position| (position + 1).min(head + 1)));
            if slowest >= Some(head) {
                break;
            }
            sleep(Duration::from_millis(50)).await;
        }
        progress.finish();
        Ok(())
    }

    /// Each finishes what it is at and notes where it is.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Some((_, running)) = self.process
            && let Err(error) = running.await
        {
            tracing::error!(%error, "the process manager ended badly");
        }
        if let Some(running) = self.after
            && let Err(error) = running.await
        {
            tracing::error!(%error, "the bookkeeper, or the process of returns, ended badly");
        }
        self.projections.shutdown().await;
    }
}

impl Site {
    /// Starts those of the roles that no server beside has already.
    pub(crate) async fn follow(&self, market: &Arc<Market>, roles: Roles) -> anyhow::Result<Workers> {
        let free = |wanted: bool, role: &str| {
            wanted && !self.other.as_ref().is_some_and(|other| other.has_role(role))
        };
        // The index has one owner, and beside a server that is the server.
        let index = if free(roles.search, "search") && self.lock.is_some() {
            let place = self.data.search();
            let opened = tokio::task::spawn_blocking(move || {
                SearchIndex::open(&place, souk_search::Config::default())
            });
            Some(opened.await?.context("the search index")?)
        } else {
            None
        };
        // What is recommended is found in the index.
        let book = if index.is_some() {
            let place = self.data.recommendations();
            let opened = tokio::task::spawn_blocking(move || Book::open(&place));
            Some(opened.await?.context("recommendations")?)
        } else {
            None
        };
        let projectors = if free(roles.project, "project") { read_models() } else { vec![] };
        let projections = Projections::start(
            Arc::clone(&self.log),
            self.database.clone(),
            projectors,
            index.clone().map(SearchProjector::new),
            book.clone().map(RecommendationsProjector::new),
        );
        let stop = CancellationToken::new();
        if let (Some(index), Some(file)) = (&index, &self.config.serve.synonyms) {
            synonyms::follow(Arc::clone(index), file.clone(), stop.clone())?;
        }
        let process = free(roles.process, "process").then(|| {
            let settings = Settings {
                deadline: self.config.serve.checkout_deadline,
                attempts: ATTEMPTS,
                snapshot: Some(self.data.checkouts()),
            };
            let manager = ProcessManager::new(Arc::clone(market), settings);
            let work = Arc::clone(&manager);
            let running = self.lead("process manager", &stop, move |turn| Arc::clone(&work).run(turn));
            (manager, running)
        });
        let after = free(roles.process, "process").then(|| {
            let commissions = self.config.serve.commissions.clone();
            let settings = after::Settings { commissions, notes: Some(self.data.path().to_owned()) };
            let after = AfterSales::new(Arc::clone(market), settings);
            self.lead("after sales", &stop, move |turn| Arc::clone(&after).run(turn))
        });
        let server = self.server().map(|address| Client::new(&format!("http://{address}"))).transpose()?;
        let searched = index.is_some() || self.other.as_ref().is_some_and(|other| other.has_role("search"));
        let models = read_models();
        let views = models.iter().map(|model| model.name()).chain(BESIDE.into_iter().filter(|_| searched));
        Ok(Workers {
            log: Arc::clone(&self.log),
            views: views.collect(),
            server,
            projections,
            recommender: index.clone().zip(book).map(|(index, book)| Arc::new(Recommender::new(book, index))),
            index,
            process,
            after,
            stop,
        })
    }

    /// With a log of our own nobody else does the same work; with a server's others may, and one of them leads.
    fn lead<W: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        stop: &CancellationToken,
        work: impl Fn(CancellationToken) -> W + Send + 'static,
    ) -> JoinHandle<()> {
        match &self.config.event_log {
            EventLogChoice::Sqlite => tokio::spawn(work(stop.clone())),
            EventLogChoice::Server(_) => {
                tokio::spawn(lease::lead(self.database.clone(), name, stop.clone(), work))
            }
        }
    }
}
