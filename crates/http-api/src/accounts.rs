//! Accounts: registering, and looking at one's own.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use souk_commands::flows::accounts::{self, Registration};
use souk_domain::{AccountId, Sealed, account::Role};
use souk_projections::accounts as view;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    answer::{self, SHORT_PATIENCE, acknowledged},
    auth::Person,
    extract::{Body, CommandHead, MinPosition},
    problem::{Problem, ProblemBody},
    validation::{self, Refusal, Validation},
};

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewAccount {
    #[schema(value_type = String, example = "ann@example.org")]
    email: Option<String>,
    /// 8 to 200 characters.
    #[schema(value_type = String, example = "correct horse battery")]
    password: Option<String>,
    #[schema(value_type = String, example = "Ann")]
    display_name: Option<String>,
    /// `buyer` or `seller`.
    #[schema(value_type = String, example = "buyer")]
    role: Option<String>,
}

impl NewAccount {
    fn parse(self, account_id: AccountId) -> Result<Registration, Problem> {
        let mut check = Validation::default();
        let email = check.required("email", self.email, validation::email);
        let password = check.required("password", self.password, validation::password);
        let display_name = check.required("displayName", self.display_name, validation::line(1..=100));
        let role = check.required("role", self.role, role);
        match (email, password, display_name, role) {
            (Some(email), Some(password), Some(display_name), Some(role)) => {
                Ok(Registration { account_id, email, password, display_name, role })
            }
            _ => Err(check.into()),
        }
    }
}

/// The roles that one can take on oneself.
fn role(text: String) -> Result<Role, Refusal> {
    match text.as_str() {
        "buyer" => Ok(Role::Buyer),
        "seller" => Ok(Role::Seller),
        _ => Err("A role is buyer or seller.".into()),
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccountCreated {
    account_id: Uuid,
}

/// Register.
#[utoipa::path(post, path = "/v1/accounts", tag = "Accounts", request_body = NewAccount,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = AccountCreated), (status = 400, body = ProblemBody),
        (status = 409, description = "The address is taken.", body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn register(
    State(api): State<Arc<Api>>,
    head: CommandHead,
    body: Body<NewAccount>,
) -> Result<Response, Problem> {
    let context = head.context(&api, None, &body.raw);
    let registration = body.value.parse(AccountId(Uuid::new_v5(&context.command_id, b"account")))?;
    let market = Arc::clone(&api.market);
    let done = api.run(async move { accounts::register(&market, &context, registration).await }).await??;
    Ok(acknowledged(StatusCode::CREATED, done.position, AccountCreated { account_id: done.value.0 }))
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OwnAccount {
    account_id: Uuid,
    email: Option<String>,
    display_name: Option<String>,
    #[schema(value_type = Vec<String>)]
    roles: Vec<Role>,
}

/// My own account.
#[utoipa::path(get, path = "/v1/accounts/me", tag = "Accounts", security(("bearer" = [])),
    responses((status = 200, body = OwnAccount), (status = 401, body = ProblemBody)))]
pub(crate) async fn me(
    person: Person,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
) -> Result<Json<OwnAccount>, Problem> {
    api.see(&[answer::view::ACCOUNTS], min).await?;
    let row = own(&api, person.account).await?.ok_or_else(|| Problem::not_found("account"))?;
    Ok(Json(OwnAccount {
        account_id: row.account_id.0,
        email: api.open(row.email.as_ref()).await?,
        display_name: api.open(row.display_name.as_ref()).await?,
        roles: row.roles,
    }))
}

/// Who has just registered is there, even if the view has not seen it yet.
async fn own(api: &Api, account: AccountId) -> Result<Option<view::AccountRow>, Problem> {
    if let Some(row) = view::account(&api.pool, account).await? {
        return Ok(Some(row));
    }
    let fresh = accounts::find(&api.market, account).await?;
    let Some(position) = fresh.position.filter(|_| fresh.revision.is_some()) else { return Ok(None) };
    // Whether it came or not, the query tells.
    let _ = api.projections.wait_for(answer::view::ACCOUNTS, position, SHORT_PATIENCE).await;
    Ok(view::account(&api.pool, account).await?)
}

impl Api {
    /// Sealed text in clear; `None` when there is none, or its subject was forgotten.
    pub(crate) async fn open(&self, sealed: Option<&Sealed>) -> Result<Option<String>, Problem> {
        let Some(sealed) = sealed else { return Ok(None) };
        let plain = self.market.vault.open_sealed(sealed).await?;
        Ok(plain.and_then(|bytes| String::from_utf8(bytes).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: serde_json::Value) -> Result<Registration, Problem> {
        serde_json::from_value::<NewAccount>(json).unwrap().parse(AccountId(Uuid::nil()))
    }

    #[test]
    fn nobody_makes_himself_an_admin() {
        let json = |role: &str| serde_json::json!({ "email": "a@b.example", "password": "12345678", "displayName": "A", "role": role });
        assert_eq!(parse(json("seller")).unwrap().role, Role::Seller);
        for role in ["admin", "analyst", "Buyer", ""] {
            let problem = parse(json(role)).unwrap_err();
            assert_eq!(problem.errors()[0].field, "role", "{role}");
        }
    }

    #[test]
    fn everything_missing_is_named() {
        let problem = parse(serde_json::json!({})).unwrap_err();
        let fields: Vec<_> = problem.errors().iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["email", "password", "displayName", "role"]);
    }
}
