//! What the tests of several adapters share.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use chrono::{DateTime, TimeDelta};
use souk_event_log::Clock;

/// A clock that mostly advances, by nanoseconds too, and jumps back every now and then.
pub(crate) fn unsteady_clock() -> Clock {
    let ticks = AtomicI64::new(0);
    Arc::new(move || {
        let tick = ticks.fetch_add(1, Ordering::Relaxed);
        let back = if tick % 7 == 6 { 3_600 } else { 0 };
        let start = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        start + TimeDelta::nanoseconds(tick * 1_234_567) - TimeDelta::seconds(back)
    })
}
