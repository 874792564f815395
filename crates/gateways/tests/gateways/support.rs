//! What the tests share: keys, a clock that stands, details that pay, and a bank in a folder of its own.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use chrono::{DateTime, TimeZone, Utc};
use souk_domain::{AccountId, Currency, Money, OrderId, payment::PaymentMethod};
use souk_gateways::{
    PaymentDetails, Purchase, Secret,
    sandbox::{SandboxBank, Script},
};
use tempfile::TempDir;
use uuid::Uuid;

/// Keys that nobody has used: derived from a seed, which a gateway that remembers older runs gets a new one of.
#[derive(Clone)]
pub(crate) struct Keys(Uuid, Arc<AtomicU64>);

impl Keys {
    pub(crate) fn from_seed(seed: Uuid) -> Self {
        Self(seed, Arc::default())
    }

    pub(crate) fn next(&self) -> Uuid {
        Uuid::new_v5(&self.0, &self.1.fetch_add(1, Ordering::Relaxed).to_be_bytes())
    }

    pub(crate) fn account(&self) -> AccountId {
        AccountId(self.next())
    }
}

pub(crate) fn now() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 7, 15, 12, 0, 0).unwrap()
}

pub(crate) fn usd(amount: i64) -> Money {
    Money::new(amount, Currency::USD)
}

pub(crate) fn card(card_no: &str) -> PaymentDetails {
    PaymentDetails::Card {
        card_no: Secret::new(card_no),
        expiry: "12/2030".to_owned(),
        cvc: Secret::new("123"),
    }
}

pub(crate) fn buys(key: Uuid, method: &PaymentMethod, amount: Money) -> Purchase {
    Purchase { key, order: OrderId(key), method: method.clone(), amount }
}

/// A bank that lasts as long as its folder.
pub(crate) struct TestBank {
    pub(crate) folder: TempDir,
    pub(crate) keys: Keys,
    pub(crate) bank: SandboxBank,
}

impl TestBank {
    pub(crate) fn new() -> Self {
        Self::scripted("{}")
    }

    pub(crate) fn scripted(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bank =
            SandboxBank::open(&folder.path().join("bank.db"), Script::parse(script).unwrap(), now).unwrap();
        Self { folder, keys: Keys::from_seed(Uuid::nil()), bank }
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("bank.db")
    }

    pub(crate) fn reopened(&self) -> SandboxBank {
        SandboxBank::open(&self.file(), Script::default(), now).unwrap()
    }
}
