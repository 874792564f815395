//! Copies what was committed from the write-ahead log into the file (SQLite calls that a checkpoint), on a thread and a
//! connection of its own: the writer goes on meanwhile, and a page that many commits changed is copied once.
//!
//! What was committed during the copy is left to the writer. The write-ahead log can begin anew only when all of it is
//! copied, and nobody but the writer can say that nothing is added in between.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
};

use rusqlite::Connection;

use super::{OpenError, schema};

/// Events after which it is worth it: some 20 MiB of pages.
const EVERY: usize = 8_192;

pub(super) struct Copier {
    /// Taken when the thread is to end. It holds nothing: a copy is asked for only of a thread that waits.
    wake: Option<SyncSender<()>>,
    copied: Arc<AtomicBool>,
    /// Committed since the last copy was asked for.
    events: usize,
    thread: Option<JoinHandle<()>>,
}

impl Copier {
    pub(super) fn start(path: &Path) -> Result<Self, OpenError> {
        let (wake, asked) = mpsc::sync_channel(0);
        let copied = Arc::new(AtomicBool::new(false));
        let (path, done) = (path.to_owned(), Arc::clone(&copied));
        let thread = thread::Builder::new()
            .name("event-log-copy".into())
            .spawn(move || run(&path, &asked, &done))
            .map_err(OpenError::Thread)?;
        Ok(Self { wake: Some(wake), copied, events: 0, thread: Some(thread) })
    }

    /// After each commit of the writer, once those who wait for it have been answered.
    pub(super) fn committed(&mut self, events: usize, writer: &Connection) {
        if self.copied.swap(false, Ordering::Acquire) {
            tell(schema::copy(writer));
        }
        self.events += events;
        if self.events >= EVERY && self.wake.as_ref().is_some_and(|wake| wake.try_send(()).is_ok()) {
            self.events = 0;
        }
    }
}

impl Drop for Copier {
    fn drop(&mut self) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that copies the event log's commits into its file had panicked");
        }
    }
}

fn run(path: &Path, asked: &Receiver<()>, copied: &AtomicBool) {
    let mut connection = None;
    while asked.recv().is_ok() {
        let result = copy(&mut connection, path);
        copied.store(result.is_ok(), Ordering::Release);
        tell(result);
    }
}

fn copy(kept: &mut Option<Connection>, path: &Path) -> rusqlite::Result<()> {
    let connection = match kept.take() {
        Some(connection) => connection,
        None => schema::open_copier(path)?,
    };
    schema::copy(&connection)?;
    *kept = Some(connection);
    Ok(())
}

/// Nothing is lost by it: what is not copied stays in the write-ahead log. A disk in trouble is the writer's to report.
fn tell(result: rusqlite::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(
            error = schema::described(&error),
            "commits were not copied into the event log's file"
        );
    }
}
