//! Following the log. The client's subscription runs on a thread of its own, with a runtime of its own, since it may stop
//! yielding: where a server ends a subscription without an error, the client goes round in circles (see [`super::spin`]).
//! The thread shows that it is alive by a pulse; who reads takes a thread without one for lost.
//!
//! While it catches up, a subscription hears of what the filter left out every [`WIDE`] events. Once live it is begun
//! again after what it has seen, and hears of every event: somebody may be waiting for that very position to be covered.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use async_stream::try_stream;
use eventstore::{
    ClientSettings, Error, Position as ServerPosition, StreamPosition, SubscribeToAllOptions,
    SubscriptionEvent,
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    connection::{Connection, PATIENCE, build, is_gone},
    convert, spin,
};
use crate::{Filter, Message, Position, ReadError, Recorded, Subscription};

/// Events looked through from one checkpoint to the next.
const WIDE: u32 = 1_000;
const NARROW: u32 = 1;
/// Messages that wait for the reader; beyond them the server waits.
const AHEAD: usize = 1_024;
const PULSE: Duration = Duration::from_millis(500);
/// So long without a pulse is long enough, also on a busy machine.
const SILENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);

pub(super) fn subscribe(
    connection: Arc<Connection>,
    after: Option<Position>,
    filter: Filter,
) -> Subscription {
    Box::pin(try_stream! {
        let head = connection.head().await.map_err(convert::read_error)?;
        if after > head {
            Err(ReadError::Corrupt(format!("the log ends at {head:?}, before the reader's position {after:?}")))?;
        }
        let filter = Arc::new(filter);
        let (mut seen, mut window) = (after, WIDE);
        let mut away: Option<Instant> = None;
        loop {
            let mut follower = Follower::start(connection.settings().clone(), seen, Arc::clone(&filter), window)?;
            loop {
                match follower.next().await {
                    Ok(Heard::Event(event)) => {
                        away = None;
                        seen = Some(event.position);
                        yield Message::Event(event);
                    }
                    Ok(Heard::Passed(position)) => {
                        away = None;
                        if seen < Some(position) {
                            seen = Some(position);
                            yield Message::Checkpoint(position);
                        }
                    }
                    Ok(Heard::CaughtUp) if window == WIDE => {
                        window = NARROW;
                        break;
                    }
                    Ok(Heard::CaughtUp) => {
                        away = None;
                        yield Message::CaughtUp;
                    }
                    Err(lost) => {
                        let away = away.get_or_insert_with(Instant::now).elapsed();
                        tracing::debug!(error = %lost.error, ?seen, "a subscription broke off");
                        if !lost.passes || away > PATIENCE {
                            Err(lost.error)?;
                        }
                        window = WIDE;
                        sleep(PAUSE).await;
                        break;
                    }
                }
            }
        }
    })
}

enum Heard {
    Event(Arc<Recorded>),
    /// Everything up to here was looked at.
    Passed(Position),
    CaughtUp,
}

struct Lost {
    error: ReadError,
    /// Whether it may be better in a moment.
    passes: bool,
}

impl From<Error> for Lost {
    fn from(error: Error) -> Self {
        let passes = is_gone(&error) || matches!(error, Error::NotLeaderException(_));
        Self { error: convert::read_error(error), passes }
    }
}

/// The reader's end of a subscription's thread, which ends when this is dropped.
struct Follower {
    messages: mpsc::Receiver<Result<Heard, Error>>,
    pulse: watch::Receiver<()>,
}

impl Follower {
    fn start(
        settings: ClientSettings,
        after: Option<Position>,
        filter: Arc<Filter>,
        window: u32,
    ) -> Result<Self, ReadError> {
        let (sender, messages) = mpsc::channel(AHEAD);
        let (beat, pulse) = watch::channel(());
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let Ok(runtime) = runtime else { return };
            runtime.block_on(async {
                tokio::select! {
                    () = sender.closed() => {}
                    () = listen(&settings, after, &filter, window, &sender) => {}
                    () = live(&beat) => {}
                }
            });
        };
        thread::Builder::new()
            .name("kurrentdb".into())
            .spawn(move || spin::guarded(work))
            .map_err(|error| ReadError::Unavailable(format!("no thread for a subscription: {error}")))?;
        Ok(Self { messages, pulse })
    }

    async fn next(&mut self) -> Result<Heard, Lost> {
        let ended = |reason: &str| Lost { error: ReadError::Unavailable(reason.into()), passes: true };
        loop {
            tokio::select! {
                biased;
                message = self.messages.recv() => {
                    return match message {
                        Some(message) => Ok(message?),
                        None => Err(ended("the server ended the subscription")),
                    };
                }
                beat = timeout(SILENCE, self.pulse.changed()) => match beat {
                    Ok(Ok(())) => {}
                    // What the thread said before it ended is still to be read.
                    Ok(Err(_)) => match self.messages.recv().await {
                        Some(message) => return Ok(message?),
                        None => return Err(ended("the server ended the subscription")),
                    },
                    Err(_) => {
                        tracing::error!("a subscription's thread shows no sign of life and is left behind");
                        return Err(ended("the subscription hangs"));
                    }
                }
            }
        }
    }
}

async fn live(beat: &watch::Sender<()>) {
    loop {
        beat.send_replace(());
        sleep(PULSE).await;
    }
}

/// Passes on what the server says until it says no more.
async fn listen(
    settings: &ClientSettings,
    after: Option<Position>,
    filter: &Filter,
    window: u32,
    sender: &mpsc::Sender<Result<Heard, Error>>,
) {
    let start = after.map_or(StreamPosition::Start, |position| {
        StreamPosition::Position(ServerPosition { commit: position, prepare: position })
    });
    let options =
        SubscribeToAllOptions::default().position(start).filter(convert::filter(filter).max(window));
    let mut subscription = match build(settings) {
        Ok(client) => client.subscribe_to_all(&options).await,
        Err(error) => {
            let _ = sender.send(Err(error)).await;
            return;
        }
    };
    loop {
        let message = match subscription.next_subscription_event().await {
            Ok(SubscriptionEvent::EventAppeared(event)) => {
                let position = event.get_original_event().position.commit;
                match convert::recorded(event).filter(|event| filter.matches(event)) {
                    Some(event) => Ok(Heard::Event(event)),
                    None => Ok(Heard::Passed(position)),
                }
            }
            Ok(SubscriptionEvent::Checkpoint(position)) => Ok(Heard::Passed(position.commit)),
            Ok(SubscriptionEvent::CaughtUp(_)) => Ok(Heard::CaughtUp),
            Ok(_) => continue,
            Err(error) => Err(error),
        };
        let last = message.is_err();
        if sender.send(message).await.is_err() || last {
            return;
        }
    }
}
