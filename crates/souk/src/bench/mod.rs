//! `souk bench`: real clients against a real server, measured from outside; and the event log by itself.

mod follower;
pub(crate) mod log;
pub(crate) mod orders;
pub(crate) mod replay;
mod report;
mod target;

pub(crate) use log::LogArgs;
pub(crate) use orders::OrdersArgs;
pub(crate) use replay::ReplayArgs;
