//! The protocol's messages and services, generated from `proto/`.

#![allow(
    clippy::all,
    clippy::pedantic,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    reason = "generated code is as the generator writes it"
)]

mod generated {
    include!(concat!(env!("OUT_DIR"), "/protocol.rs"));
}

pub use generated::{
    event_store::client::{
        AccessDenied, BadRequest, MaximumAppendSizeExceeded, Position, StreamDeleted, StreamIdentifier,
        Timeout, Unknown, Uuid, WrongExpectedVersion, gossip, persistent_subscriptions, server_features,
        streams, uuid, wrong_expected_version,
    },
    google::rpc,
};
