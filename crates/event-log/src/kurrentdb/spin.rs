//! Ends a thread in which the client runs in circles.
//!
//! Where a server ends a subscription without an error, kurrentdb 1.2 asks the ended stream again, at once and for ever,
//! without yielding. All that happens in that loop is a warning, so that is where it can be caught: the thread has a
//! subscriber of its own for what is traced, which passes everything on and counts the client's warnings. Very many of
//! them in a moment end the thread by unwinding it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::{
    Dispatch, Event, Level, Metadata, Subscriber, dispatcher,
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};

const CLIENT: &str = "kurrentdb";
/// More warnings than that within [`MOMENT`] are a loop.
const WARNINGS: u32 = 100;
const MOMENT: Duration = Duration::from_secs(1);

/// Runs the work, and ends it if it spins.
pub(super) fn guarded(work: impl FnOnce()) {
    let inner = dispatcher::get_default(Dispatch::clone);
    let guard = Guard { inner, warnings: Mutex::new((Instant::now(), 0)) };
    let work = || dispatcher::with_default(&Dispatch::new(guard), work);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
        if panic.is::<Spins>() {
            tracing::warn!("the server ended a subscription without an error");
        } else {
            tracing::error!("a subscription's thread panicked");
        }
    }
}

/// What unwinds the thread.
struct Spins;

struct Guard {
    inner: Dispatch,
    /// How many there were since then.
    warnings: Mutex<(Instant, u32)>,
}

impl Guard {
    fn is_clients_warning(metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target().starts_with(CLIENT)
    }

    fn count(&self) -> u32 {
        let mut warnings = self.warnings.lock();
        if warnings.0.elapsed() > MOMENT {
            *warnings = (Instant::now(), 0);
        }
        warnings.1 += 1;
        warnings.1
    }
}

impl Subscriber for Guard {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::TRACE)
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        Self::is_clients_warning(metadata) || self.inner.enabled(metadata)
    }

    fn event(&self, event: &Event<'_>) {
        let metadata = event.metadata();
        if Self::is_clients_warning(metadata) && self.count() > WARNINGS {
            resume_unwind(Box::new(Spins));
        }
        if self.inner.enabled(metadata) {
            self.inner.event(event);
        }
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.inner.new_span(span)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        self.inner.record(span, values);
    }

    fn record_follows_from(&self, span: &Id, follows: &Id) {
        self.inner.record_follows_from(span, follows);
    }

    fn enter(&self, span: &Id) {
        self.inner.enter(span);
    }

    fn exit(&self, span: &Id) {
        self.inner.exit(span);
    }

    fn clone_span(&self, id: &Id) -> Id {
        self.inner.clone_span(id)
    }

    fn try_close(&self, id: Id) -> bool {
        self.inner.try_close(id)
    }
}
