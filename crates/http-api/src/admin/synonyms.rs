//! Words that mean the same in a search. They count, in every process that searches, as soon as its projector has seen them.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::Response};
use serde::{Deserialize, Serialize};
use souk_commands::flows::synonyms as flow;
use utoipa::ToSchema;

use crate::{
    Api,
    answer::acknowledged,
    auth::Admin,
    extract::{Body, CommandHead},
    problem::{Problem, ProblemBody},
    validation::Validation,
};

/// All of them.
#[derive(Default, Deserialize, Serialize, ToSchema)]
pub(crate) struct SynonymRules {
    /// `tv, television`: each finds the other; `notebook => laptop`: the first finds the second as well.
    #[schema(value_type = Vec<String>, example = json!(["tv, television", "notebook => laptop"]))]
    synonyms: Option<Vec<String>>,
}

/// The rules that were set here; those of a file are not among them.
#[utoipa::path(get, path = "/v1/admin/synonyms", tag = "Administration", security(("bearer" = [])),
    responses((status = 200, body = SynonymRules), (status = 403, body = ProblemBody)))]
pub(crate) async fn get(_admin: Admin, State(api): State<Arc<Api>>) -> Result<Json<SynonymRules>, Problem> {
    let rules = flow::read(&api.market).await?.value.rules;
    Ok(Json(SynonymRules { synonyms: Some(rules) }))
}

/// Replace all rules.
#[utoipa::path(put, path = "/v1/admin/synonyms", tag = "Administration", security(("bearer" = [])),
    request_body = SynonymRules, params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = SynonymRules), (status = 403, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn put(
    Admin(admin): Admin,
    State(api): State<Arc<Api>>,
    head: CommandHead,
    body: Body<SynonymRules>,
) -> Result<Response, Problem> {
    let context = head.context(&api, Some(admin.account), &body.raw);
    let mut check = Validation::default();
    let rules = check.present("synonyms", body.value.synonyms).unwrap_or_default();
    for (at, rule) in rules.iter().enumerate() {
        if rule.contains(['\n', '\r']) {
            check.fail(format!("synonyms[{at}]"), "A rule is one line.");
        } else if let Err(error) = souk_search::Synonyms::parse(rule) {
            check.fail(format!("synonyms[{at}]"), format!("This is no rule: {}.", error.reason));
        }
    }
    check.finish()?;
    let (market, new) = (Arc::clone(&api.market), rules.clone());
    let done = api.run(async move { flow::replace(&market, &context, new).await }).await??;
    Ok(acknowledged(StatusCode::OK, done.position, SynonymRules { synonyms: Some(rules) }))
}
