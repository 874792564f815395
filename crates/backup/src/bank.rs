//! A copy of the sandbox's books: an SQLite file that others write to meanwhile. Relies on `VACUUM INTO`, which copies one
//! state of the file, whatever is being written.

use std::{path::Path, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use rusqlite::{Connection, OpenFlags};
use tokio::{io::AsyncReadExt, task::spawn_blocking};

use crate::BackupError;

const PATIENCE: Duration = Duration::from_secs(10);
const CHUNK: usize = 1 << 20;

/// The bytes of a copy.
pub(crate) async fn copy(bank: &Path) -> Result<BoxStream<'static, Result<Bytes, BackupError>>, BackupError> {
    let failed = |error: &dyn std::fmt::Display| BackupError::Bank(error.to_string());
    let folder = tempfile::tempdir().map_err(|error| failed(&error))?;
    let (bank, copy) = (bank.to_owned(), folder.path().join("bank.sqlite"));
    let path = copy.clone();
    spawn_blocking(move || -> rusqlite::Result<()> {
        let connection = Connection::open_with_flags(bank, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        connection.busy_timeout(PATIENCE)?;
        connection.execute("VACUUM INTO ?1", [path.to_string_lossy()])?;
        Ok(())
    })
    .await?
    .map_err(|error| failed(&error))?;
    let mut file = tokio::fs::File::open(copy).await?;
    Ok(async_stream::try_stream! {
        // Goes when the last of it was read.
        let _folder = folder;
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            if (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await? == 0 {
                return;
            }
            yield Bytes::from(chunk);
        }
    }
    .boxed())
}
