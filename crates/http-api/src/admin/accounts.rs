//! Accounts: who there is; suspending, reinstating, forgetting; further roles.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use souk_commands::flows::{Acknowledged, accounts as flow};
use souk_domain::{
    AccountId, Sealed,
    account::{Role, Standing},
};
use souk_projections::accounts as view;
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
pub(crate) struct AccountPage {
    accounts: Vec<AccountBody>,
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Account)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccountBody {
    account_id: Uuid,
    /// Null of imported accounts, and of the forgotten.
    email: Option<String>,
    display_name: Option<String>,
    #[schema(value_type = Vec<String>)]
    roles: Vec<Role>,
    /// `active`, `suspended` or `forgotten`.
    #[schema(value_type = String)]
    standing: Standing,
    /// Why it is suspended.
    reason: Option<String>,
    registered_at: DateTime<Utc>,
}

/// All accounts, newest first.
#[utoipa::path(get, path = "/v1/admin/accounts", tag = "Administration", security(("bearer" = [])),
    params(("cursor" = Option<String>, Query), ("size" = Option<u32>, Query), ("Souk-Min-Position" = Option<u64>, Header)),
    responses((status = 200, body = AccountPage), (status = 403, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn list(
    _admin: Admin,
    State(api): State<Arc<Api>>,
    MinPosition(min): MinPosition,
    mut params: Params,
) -> Result<Json<AccountPage>, Problem> {
    let (cursor, size) = params.page();
    params.finish()?;
    api.see(&[answer::view::ACCOUNTS], min).await?;
    let page = view::accounts(&api.pool, cursor.as_deref(), size).await?;
    let accounts = shown(&api, page.rows).await?;
    Ok(Json(AccountPage { accounts, next_cursor: page.next_cursor }))
}

/// With what is sealed opened, all of it at once.
async fn shown(api: &Api, rows: Vec<view::AccountRow>) -> Result<Vec<AccountBody>, Problem> {
    let sealed: Vec<Sealed> =
        rows.iter().flat_map(|row| [&row.email, &row.display_name]).flatten().cloned().collect();
    let mut opened = api.market.vault.open_many(&sealed).await?.into_iter();
    let mut next = |sealed: Option<Sealed>| {
        let text = sealed.and_then(|_| opened.next().flatten());
        text.and_then(|bytes| String::from_utf8(bytes).ok())
    };
    let accounts = rows.into_iter().map(|row| AccountBody {
        account_id: row.account_id.0,
        email: next(row.email),
        display_name: next(row.display_name),
        roles: row.roles,
        standing: row.standing,
        reason: row.reason,
        registered_at: row.registered_at,
    });
    Ok(accounts.collect())
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AccountStanding {
    account_id: Uuid,
    #[schema(value_type = String)]
    standing: Standing,
    #[schema(value_type = Vec<String>)]
    roles: Vec<Role>,
}

async fn changed(api: &Api, account: AccountId, done: Acknowledged<()>) -> Result<Response, Problem> {
    let state = flow::find(&api.market, account).await?.value;
    let body = AccountStanding {
        account_id: account.0,
        standing: state.standing,
        roles: state.roles.into_iter().collect(),
    };
    Ok(acknowledged(StatusCode::OK, done.position, body))
}

#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct Suspension {
    #[schema(value_type = String, example = "fraud")]
    reason: Option<String>,
}

/// Suspend an account: its sessions end, and nobody can log in to it.
#[utoipa::path(post, path = "/v1/admin/accounts/{accountId}/suspend", tag = "Administration", security(("bearer" = [])),
    request_body(content = Option<Suspension>), params(("accountId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = AccountStanding), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
pub(crate) async fn suspend(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    PathId(account): PathId<AccountId>,
    head: CommandHead,
    body: MaybeBody<Suspension>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let mut check = Validation::default();
    let reason = check.optional("reason", body.value.reason, line(1..=500));
    check.finish()?;
    let reason = reason.unwrap_or_else(|| "by an operator".into());
    let market = Arc::clone(&api.market);
    let done = api.run(async move { flow::suspend(&market, &context, account, reason).await }).await??;
    api.revocations.revoke(account, api.market.clock.now());
    changed(&api, account, done).await
}

/// Reinstate a suspended account.
#[utoipa::path(post, path = "/v1/admin/accounts/{accountId}/reinstate", tag = "Administration", security(("bearer" = [])),
    params(("accountId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = AccountStanding), (status = 404, body = ProblemBody), (status = 409, body = ProblemBody)))]
pub(crate) async fn reinstate(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    PathId(account): PathId<AccountId>,
    head: CommandHead,
    body: MaybeBody<Nothing>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let market = Arc::clone(&api.market);
    let done = api.run(async move { flow::reinstate(&market, &context, account).await }).await??;
    api.revocations.reinstate(account);
    changed(&api, account, done).await
}

/// Forget a person: the key of what is sealed about them is destroyed. There is no way back.
#[utoipa::path(post, path = "/v1/admin/accounts/{accountId}/forget", tag = "Administration", security(("bearer" = [])),
    params(("accountId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = AccountStanding), (status = 404, body = ProblemBody)))]
pub(crate) async fn forget(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    PathId(account): PathId<AccountId>,
    head: CommandHead,
    body: MaybeBody<Nothing>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let market = Arc::clone(&api.market);
    let done = api.run(async move { flow::forget(&market, &context, account).await }).await??;
    api.revocations.revoke(account, api.market.clock.now());
    changed(&api, account, done).await
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct Grant {
    /// `buyer`, `seller`, `admin` or `analyst`.
    #[schema(value_type = String, example = "analyst")]
    role: Option<String>,
}

/// Grant a further role; it counts from the next log-in or refresh.
#[utoipa::path(post, path = "/v1/admin/accounts/{accountId}/roles", tag = "Administration", security(("bearer" = [])),
    request_body = Grant, params(("accountId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = AccountStanding), (status = 404, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn grant(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    PathId(account): PathId<AccountId>,
    head: CommandHead,
    body: Body<Grant>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let mut check = Validation::default();
    let Some(role) = check.required("role", body.value.role, role) else { return Err(check.into()) };
    let market = Arc::clone(&api.market);
    let done = api.run(async move { flow::grant_role(&market, &context, account, role).await }).await??;
    changed(&api, account, done).await
}

fn role(text: String) -> Result<Role, Refusal> {
    named(&text).ok_or_else(|| "A role is buyer, seller, admin or analyst.".into())
}
