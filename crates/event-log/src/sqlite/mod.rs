//! The embedded adapter: one SQLite file, WAL, `synchronous=FULL`.
//!
//! - [`schema`]: the tables, and how connections are opened;
//! - [`chain`]: the hash that ties each event to the one before, and [`verify`];
//! - [`writer`]: the one thread that appends; what waits together is committed together;
//! - [`copier`]: what brings commits from the write-ahead log into the file, beside the writer;
//! - [`names`]: the numbers that stand for names in the file;
//! - [`reader`]: pages of events, read on a small pool of read-only connections;
//! - [`restore`]: a file made anew of events that were copied from another;
//! - [`subscription`]: catching up from the file, then live from what the writer just committed.
//!
//! Several processes may have the file open and append to it: nothing is believed about the file's end that was not
//! read inside the transaction that writes.

mod chain;
mod copier;
mod names;
mod reader;
mod restore;
mod schema;
mod subscription;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering, mpsc},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use chrono::Utc;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};

pub use chain::{Chain, Damage, Hash, VerifyReport, verify};
pub use restore::{RestoreError, Restorer};

use crate::{
    AppendError, Appended, Clock, Direction, EventLog, EventStream, Expected, Filter, NewEvent, Position,
    ReadError, Revision, StreamName, Subscription,
};
use reader::Reader;
use subscription::Tail;
use writer::{Command, Traffic, Writer};

pub struct Options {
    /// Where `recorded_at` comes from.
    pub clock: Clock,
    /// How often an idle log looks for commits of other processes.
    pub poll_interval: Duration,
    /// How long an append, or opening, waits for another process's transaction before it gives up.
    pub busy_timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "the log itself decides when it took an event; tests set `clock`"
        )]
        let clock: Clock = Arc::new(Utc::now);
        Self { clock, poll_interval: Duration::from_millis(50), busy_timeout: Duration::from_secs(10) }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}", schema::described(.0))]
    Sqlite(#[from] rusqlite::Error),
    #[error("what was written last cannot be forced to disk: {0}")]
    Sync(std::io::Error),
    #[error("the file is an SQLite database, but not an event log of Souk")]
    NotALog,
    #[error("the file has format {found}, this program knows format {known}: upgrade the program")]
    Version { found: i32, known: i32 },
    #[error("the file's system cannot do write-ahead logging (journal mode {0})")]
    NoWal(String),
    #[error("the log is damaged at position {position}: {damage}")]
    Damaged { position: Position, damage: Damage },
    #[error("the end of the log cannot be read: {0}")]
    Unreadable(ReadError),
    #[error("the log ends at {found:?}, but {acknowledged} was acknowledged: the file was replaced or cut")]
    Lost { found: Option<Position>, acknowledged: Position },
    #[error("a thread of the log cannot be started: {0}")]
    Thread(std::io::Error),
}

/// A log in one file. Appends and subscriptions need a tokio runtime. Dropping it waits for the commit under way.
pub struct SqliteLog {
    path: PathBuf,
    commands: Option<mpsc::Sender<Command>>,
    traffic: Arc<Traffic>,
    writer: Option<JoinHandle<()>>,
    reader: Arc<Reader>,
    tail: Arc<Tail>,
    heads: watch::Receiver<Option<Position>>,
}

impl SqliteLog {
    /// Opens the file or makes it. Blocks for as long as that takes (milliseconds).
    pub fn open(path: &Path, options: Options) -> Result<Arc<Self>, OpenError> {
        let reader = Arc::new(Reader::new(path));
        let tail = Arc::new(Tail::default());
        let traffic = Arc::new(Traffic::default());
        let (writer, heads) = Writer::open(path, options, Arc::clone(&tail), Arc::clone(&traffic))?;
        let (commands, received) = mpsc::channel();
        let writer = std::thread::Builder::new()
            .name("event-log".into())
            .spawn(move || writer.run(&received))
            .map_err(OpenError::Thread)?;
        Ok(Arc::new(Self {
            path: path.to_owned(),
            commands: Some(commands),
            traffic,
            writer: Some(writer),
            reader,
            tail,
            heads,
        }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many transactions this handle has committed: appends that wait together share one.
    pub fn transactions(&self) -> u64 {
        self.traffic.transactions.load(Ordering::Relaxed)
    }

    /// Checks every event from the position on; see [`verify`]. Blocks.
    pub fn verify(&self, from: Position, progress: impl FnMut(Position)) -> Result<VerifyReport, ReadError> {
        verify(&self.path, from, progress)
    }
}

impl Drop for SqliteLog {
    fn drop(&mut self) {
        drop(self.commands.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the event log's writer had panicked");
        }
    }
}

#[async_trait]
impl EventLog for SqliteLog {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        let (reply, answer) = oneshot::channel();
        let command = Command {
            stream: stream.clone(),
            expected,
            events,
            since: Instant::now(),
            runtime: Handle::try_current().ok(),
            reply,
        };
        self.traffic.waiting.fetch_add(1, Ordering::Relaxed);
        let sent = self.commands.as_ref().is_some_and(|commands| commands.send(command).is_ok());
        if !sent {
            return Err(AppendError::Unavailable("the log's writer has stopped".into()));
        }
        answer
            .await
            .unwrap_or_else(|_| Err(AppendError::Unknown("the log's writer stopped in between".into())))
    }

    fn read_stream(
        &self,
        stream: &StreamName,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> EventStream {
        reader::stream(Arc::clone(&self.reader), stream.clone(), from, direction, limit)
    }

    fn read_all(&self, from: Position, filter: Filter, direction: Direction, limit: usize) -> EventStream {
        reader::all(Arc::clone(&self.reader), from, filter, direction, limit)
    }

    fn subscribe(&self, after: Option<Position>, filter: Filter) -> Subscription {
        subscription::subscribe(
            Arc::clone(&self.reader),
            Arc::clone(&self.tail),
            self.heads.clone(),
            after,
            filter,
        )
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.reader.head()
    }

    async fn stream_head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadError> {
        self.reader.stream_head(stream)
    }
}
