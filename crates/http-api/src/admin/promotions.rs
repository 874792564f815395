//! Promotions: making them, looking at how often they were used, ending them.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::Response,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use souk_domain::{
    PromotionId,
    pricing::{TakesOff, WHOLE},
    promotion::{PromotionCommand, PromotionCreated},
};
use souk_projections::promotions::{self as view, PromotionView};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    answer::{self, acknowledged},
    auth::Admin,
    checkout::header_value,
    extract::{Body, CommandHead, MaybeBody, MinPosition, Params, PathId},
    orders::Nothing,
    problem::{Problem, ProblemBody},
    validation::{MoneyBody, Refusal, Validation},
};

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewPromotion {
    /// 1 to 64 letters, digits, hyphens and underscores; buyers may type it in any case.
    #[schema(value_type = String, example = "SPRING")]
    code: Option<String>,
    /// `percentage`, `amount` or `freeShipping`.
    #[schema(value_type = String, example = "percentage")]
    kind: Option<String>,
    /// Of a percentage: 1000 is 10 %.
    basis_points: Option<i64>,
    /// Of an amount.
    amount: Option<MoneyBody>,
    /// Of goods, in the cart.
    minimum: Option<MoneyBody>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    /// Orders in all.
    limit: Option<i64>,
    limit_per_buyer: Option<i64>,
}

impl NewPromotion {
    fn parse(self) -> Result<PromotionCreated, Problem> {
        let mut check = Validation::default();
        let code = check.required("code", self.code, code);
        let takes_off = match self.kind.as_deref() {
            Some("percentage") => check
                .required("basisPoints", self.basis_points, basis_points)
                .map(|basis_points| TakesOff::Percentage { basis_points }),
            Some("amount") => check
                .present("amount", self.amount)
                .and_then(|amount| check.money("amount", Some(amount)))
                .map(|amount| TakesOff::Amount { amount }),
            Some("freeShipping") => Some(TakesOff::FreeShipping),
            Some(_) => {
                check.fail("kind", "A kind is percentage, amount or freeShipping.");
                None
            }
            None => check.present("kind", None),
        };
        let minimum = check.money("minimum", self.minimum);
        let starts_at = check.optional("startsAt", self.starts_at, time);
        let ends_at = check.optional("endsAt", self.ends_at, time);
        let limit_per_buyer = check.optional("limitPerBuyer", self.limit_per_buyer, positive);
        let limit = check.optional("limit", self.limit, positive);
        match (code, takes_off, check.is_clean()) {
            (Some(code), Some(takes_off), true) => {
                Ok(PromotionCreated { code, takes_off, minimum, starts_at, ends_at, limit, limit_per_buyer })
            }
            _ => Err(check.into()),
        }
    }
}

fn code(text: String) -> Result<String, Refusal> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
        Ok(text)
    } else {
        Err("A code is 1 to 64 letters, digits, hyphens and underscores.".into())
    }
}

fn basis_points(value: i64) -> Result<u32, Refusal> {
    match u32::try_from(value) {
        Ok(points @ 1..=WHOLE) => Ok(points),
        _ => Err(format!("A percentage is between 1 and {WHOLE} basis points.").into()),
    }
}

fn positive(value: i64) -> Result<u32, Refusal> {
    match u32::try_from(value) {
        Ok(limit @ 1..) => Ok(limit),
        _ => Err(format!("A limit is between 1 and {}.", u32::MAX).into()),
    }
}

fn time(text: String) -> Result<DateTime<Utc>, Refusal> {
    DateTime::parse_from_rfc3339(&text)
        .map(DateTime::<Utc>::from)
        .map_err(|_| "This is no time as in RFC 3339.".into())
}

#[derive(Serialize, ToSchema)]
#[schema(as = Promotion)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PromotionBody {
    promotion_id: Uuid,
    code: String,
    /// `percentage`, `amount` or `freeShipping`.
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    basis_points: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    amount: Option<MoneyBody>,
    minimum: Option<MoneyBody>,
    starts_at: Option<DateTime<Utc>>,
    ends_at: Option<DateTime<Utc>>,
    limit: Option<u32>,
    limit_per_buyer: Option<u32>,
    /// By an admin.
    ended: bool,
    /// By orders under way.
    claimed: u64,
    /// By completed orders.
    redeemed: u64,
    created_at: DateTime<Utc>,
}

impl From<PromotionView> for PromotionBody {
    fn from(promotion: PromotionView) -> Self {
        let terms = promotion.terms;
        let (kind, basis_points, amount) = match terms.takes_off {
            TakesOff::Percentage { basis_points } => ("percentage", Some(basis_points), None),
            TakesOff::Amount { amount } => ("amount", None, Some(amount.into())),
            TakesOff::FreeShipping => ("freeShipping", None, None),
        };
        Self {
            promotion_id: promotion.promotion_id.0,
            code: terms.code,
            kind,
            basis_points,
            amount,
            minimum: terms.minimum.map(MoneyBody::from),
            starts_at: terms.starts_at,
            ends_at: terms.ends_at,
            limit: terms.limit,
            limit_per_buyer: terms.limit_per_buyer,
            ended: promotion.ended,
            claimed: promotion.claimed,
            redeemed: promotion.redeemed,
            created_at: promotion.created_at,
        }
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PromotionPage {
    promotions: Vec<PromotionBody>,
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PromotionNamed {
    promotion_id: Uuid,
}

/// Make a promotion.
#[utoipa::path(post, path = "/v1/admin/promotions", tag = "Administration", request_body = NewPromotion,
    security(("bearer" = [])), params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = PromotionNamed), (status = 403, body = ProblemBody),
        (status = 409, description = "There is one with this code.", body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn create(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    head: CommandHead,
    body: Body<NewPromotion>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let created = body.value.parse()?;
    let id = PromotionId::of_code(&created.code);
    let market = Arc::clone(&api.market);
    let command = PromotionCommand::Create(created);
    let create = async move { market.aggregates.promotions.execute(id, command, &context).await };
    let done = api.run(create).await??;
    let mut response =
        acknowledged(StatusCode::CREATED, done.position, PromotionNamed { promotion_id: id.0 });
    let location = header_value(&format!("/v1/admin/promotions/{id}"))?;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

/// All promotions, newest first.
#[utoipa::path(get, path = "/v1/admin/promotions", tag = "Administration", security(("bearer" = [])),
    params(("cursor" = Option<String>, Query), ("size" = Option<u32>, Query), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = PromotionPage), (status = 400, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 503, body = ProblemBody)))]
pub(crate) async fn list(
    _admin: Admin,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<PromotionPage>, Problem> {
    let (cursor, size) = params.page();
    params.finish()?;
    api.see(&[answer::view::PROMOTIONS], min).await?;
    let page = view::promotions(&api.pool, cursor.as_deref(), size).await?;
    let promotions = page.rows.into_iter().map(PromotionBody::from).collect();
    Ok(Json(PromotionPage { promotions, next_cursor: page.next_cursor }))
}

/// One promotion.
#[utoipa::path(get, path = "/v1/admin/promotions/{promotionId}", tag = "Administration", security(("bearer" = [])),
    params(("promotionId" = Uuid, Path), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = PromotionBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn show(
    _admin: Admin,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<PromotionId>,
    MinPosition(min): MinPosition,
) -> Result<Json<PromotionBody>, Problem> {
    api.see(&[answer::view::PROMOTIONS], min).await?;
    let found = view::promotion(&api.pool, id).await?;
    Ok(Json(found.ok_or_else(|| Problem::not_found("promotion"))?.into()))
}

/// End a promotion: nobody can use it from now on. Doing so twice is fine.
#[utoipa::path(post, path = "/v1/admin/promotions/{promotionId}/end", tag = "Administration", security(("bearer" = [])),
    params(("promotionId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = PromotionNamed), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 422, body = ProblemBody)))]
pub(crate) async fn end(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<PromotionId>,
    head: CommandHead,
    body: MaybeBody<Nothing>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let market = Arc::clone(&api.market);
    let end = async move { market.aggregates.promotions.execute(id, PromotionCommand::End, &context).await };
    let done = api.run(end).await??;
    Ok(acknowledged(StatusCode::OK, done.position, PromotionNamed { promotion_id: id.0 }))
}
