//! `souk bench`: real clients against a real server, measured from outside; and the event log by itself.

pub(crate) mod flash_sale;
mod follower;
pub(crate) mod log;
mod market;
pub(crate) mod orders;
pub(crate) mod recommendations;
pub(crate) mod replay;
mod report;
pub(crate) mod reservations;
pub(crate) mod search;
mod target;

pub(crate) use flash_sale::FlashSaleArgs;
pub(crate) use log::LogArgs;
pub(crate) use orders::OrdersArgs;
pub(crate) use recommendations::RecommendationsArgs;
pub(crate) use replay::ReplayArgs;
pub(crate) use reservations::ReservationsArgs;
pub(crate) use search::SearchArgs;
