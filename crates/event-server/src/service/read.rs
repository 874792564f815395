//! Reads that come to an end. They include the event at the place they begin at, but for reads of `$all` backwards, where
//! a place is what stands between two events: they give what comes before it.

use std::sync::Arc;

use async_stream::try_stream;
use futures::{Stream, StreamExt, stream::BoxStream};
use souk_event_log::{Direction, Filter, Position, Revision, StreamName};

use super::missing;
use crate::{
    codec::{Ids, identifier, show, stream_of},
    filter::EventFilter,
    refusal::Refusal,
    streams::Streams,
    wire::streams::{
        ReadResp,
        read_req::{
            AllOptions, Direction as WireDirection, Options, StreamOptions, all_options,
            options::{FilterOption, StreamOption},
            stream_options,
        },
        read_resp::{Content, StreamNotFound},
    },
};

pub(super) type Source = BoxStream<'static, Result<ReadResp, Refusal>>;

pub(super) async fn read(
    streams: Arc<Streams>,
    options: Options,
    count: u64,
    ids: Ids,
) -> Result<Source, Refusal> {
    let direction = match options.read_direction() {
        WireDirection::Forwards => Direction::Forward,
        WireDirection::Backwards => Direction::Backward,
    };
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    // Whether the client knows the messages about where a stream begins and ends.
    let tells = options.control_option.is_some_and(|control| control.compatibility >= 1);
    match options.stream_option {
        Some(StreamOption::Stream(wanted)) => {
            if matches!(options.filter_option, Some(FilterOption::Filter(_))) {
                return Err(Refusal::Invalid("only $all is read with a filter".into()));
            }
            stream(streams, wanted, direction, limit, ids, tells).await
        }
        Some(StreamOption::All(wanted)) => {
            let filter = match options.filter_option {
                Some(FilterOption::Filter(filter)) => Some(EventFilter::new(filter)?),
                Some(FilterOption::NoFilter(())) | None => None,
            };
            all(&streams, wanted, filter, direction, limit, ids)
        }
        None => Err(missing("stream_option")),
    }
}

fn message(content: Content) -> ReadResp {
    ReadResp { content: Some(content) }
}

async fn stream(
    streams: Arc<Streams>,
    wanted: StreamOptions,
    direction: Direction,
    limit: usize,
    ids: Ids,
    tells: bool,
) -> Result<Source, Refusal> {
    let name = stream_of(wanted.stream_identifier)?;
    let standing = streams.standing(&name).await?;
    let Some(last) = standing.readable() else { return Ok(not_found(&name)) };
    let first = streams.first_visible(&name, &standing).await?;
    let from = match wanted.from {
        Some(stream_options::From::Revision(revision)) => revision,
        Some(stream_options::From::Start(())) => 0,
        Some(stream_options::From::End(())) => Revision::MAX,
        None => return Err(missing("revision_option")),
    };
    Ok(Box::pin(try_stream! {
        // Where the read really begins, if not where it was asked to.
        let begins = match direction {
            Direction::Forward if from < first => Some(first),
            Direction::Forward if from > last && from != Revision::MAX => Some(last + 1),
            Direction::Forward | Direction::Backward => None,
        };
        if let Some(begins) = begins.filter(|_| tells) {
            yield message(Content::FirstStreamPosition(begins));
        }
        let from = if direction == Direction::Forward { from.max(first) } else { from };
        let mut events = streams.log.read_stream(&name, from, direction, limit);
        while let Some(event) = events.next().await.transpose()? {
            if event.revision < first {
                break;
            }
            yield show(&event, ids);
        }
        if tells {
            yield message(Content::LastStreamPosition(last));
        }
    }))
}

fn not_found(stream: &StreamName) -> Source {
    let content = Content::StreamNotFound(StreamNotFound { stream_identifier: Some(identifier(stream)) });
    futures::stream::iter([Ok(message(content))]).boxed()
}

fn all(
    streams: &Streams,
    wanted: AllOptions,
    filter: Option<EventFilter>,
    direction: Direction,
    limit: usize,
    ids: Ids,
) -> Result<Source, Refusal> {
    let at = match wanted.from {
        Some(all_options::From::Position(position)) => position.commit_position,
        Some(all_options::From::Start(())) => 0,
        Some(all_options::From::End(())) => Position::MAX,
        None => return Err(missing("all_option")),
    };
    let from = match direction {
        Direction::Forward => Some(at),
        Direction::Backward => at.checked_sub(1),
    };
    let Some(from) = from else { return Ok(futures::stream::empty().boxed()) };
    let log = &streams.log;
    Ok(match filter {
        None => log
            .read_all(from, Filter::all(), direction, limit)
            .map(move |event| Ok(show(&*event?, ids)))
            .boxed(),
        Some(filter) => {
            matching(log.read_all(from, filter.narrowed(), direction, usize::MAX), filter, limit, ids).boxed()
        }
    })
}

fn matching(
    mut events: souk_event_log::EventStream,
    filter: EventFilter,
    limit: usize,
    ids: Ids,
) -> impl Stream<Item = Result<ReadResp, Refusal>> + Send {
    try_stream! {
        let mut left = limit;
        while left > 0 {
            let Some(event) = events.next().await.transpose()? else { return };
            if filter.matches(&event)? {
                left -= 1;
                yield show(&event, ids);
            }
        }
    }
}
