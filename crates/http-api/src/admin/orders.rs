//! All orders.

use std::sync::Arc;

use axum::{Json, extract::State};
use souk_domain::AccountId;
use souk_projections::orders::{self as view, OrderFilter};
use uuid::Uuid;

use crate::{
    Api,
    answer::{self, OrderPage},
    auth::Admin,
    extract::{MinPosition, Params},
    orders::{OrderBody, status},
    problem::{Problem, ProblemBody},
};

/// All orders, newest first.
#[utoipa::path(get, path = "/v1/admin/orders", tag = "Administration", security(("bearer" = [])),
    params(("status" = Option<String>, Query), ("buyer" = Option<Uuid>, Query), ("cursor" = Option<String>, Query),
        ("size" = Option<u32>, Query), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = OrderPage<OrderBody>), (status = 400, body = ProblemBody), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn list(
    _admin: Admin,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<OrderPage<OrderBody>>, Problem> {
    let filter = OrderFilter {
        status: status(&mut params),
        buyer: params.parsed::<Uuid>("buyer", "an id").map(AccountId),
    };
    let (cursor, size) = params.page();
    params.finish()?;
    api.see(&[answer::view::ORDERS], min).await?;
    let page = view::orders(&api.pool, filter, cursor.as_deref(), size).await?;
    Ok(Json(OrderPage::of(page, OrderBody::with_buyer)))
}
