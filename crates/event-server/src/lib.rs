//! The KurrentDB gRPC protocol, served over any [`EventLog`].
//!
//! - [`service`]: the calls, one module each: reads, subscriptions, appends, batches; and what clients ask on connecting;
//! - [`streams`]: streams as KurrentDB has them (metadata, soft deletion, tombstones) over those of the port;
//! - [`codec`], [`filter`]: events and filters, from the wire and back;
//! - [`access`]: who may read and append;
//! - [`outbox`]: how answers leave: never more than a bounded amount waits for a slow reader.
//!
//! A position of KurrentDB is a pair, commit and prepare; here both are the log's position.

#![expect(clippy::result_large_err, reason = "the status is what tonic's traits ask for")]

mod access;
mod codec;
mod filter;
mod outbox;
mod refusal;
mod service;
mod streams;
#[doc(hidden)]
pub mod wire;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use souk_event_log::{Clock, EventLog};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, server::TcpIncoming};

pub use access::{Access, Authenticator, CannotTell, Rights};
use service::Service;
use wire::{
    gossip::gossip_server::GossipServer,
    persistent_subscriptions::persistent_subscriptions_server::PersistentSubscriptionsServer,
    server_features::server_features_server::ServerFeaturesServer, streams::streams_server::StreamsServer,
};

/// Bytes of one message, as KurrentDB's clients take them.
const MESSAGE: usize = 17 << 20;
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
    /// Subscriptions at once.
    pub subscriptions: usize,
    /// Reads at once; others wait.
    pub reads: usize,
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
            reads: 256,
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
    let service = Service::new(log, options, stop.clone());
    let [stream_window, connection_window] = WINDOWS;
    Server::builder()
        .http2_keepalive_interval(Some(PING))
        .http2_keepalive_timeout(Some(PING))
        .max_concurrent_streams(CALLS)
        .initial_stream_window_size(stream_window)
        .initial_connection_window_size(connection_window)
        .add_service(ServerFeaturesServer::new(service.clone()))
        .add_service(GossipServer::new(service.clone()))
        .add_service(PersistentSubscriptionsServer::new(service.clone()))
        .add_service(
            StreamsServer::new(service).max_decoding_message_size(MESSAGE).max_encoding_message_size(MESSAGE),
        )
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listener).with_nodelay(Some(true)),
            stop.cancelled_owned(),
        )
        .await
}
