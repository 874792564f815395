//! The sending of webhooks over a real vault in PostgreSQL and real sockets, to receivers that do what receivers do.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

mod delivery;
mod failures;
mod measures;
mod owners;
mod support;
