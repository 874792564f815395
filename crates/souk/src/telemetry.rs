//! What the program tells of itself: log lines for people on a terminal and JSON otherwise, and metrics for Prometheus on
//! a port of their own.

use std::{io::IsTerminal, net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// In seconds: from a tenth of a millisecond to ten seconds.
const SECONDS: &[f64] =
    &[0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Sizes of batches.
const COUNTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// `SOUK_LOG`, or `RUST_LOG`, says which lines are shown.
pub(crate) fn init() {
    let wanted = std::env::var("SOUK_LOG").or_else(|_| std::env::var("RUST_LOG"));
    let filter = EnvFilter::new(wanted.as_deref().unwrap_or("info,sqlx=error,tantivy=warn"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        lines.with_target(false).compact().init();
    } else {
        lines.json().flatten_event(true).with_current_span(false).init();
    }
}

/// Collects the process's metrics from now on; nothing before is counted.
pub(crate) fn collect() -> anyhow::Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)?
        .set_buckets(COUNTS)?
        .install_recorder()
        .context("the collector of metrics cannot be installed")
}

/// Answers `/metrics` until told to stop.
pub(crate) async fn expose(
    address: SocketAddr,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("--metrics-listen {address}: nobody can listen there"))?;
    let bound = listener.local_addr()?;
    let upkeep = metrics.clone();
    let router = Router::new().route(
        "/metrics",
        get(move || {
            crate::proc::Usage::of_this_process().report();
            std::future::ready(metrics.render())
        }),
    );
    let until = stop.clone();
    tokio::spawn(async move {
        let server = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned());
        if let Err(error) = server.await {
            tracing::warn!(%error, "metrics are no longer answered");
        }
    });
    tokio::spawn(async move {
        while tokio::time::timeout(Duration::from_secs(5), until.cancelled()).await.is_err() {
            upkeep.run_upkeep();
        }
    });
    Ok(bound)
}
