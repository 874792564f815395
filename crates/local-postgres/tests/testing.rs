//! The helper that other crates' tests rely on.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use souk_local_postgres::TestPostgres;
use sqlx::Connection;

async fn exists(server: &TestPostgres, url: &str) -> bool {
    let name = url.rsplit('/').find_map(|part| part.strip_prefix("test_")).expect("a name");
    let name = format!("test_{}", name.split('?').next().expect("a name"));
    let mut connection = sqlx::PgConnection::connect(server.url()).await.expect("a connection");
    sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(name)
        .fetch_one(&mut connection)
        .await
        .expect("looked up")
}

#[tokio::test]
async fn databases_are_apart_and_go_with_their_handle() {
    let server = TestPostgres::shared().await;
    let (one, other) = (server.database().await, server.database().await);
    sqlx::query("create table t (n int)").execute(&one.pool().await).await.expect("created");
    sqlx::query("create table t (n int)").execute(&other.pool().await).await.expect("created there too");
    let url = one.url().to_owned();
    assert!(exists(&server, &url).await);
    drop(one);
    assert!(!exists(&server, &url).await);
}

#[tokio::test]
async fn a_template_is_filled_once() {
    let server = TestPostgres::shared().await;
    // New with each process: the server outlives them.
    let contents = format!("create table t (n int); -- {}", std::process::id());
    let filled = std::sync::atomic::AtomicU32::new(0);
    let database = || {
        server.database_from(&contents, async |pool| {
            filled.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            sqlx::query("create table t (n int)").execute(&pool).await.expect("created");
        })
    };
    let (one, other) = tokio::join!(database(), database());
    for database in [one, other] {
        sqlx::query("insert into t values (1)").execute(&database.pool().await).await.expect("filled");
    }
    assert_eq!(filled.into_inner(), 1);
}
