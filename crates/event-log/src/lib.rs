//! The event log: the only source of truth, as a port ([`EventLog`]) and its adapters.
//!
//! A log is a sequence of events in commit order. Each event has a global [`Position`] and a [`Revision`] within its
//! stream. Code outside the adapters relies on the *order* of positions alone: they are gapless on the embedded
//! adapters and merely increasing on KurrentDB.
//!
//! Adapters: [`sqlite`] (one file, the embedded default), `kurrentdb` (a cluster, or another Souk's event server; cargo
//! feature `kurrentdb`, on by default) and [`memory`] (tests of pure flows). Each passes the
//! properties of the `conformance` module (cargo feature `conformance`).

#[cfg(feature = "conformance")]
pub mod conformance;
mod event;
mod filter;
mod id;
#[cfg(feature = "kurrentdb")]
pub mod kurrentdb;
mod line;
pub mod memory;
mod moment;
mod port;
pub mod sqlite;

use std::sync::Arc;

use chrono::{DateTime, Utc};

pub use event::{Envelope, Metadata, NewEvent, Position, Recorded, Revision, StreamName, StreamNameError};
pub use filter::Filter;
pub use id::event_id;
#[cfg(feature = "kurrentdb")]
pub use kurrentdb::KurrentLog;
pub use line::{EventLine, json_text, line};
pub use memory::MemoryLog;
pub use moment::{At, NoMoment};
pub use port::{
    AppendError, Appended, Direction, EventLog, EventStream, Expected, Message, ReadError, Subscription,
};
pub use sqlite::SqliteLog;

/// Where an adapter takes `recorded_at` from.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;
