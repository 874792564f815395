//! A consumer's webhook: pausing it, its secret, and what was delivered.

use std::sync::Arc;

use axum::{Json, extract::State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use souk_vault::{Consumer, Delivery};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ConsumerBody, owned, shown, whose};
use crate::{
    Api,
    auth::{Person, Reader},
    extract::{CommandHead, MaybeBody, Params, PathId},
    orders::Nothing,
    problem::{Kind, Problem, ProblemBody},
    validation::{Validation, line},
};

/// What is for webhooks alone has changed nothing: either there is no such consumer, or it has none.
async fn changed(
    api: &Api,
    reader: &Person,
    id: Uuid,
    consumer: Option<Consumer>,
) -> Result<Json<ConsumerBody>, Problem> {
    match consumer {
        Some(consumer) => shown(api, consumer).await,
        None => Err(no_webhook(api, reader, id).await),
    }
}

async fn no_webhook(api: &Api, reader: &Person, id: Uuid) -> Problem {
    match owned(api, reader, id).await {
        Ok(_) => Problem::new(Kind::Conflict).detail("This consumer has no webhook."),
        Err(problem) => problem,
    }
}

#[derive(Default, Deserialize, ToSchema)]
pub(crate) struct Pause {
    #[schema(value_type = String, example = "moving house")]
    reason: Option<String>,
}

/// Pause a webhook: within a second nothing is sent any more. What happens meanwhile is sent when it is resumed.
#[utoipa::path(post, path = "/v1/consumers/{consumerId}/pause", tag = "Analysis", security(("bearer" = [])),
    request_body(content = Option<Pause>), params(("consumerId" = Uuid, Path)),
    responses((status = 200, body = ConsumerBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn pause(
    Reader(reader): Reader,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<Uuid>,
    body: MaybeBody<Pause>,
) -> Result<Json<ConsumerBody>, Problem> {
    let mut check = Validation::default();
    let reason = check.optional("reason", body.value.reason, line(1..=500));
    check.finish()?;
    let reason = reason.unwrap_or_else(|| "by its owner".to_owned());
    let consumer = api.market.vault.pause(id, whose(&reader), &reason).await?;
    changed(&api, &reader, id, consumer).await
}

/// Resume a webhook that is paused; one that is failing tries again at once.
#[utoipa::path(post, path = "/v1/consumers/{consumerId}/resume", tag = "Analysis", security(("bearer" = [])),
    params(("consumerId" = Uuid, Path)),
    responses((status = 200, body = ConsumerBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody)))]
pub(crate) async fn resume(
    Reader(reader): Reader,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<Uuid>,
) -> Result<Json<ConsumerBody>, Problem> {
    let consumer = api.market.vault.resume(id, whose(&reader)).await?;
    changed(&api, &reader, id, consumer).await
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NewSecret {
    consumer_id: Uuid,
    /// Shown here alone. For 24 hours what is sent is signed with the one before, too.
    #[schema(example = "whsec_…")]
    secret: String,
}

/// Replace a webhook's secret. With the same `Idempotency-Key` the same secret is answered again.
#[utoipa::path(post, path = "/v1/consumers/{consumerId}/rotate-secret", tag = "Analysis", security(("bearer" = [])),
    params(("consumerId" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = NewSecret), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody)))]
pub(crate) async fn rotate_secret(
    Reader(reader): Reader,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<Uuid>,
    head: CommandHead,
    body: MaybeBody<Nothing>,
) -> Result<Json<NewSecret>, Problem> {
    let command = head.context(&api, Some(reader.account), &body.raw).command_id;
    let (market, whose) = (Arc::clone(&api.market), whose(&reader));
    let rotated = async move { market.vault.rotate_secret(id, whose, command, market.clock.now()).await };
    match api.run(rotated).await?? {
        Some((_, secret)) => Ok(Json(NewSecret { consumer_id: id, secret: secret.as_text().to_string() })),
        None => Err(no_webhook(&api, &reader, id).await),
    }
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryPage {
    deliveries: Vec<DeliveryBody>,
    next_cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Delivery)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryBody {
    position: u64,
    event_id: Uuid,
    #[serde(rename = "type")]
    event_type: String,
    stream: String,
    /// 1 is the first try of that event.
    attempt: u32,
    at: DateTime<Utc>,
    delivered: bool,
    /// Of the receiver's answer; null if there was none.
    status: Option<u16>,
    error: Option<String>,
    took_ms: u32,
}

impl From<Delivery> for DeliveryBody {
    fn from(delivery: Delivery) -> Self {
        Self {
            position: delivery.position,
            event_id: delivery.event,
            event_type: delivery.event_type,
            stream: delivery.stream,
            attempt: delivery.attempt,
            at: delivery.at,
            delivered: delivery.delivered,
            status: delivery.status,
            error: delivery.error,
            took_ms: delivery.took_ms,
        }
    }
}

/// What was sent, and what came of it, the latest first. The last 1,000 tries that went well and the last 1,000 that
/// did not are kept.
#[utoipa::path(get, path = "/v1/consumers/{consumerId}/deliveries", tag = "Analysis", security(("bearer" = [])),
    params(("consumerId" = Uuid, Path), ("delivered" = Option<bool>, Query), ("cursor" = Option<String>, Query),
        ("size" = Option<u32>, Query)),
    responses((status = 200, body = DeliveryPage), (status = 400, body = ProblemBody), (status = 403, body = ProblemBody),
        (status = 404, body = ProblemBody)))]
pub(crate) async fn deliveries(
    Reader(reader): Reader,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<Uuid>,
    mut params: Params,
) -> Result<Json<DeliveryPage>, Problem> {
    let delivered = params.parsed::<bool>("delivered", "true or false");
    let before = params.parsed::<i64>("cursor", "a cursor of this list");
    let (_, size) = params.page();
    params.finish()?;
    owned(&api, &reader, id).await?;
    let mut tries = api.market.vault.deliveries(id, delivered, before, i64::from(size) + 1).await?;
    let more = tries.len() > size as usize;
    tries.truncate(size as usize);
    let next_cursor = tries.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(Json(DeliveryPage { deliveries: tries.into_iter().map(DeliveryBody::from).collect(), next_cursor }))
}
