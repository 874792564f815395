//! Ids in paths. A text that is no id names nothing: 404.

use std::str::FromStr;

use axum::{
    extract::{FromRequestParts, RawPathParams},
    http::request::Parts,
};

use crate::problem::Problem;

/// The only parameter of a path.
pub(crate) struct PathId<T>(pub(crate) T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for PathId<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::not_found("address"))?;
        let id = params.iter().next().and_then(|(_, text)| text.parse().ok());
        id.map(Self).ok_or_else(|| Problem::not_found("address"))
    }
}
