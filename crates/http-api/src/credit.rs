//! What the market owes: a buyer's store credit, and what is left on a gift card.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use souk_commands::flows::credits::{self, Balance};
use souk_domain::{Currency, Money};
use souk_gateways::Secret;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    auth::Buyer,
    extract::{Body, Params},
    problem::{Problem, ProblemBody},
    validation::{MoneyBody, Validation, line},
};

#[derive(Serialize, ToSchema)]
#[schema(as = Credit)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreditBody {
    credit_id: Uuid,
    /// What was not spent.
    balance: MoneyBody,
    /// Of that, by orders under way.
    held: MoneyBody,
    available: MoneyBody,
}

impl From<Balance> for CreditBody {
    fn from(balance: Balance) -> Self {
        Self {
            credit_id: balance.credit_id.0,
            balance: balance.balance.into(),
            held: balance.held.into(),
            available: balance.available.into(),
        }
    }
}

/// My store credit in one currency; zero if I was never given any.
#[utoipa::path(get, path = "/v1/accounts/me/credit", tag = "Accounts", security(("bearer" = [])),
    params(("currency" = String, Query, description = "Three capital letters, as in ISO 4217.")),
    responses((status = 200, body = CreditBody), (status = 400, body = ProblemBody), (status = 401, body = ProblemBody)))]
pub(crate) async fn mine(
    Buyer(buyer): Buyer,
    State(api): State<Arc<Api>>,
    mut params: Params,
) -> Result<Json<CreditBody>, Problem> {
    let currency: Option<Currency> = params.parsed("currency", "three capital letters, as in ISO 4217");
    if params.text("currency").is_none() {
        params.malformed("currency", "This is required.");
    }
    params.finish()?;
    let currency = currency.ok_or_else(|| Problem::malformed("The currency is missing."))?;
    Ok(Json(credits::of_account(&api.market, buyer.account, Money::new(0, currency)).await?.into()))
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct GiftCardCode {
    #[schema(value_type = String, example = "0123-4567-89AB-CDEF")]
    code: Option<Secret>,
}

/// What is left on a gift card. The code stands in the body, so that no log of addresses has it.
#[utoipa::path(post, path = "/v1/gift-cards/balance", tag = "Accounts", request_body = GiftCardCode,
    security(("bearer" = [])),
    responses((status = 200, body = CreditBody), (status = 404, description = "No such card.", body = ProblemBody),
        (status = 422, body = ProblemBody)))]
pub(crate) async fn on_card(
    _buyer: Buyer,
    State(api): State<Arc<Api>>,
    body: Body<GiftCardCode>,
) -> Result<Json<CreditBody>, Problem> {
    let mut check = Validation::default();
    let code = |code: Secret| line(1..=64)(code.expose().to_owned());
    let code = check.required("code", body.value.code, code);
    check.finish()?;
    let balance = credits::on_card(&api.market, &code.unwrap_or_default()).await?;
    Ok(Json(balance.ok_or_else(|| Problem::not_found("gift card"))?.into()))
}
