//! What a client is told when a request fails: a problem as RFC 9457 has it, with a stable `type`.
//!
//! A problem of the 5xx kind says nothing of the inside. Its cause travels beside the response and is logged once, where
//! the request ends (`observe`).

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Where the types live; each is a page's name.
const BASE: &str = "https://souk.dev/problems/";

/// The types of problems. Clients tell them apart by name: a name never changes its meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Malformed,
    Unauthenticated,
    InvalidCredentials,
    SessionEnded,
    Forbidden,
    AccountSuspended,
    NotFound,
    MethodNotAllowed,
    AddressTaken,
    AmountChanged,
    SkuTaken,
    InsufficientStock,
    ItemWithdrawn,
    TooLateToCancel,
    NotReady,
    Conflict,
    Stale,
    BodyTooLarge,
    UnsupportedMediaType,
    InvalidParameters,
    KeyReused,
    TooManyRequests,
    Internal,
    Unavailable,
    Behind,
}

impl Kind {
    pub const ALL: [Self; 25] = [
        Self::Malformed,
        Self::Unauthenticated,
        Self::InvalidCredentials,
        Self::SessionEnded,
        Self::Forbidden,
        Self::AccountSuspended,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::AddressTaken,
        Self::AmountChanged,
        Self::SkuTaken,
        Self::InsufficientStock,
        Self::ItemWithdrawn,
        Self::TooLateToCancel,
        Self::NotReady,
        Self::Conflict,
        Self::Stale,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::InvalidParameters,
        Self::KeyReused,
        Self::TooManyRequests,
        Self::Internal,
        Self::Unavailable,
        Self::Behind,
    ];

    /// Status, name and title.
    pub const fn facts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "The request cannot be understood"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", "Log in first"),
            Self::InvalidCredentials => {
                (StatusCode::UNAUTHORIZED, "invalid-credentials", "The address or the password is wrong")
            }
            Self::SessionEnded => (StatusCode::UNAUTHORIZED, "session-ended", "The session has ended"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "This is not yours to do"),
            Self::AccountSuspended => {
                (StatusCode::FORBIDDEN, "account-suspended", "The account is suspended")
            }
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such thing here"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This cannot be done here")
            }
            Self::AddressTaken => {
                (StatusCode::CONFLICT, "address-taken", "An account with this e-mail address exists")
            }
            Self::AmountChanged => {
                (StatusCode::CONFLICT, "amount-changed", "The cart costs something else now")
            }
            Self::SkuTaken => (StatusCode::CONFLICT, "sku-taken", "The SKU belongs to another item"),
            Self::InsufficientStock => {
                (StatusCode::CONFLICT, "insufficient-stock", "There is not that much in stock")
            }
            Self::ItemWithdrawn => (StatusCode::CONFLICT, "item-withdrawn", "The item is no longer sold"),
            Self::TooLateToCancel => {
                (StatusCode::CONFLICT, "too-late-to-cancel", "The order can no longer be cancelled")
            }
            Self::NotReady => (StatusCode::CONFLICT, "not-ready", "This cannot be done at this stage"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "The present state does not allow this"),
            Self::Stale => (StatusCode::PRECONDITION_FAILED, "stale", "It has changed since you read it"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large"),
            Self::UnsupportedMediaType => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The body must be JSON")
            }
            Self::InvalidParameters => {
                (StatusCode::UNPROCESSABLE_ENTITY, "invalid-parameters", "Some of what was sent is not valid")
            }
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "This idempotency key was used for another request",
            ),
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "Too many tries"),
            Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong on our side")
            }
            Self::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "A part that this needs is down")
            }
            Self::Behind => {
                (StatusCode::SERVICE_UNAVAILABLE, "behind", "What you asked to see is not visible yet")
            }
        }
    }
}

/// What is wrong with one field of a body, or one parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// As in the request: `price.currency`, `variants[0].sku`.
    pub field: String,
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

#[derive(Debug)]
pub struct Problem {
    kind: Kind,
    detail: Option<String>,
    errors: Vec<FieldError>,
    /// Further members.
    more: Map<String, Value>,
    /// In seconds.
    retry_after: Option<u32>,
    cause: Option<String>,
}

/// Why a request failed on our side; beside the response, for the log alone.
#[derive(Clone)]
pub(crate) struct Cause(pub(crate) String);

impl Problem {
    pub fn new(kind: Kind) -> Self {
        Self { kind, detail: None, errors: vec![], more: Map::new(), retry_after: None, cause: None }
    }

    #[must_use]
    pub fn detail(mut self, detail: impl ToString) -> Self {
        self.detail = Some(detail.to_string());
        self
    }

    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound).detail(format_args!("There is no such {what}."))
    }

    pub fn malformed(detail: impl ToString) -> Self {
        Self::new(Kind::Malformed).detail(detail)
    }

    pub fn malformed_fields(errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::new(Kind::Malformed) }
    }

    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid_fields(vec![FieldError::new(field, message)])
    }

    pub fn invalid_fields(errors: Vec<FieldError>) -> Self {
        Self { errors, ..Self::new(Kind::InvalidParameters) }
    }

    pub fn internal(cause: impl ToString) -> Self {
        Self { cause: Some(cause.to_string()), ..Self::new(Kind::Internal) }
    }

    pub fn unavailable(cause: impl ToString) -> Self {
        Self { cause: Some(cause.to_string()), ..Self::new(Kind::Unavailable) }.retry_after(2)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }
}

/// As it is sent; further members depend on the type.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// Stable, and different for each type of problem.
    #[serde(rename = "type")]
    #[schema(example = "https://souk.dev/problems/invalid-parameters")]
    kind: String,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Every field that is wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(flatten)]
    #[schema(ignore)]
    more: Map<String, Value>,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, name, title) = self.kind.facts();
        let body = ProblemBody {
            kind: format!("{BASE}{name}"),
            title,
            status: status.as_u16(),
            detail: self.detail,
            errors: self.errors,
            more: self.more,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some(cause) = self.cause {
            response.extensions_mut().insert(Cause(cause));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    async fn body(response: Response) -> Value {
        let bytes = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn every_type_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.facts().1).collect();
        assert_eq!(names.len(), Kind::ALL.len());
    }

    #[test]
    fn every_type_is_documented() {
        let page = include_str!("../../../docs/http.md");
        for kind in Kind::ALL {
            let (status, name, _) = kind.facts();
            assert!(page.contains(&format!("| {} | `{name}` |", status.as_u16())), "{name}");
        }
    }

    #[tokio::test]
    async fn a_problem_names_every_field_and_what_else_belongs_to_it() {
        let problem =
            Problem::invalid_fields(vec![FieldError::new("a", "x"), FieldError::new("b", "y")]).with("n", 3);
        let response = problem.into_response();
        assert_eq!(response.status(), 422);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(
            body(response).await,
            serde_json::json!({
                "type": "https://souk.dev/problems/invalid-parameters",
                "title": "Some of what was sent is not valid",
                "status": 422,
                "errors": [{ "field": "a", "message": "x" }, { "field": "b", "message": "y" }],
                "n": 3,
            })
        );
    }

    #[tokio::test]
    async fn the_inside_stays_inside() {
        let response = Problem::unavailable("password of the database").into_response();
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert!(response.extensions().get::<Cause>().is_some());
        assert!(!body(response).await.to_string().contains("database"));
        assert_eq!(
            Problem::new(Kind::Unauthenticated).into_response().headers()[header::WWW_AUTHENTICATE],
            "Bearer"
        );
    }
}
