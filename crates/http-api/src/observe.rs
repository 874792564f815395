//! The boundary of every request: its id, its span, its metrics, the log line of a failure, and shedding what is too much.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method},
    middleware::Next,
    response::{IntoResponse, Response},
};
use souk_commands::clock::fresh_id;
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    Api,
    problem::{Cause, Kind, Problem},
};

const REQUEST_ID: &str = "x-request-id";

/// The id a request came with, or was given. Whatever it leads to bears it as correlation id.
#[derive(Clone, Copy)]
pub(crate) struct RequestId(pub(crate) Uuid);

/// Requests that are being answered now.
#[derive(Default)]
pub(crate) struct InFlight(AtomicUsize);

struct Entered<'a>(&'a AtomicUsize);

impl InFlight {
    /// `None` if there are too many.
    fn enter(&self, most: usize) -> Option<Entered<'_>> {
        let entered = Entered(&self.0);
        (self.0.fetch_add(1, Ordering::Relaxed) < most).then_some(entered)
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(crate) async fn observe(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request
        .headers()
        .get(REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    let id = id.unwrap_or_else(fresh_id);
    request.extensions_mut().insert(RequestId(id));
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", %id, %method, route);
    let mut response = match api.in_flight.enter(api.settings.max_in_flight) {
        Some(_entered) => next.run(request).instrument(span.clone()).await,
        None => Problem::new(Kind::Unavailable)
            .detail("Too much is going on. Try again soon.")
            .retry_after(1)
            .into_response(),
    };
    let status = response.status().as_u16();
    span.in_scope(|| {
        if let Some(Cause(cause)) = response.extensions_mut().remove::<Cause>() {
            tracing::error!(status, cause, "the request failed");
        }
        tracing::debug!(status, elapsed = ?started.elapsed(), "answered");
    });
    metrics::histogram!(
        "souk_http_seconds",
        "method" => method_name(&method),
        "route" => route,
        "status" => response.status().as_str().to_owned()
    )
    .record(started.elapsed());
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// Methods are the client's text; a metric has few.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

/// A panic in a handler is a bug: the client is told as little as of any other.
pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Response {
    Problem::internal(format_args!("a handler panicked: {}", panic_message(&*panic))).into_response()
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

pub(crate) async fn not_found() -> Problem {
    Problem::not_found("address")
}

pub(crate) async fn method_not_allowed() -> Problem {
    Problem::new(Kind::MethodNotAllowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_are_turned_away_and_counted_down() {
        let in_flight = InFlight::default();
        let one = in_flight.enter(1);
        assert!(one.is_some() && in_flight.enter(1).is_none());
        drop(one);
        assert!(in_flight.enter(1).is_some());
        assert_eq!(in_flight.0.load(Ordering::Relaxed), 0);
    }
}
