//! Reading streams and the whole log. A reader whose node goes away goes on after the last event it got.

use std::sync::Arc;

use async_stream::try_stream;
use eventstore::{
    Error, Position as ServerPosition, ReadAllOptions, ReadStream, ReadStreamOptions, StreamPosition,
};

use super::{
    connection::{Connection, damage, is_gone},
    convert,
};
use crate::{Direction, EventStream, Filter, Position, Recorded, Revision, StreamName};

/// Numbers from here on mean the end.
const END: u64 = i64::MAX as u64;
/// How often in a row a read may break off without an event.
const BREAKS: u32 = 3;

pub(super) fn stream(
    connection: Arc<Connection>,
    stream: StreamName,
    from: Revision,
    direction: Direction,
    limit: usize,
) -> EventStream {
    Box::pin(try_stream! {
        let (mut next, mut left) = (Some(from), limit);
        let mut breaks = 0;
        while let Some(from) = next.filter(|_| left > 0) {
            let start = match direction {
                Direction::Backward if from >= END => StreamPosition::End,
                Direction::Forward if from >= END => return,
                _ => StreamPosition::Position(from),
            };
            let options = ReadStreamOptions::default().position(start).max_count(left);
            let options = match direction {
                Direction::Forward => options.forwards(),
                Direction::Backward => options.backwards(),
            };
            let mut events = connection.read_stream(&stream, &options).await.map_err(convert::read_error)?;
            loop {
                match pull(&mut events).await.map_err(convert::read_error)? {
                    Pulled::Event(event) => {
                        breaks = 0;
                        left -= 1;
                        next = match direction {
                            Direction::Forward => event.revision.checked_add(1),
                            Direction::Backward => event.revision.checked_sub(1),
                        };
                        yield event;
                    }
                    Pulled::LeftOut => {}
                    Pulled::End => return,
                    Pulled::BrokenOff(_) if breaks < BREAKS => {
                        breaks += 1;
                        break;
                    }
                    Pulled::BrokenOff(error) => Err(convert::read_error(error))?,
                }
            }
        }
    })
}

pub(super) fn all(
    connection: Arc<Connection>,
    from: Position,
    filter: Filter,
    direction: Direction,
    limit: usize,
) -> EventStream {
    if let Some(name) = filter.stream.clone() {
        return of_stream(connection, name, from, filter, direction, limit);
    }
    Box::pin(try_stream! {
        let (mut from, mut left) = (from, limit);
        let mut breaks = 0;
        while left > 0 {
            if direction == Direction::Forward && from >= END {
                return;
            }
            let mut events = open_all(&connection, from, &filter, direction).await.map_err(convert::read_error)?;
            loop {
                match pull(&mut events).await.map_err(convert::read_error)? {
                    Pulled::Event(event) => {
                        let beyond = match direction {
                            Direction::Forward => event.position >= from,
                            Direction::Backward => event.position <= from,
                        };
                        if !beyond || !filter.matches(&event) {
                            continue;
                        }
                        breaks = 0;
                        left -= 1;
                        from = match direction {
                            Direction::Forward => event.position + 1,
                            Direction::Backward => event.position.saturating_sub(1),
                        };
                        let last = left == 0 || (direction == Direction::Backward && event.position == 0);
                        yield event;
                        if last {
                            return;
                        }
                    }
                    Pulled::LeftOut => {}
                    Pulled::End => return,
                    Pulled::BrokenOff(_) if breaks < BREAKS => {
                        breaks += 1;
                        break;
                    }
                    Pulled::BrokenOff(error) => Err(convert::read_error(error))?,
                }
            }
        }
    })
}

/// Positions grow with revisions, so a stream is read as such.
fn of_stream(
    connection: Arc<Connection>,
    name: StreamName,
    from: Position,
    filter: Filter,
    direction: Direction,
    limit: usize,
) -> EventStream {
    use futures::{StreamExt, TryStreamExt, future::ready};
    let start = match direction {
        Direction::Forward => 0,
        Direction::Backward => u64::MAX,
    };
    let wanted = move |event: &Arc<Recorded>| {
        let beyond = match direction {
            Direction::Forward => event.position >= from,
            Direction::Backward => event.position <= from,
        };
        beyond && filter.matches(event)
    };
    let events = stream(connection, name, start, direction, usize::MAX);
    events.try_filter(move |event| ready(wanted(event))).take(limit).boxed()
}

/// A server reads from where an event is, or was: mostly a reader goes on one beyond the last event it got.
async fn open_all(
    connection: &Connection,
    from: Position,
    filter: &Filter,
    direction: Direction,
) -> Result<ReadStream, Error> {
    let at = |position| StreamPosition::Position(ServerPosition { commit: position, prepare: position });
    let starts = match direction {
        Direction::Forward if from == 0 => vec![StreamPosition::Start],
        Direction::Forward => vec![at(from - 1), at(from)],
        Direction::Backward if from >= END => vec![StreamPosition::End],
        // Whether the event at the position itself is read depends on the server, the one before always is.
        Direction::Backward => vec![at(from + 1), at(from)],
    };
    let mut refused = Error::InternalClientError;
    for start in starts {
        let options = ReadAllOptions::default().filter(convert::filter(filter)).position(start);
        let options = match direction {
            Direction::Forward => options.forwards(),
            Direction::Backward => options.backwards(),
        };
        match connection.read_all(&options).await {
            Err(error @ Error::Grpc { .. }) if damage(&error).is_none() => refused = error,
            result => return result,
        }
    }
    Err(refused)
}

enum Pulled {
    Event(Arc<Recorded>),
    LeftOut,
    End,
    BrokenOff(Error),
}

async fn pull(events: &mut ReadStream) -> Result<Pulled, Error> {
    match events.next().await {
        Ok(Some(event)) => Ok(convert::recorded(event).map_or(Pulled::LeftOut, Pulled::Event)),
        Ok(None) | Err(Error::ResourceNotFound) => Ok(Pulled::End),
        Err(error) if is_gone(&error) => Ok(Pulled::BrokenOff(error)),
        Err(error) => Err(error),
    }
}
