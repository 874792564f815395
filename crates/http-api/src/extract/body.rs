//! JSON bodies. What is no JSON, or of the wrong types, is malformed (400); what is missing or out of bounds is for the
//! handlers to say (422), which is why their fields are optional.

use axum::{
    body::Bytes,
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{HeaderMap, header},
};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::problem::{FieldError, Kind, Problem};

/// A JSON object, with the bytes it came in.
pub(crate) struct Body<T> {
    pub(crate) value: T,
    pub(crate) raw: Bytes,
}

/// As [`Body`], where no body at all means the default.
pub(crate) struct MaybeBody<T> {
    pub(crate) value: T,
    pub(crate) raw: Bytes,
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let json = is_json(request.headers());
        let raw = read(request, state).await?;
        if !json {
            return Err(
                Problem::new(Kind::UnsupportedMediaType).detail("Send it as Content-Type: application/json.")
            );
        }
        Ok(Self { value: parse(&raw)?, raw })
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let json = is_json(request.headers());
        let raw = read(request, state).await?;
        match (raw.is_empty(), json) {
            (true, _) => Ok(Self { value: T::default(), raw }),
            (false, true) => Ok(Self { value: parse(&raw)?, raw }),
            (false, false) => {
                Err(Problem::new(Kind::UnsupportedMediaType)
                    .detail("Send it as Content-Type: application/json."))
            }
        }
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection {
        BytesRejection::FailedToBufferBody(rejection) if rejection.status() == 413 => {
            Problem::new(Kind::BodyTooLarge).detail("A body has 1 MiB at most.")
        }
        _ => Problem::malformed("The body did not arrive whole."),
    })
}

/// `application/json`, or a type that is JSON by its suffix.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(media_type) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // A struct could also be read from an array; a body is an object.
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()).is_some_and(|byte| *byte != b'{') {
        serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map_err(|error| not_json(&error))?;
        return Err(Problem::malformed("The body must be a JSON object."));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        match error.inner().classify() {
            Category::Data => {
                Problem::malformed_fields(vec![FieldError::new(path, expectation(error.inner()))])
            }
            Category::Io | Category::Syntax | Category::Eof => not_json(error.inner()),
        }
    })?;
    deserializer.end().map_err(|error| not_json(&error))?;
    Ok(value)
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::malformed(format_args!(
        "The body is not JSON: see line {}, column {}.",
        error.line(),
        error.column()
    ))
}

/// What was expected, without what came: that may be a secret.
fn expectation(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(&*message, |(message, _)| message);
    match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("This must be {}.", named(expected)),
        None if message.starts_with("duplicate field") => "This stands twice.".to_owned(),
        None => "This has the wrong type.".to_owned(),
    }
}

/// Serde speaks of Rust's types.
fn named(expected: &str) -> &str {
    match expected {
        "i64" | "u64" | "u32" => "a whole number",
        "f32" | "f64" => "a number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Outer {
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    struct Inner {
        count: Option<i64>,
    }

    #[test]
    fn a_wrong_type_is_named_and_not_repeated() {
        let problem = parse::<Outer>(br#"{"inner":{"count":"4242424242424242"}}"#).unwrap_err();
        assert_eq!(problem.kind(), Kind::Malformed);
        assert_eq!(problem.errors(), [FieldError::new("inner.count", "This must be a whole number.")]);
    }

    #[test]
    fn what_is_no_object_is_malformed() {
        for text in
            ["", "[]", "[{\"count\":1}]", "{", "nul", "\"x\"", "{} {}", "{\"inner\":1.5}", "\u{feff}{}"]
        {
            assert_eq!(parse::<Outer>(text.as_bytes()).unwrap_err().kind(), Kind::Malformed, "{text}");
        }
        assert!(parse::<Outer>(b" {} ").unwrap().inner.is_none());
        let outer = parse::<Outer>(br#"{"more":1,"inner":{"count":null}}"#).unwrap();
        assert_eq!(outer.inner.unwrap().count, None);
    }

    #[test]
    fn media_types() {
        let check =
            |value: &str| is_json(&HeaderMap::from_iter([(header::CONTENT_TYPE, value.parse().unwrap())]));
        assert!(
            check("application/json")
                && check("Application/JSON; charset=utf-8")
                && check("application/vnd.x+json")
        );
        assert!(
            !check("text/plain")
                && !check("application/x-www-form-urlencoded")
                && !is_json(&HeaderMap::new())
        );
    }
}
