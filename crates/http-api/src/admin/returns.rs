//! Returns of all sellers, sending a parked one on, and settling by hand what it is parked for.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use souk_commands::flows::returns as flow;
use souk_domain::ReturnId;
use souk_projections::returns::{self as view, ReturnFilter};
use utoipa::ToSchema;

use crate::{
    Api,
    answer::{self, acknowledged},
    auth::Admin,
    extract::{Body, CommandHead, MaybeBody, MinPosition, Params, PathId},
    orders::Nothing,
    problem::{Problem, ProblemBody},
    returns::{self, ReturnBody, ReturnPage},
    validation::{Validation, line},
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

#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct ReturnSettlement {
    /// 1 to 500 characters, for those who look later.
    #[schema(value_type = String, example = "paid back by bank transfer 4711")]
    reason: Option<String>,
}

/// Settle by hand what a return is parked for: what the gateway refuses to give back was paid another way. The return goes on
/// to its end without the gateway.
#[utoipa::path(post, path = "/v1/admin/returns/{returnId}/settle", tag = "Administration", security(("bearer" = [])),
    request_body = ReturnSettlement, params(("returnId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = ReturnBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, description = "It is not parked, or its refund was not asked for yet: the payment is in dispute.", body = ProblemBody),
        (status = 422, body = ProblemBody)))]
pub(crate) async fn settle(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<ReturnId>,
    head: CommandHead,
    body: Body<ReturnSettlement>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let mut check = Validation::default();
    let reason = check.required("reason", body.value.reason, line(1..=500));
    let Some(reason) = reason else { return Err(check.into()) };
    let market = Arc::clone(&api.market);
    let done = api.run(async move { flow::settle(&market, &context, id, reason).await }).await??;
    Ok(acknowledged(StatusCode::ACCEPTED, done.position, ReturnBody::of(&done.value)))
}
