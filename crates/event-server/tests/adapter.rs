//! The event log's adapter for servers, against this server over SQLite: what every adapter has to do.

#![allow(clippy::unwrap_used, reason = "tests say what they rely on by panicking")]

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use souk_event_log::{Clock, EventLog, KurrentLog, SqliteLog, conformance::Factory, sqlite};
use souk_event_server::{Access, Options};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::OnceCell};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A server of the test's own, started with the first handle.
#[derive(Default)]
struct Server(OnceCell<Running>);

struct Running {
    address: SocketAddr,
    _stop: DropGuard,
    _folder: TempDir,
}

async fn start() -> Running {
    let folder = tempfile::tempdir().unwrap();
    let clock: Clock = sqlite::Options::default().clock;
    let log = SqliteLog::open(&folder.path().join("events.sqlite"), sqlite::Options::default()).unwrap();
    let options = Options { allow_append: true, ..Options::new(Access::Open, clock) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(souk_event_server::serve(log, options, listener, stop.clone()));
    Running { address, _stop: stop.drop_guard(), _folder: folder }
}

#[async_trait]
impl Factory for Server {
    async fn open(&self) -> Arc<dyn EventLog> {
        let address = self.0.get_or_init(start).await.address;
        KurrentLog::connect(format!("kurrentdb://{address}?tls=false").parse().unwrap()).await.unwrap()
    }
}

// All but that positions have no gaps, which servers do not promise.
souk_event_log::conformance_tests! { Server::default() =>
    appends: expected_revisions_hold, an_append_is_all_or_nothing, one_of_many_wins, repeated_appends_are_idempotent,
        repeats_without_expectation, an_empty_append_is_a_check, what_was_given_is_stored, recorded_at_never_goes_back;
    reads: a_stream_reads_both_ways, the_log_reads_both_ways, nothing_reads_as_nothing, long_reads_are_complete;
    subscriptions: catch_up_meets_live, checkpoints_pass_what_was_left_out, caught_up_is_told,
        a_slow_subscriber_misses_nothing, one_stream_can_be_followed, nobody_follows_from_beyond_the_end;
    handles: handles_share_one_log, exact_revisions_hold_between_handles, a_log_outlives_its_handles;
}
