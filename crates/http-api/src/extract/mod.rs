//! What handlers are given: bodies, parameters, ids in paths, and the headers of the contract. Each refuses with a
//! [`Problem`](crate::problem::Problem) of its own.

mod body;
mod headers;
mod params;
mod path;

pub(crate) use body::{Body, MaybeBody};
pub(crate) use headers::{CommandHead, IfMatch, LastEventId, MinPosition, Prefer, wants_event_stream};
pub(crate) use params::Params;
pub(crate) use path::PathId;
