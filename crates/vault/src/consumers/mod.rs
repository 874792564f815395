//! Consumers of events: what each wants, how far it has come, and the webhook that tells it, if it has one.
//!
//! Here is what owners do with them; `sending` is the side of those who send. Both may happen at once, in different
//! processes: whatever an owner changes raises the consumer's epoch, and what a sender writes holds for the epoch that it
//! knows.

mod secret;
mod sending;

use chrono::{DateTime, TimeDelta, Utc};
use souk_domain::AccountId;
use sqlx::{Row, postgres::PgRow};
use uuid::Uuid;

pub use self::{
    secret::WebhookSecret,
    sending::{Delivery, KEPT_DELIVERIES, Progress, SigningSecrets},
};
use crate::{Vault, VaultError};

/// Nobody needs more, and each costs the sender something.
pub const MOST_CONSUMERS: i64 = 100;
/// How long a secret that was replaced goes on being signed with, beside the new one.
pub const FORMER_SECRET_HOLDS: TimeDelta = TimeDelta::hours(24);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    pub id: Uuid,
    pub owner: AccountId,
    pub name: String,
    pub stream: Option<String>,
    pub categories: Vec<String>,
    pub types: Vec<String>,
    /// Of the last event that is done.
    pub position: Option<u64>,
    pub epoch: i64,
    /// `None`: it may go on.
    pub paused_because: Option<String>,
    pub created_at: DateTime<Utc>,
    pub webhook: Option<Webhook>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub url: String,
    /// Tries in a row that failed.
    pub failures: u32,
    pub failing_since: Option<DateTime<Utc>>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    pub delivered_at: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug)]
pub struct NewConsumer {
    pub id: Uuid,
    pub owner: AccountId,
    pub name: String,
    pub stream: Option<String>,
    pub categories: Vec<String>,
    pub types: Vec<String>,
    pub position: Option<u64>,
    pub webhook_url: Option<String>,
    /// What was asked for under an idempotency key: the same id with another one is refused.
    pub fingerprint: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum CreateConsumerError {
    #[error("the same key was used for another consumer")]
    KeyReused,
    #[error("an account has {MOST_CONSUMERS} consumers at most")]
    TooMany,
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Whose consumers a call may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Everybodys,
    Of(AccountId),
}

impl Whose {
    fn owner(self) -> Option<Uuid> {
        match self {
            Self::Everybodys => None,
            Self::Of(account) => Some(account.0),
        }
    }
}

/// Where a page of a list ended: creation and id of its last consumer.
pub type ConsumerKey = (DateTime<Utc>, Uuid);

impl Vault {
    /// Again with the same id: the consumer that is there, with its secret, if it was asked for in the same way.
    pub async fn create_consumer(
        &self,
        new: NewConsumer,
        now: DateTime<Utc>,
    ) -> Result<(Consumer, Option<WebhookSecret>), CreateConsumerError> {
        let secret = new.webhook_url.is_some().then(WebhookSecret::generate).transpose()?;
        let wrapped = secret.map(|secret| self.wrap(new.id, &secret)).transpose()?;
        let made = self.insert_consumer(&new, wrapped, now).await?;
        let row =
            self.consumer_row(new.id, Whose::Of(new.owner)).await?.ok_or(CreateConsumerError::TooMany)?;
        let fingerprint: Option<String> = row.try_get("fingerprint").map_err(VaultError::from)?;
        if !made && fingerprint != new.fingerprint {
            return Err(CreateConsumerError::KeyReused);
        }
        Ok((read(&row)?, self.secret_of(&row)?))
    }

    /// False: there is one with this id already, or there are too many. Of one owner one at a time is counted and made, so
    /// that two at once do not both find room for the last one.
    async fn insert_consumer(
        &self,
        new: &NewConsumer,
        wrapped: Option<Vec<u8>>,
        now: DateTime<Utc>,
    ) -> Result<bool, VaultError> {
        let mut transaction = self.0.pool.begin().await?;
        // A statement of its own: the next one sees what was committed while this one waited.
        sqlx::query("select pg_advisory_xact_lock(hashtextextended('souk consumers of ' || $1::text, 0))")
            .bind(new.owner.0)
            .execute(&mut *transaction)
            .await?;
        let made = sqlx::query(
            "insert into vault.consumers
                 (id, owner, name, stream, categories, types, position, url, wrapped_secret, fingerprint, created_at)
             select $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11
             where (select count(*) from vault.consumers where owner = $2) < $12
             on conflict (id) do nothing",
        )
        .bind(new.id)
        .bind(new.owner.0)
        .bind(&new.name)
        .bind(&new.stream)
        .bind(&new.categories)
        .bind(&new.types)
        .bind(new.position.map(|position| position as i64))
        .bind(&new.webhook_url)
        .bind(wrapped)
        .bind(&new.fingerprint)
        .bind(now)
        .bind(MOST_CONSUMERS)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(made.rows_affected() == 1)
    }

    pub async fn consumer(&self, id: Uuid, whose: Whose) -> Result<Option<Consumer>, VaultError> {
        self.consumer_row(id, whose).await?.as_ref().map(read).transpose()
    }

    /// Newest first, those after the key; a webhook's secret is in none of them.
    pub async fn consumers(
        &self,
        whose: Whose,
        after: Option<ConsumerKey>,
        limit: i64,
    ) -> Result<Vec<Consumer>, VaultError> {
        let (created_at, id) = after.unzip();
        let rows = sqlx::query(
            "select * from vault.consumers
             where ($1::uuid is null or owner = $1)
               and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
             order by created_at desc, id desc limit $4",
        )
        .bind(whose.owner())
        .bind(created_at)
        .bind(id)
        .bind(limit)
        .fetch_all(&self.0.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// False: there was none.
    pub async fn delete_consumer(&self, id: Uuid, whose: Whose) -> Result<bool, VaultError> {
        let deleted =
            sqlx::query("delete from vault.consumers where id = $1 and ($2::uuid is null or owner = $2)")
                .bind(id)
                .bind(whose.owner())
                .execute(&self.0.pool)
                .await?;
        Ok(deleted.rows_affected() == 1)
    }

    /// Moves the cursor of somebody who fetches, forward only. `None`: there is no such consumer, it has a webhook, or it
    /// is further already.
    pub async fn acknowledge(
        &self,
        id: Uuid,
        whose: Whose,
        position: u64,
    ) -> Result<Option<Consumer>, VaultError> {
        let row = sqlx::query(
            "update vault.consumers set position = $3
             where id = $1 and ($2::uuid is null or owner = $2) and url is null
               and (position is null or position <= $3)
             returning *",
        )
        .bind(id)
        .bind(whose.owner())
        .bind(position as i64)
        .fetch_optional(&self.0.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Moves the cursor anywhere. A webhook begins from there at once, whatever failed before.
    pub async fn replay(
        &self,
        id: Uuid,
        whose: Whose,
        after: Option<u64>,
    ) -> Result<Option<Consumer>, VaultError> {
        let row = sqlx::query(
            "update vault.consumers set position = $3, epoch = epoch + 1,
                    failures = 0, failing_since = null, next_attempt_at = null, last_error = null
             where id = $1 and ($2::uuid is null or owner = $2) returning *",
        )
        .bind(id)
        .bind(whose.owner())
        .bind(after.map(|position| position as i64))
        .fetch_optional(&self.0.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Nothing is sent from now on, but what is under way. One that is paused keeps its reason.
    pub async fn pause(&self, id: Uuid, whose: Whose, reason: &str) -> Result<Option<Consumer>, VaultError> {
        let row = sqlx::query(
            "update vault.consumers set paused_because = coalesce(paused_because, $3), epoch = epoch + 1,
                    next_attempt_at = null
             where id = $1 and ($2::uuid is null or owner = $2) and url is not null returning *",
        )
        .bind(id)
        .bind(whose.owner())
        .bind(reason)
        .fetch_optional(&self.0.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// Goes on at once, whatever failed before.
    pub async fn resume(&self, id: Uuid, whose: Whose) -> Result<Option<Consumer>, VaultError> {
        let row = sqlx::query(
            "update vault.consumers set paused_because = null, epoch = epoch + 1,
                    failures = 0, failing_since = null, next_attempt_at = null, last_error = null
             where id = $1 and ($2::uuid is null or owner = $2) and url is not null returning *",
        )
        .bind(id)
        .bind(whose.owner())
        .fetch_optional(&self.0.pool)
        .await?;
        row.as_ref().map(read).transpose()
    }

    /// A new secret for the webhook; the former is signed with as well for [`FORMER_SECRET_HOLDS`], or until there is
    /// another new one. The last command again answers the same secret. `None`: there is no such consumer, or it has no webhook.
    pub async fn rotate_secret(
        &self,
        id: Uuid,
        whose: Whose,
        command: Uuid,
        now: DateTime<Utc>,
    ) -> Result<Option<(Consumer, WebhookSecret)>, VaultError> {
        let wrapped = self.wrap(id, &WebhookSecret::generate()?)?;
        sqlx::query(
            "update vault.consumers set former_secret = wrapped_secret, former_until = $5, wrapped_secret = $3,
                    rotation = $4, epoch = epoch + 1
             where id = $1 and ($2::uuid is null or owner = $2) and url is not null
               and rotation is distinct from $4",
        )
        .bind(id)
        .bind(whose.owner())
        .bind(wrapped)
        .bind(command)
        .bind(now + FORMER_SECRET_HOLDS)
        .execute(&self.0.pool)
        .await?;
        let Some(row) = self.consumer_row(id, whose).await? else { return Ok(None) };
        self.secret_of(&row)?.map(|secret| Ok((read(&row)?, secret))).transpose()
    }

    async fn consumer_row(&self, id: Uuid, whose: Whose) -> Result<Option<PgRow>, VaultError> {
        let row =
            sqlx::query("select * from vault.consumers where id = $1 and ($2::uuid is null or owner = $2)")
                .bind(id)
                .bind(whose.owner())
                .fetch_optional(&self.0.pool)
                .await?;
        Ok(row)
    }
}

fn read(row: &PgRow) -> Result<Consumer, VaultError> {
    let url: Option<String> = row.try_get("url")?;
    let webhook = url.map(|url| -> Result<_, VaultError> {
        Ok(Webhook {
            url,
            failures: row.try_get::<i32, _>("failures")? as u32,
            failing_since: row.try_get("failing_since")?,
            next_attempt_at: row.try_get("next_attempt_at")?,
            last_error: row.try_get("last_error")?,
            delivered_at: row.try_get("delivered_at")?,
        })
    });
    Ok(Consumer {
        id: row.try_get("id")?,
        owner: AccountId(row.try_get("owner")?),
        name: row.try_get("name")?,
        stream: row.try_get("stream")?,
        categories: row.try_get("categories")?,
        types: row.try_get("types")?,
        position: row.try_get::<Option<i64>, _>("position")?.map(|position| position as u64),
        epoch: row.try_get("epoch")?,
        paused_because: row.try_get("paused_because")?,
        created_at: row.try_get("created_at")?,
        webhook: webhook.transpose()?,
    })
}
