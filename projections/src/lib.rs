//! Read models: what readers see, kept in PostgreSQL's schema `views` and in the search index, made from the event log
//! and from nothing else. Drop them, start again, and they are the same.
//!
//! - [`runner`] follows the log, writes rows and checkpoints in one transaction, and builds new versions beside old ones;
//! - each read model is a module with its tables (`migration.sql`), its [`runner::Projector`] and its queries;
//! - [`search`] is the projector of the search index, [`recommendations`] that of what is bought together: both keep files of
//!   their own.
//!
//! A new read model is one module and one migration, and a line in [`read_models`]. Personal data stays sealed here
//! ([`souk_domain::Sealed`]): whoever answers with it opens it.

pub mod accounts;
pub mod catalogue;
pub mod checkouts;
pub mod ledger;
pub mod orders;
pub mod promotions;
pub mod query;
pub mod recommendations;
pub mod returns;
pub mod runner;
pub mod search;
pub mod searches;
pub mod seller_orders;
pub mod stock;

mod event;
mod shipments;

use std::sync::Arc;

pub use query::{Page, QueryError};
pub use runner::{Projections, Projector, ProjectorState, ProjectorStatus, Timeout};
pub use shipments::{ParcelView, ShipmentView};

/// The projectors of all read models in PostgreSQL.
pub fn read_models() -> Vec<Arc<dyn Projector>> {
    vec![
        Arc::new(catalogue::Catalogue),
        Arc::new(stock::Stock),
        Arc::new(orders::Orders),
        Arc::new(seller_orders::SellerOrders),
        Arc::new(accounts::Accounts),
        Arc::new(checkouts::Checkouts),
        Arc::new(promotions::Promotions),
        Arc::new(returns::Returns),
        Arc::new(ledger::Ledgers),
        Arc::new(searches::Searches),
    ]
}
