//! What the end-to-end tests share: the real binary on a data directory of its own, and people who use it over HTTP.
//!
//! The binary is the one beside the test's own folder (`target/debug/souk`); build it first, as `scripts/test` does.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod fleet;
mod gate;
mod people;
mod server;

pub use fleet::Fleet;
pub use gate::Gate;
pub use people::{Answer, Person, address, card, item, money};
pub use server::{Server, binary, free_address, traversable};
