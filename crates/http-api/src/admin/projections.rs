//! Views: how far each is, and building one again.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    Api,
    auth::Admin,
    problem::{Problem, ProblemBody},
};

#[derive(Serialize, ToSchema)]
pub(crate) struct Projections {
    /// Every generation: name, version, generation, served, state (`building`, `active` or `stopped`), position, head,
    /// lagEvents, lagSeconds and error.
    #[schema(value_type = Vec<Object>)]
    projections: Value,
}

/// Every projector's state.
#[utoipa::path(get, path = "/v1/admin/projections", tag = "Administration", security(("bearer" = [])),
    responses((status = 200, body = Projections), (status = 403, body = ProblemBody)))]
pub(crate) async fn list(_admin: Admin, State(api): State<Arc<Api>>) -> Result<Json<Projections>, Problem> {
    let statuses = api.projections.status().await;
    Ok(Json(Projections { projections: serde_json::to_value(statuses).map_err(Problem::internal)? }))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Rebuilding {
    name: String,
    #[schema(example = "building")]
    state: &'static str,
}

/// Build a view again from the first event, beside what is served; it takes over when it has caught up.
#[utoipa::path(post, path = "/v1/admin/projections/{name}/rebuild", tag = "Administration", security(("bearer" = [])),
    params(("name" = String, Path)),
    responses((status = 202, body = Rebuilding), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody)))]
pub(crate) async fn rebuild(
    _admin: Admin,
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<Rebuilding>), Problem> {
    api.projections.rebuild(&name).await?;
    Ok((StatusCode::ACCEPTED, Json(Rebuilding { name, state: "building" })))
}
