//! What to show beside an item, and on a home page. Asks the search index and the book of purchases alone: it answers while
//! PostgreSQL is down, and while the log is, then without what is in the cart.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use serde::Serialize;
use souk_commands::flows::carts;
use souk_domain::{AccountId, ItemId};
use souk_projections::recommendations::{Because, Recommendation, RecommendationError, Recommender};
use tokio::time::timeout;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    answer::view,
    auth::Visitor,
    extract::{MinPosition, Params, PathId},
    problem::{Problem, ProblemBody},
    search::HitBody,
};

/// Enough for a row on a page.
const USUAL: i64 = 10;
/// How long a home page waits for the cart.
const CART_PATIENCE: Duration = Duration::from_millis(200);

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RelatedAnswer {
    /// What is bought in one order with it; of an item that few have bought also what is bought with items like it.
    bought_together: Vec<HitBody>,
    /// What could be bought in its place.
    similar: Vec<HitBody>,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct RecommendationsAnswer {
    items: Vec<RecommendationBody>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Recommendation)]
pub(crate) struct RecommendationBody {
    #[serde(flatten)]
    item: HitBody,
    reason: ReasonBody,
}

#[derive(Serialize, ToSchema)]
#[schema(as = RecommendationReason)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReasonBody {
    /// `boughtTogether`, `similar`, `popularInCategory` or `popular`.
    kind: &'static str,
    /// Of what the buyer bought or has in the cart, the one that this goes with or is like.
    #[serde(skip_serializing_if = "Option::is_none")]
    item_id: Option<Uuid>,
    /// From the root.
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<Vec<String>>,
}

impl From<Because> for ReasonBody {
    fn from(because: Because) -> Self {
        let plain = |kind| Self { kind, item_id: None, category: None };
        match because {
            Because::BoughtTogether(item) => Self { item_id: Some(item), ..plain("boughtTogether") },
            Because::Similar(item) => Self { item_id: Some(item), ..plain("similar") },
            Because::PopularInCategory(path) => Self { category: Some(path), ..plain("popularInCategory") },
            Because::Popular => plain("popular"),
        }
    }
}

impl From<Recommendation> for RecommendationBody {
    fn from(recommendation: Recommendation) -> Self {
        Self { item: recommendation.hit.into(), reason: recommendation.because.into() }
    }
}

/// What goes with an item, and what is like it.
#[utoipa::path(get, path = "/v1/items/{itemId}/related", tag = "Catalogue",
    params(("itemId" = Uuid, Path), ("size" = Option<u32>, Query, description = "Of each list, 1 to 100."),
        ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = RelatedAnswer), (status = 400, body = ProblemBody), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody),
        (status = 503, body = ProblemBody)))]
pub(crate) async fn related(
    State(api): State<Arc<Api>>,
    PathId(item): PathId<ItemId>,
    MinPosition(min): MinPosition,
    params: Params,
) -> Result<Json<RelatedAnswer>, Problem> {
    let size = size(params)?;
    api.see(&[view::SEARCH, view::RECOMMENDATIONS], min).await?;
    let found = api.recommend(move |recommender| recommender.related(item, size)).await?;
    let related = found.ok_or_else(|| Problem::not_found("item"))?;
    Ok(Json(RelatedAnswer {
        bought_together: related.bought_together.into_iter().map(HitBody::from).collect(),
        similar: related.similar.into_iter().map(HitBody::from).collect(),
    }))
}

/// A home page: for who is logged in what suits what he bought and has in the cart, for others what sells.
#[utoipa::path(get, path = "/v1/recommendations", tag = "Catalogue", security((), ("bearer" = [])),
    params(("size" = Option<u32>, Query, description = "1 to 100."), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = RecommendationsAnswer), (status = 400, body = ProblemBody), (status = 401, description = "The token is not good.", body = ProblemBody),
        (status = 422, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn home(
    Visitor(visitor): Visitor,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    params: Params,
) -> Result<Json<RecommendationsAnswer>, Problem> {
    let size = size(params)?;
    let buyer = visitor.map(|person| person.account);
    api.see(&[view::SEARCH, view::RECOMMENDATIONS], min).await?;
    let (cart, now) = (api.in_cart(buyer).await, api.market.clock.now());
    let items = api.recommend(move |recommender| recommender.home(buyer, &cart, now, size)).await?;
    Ok(Json(RecommendationsAnswer { items: items.into_iter().map(RecommendationBody::from).collect() }))
}

fn size(mut params: Params) -> Result<usize, Problem> {
    let size = params.number("size", 1..=100).unwrap_or(USUAL);
    params.finish()?;
    Ok(size as usize)
}

impl Api {
    /// Among searches, which it is made of.
    async fn recommend<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Recommender) -> Result<T, RecommendationError> + Send + 'static,
    ) -> Result<T, Problem> {
        self.index()?;
        let recommender = self.recommender.clone();
        let recommender =
            recommender.ok_or_else(|| Problem::unavailable("this process has no search index"))?;
        let _turn = self.searches.acquire().await.map_err(Problem::internal)?;
        let asked = tokio::task::spawn_blocking(move || ask(&recommender));
        Ok(asked.await.map_err(Problem::internal)??)
    }

    /// A home page is better without the cart than not at all.
    async fn in_cart(&self, buyer: Option<AccountId>) -> Vec<ItemId> {
        let Some(buyer) = buyer else { return Vec::new() };
        match timeout(CART_PATIENCE, carts::items(&self.market, buyer)).await {
            Ok(Ok(items)) => items,
            Ok(Err(error)) => {
                tracing::debug!(%error, "recommendations without the cart");
                Vec::new()
            }
            Err(_) => Vec::new(),
        }
    }
}
