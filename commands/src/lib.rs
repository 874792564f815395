//! The command side: commands are decided on the state of one stream and appended to the log.
//!
//! - [`executor`] runs one command on one stream, exactly once however often it is sent.
//! - [`flows`] are what clients ask for, one module each; a flow runs one or a few commands.
//! - [`checkout`] is the process manager that carries an order from placed to completed or cancelled.
//! - [`searches`] records what people search for, beside all this: nobody waits for it.
//! - [`after`] is what follows a completed order: the books of the sellers, and what an accepted return leads to.

pub mod after;
pub mod checkout;
pub mod clock;
pub mod executor;
pub mod flows;
mod market;
pub mod searches;

pub use executor::{Category, Context, Done, ExecuteError, Fresh};
pub use market::{Aggregates, Market};
