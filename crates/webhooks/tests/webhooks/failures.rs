//! What does not get through, and what is done about it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use chrono::TimeDelta;
use souk_vault::{Consumer, Webhook, Whose};
use souk_webhooks::{
    Reach,
    testing::{Receiver, Reply},
};

use crate::support::{ANN, PACE, Site, assert_whole_and_in_order};

fn webhook(consumer: &Consumer) -> &Webhook {
    consumer.webhook.as_ref().expect("a webhook")
}

/// A receiver that answers what it is told to at the moment.
async fn moody(status: u16) -> (Receiver, Arc<AtomicU16>) {
    let mood = Arc::new(AtomicU16::new(status));
    let now = Arc::clone(&mood);
    (Receiver::start(move |_, _| Reply::Status(now.load(Ordering::SeqCst))).await, mood)
}

#[tokio::test]
async fn a_failure_is_seen_and_gets_over() {
    let site = Site::open().await;
    let (endpoint, mood) = moody(503).await;
    let (id, _) = site.subscribe(&endpoint.url()).await;
    let last = site.fill(10, 2).await;
    let _sender = site.send();
    let failing = site.until(id, |consumer| webhook(consumer).failures >= 3).await;
    assert!(failing.position.is_none() && failing.paused_because.is_none());
    let state = webhook(&failing);
    assert_eq!(state.last_error.as_deref(), Some("the receiver answered 503 Service Unavailable"));
    assert!(state.failing_since < state.next_attempt_at);
    let failed = site.vault.deliveries(id, Some(false), None, 10).await.expect("read");
    assert!(failed.iter().all(|one| one.status == Some(503)), "{failed:?}");

    mood.store(200, Ordering::SeqCst);
    let recovered = site.until(id, |consumer| consumer.position == Some(last)).await;
    let Webhook { failures, failing_since, next_attempt_at, last_error, .. } = webhook(&recovered);
    assert_eq!((*failures, failing_since, next_attempt_at, last_error), (0, &None, &None, &None));
    assert_whole_and_in_order(&endpoint.received(), 10);
    // The tries of one event are counted.
    let tries = site.vault.deliveries(id, None, None, 100).await.expect("read");
    let first: Vec<_> = tries.iter().rev().filter(|one| one.position == 0).map(|one| one.attempt).collect();
    assert_eq!(first, (1..=first.len() as u32).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it_through_a_restart_of_ours() {
    let site = Site::open().await;
    let busy = Receiver::start(|_, _| Reply::With(429, "retry-after: 3000")).await;
    let (id, _) = site.subscribe(&busy.url()).await;
    site.append("order-1", "Counted").await;
    let sender = site.send();
    let failing = site.until(id, |consumer| webhook(consumer).failures == 1).await;
    let pause =
        webhook(&failing).next_attempt_at.expect("a time") - webhook(&failing).failing_since.expect("a time");
    assert!((TimeDelta::seconds(2_990)..TimeDelta::seconds(3_010)).contains(&pause), "{pause}");
    sender.stop().await;

    let other = Receiver::start(|_, _| Reply::Status(200)).await;
    site.subscribe(&other.url()).await;
    let sender = site.send();
    other.until(|received| received.len() == 1).await;
    assert_eq!(busy.received().len(), 1);
    // Its owner may be in a hurry.
    site.vault.resume(id, Whose::Of(ANN)).await.expect("resumed");
    busy.until(|received| received.len() == 2).await;
    sender.stop().await;
}

#[tokio::test]
async fn who_is_gone_is_left_alone() {
    let site = Site::open().await;
    let (endpoint, mood) = moody(410).await;
    let (id, _) = site.subscribe(&endpoint.url()).await;
    site.fill(3, 1).await;
    let _sender = site.send();
    let paused = site.until(id, |consumer| consumer.paused_because.is_some()).await;
    assert_eq!(paused.paused_because.as_deref(), Some("the receiver answered 410 Gone: it wants no more"));
    assert_eq!((paused.position, webhook(&paused).next_attempt_at), (None, None));
    assert_eq!(endpoint.received().len(), 1);
    mood.store(200, Ordering::SeqCst);
    site.vault.resume(id, Whose::Of(ANN)).await.expect("resumed");
    let received = endpoint.until(|received| received.len() == 4).await;
    assert_whole_and_in_order(&received, 3);
}

#[tokio::test]
async fn after_three_days_it_is_up_to_the_owner() {
    let site = Site::open().await;
    let (endpoint, mood) = moody(500).await;
    let (id, _) = site.subscribe(&endpoint.url()).await;
    let last = site.append("order-1", "Counted").await;
    let _sender = site.send();
    site.until(id, |consumer| webhook(consumer).failures >= 2).await;
    site.advance(TimeDelta::from_std(PACE.give_up_after).expect("a time") + TimeDelta::minutes(1));
    let paused = site.until(id, |consumer| consumer.paused_because.is_some()).await;
    assert_eq!(
        paused.paused_because.as_deref(),
        Some("nothing was delivered for 3 days; at last: the receiver answered 500 Internal Server Error")
    );
    mood.store(200, Ordering::SeqCst);
    site.vault.resume(id, Whose::Of(ANN)).await.expect("resumed");
    site.until(id, |consumer| consumer.position == Some(last)).await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let site = Site::open().await;
    let elsewhere = Receiver::start(|_, _| Reply::Status(200)).await;
    let location: &'static str = format!("location: {}", elsewhere.url()).leak();
    let endpoint = Receiver::start(move |_, _| Reply::With(307, location)).await;
    let (id, _) = site.subscribe(&endpoint.url()).await;
    site.append("order-1", "Counted").await;
    let _sender = site.send();
    let failing = site.until(id, |consumer| webhook(consumer).failures >= 2).await;
    assert!(webhook(&failing).last_error.as_deref().is_some_and(|error| error.contains("307")));
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn addresses_of_our_own_are_not_reached() {
    let site = Site::open().await;
    let endpoint = Receiver::start(|_, _| Reply::Status(200)).await;
    let by_name = endpoint.url().replace("127.0.0.1", "localhost");
    let (address, _) = site.subscribe(&endpoint.url()).await;
    let (name, _) = site.subscribe(&by_name).await;
    let last = site.append("order-1", "Counted").await;
    let sender = site.send_as(Reach::Public, PACE);
    for id in [address, name] {
        let failing = site.until(id, |consumer| webhook(consumer).failures >= 2).await;
        let error = webhook(&failing).last_error.as_deref().expect("an error");
        assert_eq!(error, "its address is not public");
    }
    assert!(endpoint.received().is_empty());
    sender.stop().await;
    // Allowed, it goes on by itself.
    let _sender = site.send();
    for id in [address, name] {
        site.until(id, |consumer| consumer.position == Some(last)).await;
    }
}

#[tokio::test]
async fn nobody_there_is_a_failure_like_others() {
    let site = Site::open().await;
    let gone = Receiver::start(|_, _| Reply::Status(200)).await;
    let url = gone.url();
    drop(gone);
    let (id, _) = site.subscribe(&url).await;
    let (nameless, _) = site.subscribe("http://no-such-host.invalid/hooks").await;
    site.append("order-1", "Counted").await;
    let _sender = site.send();
    for id in [id, nameless] {
        let failing = site.until(id, |consumer| webhook(consumer).failures >= 1).await;
        let error = webhook(&failing).last_error.as_deref().expect("an error");
        assert!(error.starts_with("no connection: "), "{error}");
    }
}

#[tokio::test]
async fn a_log_that_ends_before_the_cursor_is_not_guessed_at() {
    let site = Site::open().await;
    let endpoint = Receiver::start(|_, _| Reply::Status(200)).await;
    site.fill(3, 1).await;
    let (id, _) = site
        .subscribe_to(&endpoint.url(), |consumer| souk_vault::NewConsumer { position: Some(70), ..consumer })
        .await;
    let _sender = site.send();
    let paused = site.until(id, |consumer| consumer.paused_because.is_some()).await;
    assert!(paused.paused_because.is_some_and(|reason| reason.contains("replay")));
    site.vault.replay(id, Whose::Of(ANN), Some(0)).await.expect("moved");
    site.vault.resume(id, Whose::Of(ANN)).await.expect("resumed");
    endpoint.until(|received| received.len() == 2).await;
}

#[tokio::test]
async fn an_answer_that_never_ends_holds_nobody_up() {
    let site = Site::open().await;
    // It says there is more to come.
    let endpoint = Receiver::start(|_, _| Reply::With(200, "content-length: 1000")).await;
    let (id, _) = site.subscribe(&endpoint.url()).await;
    let last = site.append("order-1", "Counted").await;
    let _sender = site.send();
    site.until(id, |consumer| consumer.position == Some(last)).await;
    let tries = site.vault.deliveries(id, None, None, 10).await.expect("read");
    assert!(tries[0].delivered && Duration::from_millis(tries[0].took_ms.into()) < PACE.timeout, "{tries:?}");
}
