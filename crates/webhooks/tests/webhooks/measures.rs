//! What is measured, and by whom.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    set_default_local_recorder,
};
use souk_webhooks::testing::{Receiver, Reply};

use crate::support::Site;

/// The gauges of this thread.
#[derive(Default)]
struct Gauges(Mutex<HashMap<Key, Arc<AtomicU64>>>);

impl Gauges {
    /// By name, those with labels added up.
    fn value(&self, name: &str) -> f64 {
        let gauges = self.0.lock().expect("unpoisoned");
        let named = gauges.iter().filter(|(key, _)| key.name() == name);
        named.map(|(_, value)| f64::from_bits(value.load(Ordering::SeqCst))).sum()
    }
}

impl Recorder for Gauges {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::clone(self.0.lock().expect("unpoisoned").entry(key.clone()).or_default()))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// The process that sends after it tells of them; a sum over all processes counts nothing twice.
#[tokio::test]
async fn who_sends_no_longer_has_nothing_to_tell() {
    let gauges = Gauges::default();
    let _recording = set_default_local_recorder(&gauges);
    let site = Site::open().await;
    let stuck = Receiver::start(|_, _| Reply::Status(500)).await;
    let (id, _) = site.subscribe(&stuck.url()).await;
    site.append("order-1", "Counted").await;
    let sender = site.send();
    site.until(id, |consumer| consumer.webhook.as_ref().is_some_and(|webhook| webhook.failures > 1)).await;
    assert_eq!((gauges.value("souk_webhook_consumers"), gauges.value("souk_webhook_lag_events")), (1.0, 1.0));
    sender.stop().await;
    assert_eq!((gauges.value("souk_webhook_consumers"), gauges.value("souk_webhook_lag_events")), (0.0, 0.0));
}
