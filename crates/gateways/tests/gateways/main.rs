//! The gateways against what their ports promise. `contract` holds for every adapter; the rest is about the sandbox.

#![expect(clippy::unwrap_used, reason = "a test that fails should stop")]

mod contract;
mod crash;
mod guarded;
mod sandbox;
mod script;
mod stripe;
mod support;
