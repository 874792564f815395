//! Why a call is refused, and how the protocol says so: gRPC's codes, and the trailers and details by which clients tell
//! refusals apart. Clients also match on the texts of conflicts and deletions, which therefore are KurrentDB's own.

use prost::Message;
use souk_event_log::{AppendError, ReadError, Revision, StreamName};
use tonic::{Code, Status, metadata::MetadataMap};

use crate::{
    codec::identifier,
    service::MAX_APPEND,
    streams::Expectation,
    wire::{self, rpc, wrong_expected_version},
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error(
        "{operation} failed due to WrongExpectedVersion. Stream: {stream}, Expected version: {}, Actual version: {}",
        expected.number(), actual.map_or(-1, |actual| actual as i64)
    )]
    Conflict { operation: &'static str, stream: StreamName, expected: Expectation, actual: Option<Revision> },
    #[error("Event stream '{0}' is deleted.")]
    StreamDeleted(StreamName),
    #[error("Maximum Append Size of {MAX_APPEND} Exceeded.")]
    TooLarge,
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Unauthenticated(String),
    #[error("{0}")]
    Denied(String),
    /// Worth another try later.
    #[error("{0}")]
    Unavailable(String),
    /// One client asks for too much.
    #[error("{0}")]
    Busy(String),
    /// An append that may have been written.
    #[error("Operation timed out: {0}")]
    Unknown(String),
    /// The adapter for event servers knows it by this text.
    #[error("the event log is damaged: {0}")]
    Damaged(String),
}

impl Refusal {
    fn code(&self) -> Code {
        match self {
            // Clients take a loss of data for a failure that passes; this one they pass on as it is.
            Self::Conflict { .. } | Self::StreamDeleted(_) | Self::Damaged(_) => Code::FailedPrecondition,
            Self::TooLarge | Self::Invalid(_) => Code::InvalidArgument,
            Self::Unauthenticated(_) => Code::Unauthenticated,
            Self::Denied(_) => Code::PermissionDenied,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Busy(_) => Code::ResourceExhausted,
            Self::Unknown(_) => Code::Aborted,
        }
    }

    /// What clients look at before they look at the code.
    fn trailers(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Conflict { stream, expected, actual, .. } => vec![
                ("exception", "wrong-expected-version".into()),
                ("stream-name", stream.to_string()),
                ("expected-version", expected.number().to_string()),
                ("actual-version", actual.map_or(-1, |actual| actual as i64).to_string()),
            ],
            Self::StreamDeleted(stream) => {
                vec![("exception", "stream-deleted".into()), ("stream-name", stream.to_string())]
            }
            Self::TooLarge => vec![
                ("exception", "maximum-append-size-exceeded".into()),
                ("maximum-append-size", MAX_APPEND.to_string()),
            ],
            Self::Denied(_) => vec![("exception", "access-denied".into())],
            Self::Invalid(_)
            | Self::Unauthenticated(_)
            | Self::Unavailable(_)
            | Self::Busy(_)
            | Self::Unknown(_)
            | Self::Damaged(_) => vec![],
        }
    }

    /// Logs what an operator may have to look at.
    pub(crate) fn note(&self, call: &'static str) {
        match self {
            Self::Damaged(error) => tracing::error!(call, error, "the log cannot be served"),
            Self::Unavailable(error) | Self::Unknown(error) => tracing::warn!(call, error, "not served"),
            Self::Conflict { .. }
            | Self::StreamDeleted(_)
            | Self::TooLarge
            | Self::Invalid(_)
            | Self::Unauthenticated(_)
            | Self::Denied(_)
            | Self::Busy(_) => {}
        }
    }

    /// As a batch append is answered.
    pub(crate) fn in_batch(&self) -> rpc::Status {
        use wrong_expected_version::{Current, Expected};
        let detail = |name: &str, value: Vec<u8>| prost_types::Any {
            type_url: format!("type.googleapis.com/event_store.client.{name}"),
            value,
        };
        let (code, details) = match self {
            Self::Conflict { expected, actual, .. } => {
                let conflict = wire::WrongExpectedVersion {
                    current: Some(actual.map_or(Current::CurrentNoStream(()), Current::CurrentRevision)),
                    expected: Some(match *expected {
                        Expectation::Any => Expected::ExpectedAny(()),
                        Expectation::NoStream => Expected::ExpectedNoStream(()),
                        Expectation::Exists => Expected::ExpectedStreamExists(()),
                        Expectation::Exact(revision) => Expected::ExpectedRevision(revision),
                    }),
                };
                (Code::AlreadyExists, detail("WrongExpectedVersion", conflict.encode_to_vec()))
            }
            Self::StreamDeleted(stream) => {
                let deleted = wire::StreamDeleted { stream_identifier: Some(identifier(stream)) };
                (Code::NotFound, detail("StreamDeleted", deleted.encode_to_vec()))
            }
            Self::TooLarge => {
                let exceeded = wire::MaximumAppendSizeExceeded { max_append_size: MAX_APPEND as u32 };
                (Code::InvalidArgument, detail("MaximumAppendSizeExceeded", exceeded.encode_to_vec()))
            }
            Self::Invalid(message) => {
                let bad = wire::BadRequest { message: message.clone() };
                (Code::InvalidArgument, detail("BadRequest", bad.encode_to_vec()))
            }
            Self::Unauthenticated(_) | Self::Denied(_) => {
                (Code::PermissionDenied, detail("AccessDenied", wire::AccessDenied {}.encode_to_vec()))
            }
            Self::Unknown(_) => (Code::DeadlineExceeded, detail("Timeout", wire::Timeout {}.encode_to_vec())),
            Self::Unavailable(_) | Self::Busy(_) | Self::Damaged(_) => {
                (self.code(), detail("Unknown", wire::Unknown {}.encode_to_vec()))
            }
        };
        rpc::Status { code: code as i32, message: self.to_string(), details: Some(details) }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut trailers = MetadataMap::new();
        for (key, value) in refusal.trailers() {
            // The name of a stream may hold what a header cannot.
            if let Ok(value) = value.parse() {
                trailers.insert(key, value);
            }
        }
        Self::with_metadata(refusal.code(), refusal.to_string(), trailers)
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(_) => Self::Unavailable(error.to_string()),
            ReadError::Corrupt(what) => Self::Damaged(what),
        }
    }
}

impl Refusal {
    /// An append's, but for its conflict, which needs to know what was expected.
    pub(crate) fn of_append(error: AppendError, stream: &StreamName, expected: Expectation) -> Self {
        match error {
            AppendError::Conflict { actual } => {
                Self::Conflict { operation: "Append", stream: stream.clone(), expected, actual }
            }
            AppendError::Unavailable(_) => Self::Unavailable(error.to_string()),
            AppendError::Unknown(_) => Self::Unknown(error.to_string()),
        }
    }
}
