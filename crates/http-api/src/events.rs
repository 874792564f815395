//! The log itself, for analysts: as lines of JSON up to its present end, or live as server-sent events.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use async_stream::stream;
use axum::{
    body::{Body, Bytes},
    extract::{FromRequestParts, State},
    http::{HeaderMap, Request, header},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt, pin_mut};
use serde_json::Value;
use souk_event_log::{Direction, EventLine, Filter, Message, Position, StreamName, Subscription, line};
use tokio::{sync::OwnedSemaphorePermit, time::sleep};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    answer::positioned,
    auth::Reader,
    extract::{LastEventId, Params, wants_event_stream},
    problem::{Kind, Problem, ProblemBody},
    tracking::KEEP_ALIVE,
};

pub(crate) const USUAL: usize = 1_000;
const LARGEST: i64 = 10_000;
/// Lines are sent in pieces of about so many bytes.
const PIECE: usize = 64 << 10;
/// How often who follows the log is asked for the access token again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// An event with its envelope: what [`souk_event_log::EventLine`] writes.
#[derive(ToSchema)]
#[schema(as = Event, rename_all = "camelCase")]
#[expect(dead_code, reason = "it is there to be described")]
pub(crate) struct Envelope {
    position: Position,
    stream: String,
    revision: u64,
    id: Uuid,
    #[schema(rename = "type")]
    event_type: String,
    /// Of the shape of `data`.
    version: u32,
    recorded_at: DateTime<Utc>,
    occurred_at: DateTime<Utc>,
    correlation_id: Option<Uuid>,
    causation_id: Option<Uuid>,
    command_id: Option<Uuid>,
    actor: Option<String>,
    /// As docs/events.md tells of the type. What another program appended and is no JSON is a string of base64.
    #[schema(value_type = Object)]
    data: Value,
    /// BLAKE3, chained to the event before.
    hash: Option<String>,
}

/// Read the log. Answers NDJSON, one event a line; with `Accept: text/event-stream` it goes on live, and takes up again
/// after `Last-Event-ID`; it ends soon after the access token has.
#[utoipa::path(get, path = "/v1/events", tag = "Analysis", security(("bearer" = [])),
    params(("after" = Option<u64>, Query, description = "Events after this position; without it from the first."),
        ("limit" = Option<u32>, Query, description = "1,000 if not said otherwise, 10,000 at most; live there is no limit unless it is given."),
        ("stream" = Option<String>, Query), ("category" = Option<Vec<String>>, Query, explode = true),
        ("type" = Option<Vec<String>>, Query, explode = true), ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, content_type = "application/x-ndjson", body = Envelope), (status = 400, body = ProblemBody),
        (status = 403, body = ProblemBody), (status = 422, body = ProblemBody), (status = 503, body = ProblemBody)))]
pub(crate) async fn read(
    Reader(reader): Reader,
    State(api): State<Arc<Api>>,
    LastEventId(last): LastEventId,
    headers: HeaderMap,
    mut params: Params,
) -> Result<Response, Problem> {
    let after = params.read(
        "after",
        |text| text.parse().ok().filter(|at: &u64| i64::try_from(*at).is_ok()),
        "a position",
    );
    let limit = limit(&mut params);
    let filter = filter(&mut params);
    params.finish()?;
    tracing::debug!(account = %reader.account, after, "the log is read");
    let log = Arc::clone(&api.market.log);
    let head = log.head().await?;
    if wants_event_stream(&headers) {
        let permit = Arc::clone(&api.event_streams).try_acquire_owned();
        let permit = permit
            .map_err(|_| Problem::new(Kind::Unavailable).detail("Too many follow the log.").retry_after(5))?;
        let limit = limit.unwrap_or(usize::MAX);
        let messages = log.subscribe(last.or(after), filter);
        let events = live(api, messages, limit, headers, permit);
        return Ok(positioned(
            Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response(),
            head,
        ));
    }
    let from = after.map_or(0, |after| after + 1);
    let events = log.read_all(from, filter, Direction::Forward, limit.unwrap_or(USUAL));
    let body = Body::from_stream(lines(events));
    Ok(positioned(([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response(), head))
}

/// How many events are asked for.
pub(crate) fn limit(params: &mut Params) -> Option<usize> {
    params.number("limit", 1..=LARGEST).map(|limit| limit as usize)
}

fn filter(params: &mut Params) -> Filter {
    let lists = |values: Vec<String>| {
        let names = values.iter().flat_map(|value| value.split(',')).map(|name| name.trim().to_owned());
        names.filter(|name| !name.is_empty()).collect::<Vec<_>>()
    };
    let stream = params.read("stream", |text| StreamName::parse(text).ok(), "the name of a stream");
    Filter { stream, categories: lists(params.all("category")), event_types: lists(params.all("type")) }
}

/// A failure in the middle breaks the connection off, so that nobody takes a part for the whole.
fn lines(mut events: souk_event_log::EventStream) -> impl Stream<Item = io::Result<Bytes>> {
    stream! {
        let mut piece = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    EventLine::from(&*event).write(&mut piece);
                }
                Err(error) => {
                    tracing::error!(%error, "the log broke off while it was read");
                    yield Err(io::Error::other(error));
                    return;
                }
            }
            if piece.len() >= PIECE {
                yield Ok(std::mem::take(&mut piece).into());
            }
        }
        if !piece.is_empty() {
            yield Ok(piece.into());
        }
    }
}

fn live(
    api: Arc<Api>,
    mut messages: Subscription,
    limit: usize,
    headers: HeaderMap,
    permit: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream! {
        let _permit = permit;
        let mut left = limit;
        let stop = api.stop.clone();
        let shut_out = shut_out(api, headers);
        pin_mut!(shut_out);
        while left > 0 {
            let message = tokio::select! {
                message = messages.next() => message,
                () = &mut shut_out => return,
                () = stop.cancelled() => return,
            };
            match message {
                Some(Ok(Message::Event(event))) => {
                    left -= 1;
                    let line = line(&event);
                    yield Ok(Event::default()
                        .id(event.position.to_string())
                        .event(&*event.event_type)
                        .data(line.trim_end()));
                }
                Some(Ok(Message::Checkpoint(_) | Message::CaughtUp)) => {}
                Some(Err(error)) => {
                    tracing::warn!(%error, "the log broke off while it was followed");
                    return;
                }
                None => return,
            }
        }
    }
}

/// Waits until the token of a request no longer lets its sender read: it has expired, or the account is suspended.
async fn shut_out(api: Arc<Api>, headers: HeaderMap) {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.headers = headers;
    while Reader::from_request_parts(&mut parts, &api).await.is_ok() {
        sleep(LOOK_AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use utoipa::PartialSchema;

    use super::*;

    #[test]
    fn the_description_names_what_is_written() {
        let event = souk_event_log::Recorded {
            id: Uuid::nil(),
            stream: StreamName::new("item", "x"),
            revision: 0,
            position: 0,
            event_type: "ItemListed".into(),
            recorded_at: DateTime::UNIX_EPOCH,
            data: b"{}".to_vec(),
            metadata: Vec::new().into(),
            hash: None,
        };
        let written: BTreeMap<String, Value> = serde_json::from_str(&line(&event)).unwrap();
        let described = serde_json::to_value(Envelope::schema()).unwrap();
        let described: Vec<_> = described["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(described.into_iter().collect::<BTreeSet<_>>(), written.into_keys().collect());
    }

    #[test]
    fn filters_take_lists() {
        let mut params = Params::parse("category=order,cart&category=item&type=OrderPlaced&stream=order-1");
        let filter = filter(&mut params);
        assert_eq!(filter.categories, ["order", "cart", "item"]);
        assert_eq!(filter.event_types, ["OrderPlaced"]);
        assert_eq!(filter.stream.unwrap().as_str(), "order-1");
        assert!(params.finish().is_ok());
    }
}
