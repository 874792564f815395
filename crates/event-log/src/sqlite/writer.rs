//! The writer: one thread, one connection, one transaction for everything that waits.
//!
//! Each append is still checked against its own expected revision, and one that conflicts contributes nothing to the
//! transaction. Nobody is answered before the commit has returned, not even with a conflict: it may rest on an
//! event of the same transaction.
//!
//! When a write fails the connection is given up, and the next append opens another and checks the log's end first:
//! after a failed fsync nobody knows what the handle would say, only what the file says.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use metrics::{counter, histogram};
use rusqlite::{Connection, params};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};

use super::{
    OpenError, Options,
    chain::{GENESIS, Link},
    copier::Copier,
    names::{Kinds, StreamHead, Streams},
    schema::{self, Head},
    subscription::{Live, Tail},
};
use crate::{AppendError, Appended, Expected, NewEvent, Position, Recorded, StreamName};

/// Bounds of one transaction; a single append may be larger.
const BATCH_EVENTS: usize = 4_096;
const BATCH_BYTES: usize = 8 << 20;
/// Callers that the writer wakes itself.
const WAKE_HERE: usize = 4;
/// While so many append at once, a transaction waits for as many as the last one had, up to [`GATHER`] from the last
/// one's end: a few larger transactions cost much less than many small ones.
const CROWD: usize = 16;
const GATHER: Duration = Duration::from_millis(1);
const GATHER_STEP: Duration = Duration::from_micros(200);
/// While nobody appends, a file that failed is opened again no more often: that is work for a disk in trouble.
const REOPEN: Duration = Duration::from_secs(1);
/// Pause between two tries to begin while another process writes.
const BUSY_PAUSE: Duration = Duration::from_micros(300);

pub(super) struct Command {
    pub(super) stream: StreamName,
    pub(super) expected: Expected,
    pub(super) events: Vec<NewEvent>,
    pub(super) since: Instant,
    /// Where the caller is waiting.
    pub(super) runtime: Option<Handle>,
    pub(super) reply: oneshot::Sender<Outcome>,
}

type Outcome = Result<Appended, AppendError>;

impl Command {
    fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.data.len() + event.metadata.len()).sum()
    }
}

pub(super) struct Writer {
    path: PathBuf,
    options: Options,
    tail: Arc<Tail>,
    heads: Arc<watch::Sender<Option<Position>>>,
    /// `None` after a failure.
    session: Option<Session>,
    traffic: Arc<Traffic>,
    /// Appends in the last transaction, and when it, or the last try to open the file again, ended.
    crowd: usize,
    ended: Instant,
    /// The last event seen committed. The file may never again end before it or hold another in its place.
    last: Option<Head>,
}

/// What callers and the writer see of each other.
#[derive(Default)]
pub(super) struct Traffic {
    /// Appends that were sent to the writer and not taken by it yet.
    pub(super) waiting: AtomicUsize,
    /// Transactions committed.
    pub(super) transactions: AtomicU64,
}

/// Why a transaction came to nothing.
enum Failure {
    /// Another process held the file for too long; nothing was begun.
    Busy,
    /// Before the commit: nothing was written.
    Write(String),
    /// In the commit: nobody knows.
    Commit(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Write(schema::described(&error))
    }
}

impl Writer {
    pub(super) fn open(
        path: &Path,
        options: Options,
        tail: Arc<Tail>,
        traffic: Arc<Traffic>,
    ) -> Result<(Self, watch::Receiver<Option<Position>>), OpenError> {
        let session = Session::open(path, options.busy_timeout, None)?;
        let last = session.head;
        let (heads, receiver) = watch::channel(last.map(|head| head.position));
        let heads = Arc::new(heads);
        let path = path.to_owned();
        let ended = Instant::now();
        let writer =
            Self { path, options, tail, heads, session: Some(session), traffic, crowd: 0, ended, last };
        Ok((writer, receiver))
    }

    /// Runs until every handle of the log is gone.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        loop {
            match commands.recv_timeout(self.options.poll_interval) {
                Ok(first) => {
                    self.wait_for_company();
                    let batch = gather(first, commands);
                    self.traffic.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
                    self.crowd = batch.len();
                    self.commit(batch);
                    self.ended = Instant::now();
                }
                Err(RecvTimeoutError::Timeout) => self.look_for_others(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn wait_for_company(&self) {
        let more = || self.crowd >= CROWD && self.traffic.waiting.load(Ordering::Relaxed) < self.crowd;
        while more() && self.ended.elapsed() < GATHER {
            thread::sleep(GATHER_STEP);
        }
    }

    /// Tells subscribers of commits of other processes, and of one whose outcome was unknown.
    fn look_for_others(&mut self) {
        if self.session.is_none() {
            if self.ended.elapsed() < REOPEN {
                return;
            }
            self.ended = Instant::now();
        }
        let Ok(session) = self.session() else { return };
        match schema::read_head(&session.connection) {
            Ok(head) => tell(&self.heads, head.map(|head| head.position)),
            Err(error) => tracing::warn!(%error, "the end of the event log could not be read"),
        }
    }

    fn commit(&mut self, mut batch: Vec<Command>) {
        let mut committed = Vec::new();
        let result = match self.session() {
            Ok(session) => session.write(&mut batch, &mut committed),
            Err(error) => Err(Failure::Write(error.to_string())),
        };
        match result {
            Ok(outcomes) => {
                self.last = self.session.as_ref().and_then(|session| session.head);
                self.traffic.transactions.fetch_add(1, Ordering::Relaxed);
                let events = committed.len();
                count(&batch, events);
                self.tail.extend(committed);
                let runtime = batch.first().and_then(|command| command.runtime.clone());
                let replies = batch.into_iter().map(|command| command.reply);
                let news = News {
                    heads: Arc::clone(&self.heads),
                    head: self.last.map(|head| head.position),
                    answers: replies.zip(outcomes).collect(),
                };
                // Many callers are woken from within their runtime: each wake from here may cost a system call, as the
                // runtime's threads fall asleep between one and the next.
                match runtime {
                    Some(runtime) if news.answers.len() > WAKE_HERE => {
                        runtime.spawn(async move { drop(news) });
                    }
                    _ => drop(news),
                }
                if let Some(session) = &mut self.session {
                    session.copier.committed(events, &session.connection);
                }
            }
            Err(failure) => self.fail(batch, failure),
        }
    }

    fn session(&mut self) -> Result<&mut Session, OpenError> {
        let session = match self.session.take() {
            Some(session) => session,
            None => Session::open(&self.path, self.options.busy_timeout, self.last)?,
        };
        Ok(self.session.insert(session).with_time((self.options.clock)(), self.options.busy_timeout))
    }

    fn fail(&mut self, batch: Vec<Command>, failure: Failure) {
        let answer = match failure {
            Failure::Busy => AppendError::Unavailable("another process is holding the log's file".into()),
            Failure::Write(error) => {
                self.session = None;
                tracing::error!(error, appends = batch.len(), "the event log could not be written");
                AppendError::Unavailable(error)
            }
            Failure::Commit(error) => {
                self.session = None;
                tracing::error!(error, appends = batch.len(), "the event log could not be committed");
                AppendError::Unknown(error)
            }
        };
        for command in batch {
            let _ = command.reply.send(Err(answer.clone()));
        }
    }
}

fn tell(heads: &watch::Sender<Option<Position>>, head: Option<Position>) {
    heads.send_if_modified(|told| {
        let news = *told < head;
        if news {
            *told = head;
        }
        news
    });
}

/// What is to be told after a commit: first to subscribers, then to those who appended. It is told when this is
/// dropped, so that it is told also where a runtime that is shutting down never runs the task that holds it.
struct News {
    heads: Arc<watch::Sender<Option<Position>>>,
    head: Option<Position>,
    answers: Vec<(oneshot::Sender<Outcome>, Outcome)>,
}

impl Drop for News {
    fn drop(&mut self) {
        tell(&self.heads, self.head);
        for (reply, outcome) in self.answers.drain(..) {
            // A caller that has gone is not our concern.
            let _ = reply.send(outcome);
        }
    }
}

/// What waits, up to the bounds.
fn gather(first: Command, commands: &Receiver<Command>) -> Vec<Command> {
    let (mut events, mut bytes) = (first.events.len(), first.bytes());
    let mut batch = vec![first];
    while events < BATCH_EVENTS && bytes < BATCH_BYTES {
        let Ok(command) = commands.try_recv() else { break };
        events += command.events.len();
        bytes += command.bytes();
        batch.push(command);
    }
    batch
}

fn count(batch: &[Command], events: usize) {
    counter!("souk_log_appends_total").increment(batch.len() as u64);
    counter!("souk_log_events_total").increment(events as u64);
    histogram!("souk_log_batch_events").record(events as f64);
    let seconds = histogram!("souk_log_append_seconds");
    for command in batch {
        seconds.record(command.since.elapsed().as_secs_f64());
    }
}

/// A connection with what is known of the file: valid until a failure.
struct Session {
    connection: Connection,
    copier: Copier,
    head: Option<Head>,
    streams: Streams,
    kinds: Kinds,
    buffer: Vec<u8>,
    now: i64,
    patience: Duration,
}

impl Session {
    /// `last`: what has to be in the file still.
    fn open(path: &Path, patience: Duration, last: Option<Head>) -> Result<Self, OpenError> {
        let connection = schema::open_writer(path, patience)?;
        let head = schema::read_head(&connection)?;
        if let Some(last) = last {
            let hash: Option<super::chain::Hash> = connection.query_row(
                "SELECT (SELECT hash FROM event_rows WHERE position = ?1)",
                [last.position as i64],
                |row| row.get(0),
            )?;
            if hash != Some(last.hash) {
                let found = head.map(|head| head.position);
                return Err(OpenError::Lost { found, acknowledged: last.position });
            }
        }
        Ok(Self {
            connection,
            copier: Copier::start(path)?,
            head,
            streams: Streams::default(),
            kinds: Kinds::default(),
            buffer: Vec::new(),
            now: 0,
            patience,
        })
    }

    fn with_time(&mut self, now: DateTime<Utc>, patience: Duration) -> &mut Self {
        self.now = now.timestamp_micros();
        self.patience = patience;
        self
    }

    /// One transaction for the batch: an outcome for each append, to be told now that it is durable.
    fn write(&mut self, batch: &mut [Command], committed: &mut Vec<Live>) -> Result<Vec<Outcome>, Failure> {
        self.begin()?;
        let head = schema::read_head(&self.connection)?;
        if head != self.head {
            // Another process wrote: what was known of streams is old.
            if head.map(|head| head.position) < self.head.map(|head| head.position) {
                return Err(Failure::Write("the file ends before an acknowledged event".into()));
            }
            self.streams.clear();
            self.head = head;
        }
        let recorded_at = self.head.map_or(self.now, |head| head.recorded_at.max(self.now));
        let mut outcomes = Vec::with_capacity(batch.len());
        for command in batch {
            outcomes.push(self.append(command, recorded_at, committed)?);
        }
        let started = Instant::now();
        self.connection
            .prepare_cached("COMMIT")
            .and_then(|mut commit| commit.execute([]))
            .map_err(|error| Failure::Commit(schema::described(&error)))?;
        histogram!("souk_log_commit_seconds").record(started.elapsed().as_secs_f64());
        Ok(outcomes)
    }

    fn begin(&self) -> Result<(), Failure> {
        let mut begin = self.connection.prepare_cached("BEGIN IMMEDIATE")?;
        let started = Instant::now();
        loop {
            match begin.execute([]) {
                Ok(_) => return Ok(()),
                Err(error) if !schema::is_busy(&error) => return Err(error.into()),
                Err(_) if started.elapsed() >= self.patience => return Err(Failure::Busy),
                Err(_) => thread::sleep(BUSY_PAUSE),
            }
        }
    }

    fn append(
        &mut self,
        command: &mut Command,
        recorded_at: i64,
        live: &mut Vec<Live>,
    ) -> Result<Outcome, Failure> {
        let Self { connection, streams, kinds, head, buffer, .. } = self;
        let stream = &command.stream;
        // Most streams that are expected to be new are, and adding them says so: looking for them first costs as much again.
        let new = match command.expected {
            Expected::NoStream if !command.events.is_empty() => streams.add_new(connection, stream)?,
            _ => None,
        };
        let mut at = if let Some(new) = new {
            new
        } else {
            let known = streams.find(connection, stream)?;
            match check(connection, known, command.expected, &command.events)? {
                Check::Goes => {}
                Check::Done(outcome) => return Ok(outcome),
            }
            match known {
                Some(known) => known,
                None => StreamHead { id: Streams::add(connection, stream)?, events: 0 },
            }
        };
        let mut insert = connection.prepare_cached(schema::INSERT)?;
        let time = DateTime::from_timestamp_micros(recorded_at).unwrap_or_default();
        for event in std::mem::take(&mut command.events) {
            let position = head.map_or(0, |head| head.position + 1);
            let revision = at.events;
            let (kind, event_type) = kinds.find(connection, stream.category(), &event.event_type)?;
            let link = Link {
                position: position as i64,
                stream: stream.as_str(),
                revision: revision as i64,
                id: &event.id,
                event_type: &event_type,
                recorded_at,
                data: &event.data,
                metadata: &event.metadata,
            };
            let hash = link.hash(&head.map_or(GENESIS, |head| head.hash), buffer);
            insert.execute(params![
                link.position,
                at.id,
                link.revision,
                kind,
                recorded_at,
                link.id.as_bytes(),
                hash,
                link.data,
                link.metadata
            ])?;
            let recorded = Recorded {
                id: event.id,
                stream: stream.clone(),
                revision,
                position,
                event_type,
                recorded_at: time,
                data: event.data,
                metadata: event.metadata,
                hash: Some(hash),
            };
            live.push(Live { kind: kind as usize, event: Arc::new(recorded) });
            at.events += 1;
            *head = Some(Head { position, hash, recorded_at });
        }
        streams.set(stream, at);
        let position = head.map_or(0, |head| head.position);
        Ok(Ok(Appended { last_revision: at.events - 1, position }))
    }
}

enum Check {
    Goes,
    Done(Outcome),
}

/// Compares what the writer expects with the stream as it is within the transaction.
fn check(
    connection: &Connection,
    known: Option<StreamHead>,
    expected: Expected,
    events: &[NewEvent],
) -> rusqlite::Result<Check> {
    let count = known.map_or(0, |known| known.events);
    let wanted = match expected {
        Expected::NoStream => 0,
        Expected::Exact(revision) => revision.saturating_add(1),
        // A repeat of an append that expected nothing can only be told while it is the stream's last.
        Expected::Any if events.is_empty() => count,
        Expected::Any => count.saturating_sub(events.len() as u64),
    };
    let repeated = match known {
        Some(known) if wanted < count && !events.is_empty() => ids_at(connection, known.id, wanted, events)?,
        _ => None,
    };
    if let Some(position) = repeated {
        let last_revision = wanted + events.len() as u64 - 1;
        return Ok(Check::Done(Ok(Appended { last_revision, position })));
    }
    if expected != Expected::Any && wanted != count {
        return Ok(Check::Done(Err(AppendError::Conflict { actual: count.checked_sub(1) })));
    }
    if !events.is_empty() {
        return Ok(Check::Goes);
    }
    let position = match known {
        Some(known) if count > 0 => position_of(connection, known.id, count - 1)?,
        _ => 0,
    };
    Ok(Check::Done(Ok(Appended { last_revision: count.saturating_sub(1), position })))
}

/// The position of the last of the events if exactly these stand in the stream from the revision on.
fn ids_at(
    connection: &Connection,
    stream: i64,
    from: u64,
    events: &[NewEvent],
) -> rusqlite::Result<Option<Position>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, position FROM event_rows WHERE stream_id = ?1 AND revision >= ?2 ORDER BY revision LIMIT ?3",
    )?;
    let mut rows = statement.query([stream, from as i64, events.len() as i64])?;
    let mut position = None;
    for event in events {
        match rows.next()? {
            Some(row) if row.get_ref(0)?.as_blob()? == event.id.as_bytes() => {
                position = Some(row.get::<_, i64>(1)? as Position);
            }
            _ => return Ok(None),
        }
    }
    Ok(position)
}

fn position_of(connection: &Connection, stream: i64, revision: u64) -> rusqlite::Result<Position> {
    connection
        .prepare_cached("SELECT position FROM event_rows WHERE stream_id = ?1 AND revision = ?2")?
        .query_row([stream, revision as i64], |row| Ok(row.get::<_, i64>(0)? as Position))
}
