//! What operators do: look at accounts, orders, projections, checkouts and synonyms, and set them right; give out promotions
//! and credit; see what is not found.

pub(crate) mod accounts;
pub(crate) mod checkouts;
pub(crate) mod credits;
pub(crate) mod orders;
pub(crate) mod payouts;
pub(crate) mod projections;
pub(crate) mod promotions;
pub(crate) mod returns;
pub(crate) mod searches;
pub(crate) mod synonyms;
