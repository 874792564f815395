//! What people search for, and above all what they do not find.

use std::sync::Arc;

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::Serialize;
use souk_projections::searches::{self as view, KEPT_DAYS, QueryFilter, QueryView};
use utoipa::ToSchema;

use crate::{
    Api, answer,
    auth::Admin,
    extract::{MinPosition, Params},
    problem::{Problem, ProblemBody},
};

const USUAL_DAYS: u32 = 30;

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SearchPage {
    searches: Vec<SearchedBody>,
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Searched)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SearchedBody {
    /// In lower case, without accents.
    query: String,
    searches: u64,
    /// Null where only clicks are known.
    last_hits: Option<u64>,
    /// What the last one searched for instead: the query has a word that no item has.
    corrected_query: Option<String>,
    /// Whether the last one found no item that has all of the words.
    fewer_words: bool,
    clicks: u64,
    last_at: DateTime<Utc>,
}

impl From<QueryView> for SearchedBody {
    fn from(view: QueryView) -> Self {
        let QueryView { query, searches, last_hits, corrected_query, fewer_words, clicks, last_at } = view;
        Self { query, searches, last_hits, corrected_query, fewer_words, clicks, last_at }
    }
}

/// What was searched for, the most frequent first.
#[utoipa::path(get, path = "/v1/admin/searches", tag = "Administration", security(("bearer" = [])),
    params(("withoutResults" = Option<bool>, Query, description = "Only what found nothing when it was last searched for, or only by other or fewer words."),
        ("days" = Option<u32>, Query), ("cursor" = Option<String>, Query), ("size" = Option<u32>, Query),
        ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = SearchPage), (status = 400, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 422, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn list(
    _admin: Admin,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<SearchPage>, Problem> {
    let filter = QueryFilter {
        without_results: params.parsed("withoutResults", "true or false").unwrap_or(false),
        days: params.number("days", 1..=KEPT_DAYS.into()).map_or(USUAL_DAYS, |days| days as u32),
    };
    let (cursor, size) = params.page();
    params.finish()?;
    api.see(&[answer::view::SEARCHES], min).await?;
    let today = api.market.clock.now().date_naive();
    let page = view::queries(&api.pool, filter, today, cursor.as_deref(), size).await?;
    let searches = page.rows.into_iter().map(SearchedBody::from).collect();
    Ok(Json(SearchPage { searches, next_cursor: page.next_cursor }))
}
