//! Returns: the buyer asks, the seller decides. Another's order or return is none of one's business: there is none.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, extract::State, http::StatusCode, response::Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use souk_commands::flows::{
    orders as order_flow,
    returns::{self as flow, LineBack},
};
use souk_domain::{
    AccountId, ItemId, OrderId, ReturnId, Sealed, Sku,
    account::Role,
    returns::{Disposition, Return, ReturnAccepted, ReturnCause, ReturnRequested, ReturnStatus},
};
use souk_projections::{
    Page,
    returns::{self as view, ReturnFilter, ReturnView},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    answer::{self, acknowledged},
    auth::{BuyerOrAdmin, Person, Seller, Trader},
    extract::{Body, CommandHead, MaybeBody, MinPosition, Params, PathId},
    orders::{named, owned},
    problem::{Problem, ProblemBody},
    validation::{self, MoneyBody, Validation, line, prose},
};

#[derive(Serialize, ToSchema)]
#[schema(as = Return)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReturnBody {
    /// The order's id, the seller's, and a number, joined by hyphens.
    pub(crate) return_id: String,
    order_id: Uuid,
    seller_id: Uuid,
    /// `requested`, `accepted`, `declined`, `parked` (an operator looks after it) or `completed`.
    #[schema(value_type = String)]
    status: ReturnStatus,
    /// `buyerRequest` or `notSent`.
    #[schema(value_type = String)]
    cause: ReturnCause,
    /// The buyer's words; not in answers to commands, and null when he was forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What was asked for.
    lines: Vec<ReturnLineBody>,
    /// What of it was accepted.
    accepted: Option<Vec<ReturnLineBody>>,
    /// What was agreed on.
    refund: Option<MoneyBody>,
    /// What went back, once it is completed: less if the buyer's bank had taken back more than was left.
    refunded: Option<MoneyBody>,
    /// Why it was declined.
    #[serde(skip_serializing_if = "Option::is_none")]
    decline_reason: Option<String>,
    /// For admins: why it is parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    parked_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requested_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completed_at: Option<DateTime<Utc>>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ReturnLine)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReturnLineBody {
    sku: String,
    quantity: u32,
    /// Of what was accepted: `restock` or `writeOff`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    disposition: Option<Disposition>,
}

impl ReturnBody {
    fn new(requested: &ReturnRequested, accepted: Option<&ReturnAccepted>, status: ReturnStatus) -> Self {
        let ReturnRequested { return_id, cause, lines, .. } = requested;
        let body =
            |sku: &Sku, quantity, disposition| ReturnLineBody { sku: sku.to_string(), quantity, disposition };
        let accepted_lines = |accepted: &ReturnAccepted| {
            let name = |sku_id| lines.iter().find(|line| line.sku_id == sku_id).map(|line| &line.sku);
            let lines = accepted.lines.iter();
            lines
                .filter_map(|line| Some(body(name(line.sku_id)?, line.quantity, Some(line.disposition))))
                .collect()
        };
        Self {
            return_id: return_id.to_string(),
            order_id: return_id.returns.order_id.0,
            seller_id: return_id.returns.seller_id.0,
            status,
            cause: *cause,
            reason: None,
            lines: lines.iter().map(|line| body(&line.sku, line.quantity, None)).collect(),
            accepted: accepted.map(accepted_lines),
            refund: accepted.map(|accepted| accepted.refund.into()),
            refunded: None,
            decline_reason: None,
            parked_reason: None,
            requested_at: None,
            decided_at: None,
            completed_at: None,
        }
    }

    /// As its stream has it.
    pub(crate) fn of(one: &Return) -> Self {
        let refunded = one.refunded.map(Into::into);
        Self { refunded, ..Self::new(&one.requested, one.accepted.as_ref(), one.status) }
    }

    pub(crate) async fn seen(api: &Api, view: ReturnView) -> Result<Self, Problem> {
        let reason = api.open(view.requested.reason.as_ref().map(|reason: &Sealed| reason)).await?;
        let declined = view.status == ReturnStatus::Declined;
        Ok(Self {
            reason,
            decline_reason: view.reason.filter(|_| declined),
            requested_at: Some(view.requested_at),
            decided_at: view.decided_at,
            refunded: view.refunded.map(Into::into),
            completed_at: view.completed_at,
            ..Self::new(&view.requested, view.accepted.as_ref(), view.status)
        })
    }

    /// What happened to it, and when.
    pub(crate) fn told(&self) -> impl Iterator<Item = (&'static str, DateTime<Utc>)> {
        let decided = if self.accepted.is_some() { "returnAccepted" } else { "returnDeclined" };
        [
            ("returnRequested", self.requested_at),
            (decided, self.decided_at),
            ("returnCompleted", self.completed_at),
        ]
        .into_iter()
        .filter_map(|(status, at)| Some((status, at?)))
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ReturnList {
    returns: Vec<ReturnBody>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReturnPage {
    returns: Vec<ReturnBody>,
    next_cursor: Option<String>,
}

/// `operator`: whether it is told why returns are parked.
pub(crate) async fn page(api: &Api, page: Page<ReturnView>, operator: bool) -> Result<ReturnPage, Problem> {
    let mut returns = Vec::with_capacity(page.rows.len());
    for row in page.rows {
        let parked = operator && row.status == ReturnStatus::Parked;
        let parked_reason = row.reason.clone().filter(|_| parked);
        returns.push(ReturnBody { parked_reason, ..ReturnBody::seen(api, row).await? });
    }
    Ok(ReturnPage { returns, next_cursor: page.next_cursor })
}

/// Those to these sellers. `opens`: whether the reader is told the buyer's words.
pub(crate) async fn bodies(
    api: &Api,
    views: Vec<ReturnView>,
    sellers: &BTreeSet<AccountId>,
    opens: bool,
) -> Result<Vec<ReturnBody>, Problem> {
    let mut returns = Vec::new();
    for mut view in views {
        if sellers.contains(&view.return_id.returns.seller_id) {
            view.requested.reason = view.requested.reason.filter(|_| opens);
            returns.push(ReturnBody::seen(api, view).await?);
        }
    }
    Ok(returns)
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestReturn {
    #[schema(value_type = Vec<LineBackBody>)]
    lines: Option<Vec<LineBackBody>>,
    /// In the buyer's own words; kept sealed.
    #[schema(value_type = String)]
    reason: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = LineBack)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LineBackBody {
    /// Needed where two sellers of the order use the same SKU.
    #[schema(value_type = Option<Uuid>)]
    item_id: Option<String>,
    #[schema(value_type = String)]
    sku: Option<String>,
    #[schema(value_type = u32, example = 1)]
    quantity: Option<i64>,
}

impl RequestReturn {
    fn parse(self) -> Result<(Vec<LineBack>, String), Problem> {
        let mut check = Validation::default();
        let mut lines = Vec::new();
        for (n, line) in check.present("lines", self.lines).unwrap_or_default().into_iter().enumerate() {
            let item_id: Option<ItemId> =
                check.optional(format!("lines[{n}].itemId"), line.item_id, validation::id);
            let sku = check.required(format!("lines[{n}].sku"), line.sku, validation::sku);
            let quantity = check.required(format!("lines[{n}].quantity"), line.quantity, validation::some);
            let line = sku.zip(quantity).map(|(sku, quantity)| LineBack { item_id, sku, quantity });
            lines.extend(line);
        }
        let reason = check.required("reason", self.reason, prose(1..=1_000));
        if lines.is_empty() && check.is_clean() {
            check.fail("lines", "This must not be empty.");
        }
        match (reason, check.is_clean()) {
            (Some(reason), true) => Ok((lines, reason)),
            _ => Err(check.into()),
        }
    }
}

/// Ask to return what was bought: one return for each seller concerned.
#[utoipa::path(post, path = "/v1/orders/{orderId}/returns", tag = "Orders", security(("bearer" = [])),
    request_body = RequestReturn, params(("orderId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = ReturnList), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody),
        (status = 409, description = "The order is not completed, or not so many are left to be returned.", body = ProblemBody),
        (status = 403, body = ProblemBody)))]
pub(crate) async fn request(
    BuyerOrAdmin(person): BuyerOrAdmin,
    State(api): State<Arc<Api>>,
    PathId(order): PathId<OrderId>,
    head: CommandHead,
    body: Body<RequestReturn>,
) -> Result<Response, Problem> {
    owned(&api, &person, order).await?;
    let context = head.context(&api, Some(person.account), &body.raw);
    let (lines, reason) = body.value.parse()?;
    let market = Arc::clone(&api.market);
    let done =
        api.run(async move { flow::request(&market, &context, order, lines, &reason).await }).await??;
    let returns = done.value.iter().map(ReturnBody::of).collect();
    Ok(acknowledged(StatusCode::CREATED, done.position, ReturnList { returns }))
}

/// The returns of an order, oldest first: all of them to its buyer and to admins, to a seller his own.
#[utoipa::path(get, path = "/v1/orders/{orderId}/returns", tag = "Orders", security(("bearer" = [])),
    params(("orderId" = Uuid, Path), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = ReturnList), (status = 404, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn list(
    Trader(person): Trader,
    State(api): State<Arc<Api>>,
    PathId(order): PathId<OrderId>,
    MinPosition(min): MinPosition,
    params: Params,
) -> Result<Json<ReturnList>, Problem> {
    params.finish()?;
    let found = order_flow::find(&api.market, order).await?.value;
    let placed = found.ok_or_else(|| Problem::not_found("order"))?.placed;
    let mut sellers: BTreeSet<_> = placed.lines.iter().map(|line| line.seller_id).collect();
    if person.account != placed.buyer_id && !person.is(Role::Admin) {
        sellers.retain(|seller| *seller == person.account);
    }
    if sellers.is_empty() {
        return Err(Problem::not_found("order"));
    }
    api.see(&[answer::view::RETURNS], min).await?;
    let found = view::of_order(&api.pool, order).await?;
    Ok(Json(ReturnList { returns: bodies(&api, found, &sellers, true).await? }))
}

pub(crate) fn status(params: &mut Params, name: &str) -> Option<ReturnStatus> {
    params.read(name, named, "requested, accepted, declined, parked or completed")
}

/// What buyers return to me, newest first.
#[utoipa::path(get, path = "/v1/seller/returns", tag = "Selling", security(("bearer" = [])),
    params(("status" = Option<String>, Query, description = "`requested` is what waits for me."),
        ("cursor" = Option<String>, Query), ("size" = Option<u32>, Query), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = ReturnPage), (status = 403, body = ProblemBody),
        (status = 400, body = ProblemBody),
        (status = 503, body = ProblemBody)))]
pub(crate) async fn of_seller(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<ReturnPage>, Problem> {
    let (status, (cursor, size)) = (status(&mut params, "status"), params.page());
    params.finish()?;
    api.see(&[answer::view::RETURNS], min).await?;
    let filter = ReturnFilter { seller: Some(seller.account), status };
    let found = view::returns(&api.pool, filter, cursor.as_deref(), size).await?;
    Ok(Json(page(&api, found, false).await?))
}

#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct Acceptance {
    /// What of it is accepted; without them all of it.
    lines: Option<Vec<AcceptedBody>>,
    /// What the buyer gets back; without it all that the accepted lines cost.
    refund: Option<MoneyBody>,
}

#[derive(Deserialize, ToSchema)]
#[schema(as = AcceptedLine)]
pub(crate) struct AcceptedBody {
    #[schema(value_type = String)]
    sku: Option<String>,
    #[schema(value_type = u32, example = 1)]
    quantity: Option<i64>,
    /// `restock`, which it is without it, or `writeOff`.
    disposition: Option<String>,
}

/// Accept a return, in part or whole.
#[utoipa::path(post, path = "/v1/returns/{returnId}/accept", tag = "Selling", security(("bearer" = [])),
    request_body(content = Option<Acceptance>), params(("returnId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ReturnBody), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody),
        (status = 409, description = "It was decided otherwise, or this is more than was asked for or paid.", body = ProblemBody),
        (status = 403, body = ProblemBody)))]
pub(crate) async fn accept(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<ReturnId>,
    head: CommandHead,
    body: MaybeBody<Acceptance>,
) -> Result<Response, Problem> {
    own(&seller, id)?;
    let context = head.context(&api, Some(seller.account), &body.raw);
    let mut check = Validation::default();
    let refund = check.money("refund", body.value.refund);
    let lines = body.value.lines.map(|lines| {
        let mut accepted = Vec::new();
        for (n, line) in lines.into_iter().enumerate() {
            let sku = check.required(format!("lines[{n}].sku"), line.sku, validation::sku);
            let quantity = check.required(format!("lines[{n}].quantity"), line.quantity, validation::some);
            let disposition = line.disposition.unwrap_or_else(|| "restock".to_owned());
            let disposition = check.required(format!("lines[{n}].disposition"), Some(disposition), |name| {
                named(&name).ok_or("This is restock or writeOff.")
            });
            accepted.extend(sku.zip(quantity).zip(disposition));
        }
        accepted.into_iter().map(|((sku, quantity), disposition)| (sku, quantity, disposition)).collect()
    });
    check.finish()?;
    let market = Arc::clone(&api.market);
    let done = api.run(async move { flow::accept(&market, &context, id, lines, refund).await }).await??;
    Ok(acknowledged(StatusCode::OK, done.position, ReturnBody::of(&done.value)))
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct Refusal {
    #[schema(value_type = String)]
    reason: Option<String>,
}

/// Decline a return.
#[utoipa::path(post, path = "/v1/returns/{returnId}/decline", tag = "Selling", security(("bearer" = [])),
    request_body = Refusal, params(("returnId" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = ReturnBody), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody),
        (status = 409, description = "It was accepted.", body = ProblemBody),
        (status = 403, body = ProblemBody)))]
pub(crate) async fn decline(
    Seller(seller): Seller,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<ReturnId>,
    head: CommandHead,
    body: Body<Refusal>,
) -> Result<Response, Problem> {
    own(&seller, id)?;
    let context = head.context(&api, Some(seller.account), &body.raw);
    let mut check = Validation::default();
    let reason = check.required("reason", body.value.reason, line(1..=300));
    let Some(reason) = reason else { return Err(check.into()) };
    let market = Arc::clone(&api.market);
    let done = api.run(async move { flow::decline(&market, &context, id, reason).await }).await??;
    Ok(acknowledged(StatusCode::OK, done.position, ReturnBody::of(&done.value)))
}

fn own(seller: &Person, id: ReturnId) -> Result<(), Problem> {
    if id.returns.seller_id == seller.account { Ok(()) } else { Err(Problem::not_found("return")) }
}
