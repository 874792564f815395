//! The vault against a real PostgreSQL, a database for each test.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::{
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use souk_domain::{AccountId, Sealed};
use souk_local_postgres::{TestDatabase, TestPostgres};
use souk_vault::{Claim, MasterKey, REFRESH_TOKEN_LIFETIME, RotateError, Vault, VaultError};
use sqlx::{PgPool, Row};

fn account(n: u128) -> AccountId {
    AccountId(uuid::Uuid::from_u128(n))
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_700_000_000, 0).expect("a time")
}

fn master_key() -> MasterKey {
    MasterKey::new([7; 32])
}

async fn database() -> TestDatabase {
    TestPostgres::shared().await.database().await
}

async fn open(pool: PgPool) -> Vault {
    Vault::open(pool, master_key()).await.expect("opened")
}

async fn ended(vault: &Vault, token: &str) -> bool {
    matches!(vault.rotate(token, now()).await, Err(RotateError::Unknown))
}

// Personal data

#[tokio::test]
async fn what_is_sealed_opens_in_every_process() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    let sealed = vault.seal(account(1), b"Ada Lovelace").await.expect("sealed");
    assert_eq!(sealed.subject, account(1));
    let again = vault.seal(account(1), b"Ada Lovelace").await.expect("sealed");
    assert_ne!(sealed, again, "the same text looks different each time");

    let other = open(database.pool().await).await;
    for vault in [&vault, &other] {
        assert_eq!(
            vault.open_sealed(&sealed).await.expect("opened").as_deref(),
            Some(b"Ada Lovelace".as_slice())
        );
    }
}

#[tokio::test]
async fn many_are_opened_in_order_with_the_forgotten_left_out() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    let people: Vec<_> = (1..=50).map(account).collect();
    vault.ensure_keys(&people).await.expect("keys");
    let mut sealed = Vec::new();
    for person in &people {
        sealed.push(vault.seal(*person, person.to_string().as_bytes()).await.expect("sealed"));
    }
    sealed.push(sealed[0].clone());
    vault.forget(people[10]).await.expect("forgotten");

    for vault in [&vault, &open(database.pool().await).await] {
        let opened = vault.open_many(&sealed).await.expect("opened");
        let expected: Vec<_> = sealed
            .iter()
            .map(|sealed| (sealed.subject != people[10]).then(|| sealed.subject.to_string().into_bytes()))
            .collect();
        assert_eq!(opened, expected);
    }
    assert!(vault.open_many(&[]).await.expect("opened").is_empty());
}

#[tokio::test]
async fn the_forgotten_cannot_be_read_again_nor_written_about() {
    let database = database().await;
    let (here, elsewhere) = (open(database.pool().await).await, database.pool().await);
    // Its keys live for a millisecond instead of a minute.
    let elsewhere =
        Vault::open_with(elsewhere, master_key(), Duration::from_millis(1)).await.expect("opened");
    let sealed = here.seal(account(1), b"Ada").await.expect("sealed");
    assert!(elsewhere.open_sealed(&sealed).await.expect("opened").is_some());

    here.forget(account(1)).await.expect("forgotten");
    here.forget(account(1)).await.expect("twice is fine");
    assert_eq!(here.open_sealed(&sealed).await.expect("looked"), None);
    assert!(
        matches!(here.seal(account(1), b"Ada").await, Err(VaultError::Forgotten(who)) if who == account(1))
    );
    here.ensure_keys(&[account(1)]).await.expect("passed over");
    assert!(matches!(here.seal(account(1), b"Ada").await, Err(VaultError::Forgotten(_))));

    let began = Instant::now();
    while elsewhere.open_sealed(&sealed).await.expect("looked").is_some() {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "the key outlived its time in another process's memory"
        );
    }
    assert!(matches!(elsewhere.seal(account(1), b"Ada").await, Err(VaultError::Forgotten(_))));
    // Somebody who was never known can be forgotten, too.
    here.forget(account(2)).await.expect("forgotten");
    assert!(matches!(elsewhere.seal(account(2), b"Eve").await, Err(VaultError::Forgotten(_))));
}

#[tokio::test]
async fn what_many_seal_at_once_is_everybodys_own_and_one_failure_is_nobody_elses() {
    let database = database().await;
    let pool = database.pool().await;
    let vault = open(pool.clone()).await;
    let elsewhere = open(pool.clone()).await;
    elsewhere.forget(account(7)).await.expect("forgotten");
    elsewhere.seal(account(8), b"Eve").await.expect("sealed");
    sqlx::query("update vault.subjects set wrapped_key = 'altered' where subject = $1")
        .bind(account(8).0)
        .execute(&pool)
        .await
        .expect("altered");

    // Twice each, and some who leave before they are answered.
    let text = |n: u128| (n % 50).to_string().into_bytes();
    let sealing = (0..100).map(|n| {
        let (vault, text) = (vault.clone(), text(n));
        tokio::spawn(async move { vault.seal(account(n % 50), &text).await })
    });
    let sealing: Vec<_> = sealing.collect();
    for gone in sealing.iter().skip(90) {
        gone.abort();
    }
    for (n, sealed) in (0..90).zip(sealing) {
        match (n % 50, sealed.await.expect("not interrupted")) {
            (7, Err(VaultError::Forgotten(who))) => assert_eq!(who, account(7)),
            (8, Err(VaultError::Unreadable(who))) => assert_eq!(who, account(8)),
            (_, sealed) => {
                let sealed = sealed.expect("sealed");
                assert_eq!(elsewhere.open_sealed(&sealed).await.expect("opened"), Some(text(n)));
            }
        }
    }
}

#[tokio::test]
async fn without_the_database_everybody_who_waits_is_told_so() {
    let database = database().await;
    let pool = database.pool().await;
    let vault = open(pool.clone()).await;
    pool.close().await;
    let sealing = (0..20).map(|n| {
        let vault = vault.clone();
        tokio::spawn(async move { vault.seal(account(n), b"Ada").await })
    });
    for sealed in sealing.collect::<Vec<_>>() {
        assert!(matches!(sealed.await.expect("not interrupted"), Err(error) if error.is_unavailable()));
    }
}

#[tokio::test]
async fn sealed_data_is_bound_to_its_person() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    let ada = vault.seal(account(1), b"Ada").await.expect("sealed");
    vault.seal(account(2), b"Eve").await.expect("sealed");
    for sealed in
        [Sealed { subject: account(2), ..ada }, Sealed { subject: account(1), sealed: "not base64!".into() }]
    {
        assert!(matches!(vault.open_sealed(&sealed).await, Err(VaultError::Unreadable(_))));
    }
    let nobodys = Sealed { subject: account(3), sealed: String::new() };
    assert_eq!(vault.open_sealed(&nobodys).await.expect("looked"), None);
}

#[tokio::test]
async fn processes_that_make_a_key_at_once_agree_on_it() {
    let database = database().await;
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let vault = open(database.pool_of(1).await).await;
        tasks.push(tokio::spawn(async move {
            let people: Vec<_> = (1..=20).map(account).collect();
            vault.ensure_keys(&people).await.expect("keys");
            vault.seal(account(1), b"Ada").await.expect("sealed")
        }));
    }
    let reader = open(database.pool().await).await;
    for task in tasks {
        let sealed = task.await.expect("done");
        assert_eq!(reader.open_sealed(&sealed).await.expect("opened").as_deref(), Some(b"Ada".as_slice()));
    }
}

#[tokio::test]
async fn sealing_for_a_known_person_needs_no_database() {
    let database = database().await;
    let pool = database.pool().await;
    let vault = open(pool.clone()).await;
    vault.seal(account(1), b"Ada").await.expect("sealed");
    pool.close().await;
    let sealed = vault.seal(account(1), b"Ada").await.expect("sealed");
    assert!(vault.open_sealed(&sealed).await.expect("opened").is_some());
    let error = vault.seal(account(2), b"Eve").await.expect_err("no key, no database");
    assert!(error.is_unavailable(), "{error}");
}

// The master key

#[tokio::test]
async fn another_master_key_is_refused() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    let error = Vault::open(database.pool().await, MasterKey::new([8; 32])).await.expect_err("refused");
    assert!(matches!(error, VaultError::WrongMasterKey), "{error}");

    let again = open(database.pool().await).await;
    assert_eq!(vault.signing_key(), again.signing_key());
    assert_ne!(vault.signing_key(), &[0; 32]);
    assert_eq!(vault.mac("fingerprint", b"data"), again.mac("fingerprint", b"data"));
    assert_ne!(vault.mac("fingerprint", b"data"), vault.mac("other", b"data"));
    assert_ne!(vault.mac("fingerprint", b"data"), vault.mac("fingerprint", b"date"));
}

#[tokio::test]
async fn many_processes_may_open_a_new_vault_at_once() {
    let database = database().await;
    let mut opening = Vec::new();
    for _ in 0..6 {
        let pool = database.pool_of(1).await;
        opening.push(tokio::spawn(async { *open(pool).await.signing_key() }));
    }
    let mut keys = Vec::new();
    for key in opening {
        keys.push(key.await.expect("opened"));
    }
    assert!(keys.iter().all(|key| *key == keys[0]));
}

// Accounts

#[tokio::test]
async fn of_many_who_claim_an_address_one_gets_it() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    let tasks: Vec<_> = (1..=20)
        .map(|n| {
            let vault = vault.clone();
            let email = if n % 2 == 0 { "ada@example.com" } else { " Ada@Example.COM" };
            tokio::spawn(
                async move { vault.claim_address(email, &format!("pass {n}"), account(n), now()).await },
            )
        })
        .collect();
    let mut new = 0;
    for task in tasks {
        match task.await.expect("done").expect("answered") {
            Claim::New => new += 1,
            Claim::Taken => {}
            Claim::Same(_) => panic!("every password is another"),
        }
    }
    assert_eq!(new, 1);
}

#[tokio::test]
async fn a_registration_that_broke_off_is_completed_by_repeating_it() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    let claim = async |password: &str, n, at| {
        vault.claim_address("ada@example.com", password, account(n), at).await.expect("answered")
    };
    assert_eq!(claim("right", 1, now()).await, Claim::New);
    // The same person tries again, with another new account id: the first one is completed.
    assert_eq!(claim("right", 2, now()).await, Claim::Same(account(1)));
    assert_eq!(claim("wrong", 3, now()).await, Claim::Taken);
    assert_eq!(
        vault.verify_password("ada@example.com", "right").await.expect("checked"),
        None,
        "not registered yet"
    );

    assert!(vault.mark_registered(account(1)).await.expect("marked"));
    assert!(vault.mark_registered(account(1)).await.expect("twice is fine"));
    assert_eq!(vault.verify_password("ADA@example.com", "right").await.expect("checked"), Some(account(1)));
    assert_eq!(vault.verify_password("ada@example.com", "wrong").await.expect("checked"), None);
    assert_eq!(vault.verify_password("eve@example.com", "right").await.expect("checked"), None);
    assert_eq!(vault.account_of("ada@example.com").await.expect("looked"), Some(account(1)));

    // The very same request, whose answer was lost, is answered again; anybody else finds the address taken for good.
    let later = now() + TimeDelta::days(1);
    assert_eq!(claim("right", 1, later).await, Claim::Same(account(1)));
    assert_eq!(claim("right", 2, later).await, Claim::Taken);
    assert_eq!(claim("wrong", 1, later).await, Claim::Taken);
    assert_eq!(vault.verify_password("ada@example.com", "right").await.expect("checked"), Some(account(1)));
}

#[tokio::test]
async fn an_abandoned_claim_goes_to_whoever_comes_a_minute_later() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    let claim = async |password: &str, n, at| {
        vault.claim_address("ada@example.com", password, account(n), at).await.expect("answered")
    };
    assert_eq!(claim("first", 1, now()).await, Claim::New);
    assert_eq!(claim("second", 2, now() + TimeDelta::seconds(59)).await, Claim::Taken);
    assert_eq!(claim("second", 2, now() + TimeDelta::seconds(61)).await, Claim::New);
    assert!(!vault.mark_registered(account(1)).await.expect("asked"), "the first one lost it");
    assert!(vault.mark_registered(account(2)).await.expect("marked"));
    assert_eq!(vault.verify_password("ada@example.com", "first").await.expect("checked"), None);
    assert_eq!(vault.verify_password("ada@example.com", "second").await.expect("checked"), Some(account(2)));
}

#[tokio::test]
async fn an_account_holds_one_address() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    vault.claim_address("ada@example.com", "pass", account(1), now()).await.expect("claimed");
    let error = vault.claim_address("eve@example.com", "pass", account(1), now()).await.expect_err("refused");
    assert!(matches!(error, VaultError::HoldsAnotherAddress(_)), "{error}");
}

#[tokio::test]
async fn a_forgotten_account_leaves_its_address_free_and_cannot_come_back() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    vault.claim_address("ada@example.com", "pass", account(1), now()).await.expect("claimed");
    vault.mark_registered(account(1)).await.expect("marked");
    let token = vault.create_session(account(1), now()).await.expect("a session");

    vault.forget(account(1)).await.expect("forgotten");
    assert_eq!(vault.verify_password("ada@example.com", "pass").await.expect("checked"), None);
    assert!(ended(&vault, token.as_str()).await);
    assert!(matches!(vault.create_session(account(1), now()).await, Err(VaultError::Forgotten(_))));
    assert!(matches!(vault.set_password(account(1), "new").await, Err(VaultError::Forgotten(_))));
    let claim = vault.claim_address("ada@example.com", "pass", account(2), now()).await.expect("claimed");
    assert_eq!(claim, Claim::New);
}

#[tokio::test]
async fn a_changed_password_replaces_the_old_one() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    vault.claim_address("ada@example.com", "old", account(1), now()).await.expect("claimed");
    vault.mark_registered(account(1)).await.expect("marked");
    vault.set_password(account(1), "new").await.expect("set");
    assert_eq!(vault.verify_password("ada@example.com", "old").await.expect("checked"), None);
    assert_eq!(vault.verify_password("ada@example.com", "new").await.expect("checked"), Some(account(1)));
}

// Sessions

#[tokio::test]
async fn each_refresh_token_gives_the_next_one_until_it_expires() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    let mut token = vault.create_session(account(1), now()).await.expect("a session");
    let mut at = now();
    for _ in 0..3 {
        at += REFRESH_TOKEN_LIFETIME - TimeDelta::seconds(1);
        let rotated = vault.rotate(token.as_str(), at).await.expect("rotated");
        assert_eq!(rotated.account, account(1));
        assert_ne!(rotated.token, token);
        token = rotated.token;
    }
    let expired = vault.rotate(token.as_str(), at + REFRESH_TOKEN_LIFETIME).await;
    assert!(matches!(expired, Err(RotateError::Expired)), "{expired:?}");
    assert!(matches!(vault.rotate("made up", now()).await, Err(RotateError::Unknown)));

    assert_eq!(vault.remove_expired_sessions(at).await.expect("cleared"), 0);
    assert_eq!(vault.remove_expired_sessions(at + REFRESH_TOKEN_LIFETIME).await.expect("cleared"), 1);
    assert!(ended(&vault, token.as_str()).await);
}

#[tokio::test]
async fn a_reused_refresh_token_ends_its_family_and_no_other() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    let first = vault.create_session(account(1), now()).await.expect("a session");
    let other = vault.create_session(account(1), now()).await.expect("another");
    let second = vault.rotate(first.as_str(), now()).await.expect("rotated").token;
    let reused = vault.rotate(first.as_str(), now()).await;
    assert!(matches!(reused, Err(RotateError::Reused { account: who }) if who == account(1)), "{reused:?}");
    assert!(ended(&vault, second.as_str()).await);
    vault.rotate(other.as_str(), now()).await.expect("a session of its own");
}

#[tokio::test]
async fn of_many_who_use_a_refresh_token_at_once_one_succeeds_and_the_family_ends() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    let token = vault.create_session(account(1), now()).await.expect("a session");
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (vault, token) = (vault.clone(), token.clone());
            tokio::spawn(async move { vault.rotate(token.as_str(), now()).await })
        })
        .collect();
    let mut next = Vec::new();
    for task in tasks {
        match task.await.expect("done") {
            Ok(rotated) => next.push(rotated.token),
            Err(RotateError::Reused { .. } | RotateError::Unknown) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(next.len(), 1);
    assert!(ended(&vault, next[0].as_str()).await);
}

#[tokio::test]
async fn sessions_end_one_by_one_or_all_at_once() {
    let database = database().await;
    let vault = open(database.pool().await).await;
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(vault.create_session(account(1), now()).await.expect("a session"));
    }
    let others = vault.create_session(account(2), now()).await.expect("a session");
    vault.end_session(tokens[0].as_str(), now()).await.expect("ended");
    vault.end_session("made up", now()).await.expect("no matter");
    assert!(ended(&vault, tokens[0].as_str()).await);
    vault.rotate(tokens[1].as_str(), now()).await.expect("still there");
    vault.end_sessions(account(1), now()).await.expect("ended");
    assert!(ended(&vault, tokens[2].as_str()).await);
    vault.rotate(others.as_str(), now()).await.expect("somebody else's");
}

// Connections

/// Polls a future `polls` times and drops it.
async fn interrupt<T>(polls: u32, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

/// sqlx 0.9.0 gives a connection back to the pool inside a transaction when the future of its `begin` is dropped: what
/// came after would be rolled back in silence. The vault has no transactions; whoever adds one finds out here.
#[tokio::test]
async fn a_dropped_call_leaves_no_transaction_open() {
    let database = database().await;
    let pool = database.pool_of(1).await;
    let vault = open(pool.clone()).await;
    for polls in 1..=12 {
        let token = vault.create_session(account(1), now()).await.expect("a session");
        interrupt(polls, vault.create_session(account(1), now())).await;
        assert_no_transaction(&pool).await;
        interrupt(polls, vault.rotate(token.as_str(), now())).await;
        assert_no_transaction(&pool).await;
        interrupt(polls, vault.rotate(token.as_str(), now())).await;
        assert_no_transaction(&pool).await;
        interrupt(polls, vault.seal(account(100 + u128::from(polls)), b"x")).await;
        assert_no_transaction(&pool).await;
        interrupt(polls, vault.forget(account(2))).await;
        assert_no_transaction(&pool).await;
        interrupt(polls, vault.claim_address("ada@example.com", "pass", account(3), now())).await;
        assert_no_transaction(&pool).await;
        interrupt(polls, Vault::open(pool.clone(), master_key())).await;
        assert_no_transaction(&pool).await;
    }
}

/// Inside a transaction the first would be the time it began. (Unprepared: preparing has a time of its own.)
async fn assert_no_transaction(pool: &PgPool) {
    let row = sqlx::raw_sql("select now() = statement_timestamp()").fetch_one(pool).await;
    assert!(row.expect("the one connection works").get::<bool, _>(0), "a transaction was left open");
}
