//! The KurrentDB gRPC protocol, served over any [`EventLog`].
//!
//! - [`service`]: the calls, one module each: reads, subscriptions, appends, batches; and what clients ask on connecting;
//! - [`streams`]: streams as KurrentDB has them (metadata, soft deletion, tombstones) over those of the port;
//! - [`codec`], [`filter`]: events and filters, from the wire and back;
//! - [`access`]: who may read and append; [`shares`], [`connections`]: how much of it one of them may do at once;
//! - [`outbox`]: how answers leave: never more than a bounded amount waits for a slow reader.
//!
//! A position of KurrentDB is a pair, commit and prepare; here both are the log's position.

#![expect(clippy::result_large_err, reason = "the status is what tonic's traits ask for")]

mod access;
mod codec;
mod connections;
mod filter;
mod outbox;
mod refusal;
mod service;
mod shares;
mod streams;
#[doc(hidden)]
pub mod wire;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use souk_event_log::{Clock, EventLog};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;

pub use access::{Access, Authenticator, CannotTell, Rights};
use service::{Door, InTime, Service, TINY};
use wire::{
    gossip::gossip_server::GossipServer,
    persistent_subscriptions::persistent_subscriptions_server::PersistentSubscriptionsServer,
    server_features::server_features_server::ServerFeaturesServer,
};

/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(10);
/// Calls of one connection at once.
const CALLS: u32 = 1_024;
/// What a client may send ahead, for one call and for a connection.
const WINDOWS: [u32; 2] = [1 << 20, 8 << 20];

pub struct Options {
    pub access: Access,
    /// Whether anybody may append at all.
    pub allow_append: bool,
    /// Categories of streams that nobody may delete, tombstone or give metadata.
    pub protected: BTreeSet<String>,
    /// Subscriptions at once, of those who may append, and as many of all others; of these, for one account.
    pub subscriptions: usize,
    pub subscriptions_of_one: usize,
    /// Reads at once, likewise; others wait.
    pub reads: usize,
    pub reads_of_one: usize,
    /// Connections at once, and of these from one place; one more is closed.
    pub connections: usize,
    pub connections_from_one_place: usize,
    /// How long a password that was right is taken for right, and rights for an account's, before they are asked for
    /// again; also under a subscription or a read that goes on.
    pub remembered: Duration,
    /// How long the one message of a request may take to arrive.
    pub arrival: Duration,
    /// How long a reader may leave everything that was sent to it unread before it is dropped.
    pub patience: Duration,
    /// What time it is, for the age of events.
    pub clock: Clock,
}

impl Options {
    pub fn new(access: Access, clock: Clock) -> Self {
        Self {
            access,
            allow_append: false,
            protected: BTreeSet::new(),
            subscriptions: 1_000,
            subscriptions_of_one: 32,
            reads: 256,
            reads_of_one: 16,
            connections: 768,
            connections_from_one_place: 512,
            remembered: Duration::from_mins(2),
            arrival: Duration::from_secs(10),
            patience: Duration::from_mins(1),
            clock,
        }
    }
}

/// Serves the log until told to stop: then subscriptions end with an error that makes clients subscribe again, and the
/// other calls under way are finished.
pub async fn serve(
    log: Arc<dyn EventLog>,
    options: Options,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let arrival = options.arrival;
    let connections = connections::accept(listener, options.connections, options.connections_from_one_place);
    let service = Service::new(log, options, stop.clone());
    let [stream_window, connection_window] = WINDOWS;
    let features = ServerFeaturesServer::new(service.clone()).max_decoding_message_size(TINY);
    let gossip = GossipServer::new(service.clone()).max_decoding_message_size(TINY);
    let persistent = PersistentSubscriptionsServer::new(service.clone()).max_decoding_message_size(TINY);
    Server::builder()
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .max_concurrent_streams(CALLS)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .add_service(InTime::new(features, arrival))
        .add_service(InTime::new(gossip, arrival))
        .add_service(InTime::new(persistent, arrival))
        .add_service(Door::new(service))
        .serve_with_incoming_shutdown(connections, stop.cancelled_owned())
        .await
}
