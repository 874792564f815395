//! Their words and ours.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use eventstore::{CurrentRevision, Error, EventData, ResolvedEvent, StreamState, SubscriptionFilter};
use serde_json::value::RawValue;

use super::connection::{damage, may_be_carried_out};
use crate::{AppendError, Expected, Filter, NewEvent, ReadError, Recorded, StreamName};

/// A tick of the server's clock is 100 ns.
const TICKS_PER_MICROSECOND: i64 = 10;

pub(super) fn state(expected: Expected) -> StreamState {
    match expected {
        Expected::NoStream => StreamState::NoStream,
        Expected::Exact(revision) => StreamState::StreamRevision(revision),
        Expected::Any => StreamState::Any,
    }
}

/// Marked as JSON if it is, byte for byte.
pub(super) fn proposed(event: NewEvent) -> EventData {
    let whole = |raw: &&RawValue| raw.get().len() == event.data.len();
    let json = serde_json::from_slice::<&RawValue>(&event.data).ok().filter(whole);
    let proposed = json.and_then(|raw| EventData::json(&*event.event_type, &raw).ok());
    proposed
        .unwrap_or_else(|| EventData::binary(&*event.event_type, event.data.into()))
        .id(event.id)
        .metadata(Vec::from(event.metadata).into())
}

/// `None` of what is not an event of ours to see: streams of the system, and links whose event is gone.
pub(super) fn recorded(event: ResolvedEvent) -> Option<Arc<Recorded>> {
    let event = event.event.filter(|event| !event.stream_id().starts_with('$'))?;
    let ticks: i64 = event.metadata.get("created").and_then(|ticks| ticks.parse().ok()).unwrap_or_default();
    Some(Arc::new(Recorded {
        id: event.id,
        stream: StreamName::stored(event.stream_id()),
        revision: event.revision,
        position: event.position.commit,
        event_type: event.event_type.as_str().into(),
        recorded_at: DateTime::<Utc>::from_timestamp_micros(ticks / TICKS_PER_MICROSECOND)
            .unwrap_or_default(),
        data: event.data.into(),
        metadata: Vec::from(event.custom_metadata).into(),
        hash: None,
    }))
}

/// What the server can leave out by itself, which knows one condition; the rest is for [`Filter::matches`].
pub(super) fn filter(filter: &Filter) -> SubscriptionFilter {
    let on_streams = SubscriptionFilter::on_stream_name();
    if let Some(stream) = &filter.stream {
        on_streams.add_prefix(stream.as_str())
    } else if !filter.categories.is_empty() {
        let prefixes = filter.categories.iter().map(|category| format!("{category}-"));
        prefixes.fold(on_streams, SubscriptionFilter::add_prefix)
    } else if !filter.event_types.is_empty() {
        filter.event_types.iter().fold(SubscriptionFilter::on_event_type(), SubscriptionFilter::add_prefix)
    } else {
        on_streams.exclude_system_events()
    }
}

pub(super) fn append_error(error: Error) -> AppendError {
    match error {
        Error::WrongExpectedVersion { current, .. } => AppendError::Conflict {
            actual: match current {
                CurrentRevision::Current(revision) => Some(revision),
                CurrentRevision::NoStream => None,
            },
        },
        error if may_be_carried_out(&error) => AppendError::Unknown(error.to_string()),
        error => AppendError::Unavailable(explain(&error)),
    }
}

pub(super) fn read_error(error: Error) -> ReadError {
    if let Some(damage) = damage(&error) {
        return ReadError::Corrupt(damage.to_owned());
    }
    match error {
        Error::ResourceDeleted => ReadError::Corrupt("the stream was deleted on the server".into()),
        error => ReadError::Unavailable(explain(&error)),
    }
}

fn explain(error: &Error) -> String {
    match error {
        Error::AccessDenied => {
            "the server denies access: check the user, the password and the rights in --event-log".into()
        }
        error => error.to_string(),
    }
}
