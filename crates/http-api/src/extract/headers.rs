//! The headers of the contract: `Idempotency-Key`, `If-Match`, `Souk-Min-Position`, `Prefer`, `Last-Event-ID`.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::{HeaderMap, header, request::Parts},
};
use serde_json::Value;
use souk_commands::{Context, clock::fresh_id};
use souk_domain::AccountId;
use souk_event_log::Position;
use uuid::Uuid;

use crate::{
    Api,
    observe::RequestId,
    problem::{FieldError, Kind, Problem},
};

/// What may be part of a body but not of its fingerprint: it goes into the log.
const LEFT_OUT: [&str; 2] = ["paymentInfo", "password"];

/// What makes a command of a request: which one it is, and from where it came.
pub(crate) struct CommandHead {
    key: Option<String>,
    /// Method and template of the path.
    route: String,
    /// With the ids in it.
    path: String,
    request: Uuid,
}

impl<S: Send + Sync> FromRequestParts<S> for CommandHead {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let template =
            parts.extensions.get::<MatchedPath>().map_or_else(|| parts.uri.path(), MatchedPath::as_str);
        Ok(Self {
            key: idempotency_key(&parts.headers)?,
            route: format!("{} {template}", parts.method),
            path: parts.uri.path().to_owned(),
            request: parts.extensions.get::<RequestId>().map_or_else(fresh_id, |id| id.0),
        })
    }
}

impl CommandHead {
    /// The same request with the same key is the same command; without a key each one is new.
    pub(crate) fn context(&self, api: &Api, account: Option<AccountId>, body: &[u8]) -> Context {
        let who = account.map_or(Uuid::nil(), |account| account.0);
        let actor = account.map_or_else(|| "anonymous".to_owned(), |account| format!("account:{account}"));
        let Some(key) = &self.key else {
            return Context { correlation_id: self.request, ..Context::new(fresh_id(), actor) };
        };
        let command_id = Uuid::new_v5(&who, format!("{}\0{key}", self.route).as_bytes());
        let said = [self.route.as_bytes(), self.path.as_bytes(), &canonical(body)].join(&0);
        let fingerprint: Arc<str> = hex(&api.market.vault.mac("request", &said)).into();
        Context {
            correlation_id: self.request,
            fingerprint: Some(fingerprint),
            ..Context::new(command_id, actor)
        }
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    if (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Some(key.to_owned()));
    }
    let message = "A key has 1 to 255 visible ASCII characters.";
    Err(Problem::malformed_fields(vec![FieldError::new("Idempotency-Key", message)]))
}

/// The same text for bodies that say the same, whatever the order and spacing of their fields.
fn canonical(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len());
    if let Ok(value) = serde_json::from_slice::<Value>(body) {
        write_sorted(&value, &mut text);
    }
    text
}

fn write_sorted(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> =
                fields.iter().filter(|(name, _)| !LEFT_OUT.contains(&name.as_str())).collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            text.push(b'{');
            for (name, value) in fields {
                text.extend_from_slice(Value::from(name.as_str()).to_string().as_bytes());
                text.push(b':');
                write_sorted(value, text);
                text.push(b',');
            }
            text.push(b'}');
        }
        Value::Array(values) => {
            text.push(b'[');
            for value in values {
                write_sorted(value, text);
                text.push(b',');
            }
            text.push(b']');
        }
        plain => text.extend_from_slice(plain.to_string().as_bytes()),
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// `Souk-Min-Position`: what the answer must have seen.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MinPosition(pub(crate) Option<Position>);

impl<S: Send + Sync> FromRequestParts<S> for MinPosition {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        position(&parts.headers, "souk-min-position", "Souk-Min-Position").map(Self)
    }
}

/// `Last-Event-ID` of server-sent events: a number here.
pub(crate) struct LastEventId(pub(crate) Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        position(&parts.headers, "last-event-id", "Last-Event-ID").map(Self)
    }
}

fn position(headers: &HeaderMap, name: &str, shown: &str) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let number = value.to_str().ok().map(str::trim).and_then(|text| text.parse().ok());
    let malformed =
        || Problem::malformed_fields(vec![FieldError::new(shown, "This must be a whole number.")]);
    // Beyond what any log can hold; so it stays a number everywhere.
    number.filter(|number| i64::try_from(*number).is_ok()).map(Some).ok_or_else(malformed)
}

/// `If-Match`: the revision that the client has seen; `None` where it does not care.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct IfMatch(pub(crate) Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        if_match(&parts.headers).map(Self)
    }
}

/// Tags that are not of our making match nothing. Of several the latest counts: an older one cannot be current.
fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut tags =
        headers.get_all(header::IF_MATCH).iter().filter_map(|value| value.to_str().ok()).peekable();
    if tags.peek().is_none() {
        return Ok(None);
    }
    let tags: Vec<_> = tags.flat_map(|value| value.split(',')).map(str::trim).collect();
    if tags.contains(&"*") {
        return Ok(None);
    }
    // What follows the point is of the stock, which a change of the item does not look at.
    let revision = |tag: &str| tag.strip_prefix('"')?.strip_suffix('"')?.split('.').next()?.parse().ok();
    let latest = tags.into_iter().filter_map(revision).max();
    latest.map(Some).ok_or_else(|| Problem::new(Kind::Stale).detail("If-Match holds no ETag of this item."))
}

/// `Prefer: wait=N` (RFC 7240), in whole seconds, up to a minute. A preference that makes no sense is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Prefer {
    pub(crate) wait: Option<Duration>,
}

impl<S: Send + Sync> FromRequestParts<S> for Prefer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(prefer(&parts.headers))
    }
}

fn prefer(headers: &HeaderMap) -> Prefer {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let seconds = values.flat_map(|value| value.split([',', ';'])).find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        let seconds: u64 = value.trim().trim_matches('"').parse().ok()?;
        name.trim().eq_ignore_ascii_case("wait").then_some(seconds)
    });
    Prefer { wait: seconds.map(|seconds| Duration::from_secs(seconds.min(60))) }
}

/// Whether the client would rather have server-sent events.
pub(crate) fn wants_event_stream(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|range| {
        range.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderName;

    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), value.parse().unwrap())])
    }

    #[test]
    fn keys() {
        let key = |value: &str| idempotency_key(&headers("idempotency-key", value));
        assert_eq!(key("a-1").unwrap().as_deref(), Some("a-1"));
        assert_eq!(idempotency_key(&HeaderMap::new()).unwrap(), None);
        for bad in ["", "a b", &"x".repeat(256)] {
            assert_eq!(key(bad).unwrap_err().kind(), Kind::Malformed, "{bad}");
        }
    }

    #[test]
    fn the_same_said_in_another_order_is_the_same() {
        let one = canonical(
            br#"{"b":[1,{"y":"x","x":null}],"a":"\u00e9","paymentInfo":{"cardNo":"1"},"password":"p"}"#,
        );
        let two = canonical(
            "{ \"a\": \"é\", \"b\": [1, {\"x\": null, \"y\": \"x\"}], \"paymentInfo\": 7 }".as_bytes(),
        );
        assert_eq!(one, two);
        assert_ne!(one, canonical(br#"{"a":"e","b":[1,{"x":null,"y":"x"}]}"#));
        assert_ne!(canonical(br#"{"a":["b","c"]}"#), canonical(br#"{"a":["b,c"]}"#));
    }

    #[test]
    fn tags() {
        let tag = |value: &str| if_match(&headers("if-match", value));
        assert_eq!(tag("\"7\"").unwrap(), Some(7));
        assert_eq!(tag("\"7.ab12\", \"3\"").unwrap(), Some(7));
        assert_eq!(tag("*").unwrap(), None);
        assert_eq!(if_match(&HeaderMap::new()).unwrap(), None);
        for never in ["\"x\"", "W/\"7\"", "7", ""] {
            assert_eq!(tag(never).unwrap_err().kind(), Kind::Stale, "{never}");
        }
    }

    #[test]
    fn preferences() {
        let wait = |value: &str| prefer(&headers("prefer", value)).wait.map(|wait| wait.as_secs());
        assert_eq!(wait("wait=5"), Some(5));
        assert_eq!(wait("respond-async, Wait=\"10\""), Some(10));
        assert_eq!(wait("wait=999999"), Some(60));
        assert_eq!((wait("wait=x"), wait("wait=-1"), wait("return=minimal")), (None, None, None));
    }

    #[test]
    fn positions() {
        let read = |value: &str| {
            position(&headers("souk-min-position", value), "souk-min-position", "Souk-Min-Position")
        };
        assert_eq!(read("12").unwrap(), Some(12));
        for bad in ["", "-1", "x", "18446744073709551615"] {
            assert_eq!(read(bad).unwrap_err().errors()[0].field, "Souk-Min-Position", "{bad}");
        }
    }

    #[test]
    fn hexadecimal() {
        assert_eq!(hex(&[0, 0x1f, 0xff]), "001fff");
    }
}
