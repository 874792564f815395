//! `souk bench`: real clients against a real server, measured from outside.

mod follower;
pub(crate) mod orders;
mod report;
mod target;

pub(crate) use orders::OrdersArgs;
