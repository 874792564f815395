//! What was measured and under which conditions: a table for people, or one JSON object.

use std::{fs, path::Path, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::market::Lag;
use crate::progress::grouped;

/// In microseconds, up to an hour.
pub(super) fn histogram() -> Histogram<u64> {
    // These bounds are right, so the fallback is never made.
    Histogram::new_with_bounds(1, 3_600_000_000, 3)
        .unwrap_or_else(|_| Histogram::new_with_max(u64::MAX / 2, 0).unwrap_or_else(|_| unreachable!()))
}

pub(super) fn record(histogram: &mut Histogram<u64>, took: Duration) {
    histogram.saturating_record(took.as_micros() as u64);
}

/// In milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Latency {
    pub(super) count: u64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

impl Latency {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self { count: histogram.len(), p50: at(0.5), p99: at(0.99), max: histogram.max() as f64 / 1e3 }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) bench: &'static str,
    pub(super) clients: usize,
    pub(super) lines: usize,
    pub(super) sellers: usize,
    /// Orders offered per second; none of a closed loop.
    pub(super) rate: Option<f64>,
    pub(super) seconds: f64,
    pub(super) orders_completed: u64,
    pub(super) orders_completed_per_second: f64,
    pub(super) orders_cancelled: u64,
    /// Acknowledged in time but ended only after it.
    pub(super) orders_completed_after: u64,
    pub(super) orders_not_ended: u64,
    pub(super) failed_calls: u64,
    pub(super) first_failure: Option<String>,
    pub(super) latency_ms: Latencies,
    pub(super) lag_at_end: Lag,
    pub(super) cpu_seconds: CpuSeconds,
    pub(super) souk_peak_memory_bytes: Option<u64>,
    /// The same in the smaller log of before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) grown_from: Option<Grown>,
    pub(super) conditions: Conditions,
}

/// What a log was like before it grew.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Grown {
    pub(super) events: u64,
    pub(super) orders_completed_per_second: f64,
    pub(super) checkout_p50_ms: f64,
    pub(super) checkout_to_completed_p50_ms: f64,
    pub(super) souk_cpu_ms_per_order: f64,
}

impl Grown {
    pub(super) fn of(report: &Report) -> Self {
        Self {
            events: report.conditions.events_after,
            orders_completed_per_second: report.orders_completed_per_second,
            checkout_p50_ms: report.latency_ms.checkout.p50,
            checkout_to_completed_p50_ms: report.latency_ms.checkout_to_completed.p50,
            souk_cpu_ms_per_order: report.cpu_seconds.souk * 1e3 / report.orders_completed as f64,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Latencies {
    pub(super) set_line: Latency,
    pub(super) checkout: Latency,
    pub(super) checkout_to_completed: Latency,
    /// Of an open loop: from when the order was due until it was acknowledged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) due_to_acknowledged: Option<Latency>,
}

#[derive(Debug, Serialize)]
pub(super) struct CpuSeconds {
    pub(super) souk: f64,
    pub(super) postgres: f64,
    pub(super) bench: f64,
    /// Of all that the machine has in that time.
    pub(super) available: f64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Conditions {
    pub(super) version: &'static str,
    pub(super) build: &'static str,
    pub(super) processors: usize,
    pub(super) processor: Option<String>,
    pub(super) kernel: Option<String>,
    pub(super) file_system: Option<String>,
    pub(super) server: String,
    pub(super) events_before: u64,
    pub(super) events_after: u64,
    pub(super) items: usize,
}

impl Conditions {
    pub(super) fn of_this_machine(data: Option<&Path>, server: String) -> Self {
        let processor = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            processor,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|text| text.trim().to_owned()),
            file_system: data.and_then(file_system),
            server,
            events_before: 0,
            events_after: 0,
            items: 0,
        }
    }
}

impl Conditions {
    pub(super) fn print_machine(&self) {
        let Self { version, build, processors, processor, kernel, file_system, server, .. } = self;
        let known = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
        println!(
            "souk {version}, {build} build; {processors} processors ({}); Linux {}",
            known(processor),
            known(kernel)
        );
        println!("{server}, data on {}", known(file_system));
    }
}

/// The kind of the file system that a path is on: that of the longest mount point above it.
fn file_system(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    });
    mounts
        .filter(|(point, _)| path.starts_with(point))
        .max_by_key(|(point, _)| point.len())
        .map(|(_, kind)| kind)
}

impl Report {
    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        let loops = match self.rate {
            Some(rate) => format!("open loop, {rate} orders/s offered by {} clients", self.clients),
            None => format!("closed loop, {} clients", self.clients),
        };
        println!(
            "orders of {} lines from {} sellers: {loops}, {:.1} s",
            self.lines, self.sellers, self.seconds
        );
        println!();
        println!("completed per second {:>12.1}", self.orders_completed_per_second);
        println!("completed            {:>12}", grouped(self.orders_completed));
        println!("cancelled            {:>12}", grouped(self.orders_cancelled));
        println!("completed after it   {:>12}", grouped(self.orders_completed_after));
        println!("not ended            {:>12}", grouped(self.orders_not_ended));
        println!("failed calls         {:>12}", grouped(self.failed_calls));
        if let Some(failure) = &self.first_failure {
            println!("  the first: {failure}");
        }
        println!();
        println!("{:<28}{:>10}{:>12}{:>12}{:>12}", "milliseconds", "calls", "p50", "p99", "max");
        let latencies = &self.latency_ms;
        let due = latencies.due_to_acknowledged.as_ref().map(|due| ("due → acknowledged", due));
        for (name, latency) in [
            ("PATCH /v1/cart", &latencies.set_line),
            ("POST /v1/checkout (202)", &latencies.checkout),
            ("checkout → completed", &latencies.checkout_to_completed),
        ]
        .into_iter()
        .chain(due)
        {
            let Latency { count, p50, p99, max } = latency;
            println!("{name:<28}{:>10}{p50:>12.2}{p99:>12.2}{max:>12.2}", grouped(*count));
        }
        println!();
        let lag = &self.lag_at_end;
        let behind = lag.projector.as_deref().unwrap_or("none");
        println!("lag at the end       {:>12} events, {:.2} s ({behind})", grouped(lag.events), lag.seconds);
        if let Some(seconds) = lag.caught_up_after_seconds {
            println!("views caught up after{seconds:>12.2} s");
        }
        let cpu = &self.cpu_seconds;
        for (name, seconds) in [("souk", cpu.souk), ("postgres", cpu.postgres), ("bench", cpu.bench)] {
            let share = 100.0 * seconds / cpu.available;
            println!("processor, {name:<10}{seconds:>12.1} s ({share:.0} % of {:.0} s)", cpu.available);
        }
        if let Some(bytes) = self.souk_peak_memory_bytes {
            println!("peak memory of souk  {:>12} MiB", grouped(bytes >> 20));
        }
        if let Some(small) = &self.grown_from {
            let large = Grown::of(self);
            println!();
            println!("{:<28}{:>14}{:>14}{:>10}", "the log grew", "before", "now", "ratio");
            for (name, before, now) in [
                ("events", small.events as f64, large.events as f64),
                (
                    "completed per second",
                    small.orders_completed_per_second,
                    large.orders_completed_per_second,
                ),
                ("checkout, p50 ms", small.checkout_p50_ms, large.checkout_p50_ms),
                (
                    "checkout → completed, p50 ms",
                    small.checkout_to_completed_p50_ms,
                    large.checkout_to_completed_p50_ms,
                ),
                ("souk's processor, ms an order", small.souk_cpu_ms_per_order, large.souk_cpu_ms_per_order),
            ] {
                println!("{name:<28}{before:>14.2}{now:>14.2}{:>10.2}", now / before);
            }
        }
        println!();
        self.conditions.print_machine();
        let Conditions { events_before, events_after, items, .. } = &self.conditions;
        println!(
            "{} items; {} events before, {} after",
            grouped(*items as u64),
            grouped(*events_before),
            grouped(*events_after)
        );
        Ok(())
    }
}
