//! What operators do: look at accounts, orders, projections, checkouts and synonyms, and set them right.

pub(crate) mod accounts;
pub(crate) mod checkouts;
pub(crate) mod orders;
pub(crate) mod projections;
pub(crate) mod synonyms;
