//! Consumers of events and their webhooks, against a real PostgreSQL, a database for each test.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use souk_domain::AccountId;
use souk_local_postgres::{TestDatabase, TestPostgres};
use souk_vault::{
    Consumer, CreateConsumerError, Delivery, FORMER_SECRET_HOLDS, KEPT_DELIVERIES, MOST_CONSUMERS, MasterKey,
    NewConsumer, Progress, Vault, VaultError, WebhookSecret, Whose,
};
use uuid::Uuid;

const ANN: AccountId = AccountId(Uuid::from_u128(1));
const BOB: AccountId = AccountId(Uuid::from_u128(2));

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).expect("a time")
}

async fn vault(database: &TestDatabase) -> Vault {
    Vault::open(database.pool().await, MasterKey::new([7; 32])).await.expect("opened")
}

fn fetching(n: u128) -> NewConsumer {
    NewConsumer {
        id: id(n),
        owner: ANN,
        name: format!("consumer {n}"),
        stream: None,
        categories: vec!["order".into()],
        types: vec![],
        position: None,
        webhook_url: None,
        fingerprint: None,
    }
}

fn told(n: u128) -> NewConsumer {
    NewConsumer { webhook_url: Some("https://hooks.example/in".into()), ..fetching(n) }
}

async fn make(vault: &Vault, new: NewConsumer) -> (Consumer, Option<WebhookSecret>) {
    vault.create_consumer(new, now()).await.expect("created")
}

fn delivery(position: u64, delivered: bool) -> Delivery {
    Delivery {
        id: 0,
        position,
        event: id(u128::from(position)),
        event_type: "OrderPlaced".into(),
        stream: "order-1".into(),
        attempt: 1,
        at: now(),
        delivered,
        status: Some(if delivered { 200 } else { 500 }),
        error: (!delivered).then(|| "500 Internal Server Error".into()),
        took_ms: 3,
    }
}

fn at(position: u64) -> Progress {
    Progress { position: Some(position), delivered_at: Some(now()), ..Progress::default() }
}

#[tokio::test]
async fn a_consumer_is_its_owners() {
    let database = TestPostgres::shared().await.database().await;
    let vault = vault(&database).await;
    let (made, secret) = make(&vault, fetching(1)).await;
    assert!(secret.is_none() && made.webhook.is_none());
    assert_eq!(
        (made.name.as_str(), made.categories.as_slice()),
        ("consumer 1", ["order".to_owned()].as_slice())
    );
    for whose in [Whose::Of(ANN), Whose::Everybodys] {
        assert_eq!(vault.consumer(id(1), whose).await.expect("read").as_ref(), Some(&made));
        assert_eq!(vault.consumers(whose, None, 10).await.expect("read"), std::slice::from_ref(&made));
    }
    let bob = Whose::Of(BOB);
    assert_eq!(vault.consumer(id(1), bob).await.expect("read"), None);
    assert_eq!(vault.consumers(bob, None, 10).await.expect("read"), []);
    assert_eq!(vault.acknowledge(id(1), bob, 3).await.expect("no"), None);
    assert_eq!(vault.replay(id(1), bob, Some(3)).await.expect("no"), None);
    assert_eq!(vault.pause(id(1), bob, "no").await.expect("no"), None);
    assert!(!vault.delete_consumer(id(1), bob).await.expect("no"));
    assert!(vault.delete_consumer(id(1), Whose::Of(ANN)).await.expect("deleted"));
    assert!(!vault.delete_consumer(id(1), Whose::Of(ANN)).await.expect("gone"));
}

#[tokio::test]
async fn the_cursor_is_acknowledged_forward_and_moved_anywhere() {
    let database = TestPostgres::shared().await.database().await;
    let vault = vault(&database).await;
    make(&vault, fetching(1)).await;
    let position = |consumer: Option<Consumer>| consumer.map(|consumer| consumer.position);
    let ann = Whose::Of(ANN);
    for (to, then) in [(5, Some(Some(5))), (5, Some(Some(5))), (4, None), (9, Some(Some(9)))] {
        assert_eq!(position(vault.acknowledge(id(1), ann, to).await.expect("asked")), then, "{to}");
    }
    for to in [None, Some(7)] {
        assert_eq!(position(vault.replay(id(1), ann, to).await.expect("moved")), Some(to));
    }
    // Who sends moves a webhook's cursor; who fetches has nothing to pause.
    make(&vault, told(2)).await;
    assert_eq!(vault.acknowledge(id(2), ann, 1).await.expect("asked"), None);
    assert_eq!(vault.pause(id(1), ann, "why").await.expect("asked"), None);
    assert_eq!(vault.resume(id(1), ann).await.expect("asked"), None);
    assert!(vault.rotate_secret(id(1), ann, id(9), now()).await.expect("asked").is_none());
}

#[tokio::test]
async fn pages_go_from_the_newest_to_the_oldest() {
    let database = TestPostgres::shared().await.database().await;
    let vault = vault(&database).await;
    // Two of one moment are told apart by id.
    for (n, second) in [(1, 0), (2, 1), (3, 1), (4, 2)] {
        vault.create_consumer(fetching(n), now() + TimeDelta::seconds(second)).await.expect("created");
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = vault.consumers(Whose::Of(ANN), after, 2).await.expect("read");
        let Some(last) = page.last() else { break };
        after = Some((last.created_at, last.id));
        seen.extend(page.iter().map(|consumer| consumer.id));
    }
    assert_eq!(seen, [id(4), id(3), id(2), id(1)]);
}

#[tokio::test]
async fn the_same_request_makes_one_consumer() {
    let database = TestPostgres::shared().await.database().await;
    let vault = vault(&database).await;
    let new = NewConsumer { fingerprint: Some("a".into()), ..told(1) };
    let (made, secret) = make(&vault, new.clone()).await;
    let (again, same) = make(&vault, new.clone()).await;
    assert_eq!(made, again);
    let text = |secret: Option<WebhookSecret>| secret.expect("a secret").as_text().to_string();
    assert_eq!(text(secret), text(same));
    let other = NewConsumer { fingerprint: Some("b".into()), ..new };
    let refused = vault.create_consumer(other, now()).await.map(drop);
    assert!(matches!(refused, Err(CreateConsumerError::KeyReused)), "{refused:?}");
}

#[tokio::test]
async fn there_is_an_end_to_how_many() {
    let database = TestPostgres::shared().await.database().await;
    let vault = vault(&database).await;
    for n in 0..MOST_CONSUMERS {
        make(&vault, fetching(n as u128)).await;
    }
    let refused = vault.create_consumer(fetching(1_000), now()).await.map(drop);
    assert!(matches!(refused, Err(CreateConsumerError::TooMany)), "{refused:?}");
    make(&vault, fetching(0)).await;
    make(&vault, NewConsumer { owner: BOB, ..fetching(1_000) }).await;
}

#[tokio::test]
async fn of_many_that_are_made_at_once_no_more_are_made() {
    let database = TestPostgres::shared().await.database().await;
    let vault = vault(&database).await;
    let most = MOST_CONSUMERS as u128;
    for n in 0..most - 1 {
        make(&vault, fetching(n)).await;
    }
    for round in 0..5 {
        let begin = |n| {
            let vault = vault.clone();
            tokio::spawn(async move { vault.create_consumer(fetching(n), now()).await.is_ok() })
        };
        let racing = join_all((1_000..1_008).map(|n| begin(n + round * 100))).await;
        let made = racing.into_iter().filter(|made| *made.as_ref().expect("it ends well")).count();
        assert_eq!(made, 1, "round {round}");
        let newest = vault.consumers(Whose::Of(ANN), None, 1_000).await.expect("read");
        assert_eq!(newest.len() as u128, most);
        for consumer in newest.iter().filter(|consumer| consumer.id.as_u128() >= 1_000) {
            assert!(vault.delete_consumer(consumer.id, Whose::Of(ANN)).await.expect("deleted"));
        }
    }
}

#[tokio::test]
async fn a_secret_is_kept_wrapped_for_its_consumer_alone() {
    let database = TestPostgres::shared().await.database().await;
    let vault = vault(&database).await;
    let (_, one) = make(&vault, told(1)).await;
    let (_, two) = make(&vault, told(2)).await;
    let (one, two) = (one.expect("a secret"), two.expect("a secret"));
    assert!(one.as_text().starts_with("whsec_") && one.as_text().len() == 50, "32 bytes in base64");
    assert_ne!(one.as_text(), two.as_text());
    let known = vault.signing_secrets(id(1)).await.expect("read").expect("there");
    assert_eq!(known.current.sign(&[b"x"]), one.sign(&[b"x"]));
    assert!(known.former.is_none());

    let pool = database.pool().await;
    let rows: Vec<(Vec<u8>,)> =
        sqlx::query_as("select wrapped_secret from vault.consumers").fetch_all(&pool).await.expect("read");
    for (wrapped,) in rows {
        assert!(wrapped.len() > 32);
    }
    sqlx::query("update vault.consumers set wrapped_secret = (select wrapped_secret from vault.consumers where id = $1)")
        .bind(id(1))
        .execute(&pool)
        .await
        .expect("swapped");
    let swapped = vault.signing_secrets(id(2)).await.map(drop);
    assert!(matches!(swapped, Err(VaultError::UnreadableSecret(who)) if who == id(2)), "{swapped:?}");
}

#[tokio::test]
async fn a_secret_that_is_replaced_holds_for_a_while() {
    let database = TestPostgres::shared().await.database().await;
    let vault = vault(&database).await;
    let (made, first) = make(&vault, told(1)).await;
    let first = first.expect("a secret");
    let rotate = async |command| {
        vault.rotate_secret(id(1), Whose::Of(ANN), id(command), now()).await.expect("rotated").expect("there")
    };
    let (rotated, second) = rotate(70).await;
    assert!(rotated.epoch > made.epoch);
    assert_ne!(first.as_text(), second.as_text());
    // The same command again, as of a client that did not hear the answer.
    let (again, same) = rotate(70).await;
    assert_eq!((again.epoch, same.as_text()), (rotated.epoch, second.as_text()));
    let known = vault.signing_secrets(id(1)).await.expect("read").expect("there");
    let (former, until) = known.former.expect("the former");
    assert_eq!((known.current.as_text(), former.as_text()), (second.as_text(), first.as_text()));
    assert_eq!(until, now() + FORMER_SECRET_HOLDS);
    let (_, third) = rotate(71).await;
    assert_ne!(third.as_text(), second.as_text());
    // Only the one before still holds: replacing twice ends a secret at once.
    let known = vault.signing_secrets(id(1)).await.expect("read").expect("there");
    assert_eq!(known.former.expect("the former").0.as_text(), second.as_text());
}

#[tokio::test]
async fn what_a_sender_notes_holds_for_the_epoch_that_it_knows() {
    let database = TestPostgres::shared().await.database().await;
    let vault = vault(&database).await;
    let (made, _) = make(&vault, told(1)).await;
    let tries = [delivery(3, false), delivery(3, true)];
    assert!(vault.note_sending(id(1), made.epoch, &at(3), &tries).await.expect("noted"));
    let noted = vault.consumer(id(1), Whose::Of(ANN)).await.expect("read").expect("there");
    assert_eq!((noted.position, noted.epoch), (Some(3), made.epoch));
    assert_eq!(noted.webhook.expect("a webhook").delivered_at, Some(now()));

    let failing = Progress {
        failures: 2,
        failing_since: Some(now()),
        next_attempt_at: Some(now() + TimeDelta::seconds(4)),
        last_error: Some("no answer".into()),
        ..at(3)
    };
    assert!(vault.note_sending(id(1), made.epoch, &failing, &[]).await.expect("noted"));
    let noted = vault.consumer(id(1), Whose::Of(ANN)).await.expect("read").expect("there");
    let webhook = noted.webhook.expect("a webhook");
    assert_eq!((webhook.failures, webhook.last_error.as_deref()), (2, Some("no answer")));
    assert_eq!(webhook.next_attempt_at, failing.next_attempt_at);

    // The owner moves it meanwhile: what the sender says of the old state does not count, but what it tried is told.
    let moved = vault.replay(id(1), Whose::Of(ANN), Some(0)).await.expect("moved").expect("there");
    assert_eq!(moved.webhook.expect("a webhook").failures, 0);
    assert!(!vault.note_sending(id(1), made.epoch, &at(4), &[delivery(4, true)]).await.expect("noted"));
    let kept = vault.consumer(id(1), Whose::Of(ANN)).await.expect("read").expect("there");
    assert_eq!(kept.position, Some(0));
    let all = vault.deliveries(id(1), None, None, 10).await.expect("read");
    assert_eq!(
        all.iter().map(|one| (one.position, one.delivered)).collect::<Vec<_>>(),
        [(4, true), (3, true), (3, false)]
    );
    assert_eq!(all[2], Delivery { id: all[2].id, ..delivery(3, false) });
    let failed = vault.deliveries(id(1), Some(false), None, 10).await.expect("read");
    assert_eq!(failed, [all[2].clone()]);
    assert_eq!(vault.deliveries(id(1), None, Some(all[0].id), 1).await.expect("read"), [all[1].clone()]);

    // One that gave up stays so until its owner says otherwise.
    let gone = Progress { paused_because: Some("410 Gone".into()), ..at(4) };
    assert!(vault.note_sending(id(1), moved.epoch, &gone, &[]).await.expect("noted"));
    assert!(!vault.note_sending(id(1), moved.epoch, &at(5), &[]).await.expect("noted"));
    let paused = vault.pause(id(1), Whose::Of(ANN), "on purpose").await.expect("paused").expect("there");
    assert_eq!(paused.paused_because.as_deref(), Some("410 Gone"));
    let resumed = vault.resume(id(1), Whose::Of(ANN)).await.expect("resumed").expect("there");
    assert_eq!((resumed.paused_because, resumed.position), (None, Some(4)));

    assert!(vault.delete_consumer(id(1), Whose::Of(ANN)).await.expect("deleted"));
    assert!(!vault.note_sending(id(1), resumed.epoch, &at(6), &[delivery(6, true)]).await.expect("nothing"));
    assert_eq!(vault.deliveries(id(1), None, None, 10).await.expect("read"), []);
}

#[tokio::test]
async fn old_deliveries_are_cleared_away_and_failures_outlive_what_went_well() {
    let database = TestPostgres::shared().await.database().await;
    let vault = vault(&database).await;
    let (made, _) = make(&vault, told(1)).await;
    let note = async |tries: &[Delivery]| {
        assert!(vault.note_sending(id(1), made.epoch, &at(0), tries).await.expect("noted"));
    };
    note(&[delivery(1, false)]).await;
    let kept = KEPT_DELIVERIES as u64;
    for round in 0..2 {
        note(&(0..kept).map(|n| delivery(2 + round * kept + n, true)).collect::<Vec<_>>()).await;
    }
    assert_eq!(vault.trim_deliveries().await.expect("trimmed"), kept);
    assert_eq!(vault.trim_deliveries().await.expect("trimmed"), 0);
    let left = vault.deliveries(id(1), None, None, 5_000).await.expect("read");
    assert_eq!(left.len() as u64, kept + 1);
    assert_eq!((left[0].position, left.last().map(|last| last.position)), (1 + 2 * kept, Some(1)));
}

#[tokio::test]
async fn the_forgotten_have_no_consumers() {
    let database = TestPostgres::shared().await.database().await;
    let vault = vault(&database).await;
    make(&vault, told(1)).await;
    make(&vault, NewConsumer { owner: BOB, ..told(2) }).await;
    vault.forget(ANN).await.expect("forgotten");
    let left = vault.webhooks().await.expect("read");
    assert_eq!(left.iter().map(|consumer| consumer.owner).collect::<Vec<_>>(), [BOB]);
}
