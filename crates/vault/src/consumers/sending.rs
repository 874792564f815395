//! The side of those who send: who has a webhook, what to sign with, and what came of it.

use chrono::{DateTime, Utc};
use sqlx::Row;
use uuid::Uuid;

use super::{Consumer, WebhookSecret, Whose, read};
use crate::{Vault, VaultError};

/// Tries that are kept of each consumer: so many that were delivered, and as many that were not.
pub const KEPT_DELIVERIES: i64 = 1_000;

/// What a sender has to tell of one webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Everything up to here is delivered.
    pub position: Option<u64>,
    pub failures: u32,
    pub failing_since: Option<DateTime<Utc>>,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub last_error: Option<String>,
    pub delivered_at: Option<DateTime<Utc>>,
    /// It gives up until the owner says to go on.
    pub paused_because: Option<String>,
}

/// One try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// In the order in which they were noted; 0 of one that is yet to be noted.
    pub id: i64,
    pub position: u64,
    pub event: Uuid,
    pub event_type: String,
    pub stream: String,
    /// 1 is the first.
    pub attempt: u32,
    pub at: DateTime<Utc>,
    pub delivered: bool,
    /// Of the answer, if one came.
    pub status: Option<u16>,
    pub error: Option<String>,
    pub took_ms: u32,
}

/// What a webhook is signed with now.
#[derive(Debug)]
pub struct SigningSecrets {
    pub current: WebhookSecret,
    /// The one before, until then.
    pub former: Option<(WebhookSecret, DateTime<Utc>)>,
}

impl Vault {
    /// Every consumer that has a webhook, paused ones too.
    pub async fn webhooks(&self) -> Result<Vec<Consumer>, VaultError> {
        let rows = sqlx::query("select * from vault.consumers where url is not null order by id");
        rows.fetch_all(&self.0.pool).await?.iter().map(read).collect()
    }

    /// `None`: the consumer is gone, or has no webhook.
    pub async fn signing_secrets(&self, consumer: Uuid) -> Result<Option<SigningSecrets>, VaultError> {
        let Some(row) = self.consumer_row(consumer, Whose::Everybodys).await? else { return Ok(None) };
        let Some(current) = self.secret_of(&row)? else { return Ok(None) };
        let former: Option<Vec<u8>> = row.try_get("former_secret")?;
        let until: Option<DateTime<Utc>> = row.try_get("former_until")?;
        let former = former.zip(until).map(|(wrapped, until)| -> Result<_, VaultError> {
            Ok((self.unwrap_secret(consumer, &wrapped)?, until))
        });
        Ok(Some(SigningSecrets { current, former: former.transpose()? }))
    }

    /// Notes where a webhook is, and the tries since the last note. False: the consumer was changed from outside (or
    /// deleted), and only the tries were noted.
    pub async fn note_sending(
        &self,
        consumer: Uuid,
        epoch: i64,
        progress: &Progress,
        tries: &[Delivery],
    ) -> Result<bool, VaultError> {
        // Of what is trimmed anyhow nothing is written.
        let tries = &tries[tries.len().saturating_sub(KEPT_DELIVERIES as usize)..];
        let noted = sqlx::query(
            "with tries as (
                 insert into vault.deliveries
                     (consumer, position, event, type, stream, attempt, at, delivered, status, error, took_ms)
                 select $1, tries.* from unnest($10::bigint[], $11::uuid[], $12::text[], $13::text[], $14::integer[],
                     $15::timestamptz[], $16::boolean[], $17::smallint[], $18::text[], $19::integer[]) as tries
                 where exists (select from vault.consumers where id = $1)
             )
             update vault.consumers
             set position = greatest(position, $3), failures = $4, failing_since = $5, next_attempt_at = $6, last_error = $7,
                 delivered_at = coalesce($8, delivered_at), paused_because = $9
             where id = $1 and epoch = $2 and paused_because is null",
        )
        .bind(consumer)
        .bind(epoch)
        .bind(progress.position.map(|position| position as i64))
        .bind(progress.failures as i32)
        .bind(progress.failing_since)
        .bind(progress.next_attempt_at)
        .bind(&progress.last_error)
        .bind(progress.delivered_at)
        .bind(&progress.paused_because)
        .bind(column(tries, |one| one.position as i64))
        .bind(column(tries, |one| one.event))
        .bind(column(tries, |one| one.event_type.clone()))
        .bind(column(tries, |one| one.stream.clone()))
        .bind(column(tries, |one| one.attempt as i32))
        .bind(column(tries, |one| one.at))
        .bind(column(tries, |one| one.delivered))
        .bind(column(tries, |one| one.status.map(|status| status as i16)))
        .bind(column(tries, |one| one.error.clone()))
        .bind(column(tries, |one| one.took_ms as i32))
        .execute(&self.0.pool)
        .await?;
        Ok(noted.rows_affected() == 1)
    }

    /// Tries, the latest first, before the one with that id.
    pub async fn deliveries(
        &self,
        consumer: Uuid,
        delivered: Option<bool>,
        before: Option<i64>,
        limit: i64,
    ) -> Result<Vec<Delivery>, VaultError> {
        let rows = sqlx::query(
            "select * from vault.deliveries
             where consumer = $1 and ($2::boolean is null or delivered = $2) and ($3::bigint is null or id < $3)
             order by id desc limit $4",
        )
        .bind(consumer)
        .bind(delivered)
        .bind(before)
        .bind(limit)
        .fetch_all(&self.0.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Delivery {
                    id: row.try_get("id")?,
                    position: row.try_get::<i64, _>("position")? as u64,
                    event: row.try_get("event")?,
                    event_type: row.try_get("type")?,
                    stream: row.try_get("stream")?,
                    attempt: row.try_get::<i32, _>("attempt")? as u32,
                    at: row.try_get("at")?,
                    delivered: row.try_get("delivered")?,
                    status: row.try_get::<Option<i16>, _>("status")?.map(|status| status as u16),
                    error: row.try_get("error")?,
                    took_ms: row.try_get::<i32, _>("took_ms")? as u32,
                })
            })
            .collect()
    }

    /// Clears away all but the last tries of each consumer; to be called now and then. Returns how many went.
    pub async fn trim_deliveries(&self) -> Result<u64, VaultError> {
        let trimmed = sqlx::query(
            "delete from vault.deliveries using (
                 select id, row_number() over (partition by consumer, delivered order by id desc) as number
                 from vault.deliveries
             ) as numbered
             where deliveries.id = numbered.id and number > $1",
        )
        .bind(KEPT_DELIVERIES)
        .execute(&self.0.pool)
        .await?;
        Ok(trimmed.rows_affected())
    }
}

fn column<T>(tries: &[Delivery], of: impl Fn(&Delivery) -> T) -> Vec<T> {
    tries.iter().map(of).collect()
}
