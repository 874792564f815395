//! What operators do: look at accounts, orders, projections and checkouts, and set them right.

pub(crate) mod accounts;
pub(crate) mod checkouts;
pub(crate) mod orders;
pub(crate) mod payouts;
pub(crate) mod projections;
pub(crate) mod returns;
