//! The event log: the only source of truth, as a port ([`EventLog`]) and its adapters.
//!
//! A log is a sequence of events in commit order. Each event has a global [`Position`] and a [`Revision`] within its
//! stream. Code outside the adapters relies on the *order* of positions alone: they are gapless on the embedded
//! adapters and merely increasing on KurrentDB.

mod event;
mod filter;
mod port;

pub use event::{Metadata, NewEvent, Position, Recorded, Revision, StreamName, StreamNameError};
pub use filter::Filter;
pub use port::{AppendError, Appended, Direction, EventLog, EventStream, Expected, Message, ReadError, Subscription};
