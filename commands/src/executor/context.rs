//! Who sends a command, and what it follows from.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use souk_domain::DomainEvent;
use souk_event_log::{Metadata, NewEvent};
use uuid::Uuid;

#[derive(Clone, Debug)]
pub struct Context {
    /// The same command sent again has the same id.
    pub command_id: Uuid,
    /// Common to all that follows from one request.
    pub correlation_id: Uuid,
    pub causation_id: Option<Uuid>,
    /// `account:{id}`, `process:checkout`, `import`, …
    pub actor: Arc<str>,
    /// Set by imports, which record what happened earlier.
    pub occurred_at: Option<DateTime<Utc>>,
    /// Of the request's body; a command id that comes again with another one is refused.
    pub fingerprint: Option<Arc<str>>,
}

impl Context {
    pub fn new(command_id: Uuid, actor: impl Into<Arc<str>>) -> Self {
        Self {
            command_id,
            correlation_id: command_id,
            causation_id: None,
            actor: actor.into(),
            occurred_at: None,
            fingerprint: None,
        }
    }

    /// For one of several commands that a request leads to: the same step of the same request has the same id.
    #[must_use]
    pub fn step(&self, name: &str) -> Self {
        Self {
            command_id: Uuid::new_v5(&self.command_id, name.as_bytes()),
            causation_id: Some(self.command_id),
            ..self.clone()
        }
    }

    /// The event as it is stored, with its envelope.
    pub(crate) fn seal<E: DomainEvent>(&self, event: &E, index: usize, now: DateTime<Utc>) -> NewEvent {
        let metadata = Metadata {
            schema_version: event.version(),
            occurred_at: Some(self.occurred_at.unwrap_or(now)),
            correlation_id: Some(self.correlation_id),
            causation_id: self.causation_id,
            command_id: Some(self.command_id),
            actor: Some(self.actor.to_string()),
            fingerprint: self.fingerprint.as_ref().map(ToString::to_string),
        };
        NewEvent {
            id: souk_event_log::event_id(self.command_id, index),
            event_type: event.event_type().into(),
            data: event.to_json(),
            metadata: metadata.into(),
        }
    }
}
