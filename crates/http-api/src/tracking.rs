//! An order's statuses as they come: server-sent events, resumable, until the order has ended.

use std::{convert::Infallible, sync::Arc, time::Duration};

use async_stream::stream;
use axum::{
    extract::State,
    http::StatusCode,
    response::{
        IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
};
use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt};
use serde::Serialize;
use souk_commands::Category;
use souk_domain::{
    DomainEvent, OrderId,
    order::{CancelReason, OrderEvent, OrderStatus, Orders},
};
use souk_event_log::{Direction, ReadError, Recorded, Revision};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    Api,
    auth::BuyerOrAdmin,
    extract::{LastEventId, PathId},
    hub::{Watch, status_after},
    orders,
    problem::{Kind, Problem, ProblemBody},
};

pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// An order has seven events at most; a hint that was missed is made up for after so long.
const LOOK_AGAIN: Duration = Duration::from_secs(15);
const WHOLE: usize = 1_000;

/// What a status event says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusChange {
    order_id: Uuid,
    #[schema(value_type = String)]
    status: OrderStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    reason: Option<CancelReason>,
    at: DateTime<Utc>,
}

/// Follow an order. One event per status (`event: status`), past ones first; the `id` of an event is its revision in the
/// order's stream, to be sent as `Last-Event-ID` by who takes up again. It ends after the last status.
#[utoipa::path(get, path = "/v1/orders/{orderId}/tracking", tag = "Orders", security(("bearer" = [])),
    params(("orderId" = Uuid, Path), ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, content_type = "text/event-stream", body = StatusChange),
        (status = 204, description = "The order has ended, and nothing follows `Last-Event-ID`."), (status = 404, body = ProblemBody)))]
pub(crate) async fn track(
    BuyerOrAdmin(person): BuyerOrAdmin,
    State(api): State<Arc<Api>>,
    PathId(order): PathId<OrderId>,
    LastEventId(last): LastEventId,
) -> Result<Response, Problem> {
    // Before the order is looked at, so that nothing falls in between.
    let watch = api.hub.watch(order);
    let status = orders::owned(&api, &person, order).await?.status;
    let next = last.map_or(0, |last| last + 1);
    if status.is_final() && read(&api, order, next).await.is_ok_and(|events| events.is_empty()) {
        // What keeps a browser from asking again and again.
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let permit = Arc::clone(&api.tracking_streams).try_acquire_owned().map_err(|_| {
        Problem::new(Kind::Unavailable).detail("Too many orders are being followed.").retry_after(5)
    })?;
    let statuses = statuses(api, order, watch, permit, next);
    Ok(Sse::new(statuses).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn statuses(
    api: Arc<Api>,
    order: OrderId,
    mut watch: Watch,
    permit: OwnedSemaphorePermit,
    mut next: Revision,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream! {
        let _permit = permit;
        loop {
            watch.latest.mark_unchanged();
            match read(&api, order, next).await {
                Ok(events) => for event in events {
                    next = event.revision + 1;
                    let Some(change) = change(order, &event) else { continue };
                    let ended = change.status.is_final();
                    let event = Event::default().id(event.revision.to_string()).event("status").json_data(change);
                    if let Ok(event) = event {
                        yield Ok(event);
                    }
                    if ended {
                        return;
                    }
                },
                // The client takes up again where it was.
                Err(error) => {
                    tracing::warn!(%order, %error, "an order cannot be followed");
                    return;
                }
            }
            tokio::select! {
                changed = watch.latest.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK_AGAIN) => {}
                () = api.stop.cancelled() => return,
            }
        }
    }
}

async fn read(api: &Api, order: OrderId, from: Revision) -> Result<Vec<Arc<Recorded>>, ReadError> {
    let stream = Category::<Orders>::stream(order);
    let events = api.market.log.read_stream(&stream, from, Direction::Forward, WHOLE);
    events.collect::<Vec<_>>().await.into_iter().collect()
}

fn change(order: OrderId, event: &Recorded) -> Option<StatusChange> {
    let status = status_after(&event.event_type)?;
    let metadata = event.metadata();
    let reason = match OrderEvent::from_json(&event.event_type, metadata.schema_version.max(1), &event.data) {
        Ok(OrderEvent::OrderCancelled(cancelled)) => Some(cancelled.reason),
        _ => None,
    };
    Some(StatusChange {
        order_id: order.0,
        status,
        reason,
        at: metadata.occurred_at.unwrap_or(event.recorded_at),
    })
}
