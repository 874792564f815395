//! Answers, and what they must have seen: `Souk-Position` and `Souk-Min-Position`.

use std::time::Duration;

use axum::{
    Json,
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use souk_event_log::Position;
use souk_projections::Page;
use utoipa::ToSchema;

use crate::{
    Api,
    problem::{Kind, Problem},
};

/// How long a query waits for what the client has asked to see.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a query waits for what its own client has just made, unasked.
pub(crate) const SHORT_PATIENCE: Duration = Duration::from_secs(2);

/// The names of the projectors that queries read.
pub(crate) mod view {
    pub(crate) const CATALOGUE: &str = "catalogue";
    pub(crate) const STOCK: &str = "stock";
    pub(crate) const ORDERS: &str = "orders";
    pub(crate) const SELLER_ORDERS: &str = "seller_orders";
    pub(crate) const ACCOUNTS: &str = "accounts";
    pub(crate) const CHECKOUTS: &str = "checkouts";
    pub(crate) const PROMOTIONS: &str = "promotions";
    pub(crate) const RETURNS: &str = "returns";
    pub(crate) const LEDGER: &str = "ledger";
    pub(crate) const SEARCHES: &str = "searches";
    pub(crate) const SEARCH: &str = souk_projections::search::SearchProjector::NAME;
    pub(crate) const RECOMMENDATIONS: &str =
        souk_projections::recommendations::RecommendationsProjector::NAME;
}

/// The answer to a command: where in the log its events are.
pub(crate) fn acknowledged(status: StatusCode, position: Option<Position>, body: impl Serialize) -> Response {
    positioned((status, Json(body)).into_response(), position)
}

pub(crate) fn positioned(mut response: Response, position: Option<Position>) -> Response {
    if let Some(position) = position {
        response.headers_mut().insert("souk-position", HeaderValue::from(position));
    }
    response
}

impl Api {
    /// Waits until these views hold everything up to the position.
    pub(crate) async fn see(&self, views: &[&str], position: Option<Position>) -> Result<(), Problem> {
        let Some(position) = position else { return Ok(()) };
        let waits = views.iter().map(|view| self.projections.wait_for(view, position, PATIENCE));
        match futures::future::try_join_all(waits).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Problem::new(Kind::Behind).retry_after(1)),
        }
    }
}

/// A page of a list; the list has the name of what is in it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OrderPage<T> {
    pub(crate) orders: Vec<T>,
    /// Asks for the next page; null on the last.
    pub(crate) next_cursor: Option<String>,
}

impl<T> OrderPage<T> {
    pub(crate) fn of<R>(page: Page<R>, show: impl FnMut(R) -> T) -> Self {
        Self { orders: page.rows.into_iter().map(show).collect(), next_cursor: page.next_cursor }
    }
}
