//! The registry of addresses, and passwords.
//!
//! An account comes to be in three steps that may each be the last before a crash: its address is claimed here, the log
//! is told (AccountRegistered), the claim is marked as registered. Repeating all three with the same address and password
//! completes it. Until then nobody can log in with it.

use chrono::{DateTime, TimeDelta, Utc};
use souk_domain::AccountId;
use uuid::Uuid;

use crate::{Vault, VaultError, crypto::hmac};

/// How long a claim that was not completed keeps others off: far longer than a registration takes, so that nobody takes
/// over one that is still under way.
const CLAIM_HOLDS: TimeDelta = TimeDelta::minutes(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The address is the account's: register the account, then mark it.
    New,
    /// An earlier attempt with the same password claimed it for this account: go on with that one. The log may know it
    /// already.
    Same(AccountId),
    Taken,
}

struct Holder {
    account: AccountId,
    registered: bool,
    claimed_at: DateTime<Utc>,
    password_hash: Option<String>,
}

impl Vault {
    /// Claims an address for a new account, with the password it will have. An attempt that was not completed is
    /// continued by whoever knows its password; anybody else may claim the address a minute later.
    pub async fn claim_address(
        &self,
        email: &str,
        password: &str,
        account: AccountId,
        now: DateTime<Utc>,
    ) -> Result<Claim, VaultError> {
        let address = self.address(email);
        let password_hash = self.0.passwords.hash(password).await?;
        if self.claim_free_address(&address, account, &password_hash, now).await? {
            return Ok(Claim::New);
        }
        let Some(holder) = self.holder(&address).await? else {
            // The address is free: then it was the account that is not (or it was freed this moment: a repeat finds out).
            return Err(VaultError::HoldsAnotherAddress(account));
        };
        let same_password = self.0.passwords.verify(password, holder.password_hash).await?;
        // A completed registration that is repeated as it was is answered as it was.
        if same_password && (!holder.registered || holder.account == account) {
            return Ok(Claim::Same(holder.account));
        }
        let abandoned = !holder.registered && now - holder.claimed_at > CLAIM_HOLDS;
        if abandoned && self.take_over(&address, holder.account, account, &password_hash, now).await? {
            return Ok(Claim::New);
        }
        Ok(Claim::Taken)
    }

    /// The log knows the account: from now on one can log in. False if the claim is not the account's any more, because
    /// somebody else took the address over or the person was forgotten.
    pub async fn mark_registered(&self, account: AccountId) -> Result<bool, VaultError> {
        let marked = sqlx::query("update vault.addresses set registered = true where account = $1")
            .bind(account.0)
            .execute(&self.0.pool)
            .await?;
        Ok(marked.rows_affected() == 1)
    }

    /// Changes the password. Sessions go on: ending them is another call.
    pub async fn set_password(&self, account: AccountId, password: &str) -> Result<(), VaultError> {
        let hash = self.0.passwords.hash(password).await?;
        let set = sqlx::query(
            "insert into vault.credentials (account, password_hash)
             select $1, $2 where not exists (select from vault.subjects where subject = $1 and wrapped_key is null)
             on conflict (account) do update set password_hash = excluded.password_hash",
        )
        .bind(account.0)
        .bind(hash)
        .execute(&self.0.pool)
        .await?;
        if set.rows_affected() == 0 { Err(VaultError::Forgotten(account)) } else { Ok(()) }
    }

    /// The account that has this address and this password. It takes as long when there is none.
    pub async fn verify_password(
        &self,
        email: &str,
        password: &str,
    ) -> Result<Option<AccountId>, VaultError> {
        let holder = self.holder(&self.address(email)).await?.filter(|holder| holder.registered);
        let (account, hash) =
            holder.map_or((None, None), |holder| (Some(holder.account), holder.password_hash));
        let matches = self.0.passwords.verify(password, hash).await?;
        Ok(account.filter(|_| matches))
    }

    /// The account that holds an address and is registered.
    pub async fn account_of(&self, email: &str) -> Result<Option<AccountId>, VaultError> {
        Ok(self
            .holder(&self.address(email))
            .await?
            .filter(|holder| holder.registered)
            .map(|holder| holder.account))
    }

    /// Upper and lower case are one address, though strictly only the part after the @ may be treated so: no mail
    /// provider gives both to different people.
    fn address(&self, email: &str) -> [u8; 32] {
        hmac(&*self.0.address_key, &[email.trim().to_lowercase().as_bytes()])
    }

    async fn claim_free_address(
        &self,
        address: &[u8; 32],
        account: AccountId,
        password_hash: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, VaultError> {
        let claimed = sqlx::query(
            "with claimed as (
                 insert into vault.addresses (address, account, claimed_at) values ($1, $2, $3)
                 on conflict do nothing returning account
             )
             insert into vault.credentials (account, password_hash) select account, $4 from claimed
             on conflict (account) do update set password_hash = excluded.password_hash",
        )
        .bind(address.as_slice())
        .bind(account.0)
        .bind(now)
        .bind(password_hash)
        .execute(&self.0.pool)
        .await?;
        Ok(claimed.rows_affected() == 1)
    }

    /// Only if nothing has happened to the claim since it was looked at. The account that gives way was never completed,
    /// so nobody could log in to it.
    async fn take_over(
        &self,
        address: &[u8; 32],
        from: AccountId,
        to: AccountId,
        password_hash: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, VaultError> {
        let taken = sqlx::query(
            "with taken as (
                 update vault.addresses set account = $3, claimed_at = $4
                 where address = $1 and account = $2 and not registered returning account
             ),
             gone as (delete from vault.credentials where account = $2 and $2 <> $3 and exists (select from taken))
             insert into vault.credentials (account, password_hash) select account, $5 from taken
             on conflict (account) do update set password_hash = excluded.password_hash",
        )
        .bind(address.as_slice())
        .bind(from.0)
        .bind(to.0)
        .bind(now)
        .bind(password_hash)
        .execute(&self.0.pool)
        .await?;
        Ok(taken.rows_affected() == 1)
    }

    async fn holder(&self, address: &[u8; 32]) -> Result<Option<Holder>, VaultError> {
        let row: Option<(Uuid, bool, DateTime<Utc>, Option<String>)> = sqlx::query_as(
            "select account, registered, claimed_at, password_hash
             from vault.addresses left join vault.credentials using (account) where address = $1",
        )
        .bind(address.as_slice())
        .fetch_optional(&self.0.pool)
        .await?;
        Ok(row.map(|(account, registered, claimed_at, password_hash)| Holder {
            account: AccountId(account),
            registered,
            claimed_at,
            password_hash,
        }))
    }
}
