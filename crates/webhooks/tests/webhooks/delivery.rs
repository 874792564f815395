//! What comes, and in which order.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use chrono::TimeDelta;
use futures::StreamExt;
use souk_event_log::{Direction, EventLog, Filter, line};
use souk_vault::{NewConsumer, Whose};
use souk_webhooks::{
    Reach,
    testing::{Receiver, Reply},
};

use crate::support::{ANN, IMPATIENT, Site, assert_whole_and_in_order};

#[tokio::test]
async fn every_event_comes_once_signed_and_as_it_is_read_elsewhere() {
    let site = Site::open().await;
    let endpoint = Receiver::start(|_, _| Reply::Status(204)).await;
    let (id, secret) = site.subscribe(&endpoint.url()).await;
    let sender = site.send();
    let last = site.fill(300, 5).await;
    let received = endpoint.until(|received| received.len() == 300).await;
    assert_whole_and_in_order(&received, 300);
    let mut seen = HashSet::new();
    for request in &received {
        assert!(request.is_signed_with(&secret), "{:?}", request.headers);
        assert!(!request.is_signed_with("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
        assert_eq!(request.headers["content-type"], "application/json");
        assert!(request.headers["user-agent"].starts_with("Souk/"));
        assert_eq!(request.body["id"], request.id());
        let sent: i64 = request.headers["webhook-timestamp"].parse().expect("seconds");
        assert!((site.now().timestamp() - sent).abs() < 60);
        assert!(seen.insert(request.id().to_owned()), "{} came twice", request.id());
    }
    let event =
        site.log.read_all(7, Filter::all(), Direction::Forward, 1).next().await.expect("one").expect("read");
    let seventh = received.iter().find(|request| request.position() == 7).expect("it came");
    assert_eq!(seventh.text, line(&event).trim_end());

    let done = site.until(id, |consumer| consumer.position == Some(last)).await;
    assert_eq!((done.paused_because, done.webhook.map(|webhook| webhook.failures)), (None, Some(0)));
    let tries = site.vault.deliveries(id, None, None, 1_000).await.expect("read");
    assert_eq!(tries.len(), 300);
    assert!(tries.iter().all(|one| one.delivered && one.attempt == 1 && one.status == Some(204)));
    sender.stop().await;
    let one = site.append("order-0", "Counted").await;
    let _again = site.send();
    let received = endpoint.until(|received| received.len() > 300).await;
    assert_eq!(received[300].position(), one);
}

#[tokio::test]
async fn an_unreliable_receiver_gets_everything_in_order_all_the_same() {
    let site = Site::open().await;
    let endpoint = Receiver::start(|number, _| {
        let mut hasher = DefaultHasher::new();
        number.hash(&mut hasher);
        match hasher.finish() % 20 {
            0 => Reply::Status(500),
            1 => Reply::Status(400),
            2 => Reply::HangUp,
            3 if number < 60 => Reply::Slowly(2 * IMPATIENT.timeout, 200),
            4..8 => Reply::Slowly(Duration::from_millis(10), 200),
            _ => Reply::Status(200),
        }
    })
    .await;
    let (id, _) = site.subscribe(&endpoint.url()).await;
    let last = site.fill(150, 4).await;
    let _sender = site.send_as(Reach::Anywhere, IMPATIENT);
    site.until(id, |consumer| consumer.position == Some(last)).await;
    let received = endpoint.received();
    assert_whole_and_in_order(&received, 150);
    assert!(received.iter().any(|request| request.answered == Some(500)));
    let failed = site.vault.deliveries(id, Some(false), None, 1_000).await.expect("read");
    for error in ["500 Internal Server Error", "400 Bad Request", "no answer in time", "broke off"] {
        let told = failed.iter().filter_map(|one| one.error.as_deref()).any(|told| told.contains(error));
        assert!(told, "{error} is not among {failed:?}");
    }
    assert!(failed.iter().any(|one| one.attempt > 1), "{failed:?}");
}

#[tokio::test]
async fn what_was_not_noted_before_a_crash_is_sent_again() {
    let site = Site::open().await;
    let endpoint = Receiver::start(|_, _| Reply::Slowly(Duration::from_millis(2), 200)).await;
    let (id, _) = site.subscribe(&endpoint.url()).await;
    let last = site.fill(400, 7).await;
    for crash in 1..=5 {
        let sender = site.send();
        endpoint.until(|received| received.len() >= 50 * crash).await;
        sender.crash().await;
    }
    let sender = site.send();
    site.until(id, |consumer| consumer.position == Some(last)).await;
    assert_whole_and_in_order(&endpoint.received(), 400);
    sender.stop().await;
}

#[tokio::test]
async fn two_senders_at_once_do_no_harm() {
    let site = Site::open().await;
    let endpoint = Receiver::start(|_, _| Reply::Slowly(Duration::from_millis(1), 200)).await;
    let (id, _) = site.subscribe(&endpoint.url()).await;
    let last = site.fill(200, 3).await;
    let (_one, _two) = (site.send(), site.send());
    site.until(id, |consumer| consumer.position == Some(last)).await;
    assert_whole_and_in_order(&endpoint.received(), 200);
}

#[tokio::test]
async fn only_what_was_asked_for_comes() {
    let site = Site::open().await;
    let endpoint = Receiver::start(|_, _| Reply::Status(200)).await;
    site.append("order-1", "OrderPlaced").await;
    let filtered = |consumer: NewConsumer| NewConsumer {
        categories: vec!["order".into()],
        types: vec!["OrderPaid".into()],
        position: Some(0),
        ..consumer
    };
    let (id, _) = site.subscribe_to(&endpoint.url(), filtered).await;
    let one_stream = Receiver::start(|_, _| Reply::Status(200)).await;
    site.subscribe_to(&one_stream.url(), |consumer| NewConsumer {
        stream: Some("cart-1".into()),
        ..consumer
    })
    .await;
    let _sender = site.send();
    for (stream, event_type) in [
        ("order-1", "OrderPaid"),
        ("payment-1", "OrderPaid"),
        ("order-2", "OrderPlaced"),
        ("cart-1", "LineAdded"),
    ] {
        site.append(stream, event_type).await;
    }
    let last = site.append("order-2", "OrderPaid").await;
    site.until(id, |consumer| consumer.position == Some(last)).await;
    one_stream.until(|received| received.len() == 1).await;
    let positions = |endpoint: &Receiver| {
        endpoint.received().iter().map(souk_webhooks::testing::Received::position).collect::<Vec<_>>()
    };
    assert_eq!((positions(&endpoint), positions(&one_stream)), (vec![1, 5], vec![4]));
}

#[tokio::test]
async fn a_replay_sends_again_under_the_same_ids() {
    let site = Site::open().await;
    let endpoint = Receiver::start(|_, _| Reply::Status(200)).await;
    let (id, _) = site.subscribe(&endpoint.url()).await;
    let last = site.fill(20, 2).await;
    let sender = site.send();
    site.until(id, |consumer| consumer.position == Some(last)).await;
    assert_eq!(endpoint.received().len(), 20);
    site.vault.replay(id, Whose::Of(ANN), Some(9)).await.expect("moved");
    let received = endpoint.until(|received| received.len() == 30).await;
    for again in &received[20..] {
        let first = received[..20].iter().find(|first| first.position() == again.position()).expect("sent");
        assert_eq!((again.id(), &again.text), (first.id(), &first.text));
    }
    site.until(id, |consumer| consumer.position == Some(last)).await;
    // Forward, too.
    sender.stop().await;
    let skipped = site.fill(5, 1).await;
    site.vault.replay(id, Whose::Of(ANN), Some(skipped)).await.expect("moved");
    let _sender = site.send();
    let next = site.append("order-1", "Counted").await;
    let received = endpoint.until(|received| received.iter().any(|one| one.position() == next)).await;
    assert!(received.iter().all(|one| one.position() <= last || one.position() == next));
}

#[tokio::test]
async fn while_secrets_change_both_sign() {
    let site = Site::open().await;
    let endpoint = Receiver::start(|_, _| Reply::Status(200)).await;
    let (id, first) = site.subscribe(&endpoint.url()).await;
    let _sender = site.send();
    let rotated = site.vault.rotate_secret(id, Whose::Of(ANN), uuid::Uuid::from_u128(9), site.now()).await;
    let second = rotated.expect("rotated").expect("a webhook").1.as_text().to_string();
    let one = site.append("order-1", "Counted").await;
    // The sender may have had the first secret in hand still.
    endpoint.until(|received| received.iter().any(|request| request.position() == one)).await;
    site.until(id, |consumer| consumer.position == Some(one)).await;
    let two = site.append("order-1", "Counted").await;
    let received = endpoint.until(|received| received.iter().any(|request| request.position() == two)).await;
    let request = received.iter().find(|request| request.position() == two).expect("it came");
    assert!(request.is_signed_with(&first) && request.is_signed_with(&second));
    site.advance(TimeDelta::hours(25));
    let three = site.append("order-1", "Counted").await;
    let received =
        endpoint.until(|received| received.iter().any(|request| request.position() == three)).await;
    let request = received.last().expect("it came");
    assert!(!request.is_signed_with(&first) && request.is_signed_with(&second));
}
