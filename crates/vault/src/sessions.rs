//! Sessions: a login gives a refresh token, each use of which gives the next one. A token that is used twice was copied:
//! nobody can tell by whom, so the whole family of tokens ends (RFC 9700, section 4.14.2).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use souk_domain::AccountId;
use uuid::{Builder, Uuid};

use crate::{Vault, VaultError, random};

/// From its last use; a session that goes on being used goes on.
pub const REFRESH_TOKEN_LIFETIME: TimeDelta = TimeDelta::days(30);

/// 256 random bits as text for the client; only their hash is kept here. Shows nothing of itself in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct RefreshToken(String);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    pub account: AccountId,
    pub token: RefreshToken,
}

#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    #[error("no such refresh token, or its session has ended")]
    Unknown,
    #[error("the refresh token has expired")]
    Expired,
    /// Somebody has a copy: the session has been ended.
    #[error("the refresh token was used before")]
    Reused { account: AccountId },
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl RefreshToken {
    fn generate() -> Result<Self, VaultError> {
        Ok(Self(URL_SAFE_NO_PAD.encode(random::bytes::<32>()?)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn into_string(self) -> String {
        self.0
    }
}

impl std::fmt::Debug for RefreshToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshToken")
    }
}

impl Vault {
    /// After the password (and what else is asked for) was checked. [`VaultError::Forgotten`] for who is not there any
    /// more.
    pub async fn create_session(
        &self,
        account: AccountId,
        now: DateTime<Utc>,
    ) -> Result<RefreshToken, VaultError> {
        let token = RefreshToken::generate()?;
        let created = sqlx::query(
            "with session as (
                 insert into vault.sessions (id, account, created_at, expires_at)
                 select $1, $2, $3, $4
                 where not exists (select from vault.subjects where subject = $2 and wrapped_key is null)
                 returning id
             )
             insert into vault.refresh_tokens (hash, session, expires_at) select $5, id, $4 from session",
        )
        .bind(Builder::from_random_bytes(random::bytes()?).into_uuid())
        .bind(account.0)
        .bind(now)
        .bind(now + REFRESH_TOKEN_LIFETIME)
        .bind(hash(token.as_str()))
        .execute(&self.0.pool)
        .await?;
        if created.rows_affected() == 0 { Err(VaultError::Forgotten(account)) } else { Ok(token) }
    }

    /// Trades a token for the next one.
    pub async fn rotate(&self, token: &str, now: DateTime<Utc>) -> Result<Rotated, RotateError> {
        let next = RefreshToken::generate()?;
        // One statement: of several that use the same token at once, the first locks its row, and the others find it used.
        let account: Option<Uuid> = sqlx::query_scalar(
            "with used as (
                 update vault.refresh_tokens set used_at = $2
                 where hash = $1 and used_at is null and expires_at > $2 returning session
             ),
             kept as (
                 update vault.sessions set expires_at = $4 from used
                 where id = used.session and ended_at is null returning id, account
             ),
             next as (
                 insert into vault.refresh_tokens (hash, session, expires_at) select $3, id, $4 from kept
             )
             select account from kept",
        )
        .bind(hash(token))
        .bind(now)
        .bind(hash(next.as_str()))
        .bind(now + REFRESH_TOKEN_LIFETIME)
        .fetch_optional(&self.0.pool)
        .await
        .map_err(VaultError::from)?;
        match account {
            Some(account) => Ok(Rotated { account: AccountId(account), token: next }),
            None => Err(self.refuse(token, now).await?),
        }
    }

    /// Ends all sessions of an account, as after a change of password.
    pub async fn end_sessions(&self, account: AccountId, now: DateTime<Utc>) -> Result<(), VaultError> {
        sqlx::query("update vault.sessions set ended_at = $2 where account = $1 and ended_at is null")
            .bind(account.0)
            .bind(now)
            .execute(&self.0.pool)
            .await?;
        Ok(())
    }

    /// Ends the one session that the token belongs to (signing out); an unknown token is no error.
    pub async fn end_session(&self, token: &str, now: DateTime<Utc>) -> Result<(), VaultError> {
        sqlx::query(
            "update vault.sessions set ended_at = $2 from vault.refresh_tokens
             where id = session and hash = $1 and ended_at is null",
        )
        .bind(hash(token))
        .bind(now)
        .execute(&self.0.pool)
        .await?;
        Ok(())
    }

    /// Clears away what no token can reach any more; to be called now and then. Returns how many sessions went.
    pub async fn remove_expired_sessions(&self, now: DateTime<Utc>) -> Result<u64, VaultError> {
        let removed =
            sqlx::query("delete from vault.sessions where expires_at <= $1").bind(now).execute(&self.0.pool);
        Ok(removed.await?.rows_affected())
    }

    /// Why the token was not traded; a reused one ends its session.
    async fn refuse(&self, token: &str, now: DateTime<Utc>) -> Result<RotateError, VaultError> {
        let row: Option<(Uuid, Uuid, bool, bool)> = sqlx::query_as(
            "select s.id, s.account, s.ended_at is not null, t.used_at is not null
             from vault.refresh_tokens t join vault.sessions s on s.id = t.session where t.hash = $1",
        )
        .bind(hash(token))
        .fetch_optional(&self.0.pool)
        .await?;
        let Some((session, account, ended, used)) = row else { return Ok(RotateError::Unknown) };
        if ended {
            return Ok(RotateError::Unknown);
        }
        if !used {
            return Ok(RotateError::Expired);
        }
        sqlx::query("update vault.sessions set ended_at = $2 where id = $1 and ended_at is null")
            .bind(session)
            .bind(now)
            .execute(&self.0.pool)
            .await?;
        let account = AccountId(account);
        tracing::warn!(%account, "a refresh token was used twice: its session is ended");
        Ok(RotateError::Reused { account })
    }
}

fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token).to_vec()
}
