//! A bank and a carrier that exist only on this machine: they keep their promises to the letter, in a durable file of their
//! own, and can be told to be slow, to fail, or to leave an outcome unknown.
//!
//! - [`SandboxBank`]: the adapter of both ports; applies the [`Script`] to every attempt
//! - `details`: which cards, UPI addresses and wallets pay, and which entries are invalid
//! - `ledger`: the tables, and what each call reads and writes in them
//! - `writer`: one thread that does many calls in one transaction
//!
//! `docs/sandbox.md` is the page for those who try things out.

mod bank;
pub(crate) mod details;
mod ledger;
mod script;
mod writer;

pub use bank::SandboxBank;
pub use ledger::OPENING_BALANCE;
pub use script::{Rule, Script, ScriptError, Step};
pub use writer::OpenError;
