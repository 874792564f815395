//! What people buy together, learnt from completed orders: item-to-item collaborative filtering. It takes purchases and
//! answers with ids of items; where the purchases come from, and what the items are, it does not know.
//!
//! - [`Book`] keeps what was learnt, in a file of its own: it starts at once and takes little memory, however much it
//!   knows. [`Book::apply`] learns; a [`Draft`] is a book written anew beside the one that is read.
//! - [`Book::together`] says what is bought with an item, [`Book::taste`] what would suit a buyer.
//! - [`evaluation`] asks it what is known already.
//!
//! Two items belong together if they are found in one order more often than chance would have it: by the likelihood ratio of
//! the counts (T. Dunning, Computational Linguistics 19, 1993), which does not take two that met once for friends. An order
//! counts for less as time goes by, a pair for less the more else is in the order, and what a buyer bought in
//! orders shortly after one another counts as bought together, a little.

mod book;
pub mod evaluation;
mod likelihood;
mod neighbours;
mod volume;

pub use book::{Book, Draft, Pick, Taste};
pub use volume::{BookError, Change, Purchase};
