//! Giving out gift cards and store credit.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use souk_commands::flows::credits;
use souk_domain::{AccountId, Money};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    answer::acknowledged,
    auth::Admin,
    credit::CreditBody,
    extract::{Body, CommandHead, PathId},
    problem::{Problem, ProblemBody},
    validation::{MoneyBody, Validation, prose},
};

#[derive(Deserialize, ToSchema)]
pub(crate) struct NewCredit {
    #[schema(value_type = MoneyBody)]
    amount: Option<MoneyBody>,
    reason: Option<String>,
}

impl NewCredit {
    fn parse(self) -> Result<(Money, Option<String>), Problem> {
        let mut check = Validation::default();
        let amount =
            check.present("amount", self.amount).and_then(|amount| check.money("amount", Some(amount)));
        let reason = check.optional("reason", self.reason, prose(0..=1_000));
        match (amount, check.is_clean()) {
            (Some(amount), true) => Ok((amount, reason.filter(|reason| !reason.is_empty()))),
            _ => Err(check.into()),
        }
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = GiftCard)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GiftCardBody {
    credit_id: Uuid,
    /// As good as money. The same `Idempotency-Key` tells it again; nothing else does.
    code: String,
    amount: MoneyBody,
}

/// Issue a gift card.
#[utoipa::path(post, path = "/v1/admin/gift-cards", tag = "Administration", request_body = NewCredit,
    security(("bearer" = [])), params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = GiftCardBody), (status = 403, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn issue(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    head: CommandHead,
    body: Body<NewCredit>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let (amount, reason) = body.value.parse()?;
    let market = Arc::clone(&api.market);
    let done = api.run(async move { credits::issue(&market, &context, amount, reason).await }).await??;
    let card = done.value;
    let body = GiftCardBody { credit_id: card.credit_id.0, code: card.code, amount: card.amount.into() };
    Ok(acknowledged(StatusCode::CREATED, done.position, body))
}

/// Grant an account store credit.
#[utoipa::path(post, path = "/v1/admin/accounts/{accountId}/credit", tag = "Administration", request_body = NewCredit,
    security(("bearer" = [])), params(("accountId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = CreditBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 422, body = ProblemBody)))]
pub(crate) async fn grant(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    PathId(account): PathId<AccountId>,
    head: CommandHead,
    body: Body<NewCredit>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let (amount, reason) = body.value.parse()?;
    let market = Arc::clone(&api.market);
    let granted = async move { credits::grant(&market, &context, account, amount, reason).await };
    let done = api.run(granted).await??;
    Ok(acknowledged(StatusCode::OK, done.position, CreditBody::from(done.value)))
}
