//! Completions of what is being typed.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use souk_search::{Suggestion, SuggestionKind};
use utoipa::ToSchema;

use crate::{
    Api,
    answer::view,
    extract::{MinPosition, Params},
    problem::{Problem, ProblemBody},
};

/// Enough for a box under a search field.
const USUAL: i64 = 10;

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
}

impl From<Suggestion> for SuggestionBody {
    fn from(suggestion: Suggestion) -> Self {
        let kind = match suggestion.kind {
            SuggestionKind::Query => "query",
            SuggestionKind::Brand => "brand",
            SuggestionKind::Category => "category",
            SuggestionKind::Title => "item",
        };
        Self { text: suggestion.text, kind }
    }
}

/// Complete a prefix.
#[utoipa::path(get, path = "/v1/suggestions", tag = "Catalogue",
    params(("prefix" = Option<String>, Query), ("size" = Option<u32>, Query), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = SuggestionsAnswer), (status = 422, body = ProblemBody), (status = 503, body = ProblemBody)))]
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
