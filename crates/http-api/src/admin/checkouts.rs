//! Checkouts that have not ended: what each has learnt and decided, sending a parked one on, and settling by hand what it is
//! parked for.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use souk_commands::{
    Done,
    checkout::{ByHand, CheckoutCommand, CheckoutEvent},
    flows,
};
use souk_domain::OrderId;
use souk_projections::checkouts::{self as view, CheckoutView};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    answer::{self, acknowledged},
    auth::Admin,
    extract::{Body, CommandHead, MaybeBody, MinPosition, Params, PathId},
    orders::{Nothing, named},
    problem::{Problem, ProblemBody},
    validation::{Refusal, Validation, line},
};

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckoutPage {
    checkouts: Vec<CheckoutBody>,
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Checkout)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckoutBody {
    order_id: Uuid,
    buyer_id: Option<Uuid>,
    /// `parked` or `inFlight`.
    state: &'static str,
    /// `placing`, `reserving`, `paying`, `shipping`, `completing` or `compensating`.
    phase: String,
    /// Why it is parked.
    reason: Option<String>,
    started_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    deadline: Option<DateTime<Utc>>,
    /// What it learnt and decided, what could not be done, and who sent it on, oldest first.
    #[schema(value_type = Vec<Object>)]
    story: Value,
}

impl From<CheckoutView> for CheckoutBody {
    fn from(checkout: CheckoutView) -> Self {
        Self {
            order_id: checkout.order_id.0,
            buyer_id: checkout.buyer_id.map(|buyer| buyer.0),
            state: if checkout.parked { "parked" } else { "inFlight" },
            phase: checkout.phase,
            reason: checkout.reason,
            started_at: checkout.started_at,
            updated_at: checkout.updated_at,
            deadline: checkout.deadline,
            story: serde_json::to_value(checkout.story).unwrap_or_default(),
        }
    }
}

/// Checkouts that have not ended, newest first.
#[utoipa::path(get, path = "/v1/admin/checkouts", tag = "Administration", security(("bearer" = [])),
    params(("state" = Option<String>, Query, description = "`parked` or `inFlight`."), ("cursor" = Option<String>, Query),
        ("size" = Option<u32>, Query), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = CheckoutPage), (status = 400, body = ProblemBody), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn list(
    _admin: Admin,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<CheckoutPage>, Problem> {
    let parked = |text: &str| match text {
        "parked" => Some(true),
        "inFlight" => Some(false),
        _ => None,
    };
    let parked = params.read("state", parked, "parked or inFlight");
    let (cursor, size) = params.page();
    params.finish()?;
    api.see(&[answer::view::CHECKOUTS], min).await?;
    let page = view::checkouts(&api.pool, parked, cursor.as_deref(), size).await?;
    let checkouts = page.rows.into_iter().map(CheckoutBody::from).collect();
    Ok(Json(CheckoutPage { checkouts, next_cursor: page.next_cursor }))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CheckoutStanding {
    order_id: Uuid,
    /// `inFlight`, or `ended`: then there was nothing to retry.
    state: &'static str,
}

/// Send a parked checkout on its way again. One that is not parked goes on as it is, and one that has ended is left alone.
#[utoipa::path(post, path = "/v1/admin/checkouts/{orderId}/retry", tag = "Administration", security(("bearer" = [])),
    params(("orderId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = CheckoutStanding), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn retry(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    PathId(order): PathId<OrderId>,
    head: CommandHead,
    body: MaybeBody<Nothing>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let market = Arc::clone(&api.market);
    let resume = CheckoutCommand::Resume;
    let sent = async move { market.aggregates.checkouts.execute(order, resume, &context).await };
    standing(&api, order, api.run(sent).await??).await
}

#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct Settlement {
    /// `done`: it was done outside of Souk (if not said); `notNeeded`: nothing has to be done.
    #[schema(example = "done")]
    outcome: Option<String>,
    /// 1 to 500 characters, for those who look later.
    #[schema(value_type = String, example = "paid back by bank transfer 4711")]
    reason: Option<String>,
}

/// Settle by hand what a checkout is parked for: a refund that was paid another way, a carrier that was called. The checkout
/// goes on to its end without it.
#[utoipa::path(post, path = "/v1/admin/checkouts/{orderId}/settle", tag = "Administration", security(("bearer" = [])),
    request_body = Settlement, params(("orderId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = CheckoutStanding), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn settle(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    PathId(order): PathId<OrderId>,
    head: CommandHead,
    body: Body<Settlement>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let mut check = Validation::default();
    let reason = check.required("reason", body.value.reason, line(1..=500));
    let outcome = check.optional("outcome", body.value.outcome, outcome);
    let Some(reason) = reason.filter(|_| check.is_clean()) else { return Err(check.into()) };
    let (market, outcome) = (Arc::clone(&api.market), outcome.unwrap_or(ByHand::Done));
    let settled = async move { flows::orders::settle(&market, &context, order, outcome, reason).await };
    standing(&api, order, api.run(settled).await??).await
}

fn outcome(text: String) -> Result<ByHand, Refusal> {
    named(&text).ok_or_else(|| "An outcome is done or notNeeded.".into())
}

async fn standing(api: &Api, order: OrderId, done: Done<CheckoutEvent>) -> Result<Response, Problem> {
    let ended =
        flows::orders::find(&api.market, order).await?.value.is_some_and(|order| order.status.is_final());
    let body = CheckoutStanding { order_id: order.0, state: if ended { "ended" } else { "inFlight" } };
    Ok(acknowledged(StatusCode::ACCEPTED, done.position, body))
}
