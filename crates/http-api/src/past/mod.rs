//! How things were: orders and items as of a position or a time, made from their own streams and nothing else. What is
//! answered has the shape that the views' answers have.

mod item;
mod order;
mod returns;

pub(crate) use self::{item::item, order::order, returns::returns};

use chrono::{DateTime, Utc};
use futures::StreamExt;
use souk_domain::DomainEvent;
use souk_event_log::{At, Direction, Revision, StreamName};

use crate::{Api, extract::Params, problem::Problem};

/// `at`, if it was given: a moment that the log has reached.
pub(crate) async fn at(api: &Api, params: &mut Params) -> Result<Option<At>, Problem> {
    let Some(text) = params.text("at") else { return Ok(None) };
    let Ok(at) = text.parse() else {
        params.invalid("at", "This must be a position, or a time like 2026-11-22T08:00:00Z.");
        return Ok(None);
    };
    let yet_to_come = match at {
        At::Position(position) => api.market.log.head().await? < Some(position),
        At::Time(time) => time > api.market.clock.now(),
    };
    if yet_to_come {
        params.invalid("at", "This is yet to come.");
    }
    Ok(Some(at))
}

/// An event on its stream.
struct Step<E> {
    event: E,
    /// In business terms.
    at: DateTime<Utc>,
    revision: Revision,
}

/// Hands over the events of a stream that the log had taken by then.
async fn replay<E: DomainEvent>(
    api: &Api,
    stream: StreamName,
    until: At,
    mut take: impl FnMut(Step<E>),
) -> Result<(), Problem> {
    let mut events = api.market.log.read_stream(&stream, 0, Direction::Forward, usize::MAX);
    while let Some(event) = events.next().await {
        let event = event?;
        if !until.has(&event) {
            break;
        }
        let metadata = event.metadata();
        let read = E::from_json(&event.event_type, metadata.schema_version.max(1), &event.data);
        take(Step {
            event: read.map_err(Problem::internal)?,
            at: metadata.occurred_at.unwrap_or(event.recorded_at),
            revision: event.revision,
        });
    }
    Ok(())
}
