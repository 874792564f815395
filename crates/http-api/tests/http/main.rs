//! The API over real parts: an event log in a file, the sandbox bank, PostgreSQL, the search index, all roles at work.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accounts;
mod after;
mod boundary;
mod catalogue;
mod consumers;
mod operators;
mod orders;
mod past;
mod payments;
mod pricing;
mod recommendations;
mod searches;
mod support;
