//! What owners do, and what becomes of them.

use souk_vault::{NewConsumer, Whose};
use souk_webhooks::testing::{Receiver, Reply};
use uuid::Uuid;

use crate::support::{ANN, BOB, Site};

/// A webhook of Bob's that is told when the sender has looked at all there is after this was called.
async fn fence(site: &Site) {
    let endpoint = Receiver::start(|_, _| Reply::Status(200)).await;
    let (id, _) = site.subscribe_to(&endpoint.url(), |consumer| NewConsumer { owner: BOB, ..consumer }).await;
    endpoint.until(|received| !received.is_empty()).await;
    assert!(site.vault.delete_consumer(id, Whose::Of(BOB)).await.expect("deleted"));
}

async fn quiet(site: &Site, endpoint: &Receiver) {
    let before = endpoint.received().len();
    fence(site).await;
    site.append("order-1", "Counted").await;
    fence(site).await;
    assert_eq!(endpoint.received().len(), before);
}

#[tokio::test]
async fn paused_is_quiet_and_resumed_makes_up_for_it() {
    let site = Site::open().await;
    let endpoint = Receiver::start(|_, _| Reply::Status(200)).await;
    let (id, _) = site.subscribe(&endpoint.url()).await;
    let _sender = site.send();
    site.append("order-1", "Counted").await;
    endpoint.until(|received| received.len() == 1).await;
    site.vault.pause(id, Whose::Of(ANN), "moving house").await.expect("paused");
    fence(&site).await;
    quiet(&site, &endpoint).await;
    let resumed = site.vault.resume(id, Whose::Of(ANN)).await.expect("resumed").expect("there");
    // The pause may have come before the first event was noted.
    let sent_again = usize::from(resumed.position.is_none());
    endpoint.until(|received| received.len() == 2 + sent_again).await;
}

#[tokio::test]
async fn deleted_is_quiet_for_good() {
    let site = Site::open().await;
    let endpoint = Receiver::start(|_, _| Reply::Status(200)).await;
    let (id, _) = site.subscribe(&endpoint.url()).await;
    let _sender = site.send();
    site.append("order-1", "Counted").await;
    endpoint.until(|received| received.len() == 1).await;
    assert!(site.vault.delete_consumer(id, Whose::Of(ANN)).await.expect("deleted"));
    fence(&site).await;
    quiet(&site, &endpoint).await;
}

#[tokio::test]
async fn who_may_not_read_events_any_more_is_told_of_none() {
    let site = Site::open().await;
    let endpoint = Receiver::start(|_, _| Reply::Status(200)).await;
    let (id, _) = site.subscribe(&endpoint.url()).await;
    let sender = site.send();
    site.append("order-1", "Counted").await;
    endpoint.until(|received| received.len() == 1).await;
    site.out.lock().expect("unpoisoned").insert(ANN);
    let paused = site.until(id, |consumer| consumer.paused_because.is_some()).await;
    assert_eq!(paused.paused_because.as_deref(), Some("its owner may not read events any more"));
    fence(&site).await;
    quiet(&site, &endpoint).await;
    // Nor is anything sent of a webhook that is there when a sender begins.
    sender.stop().await;
    site.vault.resume(id, Whose::Of(ANN)).await.expect("resumed");
    let _sender = site.send();
    site.until(id, |consumer| consumer.paused_because.is_some()).await;
    quiet(&site, &endpoint).await;
}

#[tokio::test]
async fn one_that_is_stuck_holds_up_no_other() {
    let site = Site::open().await;
    let stuck = Receiver::start(|_, _| Reply::HangUp).await;
    let fine = Receiver::start(|_, _| Reply::Status(200)).await;
    let mut ids = Vec::<Uuid>::new();
    for _ in 0..20 {
        ids.push(site.subscribe(&stuck.url()).await.0);
    }
    let (id, _) = site.subscribe(&fine.url()).await;
    let last = site.fill(50, 5).await;
    let _sender = site.send();
    let done = site.until(id, |consumer| consumer.position == Some(last)).await;
    assert_eq!(done.webhook.map(|webhook| webhook.failures), Some(0));
    assert_eq!(fine.received().len(), 50);
    for id in ids {
        site.until(id, |consumer| consumer.webhook.as_ref().is_some_and(|webhook| webhook.failures > 0))
            .await;
    }
}
