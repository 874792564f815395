//! Returns of all sellers, and sending a parked one on.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use souk_commands::flows::returns as flow;
use souk_domain::ReturnId;
use souk_projections::returns::{self as view, ReturnFilter};

use crate::{
    Api,
    answer::{self, acknowledged},
    auth::Admin,
    extract::{CommandHead, MaybeBody, MinPosition, Params, PathId},
    orders::Nothing,
    problem::{Problem, ProblemBody},
    returns::{self, ReturnBody, ReturnPage},
};

/// Returns, newest first; `state=parked` are those that an operator has to look at.
#[utoipa::path(get, path = "/v1/admin/returns", tag = "Administration", security(("bearer" = [])),
    params(("state" = Option<String>, Query), ("cursor" = Option<String>, Query), ("size" = Option<u32>, Query),
        ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = ReturnPage), (status = 400, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 503, body = ProblemBody)))]
pub(crate) async fn list(
    _admin: Admin,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<ReturnPage>, Problem> {
    let (status, (cursor, size)) = (returns::status(&mut params, "state"), params.page());
    params.finish()?;
    api.see(&[answer::view::RETURNS], min).await?;
    let filter = ReturnFilter { seller: None, status };
    let found = view::returns(&api.pool, filter, cursor.as_deref(), size).await?;
    Ok(Json(returns::page(&api, found, true).await?))
}

/// Send a parked return on its way again. One that is not parked is left alone.
#[utoipa::path(post, path = "/v1/admin/returns/{returnId}/retry", tag = "Administration", security(("bearer" = [])),
    params(("returnId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = ReturnBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn retry(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<ReturnId>,
    head: CommandHead,
    body: MaybeBody<Nothing>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let market = Arc::clone(&api.market);
    let done = api.run(async move { flow::resume(&market, &context, id).await }).await??;
    Ok(acknowledged(StatusCode::ACCEPTED, done.position, ReturnBody::of(&done.value)))
}
