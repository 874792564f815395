//! Reading on from a consumer's cursor, and moving it.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures::StreamExt;
use serde::Deserialize;
use souk_event_log::{Direction, EventLine, Message, Position};
use souk_vault::Consumer;
use souk_webhooks::wanted;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ConsumerBody, Place, no_such, owned, shown, whose, within};
use crate::{
    Api,
    answer::positioned,
    auth::Reader,
    events::{self, Envelope},
    extract::{Body, Params, PathId, Prefer},
    problem::{Kind, Problem, ProblemBody},
    validation::Validation,
};

/// An answer ends with the event that reaches this, in bytes.
const LARGEST: usize = 4 << 20;

/// What follows the cursor.
#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    /// Up to here, everything that is for this consumer is in the lines.
    position: Option<Position>,
}

/// Read on from the cursor, as NDJSON. The cursor stays where it is: acknowledge `Souk-Position`, up to which this goes,
/// when it is all dealt with. With `Prefer: wait=N` an answer without events waits for one.
#[utoipa::path(get, path = "/v1/consumers/{consumerId}/events", tag = "Analysis", security(("bearer" = [])),
    params(("consumerId" = Uuid, Path), ("limit" = Option<u32>, Query, description = "1,000 if not said otherwise, 10,000 at most."),
        ("Prefer" = Option<String>, Header, description = "`wait=20`: up to so many seconds.")),
    responses((status = 200, content_type = "application/x-ndjson", body = Envelope), (status = 403, body = ProblemBody),
        (status = 404, body = ProblemBody), (status = 409, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn read(
    Reader(reader): Reader,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<Uuid>,
    prefer: Prefer,
    mut params: Params,
) -> Result<Response, Problem> {
    let limit = events::limit(&mut params).unwrap_or(events::USUAL);
    params.finish()?;
    let consumer = owned(&api, &reader, id).await?;
    let mut batch = fetch(&api, &consumer, limit).await?;
    if let (true, Some(wait)) = (batch.lines.is_empty(), prefer.wait)
        && await_event(&api, &consumer, batch.position, wait).await?
    {
        batch = fetch(&api, &consumer, limit).await?;
    }
    let mut answer = ([(header::CONTENT_TYPE, "application/x-ndjson")], batch.lines).into_response();
    if let Some(wait) = prefer.wait {
        let applied = HeaderValue::try_from(format!("wait={}", wait.as_secs())).map_err(Problem::internal)?;
        answer.headers_mut().insert("preference-applied", applied);
    }
    Ok(positioned(answer, batch.position))
}

async fn fetch(api: &Api, consumer: &Consumer, limit: usize) -> Result<Batch, Problem> {
    let log = &api.market.log;
    let end = log.head().await?;
    if consumer.position > end {
        let detail = "The log ends before this consumer's position. Replay from where it should go on.";
        return Err(Problem::new(Kind::Conflict).detail(detail).with("position", consumer.position));
    }
    let from = consumer.position.map_or(0, |position| position + 1);
    let mut found = log.read_all(from, wanted(consumer), Direction::Forward, limit);
    let (mut batch, mut count) = (Batch::default(), 0);
    while let Some(event) = found.next().await {
        let event = event?;
        EventLine::from(&*event).write(&mut batch.lines);
        batch.position = Some(event.position);
        count += 1;
        if batch.lines.len() >= LARGEST {
            return Ok(batch);
        }
    }
    if count < limit {
        // It was read to the end, which may have moved on meanwhile.
        batch.position = batch.position.max(end);
    }
    Ok(batch)
}

/// True as soon as there is something to fetch; false when the time is over, or too many wait already.
async fn await_event(
    api: &Api,
    consumer: &Consumer,
    after: Option<Position>,
    wait: Duration,
) -> Result<bool, Problem> {
    let Ok(_permit) = Arc::clone(&api.event_streams).try_acquire_owned() else { return Ok(false) };
    let mut messages = api.market.log.subscribe(after, wanted(consumer));
    let deadline = tokio::time::sleep(wait);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            () = &mut deadline => return Ok(false),
            () = api.stop.cancelled() => return Ok(false),
            message = messages.next() => match message {
                Some(Ok(Message::Event(_))) => return Ok(true),
                Some(Ok(Message::Checkpoint(_) | Message::CaughtUp)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(false),
            }
        }
    }
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct Acknowledgement {
    /// Everything up to here is dealt with.
    #[schema(value_type = u64, example = 1041)]
    position: Option<u64>,
}

/// Move the cursor on. It never goes back: to the same position again is fine, behind it is 409.
#[utoipa::path(post, path = "/v1/consumers/{consumerId}/acknowledge", tag = "Analysis", security(("bearer" = [])),
    request_body = Acknowledgement, params(("consumerId" = Uuid, Path)),
    responses((status = 200, body = ConsumerBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 409, body = ProblemBody), (status = 422, body = ProblemBody)))]
pub(crate) async fn acknowledge(
    Reader(reader): Reader,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<Uuid>,
    body: Body<Acknowledgement>,
) -> Result<Json<ConsumerBody>, Problem> {
    let end = api.market.log.head().await?;
    let mut check = Validation::default();
    let position = check.required("position", body.value.position, |position| within(position, end));
    let Some(position) = position else { return Err(check.into()) };
    if let Some(consumer) = api.market.vault.acknowledge(id, whose(&reader), position).await? {
        return shown(&api, consumer).await;
    }
    let consumer = owned(&api, &reader, id).await?;
    let detail = match consumer.webhook {
        Some(_) => "A webhook moves its cursor itself. Replay moves it on purpose.",
        None => "The cursor is further already. Replay moves it back.",
    };
    Err(Problem::new(Kind::Conflict).detail(detail).with("position", consumer.position))
}

#[derive(Deserialize, ToSchema)]
pub(crate) struct Replay {
    #[schema(value_type = Place)]
    after: Option<Place>,
}

/// Move the cursor on purpose, back or forward. A webhook is told of what follows at once, under the ids of the first
/// time.
#[utoipa::path(post, path = "/v1/consumers/{consumerId}/replay", tag = "Analysis", security(("bearer" = [])),
    request_body = Replay, params(("consumerId" = Uuid, Path)),
    responses((status = 200, body = ConsumerBody), (status = 403, body = ProblemBody), (status = 404, body = ProblemBody),
        (status = 422, body = ProblemBody)))]
pub(crate) async fn replay(
    Reader(reader): Reader,
    State(api): State<Arc<Api>>,
    PathId(id): PathId<Uuid>,
    body: Body<Replay>,
) -> Result<Json<ConsumerBody>, Problem> {
    let end = api.market.log.head().await?;
    let mut check = Validation::default();
    let after = check.required("after", body.value.after, |after| after.position(end));
    let Some(after) = after else { return Err(check.into()) };
    let consumer = api.market.vault.replay(id, whose(&reader), after).await?.ok_or_else(no_such)?;
    shown(&api, consumer).await
}
