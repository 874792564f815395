//! A circuit breaker: after so many failures in a row a gateway is left alone for a while; then one call tries whether it is
//! back. It fails: a longer rest. It goes well: everybody may call again.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Limits;

const STATE: &str = "souk_gateway_circuit_state";
const OPENED: &str = "souk_gateway_circuit_opened_total";

#[derive(Debug)]
pub(crate) struct Breaker {
    gateway: &'static str,
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed {
        failures: u32,
    },
    Open {
        until: Instant,
        rest: Duration,
    },
    /// One call is on its way to find out.
    HalfOpen {
        rest: Duration,
    },
}

/// Leave to make one call. Dropped without a verdict (nobody waits any more) it says nothing, but the next may probe.
pub(crate) struct Leave<'a> {
    breaker: &'a Breaker,
    probes: bool,
    judged: bool,
}

impl Breaker {
    pub(crate) fn new(gateway: &'static str, limits: Limits) -> Self {
        metrics::describe_gauge!(
            STATE,
            "0: closed, calls go through; 1: half open, one call probes; 2: open, no calls"
        );
        metrics::describe_counter!(OPENED, "How often a gateway was given up for a while");
        let breaker = Self { gateway, limits, state: Mutex::new(State::Closed { failures: 0 }) };
        breaker.show(0);
        metrics::counter!(OPENED, "gateway" => gateway).absolute(0);
        breaker
    }

    /// How long nobody may call, if so.
    pub(crate) fn enter(&self) -> Result<Leave<'_>, Duration> {
        let mut state = self.state.lock();
        let probes = match *state {
            State::Closed { .. } => false,
            State::Open { until, .. } if Instant::now() < until => return Err(until - Instant::now()),
            State::Open { rest, .. } => {
                *state = State::HalfOpen { rest };
                self.show(1);
                true
            }
            // Until the probe is back; its deadline bounds it.
            State::HalfOpen { rest } => return Err(rest.min(self.limits.rest)),
        };
        Ok(Leave { breaker: self, probes, judged: false })
    }

    fn went_well(&self) {
        let mut state = self.state.lock();
        if !matches!(*state, State::Closed { .. }) {
            tracing::info!(gateway = self.gateway, "the gateway is back");
            self.show(0);
        }
        *state = State::Closed { failures: 0 };
    }

    fn failed(&self, probes: bool) {
        let mut state = self.state.lock();
        let rest = match *state {
            State::Closed { failures } if failures + 1 < self.limits.failures => {
                *state = State::Closed { failures: failures + 1 };
                return;
            }
            State::Closed { .. } => self.limits.rest,
            State::HalfOpen { rest } if probes => (rest * 2).min(self.limits.longest_rest),
            // A call from before the rest began.
            State::HalfOpen { .. } | State::Open { .. } => return,
        };
        *state = State::Open { until: Instant::now() + rest, rest };
        tracing::warn!(gateway = self.gateway, ?rest, "the gateway fails again and again and is left alone");
        metrics::counter!(OPENED, "gateway" => self.gateway).increment(1);
        self.show(2);
    }

    fn show(&self, state: u32) {
        metrics::gauge!(STATE, "gateway" => self.gateway).set(state);
    }
}

impl Leave<'_> {
    pub(crate) fn went_well(mut self) {
        self.judged = true;
        self.breaker.went_well();
    }

    pub(crate) fn failed(mut self) {
        self.judged = true;
        self.breaker.failed(self.probes);
    }
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if self.probes && !self.judged {
            let mut state = self.breaker.state.lock();
            if let State::HalfOpen { rest } = *state {
                *state = State::Open { until: Instant::now(), rest };
            }
        }
    }
}
