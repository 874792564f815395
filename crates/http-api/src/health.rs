//! Whether the process lives, and whether it can do its work.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};
use souk_projections::ProjectorState;
use utoipa::ToSchema;

use crate::Api;

const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Serialize, ToSchema)]
pub(crate) struct Alive {
    #[schema(example = "alive")]
    status: &'static str,
}

/// Is the process alive?
#[utoipa::path(get, path = "/healthz", tag = "Operations", responses((status = 200, body = Alive)))]
pub(crate) async fn alive() -> Json<Alive> {
    Json(Alive { status: "alive" })
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ready {
    /// `ready` or `unready`.
    status: &'static str,
    log: Part,
    postgres: Part,
    search: Part,
    /// Every generation of every projector, with its lag and what stopped it.
    #[schema(value_type = Vec<Object>)]
    projectors: Value,
    #[schema(value_type = Object)]
    checkouts: Value,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Part {
    /// `up`, `down`, or `absent` where this process has none.
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
}

impl Part {
    fn is_down(&self) -> bool {
        self.status == "down"
    }
}

/// Can it do its work? 503 when a part is down, or a view cannot be served.
#[utoipa::path(get, path = "/readyz", tag = "Operations",
    responses((status = 200, body = Ready), (status = 503, body = Ready)))]
pub(crate) async fn ready(State(api): State<Arc<Api>>) -> Response {
    let (log, postgres, projectors) = tokio::join!(log(&api), postgres(&api), api.projections.status());
    let search = match &api.search {
        Some(index) => Part { status: "up", position: index.position() },
        None => Part { status: "absent", position: None },
    };
    let stuck = projectors.iter().any(|projector| {
        let served_elsewhere = projectors.iter().any(|other| other.name == projector.name && other.served);
        projector.state == ProjectorState::Stopped || (!projector.served && !served_elsewhere)
    });
    let ready = !(log.is_down() || postgres.is_down() || stuck || api.stop.is_cancelled());
    let checkouts = match &api.process {
        Some(process) => {
            json!({ "status": "up", "inFlight": process.in_flight(), "position": *process.position().borrow() })
        }
        None => json!({ "status": "absent" }),
    };
    let body = Ready {
        status: if ready { "ready" } else { "unready" },
        log,
        postgres,
        search,
        projectors: serde_json::to_value(&projectors).unwrap_or_default(),
        checkouts,
    };
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

async fn log(api: &Api) -> Part {
    match tokio::time::timeout(PATIENCE, api.market.log.head()).await {
        Ok(Ok(position)) => Part { status: "up", position },
        Ok(Err(_)) | Err(_) => Part { status: "down", position: None },
    }
}

async fn postgres(api: &Api) -> Part {
    let asked = sqlx::query("SELECT 1").execute(&api.pool);
    let up = matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(_)));
    Part { status: if up { "up" } else { "down" }, position: None }
}
