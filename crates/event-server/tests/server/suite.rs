//! The tests that the makers of the client `eventstore` run against their server (`tests/api/streams.rs` of its package),
//! against this one. build.rs finds the package where cargo has put it.

/// As they wrote them.
#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    dead_code,
    unused_qualifications,
    unreachable_pub,
    reason = "not ours"
)]
mod streams {
    include!(concat!(env!("EVENTSTORE_SUITE"), "/api/streams.rs"));

    macro_rules! against_this_server {
        ($($test:ident),* $(,)?) => {
            /// How many there are here.
            pub(super) const TESTS: usize = [$(stringify!($test)),*].len();

            /// Each over a log of its own.
            mod run {
                $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    let server = crate::support::Server::start().await;
                    // There is always something in the log of theirs.
                    server.client().await.add("market-1", [1]).await;
                    let client = crate::suite::client(&server);
                    super::$test(&client).await.unwrap();
                    drop(client);
                })*
            }
        };
    }

    against_this_server!(
        test_write_events,
        test_tick_date_conversion,
        test_read_all_stream_events,
        test_read_stream_events,
        test_read_stream_events_with_position,
        test_read_stream_populates_log_position,
        test_metadata,
        test_metadata_not_exist,
        test_read_stream_events_non_existent,
        test_delete_stream,
        test_tombstone_stream,
        test_subscription,
        test_subscription_caughtup,
        test_subscription_all_filter,
        test_batch_append,
    );
}

use eventstore::Client;

use crate::support::Server;

fn client(server: &Server) -> Client {
    Client::new(format!("esdb://{}?tls=false", server.address).parse().unwrap()).unwrap()
}

#[test]
fn none_of_theirs_is_left_out() {
    let theirs = include_str!(concat!(env!("EVENTSTORE_SUITE"), "/api/streams.rs"));
    assert_eq!(theirs.matches("async fn test_").count(), streams::TESTS);
}
