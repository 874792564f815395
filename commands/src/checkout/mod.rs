//! Checkout, the process manager: from a cart that was checked out to an order completed, or cancelled with everything
//! undone.
//!
//! - [`process`] is the saga itself, pure: what it knows, what a fact leads to.
//! - [`decider`] makes commands of it and events.
//! - [`events`] is its own record, `checkout-{orderId}`: what came in and what is to go out, in one append.
//! - `route` tells which events concern it.
//! - [`manager`] follows the log, feeds the process, keeps deadlines, and takes up again after a crash.
//! - `dispatcher` carries out what was decided; `settlement` and `booking` talk to the gateways.
//! - `notices` records what a gateway tells on its own.

mod booking;
mod decider;
mod dispatcher;
mod events;
mod manager;
mod notices;
mod process;
mod route;
mod settlement;

use std::time::Duration;

pub use decider::{Checkout, CheckoutCommand, CheckoutError};
pub use events::{
    ByHand, CheckoutAdvanced, CheckoutEvent, CheckoutParked, CheckoutResumed, CheckoutSettled,
    CheckoutStarted, Claim, Effect, Fact, Reservation, Source,
};
pub(crate) use manager::write_whole;
pub use manager::{ManagerError, ProcessManager, Settings};
pub use notices::{NoticeError, take_notice};
pub use process::{Phase, Process};
pub use settlement::charge_key;

pub(crate) use settlement::{BY_HAND, SettlementError, settle};

/// Who signs what the process manager does.
const ACTOR: &str = "process:checkout";

/// Between two looks whether the log or the vault is back.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Between two tries of what did not go well: doubles from 50 ms on, up to 30 s.
pub(crate) fn pause(attempt: u32) -> Duration {
    Duration::from_millis(25 << attempt.min(11)).min(Duration::from_secs(30))
}
