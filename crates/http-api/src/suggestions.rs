//! Completions of what is being typed, and the gathering of the popular ones, now and then.

use std::{sync::Arc, thread, time::Duration};

use axum::{Json, extract::State};
use serde::Serialize;
use souk_projections::searches;
use souk_search::{FoundQuery, SearchIndex, SuggestedFacet, Suggestion, SuggestionKind};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep},
};
use utoipa::ToSchema;

use crate::{
    Api,
    answer::view,
    extract::{MinPosition, Params},
    problem::{Problem, ProblemBody},
};

/// Enough for a box under a search field.
const USUAL: i64 = 10;
/// How long what is popular stays as it is, at least.
const EVERY: Duration = Duration::from_secs(5);
/// And so many times as long as it took to gather.
const REST: u32 = 50;
/// A start has better things to do at first.
const FIRST: Duration = Duration::from_secs(1);
/// How long gathering waits for the views to know what is searched for.
const PATIENCE: Duration = Duration::from_secs(2);
/// As `nice` counts.
#[cfg(target_os = "linux")]
const LOWEST_PRIORITY: i32 = 19;
/// The queries that others are offered, the most popular ones.
const QUERIES: u32 = 50_000;

#[derive(Serialize, ToSchema)]
pub(crate) struct SuggestionsAnswer {
    suggestions: Vec<SuggestionBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Suggestion)]
pub(crate) struct SuggestionBody {
    text: String,
    /// `query`, `brand`, `category` or `item`.
    kind: &'static str,
    /// The filter it leads to.
    facet: Option<SuggestedFacetBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SuggestedFacet)]
pub(crate) struct SuggestedFacetBody {
    /// `brand` or `category`, as `GET /v1/items` takes it.
    name: String,
    value: String,
}

impl From<Suggestion> for SuggestionBody {
    fn from(suggestion: Suggestion) -> Self {
        let kind = match suggestion.kind {
            SuggestionKind::Query => "query",
            SuggestionKind::Brand => "brand",
            SuggestionKind::Category => "category",
            SuggestionKind::Title => "item",
        };
        let facet = suggestion.facet.map(|SuggestedFacet { name, value }| SuggestedFacetBody {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
        });
        Self { text: suggestion.text, kind, facet }
    }
}

/// Complete a prefix.
#[utoipa::path(get, path = "/v1/suggestions", tag = "Catalogue",
    params(("prefix" = Option<String>, Query), ("size" = Option<u32>, Query), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = SuggestionsAnswer), (status = 400, body = ProblemBody), (status = 422, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn suggest(
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<SuggestionsAnswer>, Problem> {
    let prefix = params.text("prefix").unwrap_or_default();
    let size = params.number("size", 1..=100).unwrap_or(USUAL) as usize;
    params.finish()?;
    let index = api.index()?;
    api.see(&[view::SEARCH], min).await?;
    let _turn = api.searches.acquire().await.map_err(Problem::internal)?;
    let found =
        tokio::task::spawn_blocking(move || index.suggest(&prefix, size)).await.map_err(Problem::internal)?;
    Ok(Json(SuggestionsAnswer { suggestions: found.into_iter().map(SuggestionBody::from).collect() }))
}

/// Gathers what is popular whenever something has happened. Without the log or PostgreSQL what was gathered before stays.
pub(crate) async fn keep(api: Arc<Api>, index: Arc<SearchIndex>) {
    tokio::select! {
        () = api.stop.cancelled() => {}
        () = gather(&api, &index) => {}
    }
}

async fn gather(api: &Api, index: &Arc<SearchIndex>) {
    let (mut queries, mut seen, mut rest) = (Vec::new(), None, FIRST);
    loop {
        sleep(rest).await;
        rest = EVERY;
        let head = api.market.log.head().await.ok();
        if head.is_some() && head == seen {
            continue;
        }
        let mut whole = head.is_some();
        if let Some(Some(head)) = head {
            for view in [view::SEARCHES, view::SEARCH] {
                whole &= api.projections.wait_for(view, head, PATIENCE).await.is_ok();
            }
        }
        let began = Instant::now();
        match searches::popular(&api.pool, api.market.clock.now().date_naive(), QUERIES).await {
            Ok(found) => queries = found.into_iter().map(found_query).collect(),
            Err(error) => {
                whole = false;
                tracing::debug!(%error, "the queries that are suggested stay as they are");
            }
        }
        let (gathering, of_others) = (Arc::clone(index), queries.clone());
        let gathered = in_spare_time(move || gathering.gather_suggestions(&of_others)).await;
        match gathered {
            Ok(Ok(bytes)) => {
                metrics::gauge!("souk_suggestions_bytes").set(bytes as f64);
                seen = if whole { head } else { None };
            }
            Ok(Err(error)) => tracing::warn!(%error, "suggestions were not gathered"),
            Err(error) => tracing::error!(%error, "suggestions were not gathered"),
        }
        rest = rest.max(REST * began.elapsed());
    }
}

/// On a thread of its own that gets the processor while nobody else wants it: suggestions are asked for meanwhile, and each
/// takes but a thousandth of the time.
async fn in_spare_time<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SpareTimeError> {
    let (done, result) = oneshot::channel();
    let thread = thread::Builder::new().name("spare-time".into());
    thread.spawn(move || {
        // On Linux a thread has a priority of its own; elsewhere the whole program would get it.
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::setpriority_process(None, LOWEST_PRIORITY) {
            tracing::debug!(%error, "suggestions are gathered at the usual priority");
        }
        // Nobody listens any more where the program is about to end.
        let _ = done.send(work());
    })?;
    Ok(result.await?)
}

#[derive(Debug, thiserror::Error)]
enum SpareTimeError {
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
    #[error("the thread ended before its work was done")]
    Ended(#[from] oneshot::error::RecvError),
}

fn found_query(popular: searches::PopularQuery) -> FoundQuery {
    let facet = popular.leads_to.map(|facet| SuggestedFacet::new(&facet.name, &facet.value));
    FoundQuery { text: popular.query, facet }
}
