//! Payouts: an operator makes the transfer at the bank, and says here what came of it.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::Deserialize;
use souk_commands::flows::payouts as flow;
use souk_domain::PayoutId;
use souk_projections::ledger as view;
use utoipa::ToSchema;

use crate::{
    Api,
    answer::{self, acknowledged},
    auth::Admin,
    extract::{Body, CommandHead, MinPosition, Params, PathId},
    ledger::{PayoutBody, PayoutPage},
    orders::named,
    problem::{Problem, ProblemBody},
    validation::{Validation, line},
};

/// Payouts of all sellers, newest first; `status=requested` are those that wait for a transfer.
#[utoipa::path(get, path = "/v1/admin/payouts", tag = "Administration", security(("bearer" = [])),
    params(("status" = Option<String>, Query), ("cursor" = Option<String>, Query), ("size" = Option<u32>, Query),
        ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = PayoutPage), (status = 400, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 503, body = ProblemBody)))]
pub(crate) async fn list(
    _admin: Admin,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<PayoutPage>, Problem> {
    let status = params.read("status", named, "requested, settled or failed");
    let (cursor, size) = params.page();
    params.finish()?;
    api.see(&[answer::view::LEDGER], min).await?;
    let page = view::payouts(&api.pool, None, status, cursor.as_deref(), size).await?;
    let payouts = page.rows.into_iter().map(PayoutBody::from).collect();
    Ok(Json(PayoutPage { payouts, next_cursor: page.next_cursor }))
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct Transfer {
    /// The bank's own name for the transfer.
    #[schema(value_type = String)]
    reference: Option<String>,
}

/// The money has arrived.
#[utoipa::path(post, path = "/v1/admin/payouts/{payoutId}/settle", tag = "Administration", security(("bearer" = [])),
    request_body = Transfer, params(("payoutId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = PayoutBody), (status = 404, body = ProblemBody),
        (status = 409, description = "It has failed.", body = ProblemBody),
        (status = 403, body = ProblemBody),
        (status = 422, body = ProblemBody)))]
pub(crate) async fn settle(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<PayoutId>,
    head: CommandHead,
    body: Body<Transfer>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let mut check = Validation::default();
    let reference = check.required("reference", body.value.reference, line(1..=200));
    let Some(reference) = reference else { return Err(check.into()) };
    let market = Arc::clone(&api.market);
    let done = api.run(async move { flow::settle(&market, &context, id, reference).await }).await??;
    Ok(acknowledged(StatusCode::OK, done.position, PayoutBody::from(done.value)))
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct FailedTransfer {
    #[schema(value_type = String)]
    reason: Option<String>,
}

/// The money has not arrived: it is owed again.
#[utoipa::path(post, path = "/v1/admin/payouts/{payoutId}/fail", tag = "Administration", security(("bearer" = [])),
    request_body = FailedTransfer, params(("payoutId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = PayoutBody), (status = 404, body = ProblemBody),
        (status = 409, description = "It was settled.", body = ProblemBody),
        (status = 403, body = ProblemBody),
        (status = 422, body = ProblemBody)))]
pub(crate) async fn fail(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<PayoutId>,
    head: CommandHead,
    body: Body<FailedTransfer>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let mut check = Validation::default();
    let reason = check.required("reason", body.value.reason, line(1..=300));
    let Some(reason) = reason else { return Err(check.into()) };
    let market = Arc::clone(&api.market);
    let done = api.run(async move { flow::fail(&market, &context, id, reason).await }).await??;
    Ok(acknowledged(StatusCode::OK, done.position, PayoutBody::from(done.value)))
}
