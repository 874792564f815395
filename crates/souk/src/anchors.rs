//! Head anchors: `souk serve --anchor`, `souk events anchor`, `souk events verify --anchors`.

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use metrics::gauge;
use souk_backup::{BackupError, Store, anchors, manifest::Head};
use souk_event_log::EventLog;
use tokio::{
    task::JoinHandle,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    progress::{Progress, grouped},
    wiring::now,
};

/// Publishes the head of the log now and then, and once more at the end.
pub(crate) struct Anchoring {
    stop: CancellationToken,
    running: JoinHandle<()>,
}

impl Anchoring {
    pub(crate) fn start(store: Store, log: Arc<dyn EventLog>, every: Duration) -> Self {
        let stop = CancellationToken::new();
        let until = stop.clone();
        let running = tokio::spawn(async move {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut last = None;
            while !until.is_cancelled() {
                tokio::select! {
                    _ = ticks.tick() => {}
                    () = until.cancelled() => {}
                }
                if let Err(error) = publish(&store, &*log, &mut last).await {
                    tracing::warn!(%error, "the head of the log could not be anchored and will be tried again");
                }
            }
        });
        Self { stop, running }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.running.await {
            tracing::error!(%error, "anchoring ended badly");
        }
    }
}

async fn publish(store: &Store, log: &dyn EventLog, last: &mut Option<Head>) -> Result<(), BackupError> {
    let head = anchors::head(log).await?;
    if let Some(head) = head.filter(|head| last.as_ref() != Some(head)) {
        anchors::publish(store, &head, now()).await?;
        gauge!("souk_anchor_position").set(head.position as f64);
        *last = Some(head);
    }
    Ok(())
}

/// One anchor, for who would rather have a timer do it.
pub(crate) async fn anchor(log: &dyn EventLog, target: &str) -> anyhow::Result<()> {
    let store = Store::create(target)?;
    let Some(head) = anchors::head(log).await? else { bail!("the log is empty: there is nothing to anchor") };
    anchors::publish(&store, &head, now()).await?;
    println!("head {} {}", head.position, head.hash);
    Ok(())
}

/// Whether the log still holds what was anchored.
pub(crate) async fn check(log: &dyn EventLog, target: &str) -> anyhow::Result<()> {
    let anchors = anchors::read(&Store::open(target)?).await?;
    if anchors.is_empty() {
        bail!("there is no anchor in {target}");
    }
    let progress = Progress::new("anchors", anchors.len() as u64);
    let broken = anchors::check(log, &anchors, |done| progress.set(done)).await?;
    progress.finish();
    if broken.is_empty() {
        println!("{} anchors, all held", grouped(anchors.len() as u64));
        return Ok(());
    }
    for broken in &broken {
        eprintln!("{broken}");
    }
    bail!("the log does not hold {} of {} anchors", broken.len(), anchors.len())
}
