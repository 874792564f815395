//! The one thread that touches the sandbox's file. Whatever waits is done in one transaction, each piece of work seeing the
//! ones before it; nobody is answered before that transaction is committed. Each transaction takes the file's write lock
//! first, so that a second process may use the same file.

use std::{
    io, iter,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::ledger;
use crate::GatewayError;

/// How many pieces of work one transaction may hold, so that the first does not wait long for the last.
const MOST_AT_ONCE: usize = 512;
/// While a transaction holds so many, the next one waits a moment for more: a few larger ones cost much less than many
/// small ones.
const CROWD: usize = 4;
const GATHER: Duration = Duration::from_millis(1);
/// How long to wait for another process that uses the file.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the sandbox's file can't be opened: {0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the sandbox's file was written by a newer program (format {0}): upgrade Souk")]
    Newer(i64),
    #[error("the sandbox's thread can't be started: {0}")]
    Thread(#[from] io::Error),
}

/// Does its work on the file and makes the answer, to be given once the transaction is committed.
type Work = Box<dyn FnOnce(&Connection) -> rusqlite::Result<Answer> + Send>;
type Answer = Box<dyn FnOnce() + Send>;

pub(super) struct Writer {
    work: mpsc::Sender<Work>,
}

impl Writer {
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(PATIENCE)?;
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = connection.pragma_update(None, "journal_mode", "WAL") {
            // Two processes that make the file at once are in each other's way, and SQLite does not wait by itself.
            if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || Instant::now() > deadline {
                return Err(error.into());
            }
            thread::sleep(Duration::from_millis(5));
        }
        // A commit survives the end of the process; the sandbox need not survive the loss of power.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // Keys are random, so every call touches pages of its own: keep many in memory (in KiB), move them rarely (in pages).
        connection.pragma_update(None, "cache_size", -32_768)?;
        connection.pragma_update(None, "wal_autocheckpoint", 8_000)?;
        connection.set_prepared_statement_cache_capacity(64);
        ledger::migrate(&connection)?;
        let (work, waiting) = mpsc::channel(4 * MOST_AT_ONCE);
        thread::Builder::new().name("sandbox-bank".to_owned()).spawn(move || write(connection, waiting))?;
        Ok(Self { work })
    }

    /// Does `work` in a transaction. If that fails the outcome is unknown: its cause is logged by the thread.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, GatewayError> {
        let (sender, answer) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            let value = work(connection)?;
            // Nobody listens if the caller has gone: the work is done all the same.
            Ok(Box::new(move || drop(sender.send(value))))
        });
        if self.work.send(work).await.is_err() {
            return Err(GatewayError::Unavailable("the sandbox has stopped".to_owned()));
        }
        answer.await.map_err(|_| GatewayError::Unknown("the sandbox's file could not be written".to_owned()))
    }
}

fn write(mut connection: Connection, mut waiting: mpsc::Receiver<Work>) {
    let mut batch = Vec::with_capacity(MOST_AT_ONCE);
    let mut crowd = 0;
    while waiting.blocking_recv_many(&mut batch, MOST_AT_ONCE) > 0 {
        if crowd >= CROWD {
            thread::sleep(GATHER);
            batch.extend(iter::from_fn(|| waiting.try_recv().ok()).take(MOST_AT_ONCE));
        }
        crowd = batch.len();
        match commit(&mut connection, batch.drain(..)) {
            Ok(answers) => answers.into_iter().for_each(|answer| answer()),
            // The answers are dropped, which tells everybody who waits.
            Err(error) => tracing::error!(%error, "the sandbox's file could not be written"),
        }
    }
}

fn commit(connection: &mut Connection, batch: impl Iterator<Item = Work>) -> rusqlite::Result<Vec<Answer>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let answers = batch.map(|work| work(&transaction)).collect::<Result<_, _>>()?;
    transaction.commit()?;
    Ok(answers)
}
