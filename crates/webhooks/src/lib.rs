//! Webhooks: events go to those who asked for them, signed, at least once, in the order of each stream.
//!
//! Who asked for what, and how far each has come, is in the vault; the events are read from the log. One process at a
//! time should send, which is for the caller to see to. Nothing rests on it: two that send the same send it under the
//! same ids.
//!
//! - [`address`]: where a webhook may go;
//! - [`post`]: one request and its answer;
//! - [`schedule`]: when to try again;
//! - [`window`]: what may be under way at once;
//! - [`worker`]: one consumer;
//! - [`supervisor`]: all of them.

mod address;
mod post;
mod schedule;
mod supervisor;
#[cfg(feature = "testing")]
pub mod testing;
mod window;
mod worker;

use souk_event_log::{Filter, StreamName};
use souk_vault::Consumer;

pub use address::{Reach, Target, TargetError};
pub use schedule::Pace;
pub use supervisor::{Owners, Parts, StartError, Webhooks};

/// The events that a consumer asked for, fetched or told.
pub fn wanted(consumer: &Consumer) -> Filter {
    Filter {
        stream: consumer.stream.as_deref().and_then(|name| StreamName::parse(name).ok()),
        categories: consumer.categories.clone(),
        event_types: consumer.types.clone(),
    }
}
