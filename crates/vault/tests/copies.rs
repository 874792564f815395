//! Copies of the vault, against a real PostgreSQL.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt, TryStreamExt};
use souk_domain::{AccountId, Sealed};
use souk_local_postgres::{TestDatabase, TestPostgres};
use souk_vault::{
    Claim, MasterKey, NewConsumer, RotateError, Vault, VaultError, Whose,
    copies::{Contents, CopyError, Copying, InLog, Restoring, Text},
};
use sqlx::PgPool;

/// Where every restored log ends.
const HEAD: u64 = 5;

/// For the reasons given in the module; and what was migrated is known by what it made.
const LEFT_OUT: [&str; 4] = ["sessions", "refresh_tokens", "migrations", "deliveries"];

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

#[tokio::test]
async fn every_table_is_copied_or_left_out_on_purpose() {
    let database = database().await;
    open(database.pool().await).await;
    let (_, text) = text_of(&database, None).await;
    let text = String::from_utf8(text).expect("text");
    let tables: Vec<String> =
        sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'vault'")
            .fetch_all(&database.pool().await)
            .await
            .expect("looked up");
    for table in tables {
        let copied = text.contains(&format!("COPY vault.{table} ("));
        assert_ne!(copied, LEFT_OUT.contains(&&*table), "vault.{table}: to be kept or not?");
    }
}

async fn text_of(database: &TestDatabase, accounts: Option<Vec<AccountId>>) -> (Contents, Vec<u8>) {
    let mut connection = database.pool().await.acquire().await.expect("connected").detach();
    let copying = Copying::begin(&mut connection, accounts).await.expect("begun");
    let contents = copying.contents().clone();
    let chunks: Vec<_> = copying.text().try_collect().await.expect("copied");
    (contents, chunks.concat())
}

/// In pieces that end anywhere.
fn chunks(text: &[u8]) -> Text<'static> {
    let chunks: Vec<_> = text.chunks(7).map(|chunk| Ok(chunk.to_vec().into())).collect();
    futures::stream::iter(chunks).boxed()
}

async fn restore(
    database: &TestDatabase,
    copies: &[&(Contents, Vec<u8>)],
    registered: &[AccountId],
    forgotten: &[AccountId],
) -> Result<(), CopyError> {
    let mut connection = database.pool().await.acquire().await.expect("connected").detach();
    let mut restoring = Restoring::begin(&mut connection, &copies[0].0, false).await?;
    for (_, text) in copies {
        restoring.load(chunks(text)).await?;
    }
    restoring.agree(&InLog { registered, forgotten, head: Some(HEAD) }).await?;
    restoring.commit().await
}

async fn register(vault: &Vault, n: u128, mark: bool) -> Sealed {
    let email = format!("{n}@example.com");
    let claim = vault.claim_address(&email, "a password", account(n), now()).await.expect("claimed");
    assert_eq!(claim, Claim::New);
    let sealed = vault.seal(account(n), email.as_bytes()).await.expect("sealed");
    if mark {
        assert!(vault.mark_registered(account(n)).await.expect("marked"));
    }
    sealed
}

async fn opened(vault: &Vault, sealed: &Sealed) -> Option<String> {
    let opened = vault.open_sealed(sealed).await.expect("looked up");
    opened.map(|bytes| String::from_utf8(bytes).expect("text"))
}

async fn login(vault: &Vault, n: u128) -> Option<AccountId> {
    vault.verify_password(&format!("{n}@example.com"), "a password").await.expect("verified")
}

#[tokio::test]
async fn a_copy_is_the_vault_without_its_sessions() {
    let (first, second) = (database().await, database().await);
    let vault = open(first.pool().await).await;
    let sealed = register(&vault, 1, true).await;
    let token = vault.create_session(account(1), now()).await.expect("a session");
    vault.seal(account(2), b"no address").await.expect("sealed");

    let whole = text_of(&first, None).await;
    assert_eq!((whole.0.subjects, &whole.0.accounts), (2, &None));
    restore(&second, &[&whole], &[account(1)], &[]).await.expect("restored");
    let restored = open(second.pool().await).await;
    assert_eq!(restored.signing_key(), vault.signing_key());
    assert_eq!(opened(&restored, &sealed).await.as_deref(), Some("1@example.com"));
    assert_eq!(login(&restored, 1).await, Some(account(1)));
    assert!(
        ended(&restored, token.as_str()).await,
        "a session that may have been ended since is not restored"
    );
    assert_eq!(text_of(&second, None).await, whole, "again, it is the same");

    let refused = restore(&second, &[&whole], &[], &[]).await.expect_err("a vault is there");
    assert!(matches!(refused, CopyError::Occupied { subjects: 2 }), "{refused}");
    assert!(whole.0.check(&master_key()).is_ok());
    assert!(matches!(whole.0.check(&MasterKey::new([8; 32])), Err(VaultError::WrongMasterKey)));
}

#[tokio::test]
async fn copies_of_accounts_bring_a_whole_one_up_to_date() {
    let (first, second) = (database().await, database().await);
    let vault = open(first.pool().await).await;
    let old = register(&vault, 1, true).await;
    // Claimed, but never completed: its address goes to another account later.
    register(&vault, 2, false).await;
    let whole = text_of(&first, None).await;

    let new = register(&vault, 3, true).await;
    vault.set_password(account(1), "another password").await.expect("set");
    let later = now() + TimeDelta::minutes(5);
    let taken =
        vault.claim_address("2@example.com", "its password", account(4), later).await.expect("claimed");
    assert_eq!(taken, Claim::New);
    vault.seal(account(4), b"x").await.expect("sealed");
    let one = text_of(&first, Some(vec![account(3), account(4)])).await;
    let two = text_of(&first, Some(vec![account(1), account(3)])).await;
    let text = String::from_utf8(one.1.clone()).expect("text");
    assert!(text.contains("COPY vault.addresses (") && !text.contains("COPY vault.secrets"), "{text}");

    let known = [1, 3, 4].map(account);
    restore(&second, &[&whole, &one, &two], &known, &[]).await.expect("restored");
    let restored = open(second.pool().await).await;
    assert_eq!(opened(&restored, &old).await.as_deref(), Some("1@example.com"));
    assert_eq!(opened(&restored, &new).await.as_deref(), Some("3@example.com"));
    assert_eq!(login(&restored, 1).await, None);
    let changed = restored.verify_password("1@example.com", "another password").await.expect("verified");
    assert_eq!(changed, Some(account(1)));
    let passed = restored.verify_password("2@example.com", "its password").await.expect("verified");
    assert_eq!(passed, Some(account(4)), "the log knows it, so the claim is complete");
}

#[tokio::test]
async fn a_restored_vault_agrees_with_the_log() {
    let (first, second) = (database().await, database().await);
    let vault = open(first.pool().await).await;
    let gone = register(&vault, 1, true).await;
    register(&vault, 2, true).await;
    register(&vault, 3, false).await;
    let whole = text_of(&first, None).await;
    // The log has forgotten 1 and a person whose key came later, knows 3, and does not know 2 yet.
    let known = [1, 3, 9].map(account);
    restore(&second, &[&whole], &known, &[account(1), account(9)]).await.expect("restored");
    let restored = open(second.pool().await).await;
    assert_eq!(opened(&restored, &gone).await, None);
    for n in [1, 9] {
        let sealing = restored.seal(account(n), b"again").await;
        assert!(matches!(sealing, Err(VaultError::Forgotten(_))), "{sealing:?}");
    }
    assert_eq!(login(&restored, 1).await, None);
    let again = restored.claim_address("1@example.com", "a password", account(10), now()).await;
    assert_eq!(again.expect("claimed"), Claim::New, "the address is free");
    assert_eq!(login(&restored, 2).await, None);
    let again = restored.claim_address("2@example.com", "a password", account(11), now()).await;
    assert_eq!(again.expect("claimed"), Claim::Same(account(2)), "registering again completes it");
    assert_eq!(login(&restored, 3).await, Some(account(3)));
}

#[tokio::test]
async fn what_is_no_whole_copy_leaves_nothing_behind() {
    let (first, second) = (database().await, database().await);
    let vault = open(first.pool().await).await;
    register(&vault, 1, true).await;
    let (contents, text) = text_of(&first, None).await;
    let rewrite = |from: &str, to: &str| {
        String::from_utf8(text.clone()).expect("text").replacen(from, to, 1).into_bytes()
    };
    let cases = [
        text[..text.len() - 30].to_vec(),
        text[..text.len() - 3].to_vec(),
        Vec::new(),
        b"something else\n".to_vec(),
        rewrite("COPY vault.subjects", "COPY public.subjects"),
        rewrite("(subject, wrapped_key)", "(subject, wrapped_key) from stdin; drop schema vault; --"),
        rewrite("wrapped_key) FROM stdin;\n", "wrapped_key) FROM stdin;\nno row\n"),
        rewrite("\"migration\":", "\"migration\":1"),
    ];
    for case in cases {
        let shown = String::from_utf8_lossy(&case).into_owned();
        assert_ne!(case, text);
        let refused = restore(&second, &[&(contents.clone(), case)], &[], &[]).await;
        assert!(refused.is_err(), "restored: {shown}");
    }
    let there: bool = sqlx::query_scalar("select to_regnamespace('vault') is not null")
        .fetch_one(&second.pool().await)
        .await
        .expect("looked up");
    assert!(!there);
    let nothing =
        Copying::begin(&mut second.pool().await.acquire().await.expect("connected"), None).await.err();
    assert!(matches!(nothing, Some(CopyError::Nothing)), "{nothing:?}");
    restore(&second, &[&(contents, text)], &[account(1)], &[]).await.expect("restored after all");
}

fn consumer(n: u128, owner: u128) -> NewConsumer {
    NewConsumer {
        id: uuid::Uuid::from_u128(n),
        owner: account(owner),
        name: "orders".into(),
        stream: None,
        categories: vec!["order".into()],
        types: Vec::new(),
        position: Some(7),
        webhook_url: Some("https://example.com/hook".into()),
        fingerprint: None,
    }
}

#[tokio::test]
async fn consumers_come_back_but_those_of_the_forgotten() {
    let (first, second) = (database().await, database().await);
    let vault = open(first.pool().await).await;
    for n in [1, 2] {
        register(&vault, n, true).await;
        vault.create_consumer(consumer(n, n), now()).await.expect("created");
    }
    let whole = text_of(&first, None).await;
    restore(&second, &[&whole], &[account(1), account(2)], &[account(2)]).await.expect("restored");
    let restored = open(second.pool().await).await;
    let own = Whose::Of(account(1));
    let kept = restored.consumer(uuid::Uuid::from_u128(1), own).await.expect("looked up").expect("kept");
    assert_eq!(kept.position, Some(HEAD), "what was beyond the log's end comes anew");
    let left: i64 = sqlx::query_scalar("select count(*) from vault.consumers")
        .fetch_one(&second.pool().await)
        .await
        .expect("counted");
    assert_eq!(left, 1);
}

#[tokio::test]
async fn a_copy_of_an_older_vault_is_brought_up_to_date() {
    let (first, second) = (database().await, database().await);
    let vault = open(first.pool().await).await;
    let sealed = register(&vault, 1, true).await;
    for statement in [
        "drop table vault.deliveries",
        "drop table vault.consumers",
        "delete from vault.migrations where version = 2",
    ] {
        sqlx::query(statement).execute(&first.pool().await).await.expect("as it was before consumers");
    }
    let whole = text_of(&first, None).await;
    assert_eq!(whole.0.migration, 1);
    let some = text_of(&first, Some(vec![account(1)])).await;
    restore(&second, &[&whole, &some], &[account(1)], &[]).await.expect("restored");
    let restored = open(second.pool().await).await;
    assert_eq!(opened(&restored, &sealed).await.as_deref(), Some("1@example.com"));
    restored.create_consumer(consumer(1, 1), now()).await.expect("created");
}
