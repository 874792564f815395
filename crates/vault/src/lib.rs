//! The vault: what must be kept beside the log, in PostgreSQL's schema `vault`. The keys of the people whose data the log
//! holds sealed, the registry of addresses, password hashes and sessions; and the consumers of events with their webhooks.
//!
//! It relies on a master key that is not in the database. Every call is one statement, or several that may be
//! repeated: there are no transactions here for a dropped future to leave open. Time is a parameter; randomness comes from
//! `random`.
//!
//! A backup takes the log first and the vault second ([`copies`]), so that every key the log needs is in it; and the master
//! key goes somewhere else. Forgetting a person destroys the key here; backups of the vault have to expire for it to be gone there.

mod accounts;
mod consumers;
pub mod copies;
mod crypto;
mod master_key;
mod passwords;
mod random;
mod schema;
mod sessions;
mod subjects;

use std::{sync::Arc, time::Duration};

use souk_domain::AccountId;
use sqlx::PgPool;

pub use crate::{
    accounts::Claim,
    consumers::{
        Consumer, ConsumerKey, CreateConsumerError, Delivery, FORMER_SECRET_HOLDS, KEPT_DELIVERIES,
        MOST_CONSUMERS, NewConsumer, Progress, SigningSecrets, Webhook, WebhookSecret, Whose,
    },
    master_key::{MasterKey, MasterKeyError},
    random::NoRandomness,
    sessions::{REFRESH_TOKEN_LIFETIME, RefreshToken, RotateError, Rotated},
};
use crate::{
    crypto::{Cipher, Key, hmac},
    passwords::Passwords,
    subjects::SubjectKeys,
};

/// How long another process may go on with the key of a person that was forgotten.
pub const KEY_LIFETIME: Duration = Duration::from_mins(1);

#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    pool: PgPool,
    master_key: MasterKey,
    /// Derived from the master key.
    wrapping: Cipher,
    address_key: Key,
    signing_key: Key,
    subject_keys: SubjectKeys,
    passwords: Passwords,
}

#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("the vault's database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the vault's schema cannot be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("the vault was sealed under another master key: put the one that it was made with in place")]
    WrongMasterKey,
    #[error("{0} has been forgotten")]
    Forgotten(AccountId),
    #[error("what was sealed for {0} was altered, or sealed for somebody else")]
    Unreadable(AccountId),
    #[error("the webhook secret of consumer {0} was altered, or is another one's")]
    UnreadableSecret(uuid::Uuid),
    #[error("{0} already holds another address")]
    HoldsAnotherAddress(AccountId),
    #[error("too long to be sealed")]
    TooLong,
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    #[error("the password cannot be hashed: {0}")]
    Password(String),
}

impl VaultError {
    /// The database cannot be reached at the moment: worth trying again later.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::Database(error) => match error {
                sqlx::Error::Io(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::Tls(_) => true,
                // Class 57P is a server that shuts down or starts up, 08 a broken connection, 53 out of resources.
                sqlx::Error::Database(error) => error
                    .code()
                    .is_some_and(|code| ["57P", "08", "53"].iter().any(|class| code.starts_with(class))),
                _ => false,
            },
            _ => false,
        }
    }
}

impl Vault {
    /// Brings the schema up to date and makes sure that the master key is the one the vault was sealed with.
    pub async fn open(pool: PgPool, master_key: MasterKey) -> Result<Self, VaultError> {
        Self::open_with(pool, master_key, KEY_LIFETIME).await
    }

    /// As `open`, for tests of what other processes see.
    #[doc(hidden)]
    pub async fn open_with(
        pool: PgPool,
        master_key: MasterKey,
        key_lifetime: Duration,
    ) -> Result<Self, VaultError> {
        schema::migrate(&pool).await?;
        let wrapping = master_key.wrapping();
        let signing_key = schema::signing_key(&pool, &wrapping).await?;
        Ok(Self(Arc::new(Inner {
            address_key: master_key.derive("addresses"),
            wrapping,
            signing_key,
            subject_keys: SubjectKeys::new(key_lifetime),
            passwords: Passwords::new(),
            master_key,
            pool,
        })))
    }

    /// Signs access tokens (HS256): made once, the same for every process on this vault.
    pub fn signing_key(&self) -> &[u8; 32] {
        &self.0.signing_key
    }

    /// A keyed hash, under a key of its own for each `context`: nobody without the master key can make it, or find out
    /// what it was made of by trying.
    pub fn mac(&self, context: &str, data: &[u8]) -> [u8; 32] {
        hmac(&*self.0.master_key.derive(&format!("mac {context}")), &[data])
    }

    /// Destroys the person's key, password, sessions, consumers and hold on an address. What was sealed can never be read again, and
    /// nothing will ever be sealed for that person; doing it twice is fine. Other processes go on with a key they have in
    /// memory for up to [`KEY_LIFETIME`].
    pub async fn forget(&self, subject: AccountId) -> Result<(), VaultError> {
        sqlx::query(
            "with forgotten as (
                 insert into vault.subjects (subject, wrapped_key) values ($1, null)
                 on conflict (subject) do update set wrapped_key = null
             ),
             address as (delete from vault.addresses where account = $1),
             consumers as (delete from vault.consumers where owner = $1),
             credentials as (delete from vault.credentials where account = $1)
             delete from vault.sessions where account = $1",
        )
        .bind(subject.0)
        .execute(&self.0.pool)
        .await?;
        self.0.subject_keys.forget(subject);
        Ok(())
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}
