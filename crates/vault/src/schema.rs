//! The schema `vault`, its migrations (recorded in a table inside it, so that they meet nobody else's), and the key that
//! is made with it.

use sqlx::{
    Connection, PgConnection, PgPool, SqlSafeStr,
    migrate::{Migration, MigrationType, Migrator},
};
use zeroize::Zeroizing;

use crate::{
    VaultError,
    crypto::{Cipher, Key},
    random,
};

/// Never changed, only added to: each is recorded with a hash of its text.
const MIGRATIONS: [(i64, &str, &str); 2] = [
    (1, "vault", include_str!("../migrations/0001_vault.sql")),
    (2, "consumers", include_str!("../migrations/0002_consumers.sql")),
];

pub(crate) const SIGNING_KEY: &str = "signing-key";

/// The version that this program brings a vault to.
pub(crate) fn newest() -> i64 {
    MIGRATIONS.iter().map(|(version, ..)| *version).max().unwrap_or_default()
}

pub(crate) async fn migrate(pool: &PgPool) -> Result<(), VaultError> {
    // On a connection of its own: should this fail or be dropped half-way, closing it ends the transaction and lets go
    // of the lock that keeps other migrations out.
    let mut connection = pool.acquire().await?.detach();
    migrate_to(newest(), &mut connection).await?;
    Ok(connection.close().await?)
}

pub(crate) async fn migrate_to(version: i64, connection: &mut PgConnection) -> Result<(), VaultError> {
    let migrations = MIGRATIONS.map(|(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.into());
    migrator.create_schema("vault");
    migrator.dangerous_set_table_name("vault.migrations");
    // `run` does the same, but makes a future that cannot be spawned (`Acquire` is not general enough).
    Ok(migrator.run_direct(Some(version), connection, false).await?)
}

/// Whoever opens the vault first makes the key. That it can be unwrapped proves the master key to be the right one.
pub(crate) async fn signing_key(pool: &PgPool, wrapping: &Cipher) -> Result<Key, VaultError> {
    let new = wrapping.seal(SIGNING_KEY.as_bytes(), &*Zeroizing::new(random::bytes::<32>()?))?;
    sqlx::query("insert into vault.secrets (name, wrapped_key) values ($1, $2) on conflict do nothing")
        .bind(SIGNING_KEY)
        .bind(new)
        .execute(pool)
        .await?;
    let wrapped: Vec<u8> = sqlx::query_scalar("select wrapped_key from vault.secrets where name = $1")
        .bind(SIGNING_KEY)
        .fetch_one(pool)
        .await?;
    unwrap_signing_key(wrapping, &wrapped)
}

pub(crate) fn unwrap_signing_key(wrapping: &Cipher, wrapped: &[u8]) -> Result<Key, VaultError> {
    wrapping.open_key(SIGNING_KEY.as_bytes(), wrapped).map_err(|_| VaultError::WrongMasterKey)
}
