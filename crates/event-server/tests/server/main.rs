//! The event server over a real SQLite log: the suite of the client's makers, and what that does not touch.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

extern crate eventstore_suite as eventstore;

mod access;
mod batches;
/// The suite's own, which it looks for here.
#[allow(clippy::all, clippy::pedantic, clippy::disallowed_methods, unreachable_pub, reason = "not ours")]
mod common {
    include!(concat!(env!("EVENTSTORE_SUITE"), "/common.rs"));
}
mod deletions;
mod limits;
mod outcomes;
mod reads;
mod subscriptions;
mod suite;
mod support;
