//! Access tokens that ended before their time: those of accounts that were suspended, or forgotten. Kept for as long as
//! such a token could live; the hub tells of new ones.

use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;
use souk_domain::AccountId;

use super::LIFETIME;

/// Accounts remembered at most.
const CAPACITY: u64 = 100_000;

pub(crate) struct Revocations(Cache<AccountId, i64>);

impl Default for Revocations {
    fn default() -> Self {
        let time_to_live = std::time::Duration::from_secs(LIFETIME.unsigned_abs());
        Self(Cache::builder().max_capacity(CAPACITY).time_to_live(time_to_live).build())
    }
}

impl Revocations {
    /// Tokens of that second, or earlier, are no longer good.
    pub(crate) fn revoke(&self, account: AccountId, at: DateTime<Utc>) {
        self.0.insert(account, at.timestamp());
    }

    /// Its sessions were ended, so it logs in again; that shall work within the second of its suspension, too.
    pub(crate) fn reinstate(&self, account: AccountId) {
        self.0.invalidate(&account);
    }

    pub(crate) fn is_revoked(&self, account: AccountId, issued_at: i64) -> bool {
        self.0.get(&account).is_some_and(|revoked_at| issued_at <= revoked_at)
    }

    /// Since when events of this kind still matter.
    pub(crate) fn horizon(now: DateTime<Utc>) -> DateTime<Utc> {
        now - TimeDelta::seconds(LIFETIME)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn tokens_from_before_are_no_longer_good() {
        let revocations = Revocations::default();
        let (one, other) = (AccountId(Uuid::from_u128(1)), AccountId(Uuid::from_u128(2)));
        let at = DateTime::from_timestamp(1_000, 0).unwrap();
        revocations.revoke(one, at);
        assert!(revocations.is_revoked(one, 999) && revocations.is_revoked(one, 1_000));
        assert!(!revocations.is_revoked(one, 1_001) && !revocations.is_revoked(other, 999));
        revocations.reinstate(one);
        assert!(!revocations.is_revoked(one, 999));
    }
}
