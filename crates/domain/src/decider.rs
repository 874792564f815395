//! The shape that all aggregates share.

use std::{fmt, hash::Hash};

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};

/// Events of one category as they are stored: a type name, a version, and a JSON object.
pub trait DomainEvent: Sized + Clone + Send + Sync + 'static {
    /// Every type name of the category with the version that is written today.
    const TYPES: &'static [(&'static str, u32)];

    fn event_type(&self) -> &'static str;

    fn to_json(&self) -> Vec<u8>;

    /// Reads any version that was ever written.
    fn from_json(event_type: &str, version: u32, data: &[u8]) -> Result<Self, UnreadableEvent>;

    fn version(&self) -> u32 {
        Self::TYPES.iter().find(|(name, _)| *name == self.event_type()).map_or(1, |(_, version)| *version)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum UnreadableEvent {
    #[error("event type {event_type} version {version} is newer than this program: upgrade it")]
    Newer { event_type: String, version: u32 },
    #[error("event of type {event_type} cannot be read: {message}")]
    Malformed { event_type: String, message: String },
}

/// A pure state machine over one stream.
pub trait Decider: Send + Sync + 'static {
    /// What follows the category in the name of the stream.
    type Id: Copy + Eq + Hash + fmt::Display + Send + Sync + 'static;
    type Command: Send + Sync + 'static;
    type Event: DomainEvent;
    type State: Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static;
    type Error: std::error::Error + Clone + Send + Sync + 'static;

    const CATEGORY: &'static str;
    /// Rises when the shape of the state changes, so that older snapshots are not read.
    const STATE_VERSION: u32 = 1;

    /// Total: every event leads to a state.
    fn evolve(state: Self::State, event: &Self::Event) -> Self::State;

    /// What happens next. A repeated command leads to nothing: `Ok(vec![])`.
    fn decide(
        state: &Self::State,
        command: &Self::Command,
        now: DateTime<Utc>,
    ) -> Result<Vec<Self::Event>, Self::Error>;

    /// Whether the command is nearly always the first of its stream. It is then decided on the empty state before
    /// anybody looks whether the stream exists; where that was wrong the append conflicts, and it is decided again.
    fn begins(_command: &Self::Command) -> bool {
        false
    }
}

/// Defines the enum of a category's events, one struct each, stored under the struct's own name.
///
/// The number is the version written today. Who changes the shape of an event raises it and names a function that
/// brings older ones up to it, `LineAdded = 2 upcast line_added`, of the type `stored::Upcast`; a golden file of every
/// version ever written keeps that honest.
#[macro_export]
macro_rules! domain_events {
    ($(#[$doc:meta])* pub enum $event:ident { $($name:ident = $version:literal $(upcast $upcast:path)?),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[allow(clippy::large_enum_variant, reason = "events live shortly, a few at a time")]
        pub enum $event { $($name($name)),+ }

        $(impl From<$name> for $event {
            fn from(event: $name) -> Self {
                Self::$name(event)
            }
        })+

        impl $crate::DomainEvent for $event {
            const TYPES: &'static [(&'static str, u32)] = &[$((stringify!($name), $version)),+];

            fn event_type(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name)),+ }
            }

            fn to_json(&self) -> Vec<u8> {
                match self { $(Self::$name(event) => $crate::stored::to_json(event)),+ }
            }

            fn from_json(event_type: &str, version: u32, data: &[u8]) -> Result<Self, $crate::UnreadableEvent> {
                match event_type {
                    $(stringify!($name) => {
                        let upcast: &[$crate::stored::Upcast] = &[$($upcast)?];
                        $crate::stored::read_json::<$name>(event_type, version, $version, upcast, data)
                            .map(Self::$name)
                    })+
                    _ => Err($crate::UnreadableEvent::Newer { event_type: event_type.to_owned(), version }),
                }
            }
        }
    };
}
