//! Backups, taken while the market runs: the event log first, then the vault, then the sandbox's bank, into a folder or
//! an S3 bucket.
//!
//! - [`store`]: the folder or bucket;
//! - [`segment`]: events as objects: immutable, named by their positions;
//! - [`manifest`]: the one object that says what is complete;
//! - [`ship`]: takes a backup, or goes on with one, and [`follow`]s the log;
//! - [`restore`]: the way back;
//! - [`anchors`]: heads of the log kept elsewhere, since a chain of hashes cannot see its tail cut.
//!
//! ```text
//! manifest.json                                     what is complete; written last, whole or not at all
//! log/{first}-{last}.ndjson.zst                     events, 10,000 to an object; never changed again
//! tail/{first}-{last}.ndjson.zst                    the events after those, until there are enough for one of those
//! vault/{events}-whole.sql.zst                      the vault, copied after so many events of the log
//! vault/{events}-accounts.sql.zst                   what has changed in it since: the accounts that the events name
//! bank/{events}.sqlite.zst                          the sandbox's books
//! anchors/{position}-{hash}.json                    heads of the log
//! ```
//!
//! Whatever is interrupted leaves the last manifest true: objects it does not know of are passed over, and written again
//! by whoever goes on. What an object holds follows from its name and the log alone, so writing it twice does no harm.

pub mod anchors;
mod bank;
pub mod follow;
pub mod manifest;
pub mod restore;
pub mod segment;
pub mod ship;
pub mod store;

use souk_event_log::{Position, ReadError, sqlite::Damage};
use souk_vault::copies::CopyError;

pub use store::{Store, StoreError};

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("the log is damaged at position {position}: {damage}; what is in the backup stays as it is")]
    Damaged { position: Position, damage: Damage },
    #[error("the log keeps no hashes, so there is nothing to anchor: only the embedded log does")]
    NoChain,
    #[error(
        "the backup is of another log, or this log lost its end: {0}. Name another place for the backup of this log"
    )]
    OtherLog(String),
    #[error("the backup has format {found}, this program knows {known}: upgrade the program", known = manifest::FORMAT)]
    Format { found: u32 },
    #[error("the object {name} is damaged: {problem}")]
    Object { name: String, problem: String },
    #[error(transparent)]
    Vault(#[from] CopyError),
    #[error("the vault's database: {0}")]
    Database(String),
    #[error(
        "the vault is not copied: it has the keys of {found} people, its copy in the backup those of {kept}. Keys are never \
         deleted, so this is not the vault it was; the copy stays as it is. Name another place for backups of this one"
    )]
    OtherVault { found: u64, kept: u64 },
    #[error("the bank of the sandbox: {0}")]
    Bank(String),
    #[error("compressing: {0}")]
    Compression(#[from] std::io::Error),
    #[error("a task was interrupted: {0}")]
    Interrupted(#[from] tokio::task::JoinError),
}

impl BackupError {
    /// Trying again will not help: somebody has to look.
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Damaged { .. }
                | Self::OtherLog(_)
                | Self::OtherVault { .. }
                | Self::Format { .. }
                | Self::Log(ReadError::Corrupt(_))
        )
    }

    fn object(name: &str, problem: impl ToString) -> Self {
        Self::Object { name: name.to_owned(), problem: problem.to_string() }
    }
}
