//! How the private server is set up: small, because it shares the machine with Souk; durable, because the vault is in it.

use std::{path::PathBuf, time::Duration};

#[derive(Clone, Debug)]
pub struct Options {
    /// Where `postgres` and `initdb` are; looked for when `None`. The program fills it from `SOUK_POSTGRES_BIN_DIR`.
    pub bin_dir: Option<PathBuf>,
    /// Whom root runs a new server as; `None`: `postgres`, else `nobody`. Ignored for anybody but root.
    pub user: Option<String>,
    /// PostgreSQL settings that override the ones below.
    pub settings: Vec<(String, String)>,
    /// How long a server may take until it answers: recovery after a crash of the machine can take a while.
    pub start_timeout: Duration,
    /// How long to wait for another process that is responsible for the same folder to let go of it.
    pub lock_timeout: Duration,
    /// Only for data nobody will miss (tests): nothing is forced to disk, and leftovers of a server that no longer
    /// runs are thrown away at start.
    pub throwaway: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            bin_dir: None,
            user: None,
            settings: Vec::new(),
            start_timeout: Duration::from_mins(2),
            lock_timeout: Duration::from_secs(3),
            throwaway: false,
        }
    }
}

impl Options {
    /// In the order in which they are given to the server; the last one of a name counts.
    pub(crate) fn server_settings(&self) -> Vec<(String, String)> {
        let mut settings: Vec<(String, String)> = [
            ("listen_addresses", ""),
            ("unix_socket_permissions", "0700"),
            ("max_connections", "60"),
            ("shared_buffers", "128MB"),
            // One node, no replicas, no archive: the log is the truth, a dump keeps the vault.
            ("wal_level", "minimal"),
            ("max_wal_senders", "0"),
            // After each checkpoint every page that is touched is logged whole, and orders touch pages all over their
            // tables: the fewer, the less their views cost. Recovery reads it in seconds.
            ("max_wal_size", "2GB"),
            ("min_wal_size", "80MB"),
            ("checkpoint_timeout", "15min"),
            // A commit of the vault's is on disk when it is answered; views turn this off, transaction by transaction.
            ("synchronous_commit", "on"),
            // Short queries: compiling them, or spreading them over workers, costs more than it gains.
            ("jit", "off"),
            ("max_parallel_workers_per_gather", "0"),
            // A transaction that a client forgot must not hold up vacuum, or row locks, for ever.
            ("idle_in_transaction_session_timeout", "5min"),
            ("log_line_prefix", "%m [%p] "),
            ("log_checkpoints", "off"),
            ("logging_collector", "off"),
            ("log_destination", "stderr"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        if self.throwaway {
            for name in ["fsync", "full_page_writes", "synchronous_commit"] {
                settings.push((name.to_owned(), "off".to_owned()));
            }
        }
        settings.extend(self.settings.iter().cloned());
        settings
    }
}
