//! The mailbox of one stream: whatever waits in it is decided in turn on the state in memory and appended at once.

use std::{collections::VecDeque, mem, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use metrics::Histogram;
use parking_lot::Mutex;
use souk_domain::Decider;
use souk_event_log::{AppendError, Appended, Expected, NewEvent, Revision, StreamName};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use uuid::Uuid;

use super::{
    Context, Done, ExecuteError, Fresh, Shared,
    loaded::{Head, Known, LoadError, Loaded},
};

/// Commands decided for one append at most.
const BATCH: usize = 512;
/// How often a batch is decided again because another process wrote, before the command fails as unavailable.
const ATTEMPTS: u32 = 20;
/// Streams longer than this have snapshots, one each so many events.
const SNAPSHOT_EVERY: Revision = 1_000;

type Reply<D> = Result<Done<<D as Decider>::Event>, ExecuteError<<D as Decider>::Error>>;

struct Pending<D: Decider> {
    command: D::Command,
    context: Context,
    expected: Option<Revision>,
    reply: oneshot::Sender<Reply<D>>,
}

struct Queue<D: Decider> {
    waiting: VecDeque<Pending<D>>,
    /// A task is at work on the queue.
    draining: bool,
}

/// How new a state has to be: see [`super::Category::read`] and [`super::Category::seen`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    Confirmed,
    AsSeen,
}

pub(super) struct Mailbox<D: Decider> {
    stream: StreamName,
    shared: Arc<Shared>,
    /// Sizes of batches, measured.
    batches: Histogram,
    queue: Mutex<Queue<D>>,
    /// `None` until first used, and after a failure that leaves it unclear what the stream holds.
    loaded: AsyncMutex<Option<Loaded<D::State>>>,
}

impl<D: Decider> Mailbox<D> {
    pub(super) fn new(stream: StreamName, shared: Arc<Shared>, batches: Histogram) -> Self {
        let queue = Mutex::new(Queue { waiting: VecDeque::new(), draining: false });
        Self { stream, shared, batches, queue, loaded: AsyncMutex::new(None) }
    }

    pub(super) async fn execute(
        self: Arc<Self>,
        command: D::Command,
        context: Context,
        expected: Option<Revision>,
    ) -> Reply<D> {
        let (reply, answer) = oneshot::channel();
        let start = {
            let mut queue = self.queue.lock();
            queue.waiting.push_back(Pending { command, context, expected, reply });
            !mem::replace(&mut queue.draining, true)
        };
        if start {
            // A task of its own: a caller that goes away must not tear a batch in half.
            tokio::spawn(Arc::clone(&self).drain());
        }
        answer.await.unwrap_or_else(|_| Err(ExecuteError::Unavailable("the command was dropped".into())))
    }

    pub(super) async fn read<R>(
        &self,
        freshness: Freshness,
        view: impl FnOnce(&D::State) -> R,
    ) -> Result<Fresh<R>, LoadError> {
        let mut guard = self.loaded.lock().await;
        let was_here = guard.is_some();
        let loaded = self.load(&mut guard).await?;
        if was_here && freshness == Freshness::Confirmed {
            self.confirm(loaded).await?;
        }
        Ok(Fresh { value: view(&loaded.state), revision: loaded.revision(), position: loaded.position() })
    }

    pub(super) async fn recall(&self, context: &Context) -> Result<bool, ExecuteError<D::Error>> {
        let mut guard = self.loaded.lock().await;
        let loaded = self.load(&mut guard).await?;
        self.confirm(loaded).await?;
        let known = loaded.commands.get(context.command_id);
        let fingerprint = known.and_then(|known| known.fingerprint.as_deref());
        if differs(fingerprint, context) { Err(ExecuteError::KeyReused) } else { Ok(known.is_some()) }
    }

    async fn drain(self: Arc<Self>) {
        loop {
            let batch: Vec<_> = {
                let mut queue = self.queue.lock();
                let size = queue.waiting.len().min(BATCH);
                if size == 0 {
                    queue.draining = false;
                    return;
                }
                queue.waiting.drain(..size).collect()
            };
            self.batches.record(batch.len() as f64);
            let replies = self.run(&batch).await;
            for (pending, reply) in batch.into_iter().zip(replies) {
                // The caller may have gone.
                let _ = pending.reply.send(reply);
            }
        }
    }

    /// One answer per command, in order.
    async fn run(&self, batch: &[Pending<D>]) -> Vec<Reply<D>> {
        let mut guard = self.loaded.lock().await;
        let mut failure = ExecuteError::Unavailable("too many others write to the same stream".into());
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                tokio::time::sleep(backoff(attempt, self.shared.clock.now())).await;
            }
            if attempt == 0 && guard.is_none() && batch.iter().all(|pending| D::begins(&pending.command)) {
                *guard = Some(Loaded::default());
            }
            match self.attempt(&mut guard, batch).await {
                Ok(replies) => return replies,
                Err(Retry::Moved) => {}
                Err(Retry::Failed(error)) => failure = error,
                Err(Retry::GiveUp(error)) => {
                    failure = error;
                    break;
                }
            }
        }
        batch.iter().map(|_| Err(failure.clone())).collect()
    }

    async fn attempt(
        &self,
        guard: &mut Option<Loaded<D::State>>,
        batch: &[Pending<D>],
    ) -> Result<Vec<Reply<D>>, Retry<D::Error>> {
        let loaded = self.load(guard).await.map_err(|error| Retry::GiveUp(error.into()))?;
        let before = loaded.revision();
        let mut decided = Decided::<D>::on(loaded, batch, &self.shared);
        let events = mem::take(&mut decided.events);
        let Some(last_id) = events.last().map(|last| last.id) else {
            // A refusal or a no-op conflicts with nothing, so it must be sure that its state is the newest.
            let moved = self.confirm(loaded).await.map_err(|error| Retry::GiveUp(error.into()))?;
            return if moved { Err(Retry::Moved) } else { Ok(decided.replies) };
        };
        let expected = before.map_or(Expected::NoStream, Expected::Exact);
        match self.shared.log.append(&self.stream, expected, events).await {
            Ok(appended) => {
                let replies = decided.settle(loaded, appended, last_id, batch);
                self.snapshot(loaded, before);
                Ok(replies)
            }
            // The state in memory is that after the batch: it must be read again.
            Err(error) => {
                *guard = None;
                Err(match error {
                    AppendError::Conflict { .. } => Retry::Moved,
                    // Whether it was written shows when the stream is read again; command ids tell what was.
                    AppendError::Unknown(message) => Retry::Failed(ExecuteError::Unavailable(message)),
                    AppendError::Unavailable(message) => Retry::GiveUp(ExecuteError::Unavailable(message)),
                })
            }
        }
    }

    async fn load<'a>(
        &self,
        guard: &'a mut Option<Loaded<D::State>>,
    ) -> Result<&'a mut Loaded<D::State>, LoadError> {
        if guard.is_none() {
            // Most streams that are new here are new altogether, and few are long enough for a snapshot.
            let head = self.shared.log.stream_head(&self.stream).await?;
            let mut loaded = match &self.shared.snapshots {
                Some(snapshots) if head >= Some(SNAPSHOT_EVERY - 1) => {
                    snapshots.load::<D>(&self.stream, &*self.shared.log).await.unwrap_or_default()
                }
                _ => Loaded::default(),
            };
            if head.is_some() {
                loaded.catch_up::<D>(&*self.shared.log, &self.stream).await?;
            }
            *guard = Some(loaded);
        }
        Ok(guard.get_or_insert_default())
    }

    /// Makes sure that the state is that of the stream's head; true if it was not.
    async fn confirm(&self, loaded: &mut Loaded<D::State>) -> Result<bool, LoadError> {
        let head = self.shared.log.stream_head(&self.stream).await?;
        let moved = head != loaded.revision();
        if moved {
            loaded.catch_up::<D>(&*self.shared.log, &self.stream).await?;
        }
        Ok(moved)
    }

    fn snapshot(&self, loaded: &Loaded<D::State>, before: Option<Revision>) {
        let count =
            |revision: Option<Revision>| revision.map_or(0, |revision| (revision + 1) / SNAPSHOT_EVERY);
        if let Some(snapshots) = &self.shared.snapshots
            && count(loaded.revision()) > count(before)
        {
            snapshots.save::<D>(&self.stream, loaded);
        }
    }
}

enum Retry<R> {
    /// The stream had moved on; the state is the newest now.
    Moved,
    Failed(ExecuteError<R>),
    GiveUp(ExecuteError<R>),
}

/// What a batch comes to. The loaded state has the new events applied already, to spare a copy of it; its head has not.
struct Decided<D: Decider> {
    events: Vec<NewEvent>,
    replies: Vec<Reply<D>>,
    /// Index in the batch and index of its last event, of each command that led to events.
    wrote: Vec<(usize, usize)>,
}

impl<D: Decider> Decided<D> {
    fn on(loaded: &mut Loaded<D::State>, batch: &[Pending<D>], shared: &Shared) -> Self {
        let now = shared.clock.now();
        let mut events = Vec::new();
        let mut wrote: Vec<(usize, usize)> = Vec::new();
        let mut replies = Vec::with_capacity(batch.len());
        for (index, pending) in batch.iter().enumerate() {
            let twin = wrote
                .iter()
                .find(|(other, _)| batch[*other].context.command_id == pending.context.command_id);
            let reply = if let Some(known) = loaded.commands.get(pending.context.command_id) {
                repeated(known.fingerprint.as_deref(), pending, Some(known))
            } else if let Some((other, _)) = twin {
                repeated(batch[*other].context.fingerprint.as_deref(), pending, None)
            } else if pending
                .expected
                .is_some_and(|expected| loaded.revision() != Some(expected) || !events.is_empty())
            {
                Err(ExecuteError::Stale { actual: loaded.revision() })
            } else {
                D::decide(&loaded.state, &pending.command, now).map_err(ExecuteError::Refused).map(|new| {
                    Done {
                        events: new,
                        repeated: false,
                        revision: loaded.revision(),
                        position: loaded.position(),
                    }
                })
            };
            if let Ok(done) = &reply
                && !done.events.is_empty()
            {
                let first = events.len();
                let context = &pending.context;
                events.extend(done.events.iter().enumerate().map(|(n, event)| context.seal(event, n, now)));
                wrote.push((index, first + done.events.len() - 1));
                done.events.iter().for_each(|event| loaded.evolve::<D>(event));
            }
            replies.push(reply);
        }
        Self { events, replies, wrote }
    }

    /// The append went through: the head moves, and each reply tells where its events stand.
    fn settle(
        mut self,
        loaded: &mut Loaded<D::State>,
        appended: Appended,
        last_id: Uuid,
        batch: &[Pending<D>],
    ) -> Vec<Reply<D>> {
        let Appended { last_revision, position } = appended;
        let last = self.wrote.last().map_or(0, |(_, last_event)| *last_event);
        for (index, last_event) in &self.wrote {
            let revision = last_revision - (last - last_event) as Revision;
            let context = &batch[*index].context;
            let fingerprint = context.fingerprint.as_ref().map(ToString::to_string);
            loaded.commands.remember(context.command_id, Known { revision, position, fingerprint });
            if let Ok(done) = &mut self.replies[*index] {
                done.revision = Some(revision);
                done.position = Some(position);
            }
        }
        loaded.head = Some(Head { revision: last_revision, position, event_id: last_id });
        // A no-op that rode along saw the state before or within this append: its head will do.
        for reply in self.replies.iter_mut().flatten().filter(|done| done.position.is_none()) {
            reply.revision = Some(last_revision);
            reply.position = Some(position);
        }
        self.replies
    }
}

/// The answer to a command that was carried out before: where it stands, unless it says something else now.
fn repeated<D: Decider>(fingerprint: Option<&str>, pending: &Pending<D>, known: Option<&Known>) -> Reply<D> {
    if differs(fingerprint, &pending.context) {
        return Err(ExecuteError::KeyReused);
    }
    Ok(Done {
        events: vec![],
        repeated: true,
        revision: known.map(|known| known.revision),
        position: known.map(|known| known.position),
    })
}

fn differs(fingerprint: Option<&str>, context: &Context) -> bool {
    matches!((fingerprint, context.fingerprint.as_deref()), (Some(before), Some(now)) if before != now)
}

/// Doubles from a millisecond to a quarter of a second, of which half is left to chance: to the microsecond it is just now.
fn backoff(attempt: u32, now: DateTime<Utc>) -> Duration {
    let longest = (1_u64 << attempt.min(8)).min(250) * 1_000;
    let chance = u64::from(now.timestamp_subsec_micros()) % (longest / 2);
    Duration::from_micros(longest / 2 + chance)
}
