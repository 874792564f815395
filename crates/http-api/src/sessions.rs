//! Logging in, going on, and logging out.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use souk_commands::flows::accounts;
use souk_domain::{
    AccountId,
    account::{AccountState, Standing},
};
use souk_vault::RefreshToken;
use utoipa::ToSchema;

use crate::{
    Api,
    auth::{LIFETIME, Origin},
    extract::Body,
    problem::{Kind, Problem, ProblemBody},
    validation::{Refusal, Validation},
};

#[derive(Deserialize, ToSchema)]
pub(crate) struct Login {
    #[schema(value_type = String, example = "ann@example.org")]
    email: Option<String>,
    #[schema(value_type = String, example = "correct horse battery")]
    password: Option<String>,
    /// The code of an authenticator; no account asks for one yet.
    #[expect(dead_code, reason = "accepted, for accounts that will ask for it")]
    otp: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Refresh {
    #[schema(value_type = String)]
    refresh_token: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Session {
    access_token: String,
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Of the access token, in seconds.
    #[schema(example = 900)]
    expires_in: i64,
    /// Good for one refresh.
    refresh_token: String,
}

fn anything(text: String) -> Result<String, Refusal> {
    if text.is_empty() { Err("This must not be empty.".into()) } else { Ok(text) }
}

/// Log in.
#[utoipa::path(post, path = "/v1/sessions", tag = "Accounts", request_body = Login,
    responses((status = 201, body = Session), (status = 401, body = ProblemBody),
        (status = 403, description = "The account is suspended.", body = ProblemBody), (status = 422, body = ProblemBody),
        (status = 429, description = "Too many failures: see Retry-After.", body = ProblemBody)))]
pub(crate) async fn log_in(
    State(api): State<Arc<Api>>,
    origin: Origin,
    body: Body<Login>,
) -> Result<Response, Problem> {
    let mut check = Validation::default();
    let email = check.required("email", body.value.email, anything);
    let password = check.required("password", body.value.password, anything);
    let (Some(email), Some(password)) = (email, password) else { return Err(check.into()) };
    let email = email.trim().to_lowercase();
    if api.attempts.is_blocked(&email, origin) {
        return Err(Problem::new(Kind::TooManyRequests)
            .detail("Wait a minute, then try again.")
            .retry_after(60));
    }
    // More than a password can have is not worth hashing.
    let account = if password.chars().count() > 200 {
        None
    } else {
        api.market.vault.verify_password(&email, &password).await?
    };
    let Some(account) = account else {
        api.attempts.failed(&email, origin);
        return Err(Problem::new(Kind::InvalidCredentials));
    };
    let standing = active(&api, account).await?;
    let token = api.market.vault.create_session(account, api.market.clock.now()).await?;
    session(&api, account, standing, token)
}

/// Go on with a session: the refresh token is traded for the next one. One that is used twice ends the whole session.
#[utoipa::path(post, path = "/v1/sessions/refresh", tag = "Accounts", request_body = Refresh,
    responses((status = 201, body = Session), (status = 401, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 422, body = ProblemBody)))]
pub(crate) async fn refresh(State(api): State<Arc<Api>>, body: Body<Refresh>) -> Result<Response, Problem> {
    let mut check = Validation::default();
    let Some(token) = check.required("refreshToken", body.value.refresh_token, anything) else {
        return Err(check.into());
    };
    let rotated = api.market.vault.rotate(&token, api.market.clock.now()).await?;
    let standing = active(&api, rotated.account).await?;
    session(&api, rotated.account, standing, rotated.token)
}

/// Log out. The access token stays good until it expires.
#[utoipa::path(post, path = "/v1/sessions/end", tag = "Accounts", request_body = Refresh,
    responses((status = 204), (status = 422, body = ProblemBody)))]
pub(crate) async fn end(State(api): State<Arc<Api>>, body: Body<Refresh>) -> Result<StatusCode, Problem> {
    let mut check = Validation::default();
    let Some(token) = check.required("refreshToken", body.value.refresh_token, anything) else {
        return Err(check.into());
    };
    api.market.vault.end_session(&token, api.market.clock.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the log says of who knows the password. A suspended account does not get in, and is told so.
async fn active(api: &Api, account: AccountId) -> Result<AccountState, Problem> {
    let state = accounts::find(&api.market, account).await?.value;
    match state.standing {
        Standing::Active => Ok(state),
        Standing::Suspended => Err(Problem::new(Kind::AccountSuspended)),
        Standing::Forgotten | Standing::Unknown => Err(Problem::new(Kind::InvalidCredentials)),
    }
}

fn session(
    api: &Api,
    account: AccountId,
    state: AccountState,
    token: RefreshToken,
) -> Result<Response, Problem> {
    let access_token =
        api.tokens.issue(account, state.roles, api.market.clock.now()).map_err(Problem::internal)?;
    let body = Session {
        access_token,
        token_type: "Bearer",
        expires_in: LIFETIME,
        refresh_token: token.into_string(),
    };
    // Nobody on the way may keep it (RFC 6749, section 5.1).
    Ok((StatusCode::CREATED, [("cache-control", "no-store")], Json(body)).into_response())
}
