//! Follows the log for those who have something to do: each event asks for something, or answers that it is done. What is
//! still to do is found again from a small file of notes and the tail of the log, or from the log alone, which is read to
//! its end before anything is done: so nothing is done again that was done.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use souk_domain::UnreadableEvent;
use souk_event_log::{EventLog, Filter, Message, Position, ReadError, Recorded};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::checkout::write_whole;

/// Messages of the log taken at once at most.
const CHUNK: usize = 1_024;
const NOTES_EVERY: Duration = Duration::from_secs(5);

/// What an event says to a duty.
pub(super) enum News<T> {
    /// Asks for this, under a key.
    Asks(Uuid, T),
    /// Is one of so many answers to what was asked under this key.
    Answers(Uuid, u32),
    /// Says that it waits until it is asked for again.
    Parks(Uuid),
}

/// Something to do, and where it comes from.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Errand<T> {
    pub(super) task: T,
    position: Position,
    /// The event that asked for it.
    pub(super) cause: Uuid,
    pub(super) correlation_id: Uuid,
    pub(super) occurred_at: Option<DateTime<Utc>>,
    answers: u32,
    parked: bool,
}

/// One who follows the log and does something about it.
pub(super) trait Duty: Send + Sync + 'static {
    type Task: Clone + Serialize + DeserializeOwned + Send + Sync;

    const NAME: &'static str;

    /// Every type that [`Self::read`] does not ignore.
    fn filter() -> Filter;

    fn read(recorded: &Recorded) -> Result<Option<News<Self::Task>>, UnreadableEvent>;

    /// How many errands wait until they are asked for again.
    fn count_parked(_count: usize) {}

    /// In the order of the log. Each may come twice.
    fn see_to(
        self: Arc<Self>,
        errands: Vec<Errand<Self::Task>>,
        stop: &CancellationToken,
    ) -> impl Future<Output = Left<Self::Task>> + Send;
}

/// What is left of errands that were seen to.
pub(super) struct Left<T> {
    /// Have to wait for others, and come again before the next.
    pub(super) waiting: Vec<Errand<T>>,
    /// Nothing will ever answer these.
    pub(super) never: Vec<Uuid>,
}

impl<T> Default for Left<T> {
    fn default() -> Self {
        Self { waiting: vec![], never: vec![] }
    }
}

#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error(transparent)]
    Unreadable(#[from] UnreadableEvent),
}

/// Of the notes' form. Notes in another are as good as none: the log tells it all again.
const VERSION: u32 = 2;

/// How far the log was followed, and what was asked for up to there and not answered.
#[derive(Serialize, Deserialize)]
#[serde(bound = "T: Serialize + DeserializeOwned")]
struct Notes<T> {
    version: u32,
    position: Option<Position>,
    to_do: BTreeMap<Uuid, Errand<T>>,
}

/// Until told to stop. After a failure to read the log it takes up again.
pub(super) async fn run<D: Duty>(
    log: &Arc<dyn EventLog>,
    duty: Arc<D>,
    notes: Option<PathBuf>,
    stop: &CancellationToken,
) {
    while !stop.is_cancelled() {
        match follow(log, &duty, notes.as_deref(), stop).await {
            Ok(()) => return,
            Err(error) => {
                tracing::error!(%error, "the {} could not go on and will try again", D::NAME);
                tokio::select! { () = stop.cancelled() => {}, () = tokio::time::sleep(Duration::from_secs(1)) => {} }
            }
        }
    }
}

async fn follow<D: Duty>(
    log: &Arc<dyn EventLog>,
    duty: &Arc<D>,
    file: Option<&Path>,
    stop: &CancellationToken,
) -> Result<(), FollowError> {
    let mut notes = Notes::<D::Task>::load(file);
    let mut messages = log.subscribe(notes.position, D::filter()).ready_chunks(CHUNK);
    catch_up::<D>(&mut notes, &mut messages, stop).await?;
    let mut errands: Vec<_> = notes.to_do.values().filter(|errand| !errand.parked).cloned().collect();
    errands.sort_by_key(|errand| errand.position);
    if !errands.is_empty() {
        tracing::info!(errands = errands.len(), "the {} takes up what was left to do", D::NAME);
    }
    let mut last_saved = tokio::time::Instant::now();
    let mut waiting = Vec::new();
    loop {
        for some in errands.chunks(CHUNK) {
            waiting.extend_from_slice(some);
            let left = Arc::clone(duty).see_to(waiting, stop).await;
            left.never.iter().for_each(|key| drop(notes.to_do.remove(key)));
            waiting = left.waiting;
        }
        D::count_parked(notes.to_do.values().filter(|errand| errand.parked).count());
        if last_saved.elapsed() >= NOTES_EVERY {
            notes.save(file);
            last_saved = tokio::time::Instant::now();
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {
                notes.save(file);
                return Ok(());
            }
            chunk = messages.next() => {
                let chunk = chunk.ok_or_else(|| ReadError::Unavailable("the log went away".into()))?;
                let asked = notes.take_in::<D>(chunk)?.0;
                let asked = asked.iter().filter_map(|key| notes.to_do.get(key));
                errands = asked.filter(|errand| !errand.parked).cloned().collect();
            }
        }
    }
}

/// To the end of the log.
async fn catch_up<D: Duty>(
    notes: &mut Notes<D::Task>,
    messages: &mut (impl Stream<Item = Vec<Result<Message, ReadError>>> + Unpin),
    stop: &CancellationToken,
) -> Result<(), FollowError> {
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            chunk = messages.next() => {
                let chunk = chunk.ok_or_else(|| ReadError::Unavailable("the log went away".into()))?;
                if notes.take_in::<D>(chunk)?.1 {
                    return Ok(());
                }
            }
        }
    }
}

impl<T: Clone + Serialize + DeserializeOwned> Notes<T> {
    fn load(file: Option<&Path>) -> Self {
        let read = |path: &Path| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
        let notes = file.and_then(read).filter(|notes: &Self| notes.version == VERSION);
        notes.unwrap_or(Self { version: VERSION, position: None, to_do: BTreeMap::new() })
    }

    fn save(&self, file: Option<&Path>) {
        if let Some(path) = file
            && let Err(error) = write_whole(path, self)
        {
            tracing::warn!(%error, path = %path.display(), "what is to be done could not be noted");
        }
    }

    /// The keys of what is asked for, and whether the end of the log was reached.
    fn take_in<D: Duty<Task = T>>(
        &mut self,
        chunk: Vec<Result<Message, ReadError>>,
    ) -> Result<(Vec<Uuid>, bool), FollowError> {
        let (mut asked, mut caught_up) = (Vec::new(), false);
        for message in chunk {
            match message? {
                Message::CaughtUp => caught_up = true,
                Message::Checkpoint(position) => self.position = self.position.max(Some(position)),
                // Said before.
                Message::Event(recorded) if Some(recorded.position) <= self.position => {}
                Message::Event(recorded) => {
                    match D::read(&recorded)? {
                        Some(News::Asks(key, task)) => {
                            asked.push(key);
                            self.to_do.insert(key, Errand::new(task, &recorded));
                        }
                        Some(News::Answers(key, of)) => self.answered(key, of),
                        Some(News::Parks(key)) => {
                            if let Some(errand) = self.to_do.get_mut(&key) {
                                errand.parked = true;
                            }
                        }
                        None => {}
                    }
                    self.position = Some(recorded.position);
                }
            }
        }
        Ok((asked, caught_up))
    }

    fn answered(&mut self, key: Uuid, of: u32) {
        let Some(errand) = self.to_do.get_mut(&key) else { return };
        errand.answers += 1;
        if errand.answers >= of {
            self.to_do.remove(&key);
        }
    }
}

impl<T> Errand<T> {
    fn new(task: T, recorded: &Recorded) -> Self {
        let metadata = recorded.metadata();
        Self {
            task,
            position: recorded.position,
            cause: recorded.id,
            correlation_id: metadata.correlation_id.unwrap_or(recorded.id),
            occurred_at: metadata.occurred_at,
            answers: 0,
            parked: false,
        }
    }
}
