//! Subscriptions: what comes after a place, first what is there, then what happens. The first message confirms; one says
//! each time that the reader has caught up; with a filter, checkpoints say now and then how far it is.

use std::sync::Arc;

use async_stream::try_stream;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use souk_event_log::{Clock, Direction, Filter, Message, Position, Revision, StreamName};
use uuid::Uuid;

use super::{missing, read::Source};
use crate::{
    codec::{self, Ids, show, stream_of},
    filter::EventFilter,
    refusal::Refusal,
    streams::{Streams, is_tombstone},
    wire::streams::{
        ReadResp,
        read_req::{
            AllOptions, Direction as WireDirection, Options, StreamOptions, all_options,
            options::{FilterOption, StreamOption},
            stream_options,
        },
        read_resp::{CaughtUp, Checkpoint, Confirmation, Content},
    },
};

pub(super) async fn subscribe(
    streams: Arc<Streams>,
    options: Options,
    ids: Ids,
    id: Uuid,
    clock: Clock,
) -> Result<Source, Refusal> {
    if options.read_direction() == WireDirection::Backwards {
        return Err(Refusal::Invalid("a subscription goes forwards".into()));
    }
    match options.stream_option {
        Some(StreamOption::Stream(wanted)) => {
            if matches!(options.filter_option, Some(FilterOption::Filter(_))) {
                return Err(Refusal::Invalid("only $all is subscribed to with a filter".into()));
            }
            stream(streams, wanted, ids, id, clock).await
        }
        Some(StreamOption::All(wanted)) => {
            let filter = match options.filter_option {
                Some(FilterOption::Filter(filter)) => {
                    let filter = EventFilter::new(filter)?;
                    Some((filter.checkpoint_interval()?, filter))
                }
                Some(FilterOption::NoFilter(())) | None => None,
            };
            all(streams, wanted, filter, ids, id, clock).await
        }
        None => Err(missing("stream_option")),
    }
}

fn message(content: Content) -> ReadResp {
    ReadResp { content: Some(content) }
}

fn confirmation(id: Uuid) -> ReadResp {
    message(Content::Confirmation(Confirmation { subscription_id: id.to_string() }))
}

fn timestamp(time: DateTime<Utc>) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.timestamp(), nanos: time.timestamp_subsec_nanos() as i32 }
}

fn checkpoint(position: Position, now: DateTime<Utc>) -> ReadResp {
    message(Content::Checkpoint(Checkpoint {
        commit_position: position,
        prepare_position: position,
        timestamp: Some(timestamp(now)),
    }))
}

fn caught_up(position: Option<Position>, revision: Option<Revision>, now: DateTime<Utc>) -> ReadResp {
    message(Content::CaughtUp(CaughtUp {
        timestamp: Some(timestamp(now)),
        stream_revision: revision.map(|revision| revision as i64),
        position: position.map(codec::position),
    }))
}

/// The log never says that there is nothing more.
fn ended() -> Refusal {
    Refusal::Unavailable("the log broke off: subscribe again".into())
}

async fn all(
    streams: Arc<Streams>,
    wanted: AllOptions,
    filter: Option<(u64, EventFilter)>,
    ids: Ids,
    id: Uuid,
    clock: Clock,
) -> Result<Source, Refusal> {
    let head = streams.log.head().await?;
    let after = match wanted.from {
        Some(all_options::From::Start(())) => None,
        Some(all_options::From::End(())) => head,
        Some(all_options::From::Position(position)) if position.commit_position == Position::MAX => head,
        Some(all_options::From::Position(position)) => Some(position.commit_position),
        None => return Err(missing("all_option")),
    };
    if after > head {
        return Err(Refusal::Invalid(format!(
            "Trying to read from an invalid position: the log ends at {head:?}, before {after:?}"
        )));
    }
    let narrowed = filter.as_ref().map_or_else(Filter::all, |(_, filter)| filter.narrowed());
    let mut messages = streams.log.subscribe(after, narrowed);
    Ok(Box::pin(try_stream! {
        yield confirmation(id);
        // The last position that was looked at, and the last that a checkpoint told.
        let (mut seen, mut told) = (after, after);
        loop {
            let mut is_caught_up = false;
            match messages.next().await.ok_or_else(ended)?? {
                Message::Event(event) => {
                    seen = Some(event.position);
                    let wanted = match &filter {
                        Some((_, filter)) => filter.matches(&event)?,
                        None => true,
                    };
                    if wanted {
                        yield show(&event, ids);
                    }
                }
                Message::Checkpoint(position) => seen = Some(position),
                Message::CaughtUp => is_caught_up = true,
            }
            if let (Some((interval, _)), Some(at)) = (&filter, seen) {
                let passed = told.map_or(at + 1, |told| at - told);
                if passed >= *interval || (is_caught_up && passed > 0) {
                    told = seen;
                    yield checkpoint(at, clock());
                }
            }
            if is_caught_up {
                yield caught_up(seen, None, clock());
            }
        }
    }))
}

async fn stream(
    streams: Arc<Streams>,
    wanted: StreamOptions,
    ids: Ids,
    id: Uuid,
    clock: Clock,
) -> Result<Source, Refusal> {
    let name: StreamName = stream_of(wanted.stream_identifier)?;
    // Before the stream is looked at: whatever is in it up to here is read from it, whatever comes later is heard of.
    let head = streams.log.head().await?;
    let standing = streams.standing(&name).await?;
    let last = standing.last;
    let next = match wanted.from {
        Some(stream_options::From::Start(())) => 0,
        Some(stream_options::From::Revision(Revision::MAX) | stream_options::From::End(())) => {
            last.map_or(0, |last| last + 1)
        }
        Some(stream_options::From::Revision(revision)) => revision + 1,
        None => return Err(missing("revision_option")),
    };
    let next = match standing.readable() {
        Some(_) => next.max(streams.first_visible(&name, &standing).await?),
        // All that is there is hidden.
        None => next.max(last.map_or(0, |last| last + 1)),
    };
    Ok(Box::pin(try_stream! {
        yield confirmation(id);
        let (mut next, mut seen) = (next, head);
        let mut events = streams.log.read_stream(&name, next, Direction::Forward, usize::MAX);
        while let Some(event) = events.next().await.transpose()? {
            next = event.revision + 1;
            seen = seen.max(Some(event.position));
            yield show(&event, ids);
        }
        let filter = Filter { stream: Some(name.clone()), ..Filter::all() };
        let mut messages = streams.log.subscribe(seen, filter);
        loop {
            match messages.next().await.ok_or_else(ended)?? {
                Message::Event(event) if event.revision < next => {}
                Message::Event(event) if is_tombstone(&event) => Err(Refusal::StreamDeleted(name.clone()))?,
                Message::Event(event) => {
                    next = event.revision + 1;
                    yield show(&event, ids);
                }
                Message::Checkpoint(_) => {}
                Message::CaughtUp => yield caught_up(None, next.checked_sub(1), clock()),
            }
        }
    }))
}
