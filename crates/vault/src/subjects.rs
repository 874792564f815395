//! Personal data: sealed under a key of the person it is about, so that destroying the key forgets the person in every
//! copy of the log. The keys are in the database, wrapped by the master key, and for a while in memory: sealing at
//! checkout costs microseconds, not a round trip.

use std::{collections::HashMap, mem, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use moka::sync::Cache;
use parking_lot::Mutex;
use souk_domain::{AccountId, Sealed};
use tokio::sync::oneshot;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{Vault, VaultError, crypto::Cipher, random};

/// Some 20 MB at most.
const CACHED_KEYS: u64 = 100_000;

#[derive(Clone)]
enum SubjectKey {
    Known(Arc<Cipher>),
    Forgotten,
}

type Answer = oneshot::Sender<Result<SubjectKey, VaultError>>;

/// The keys in memory. What is there is never overwritten but by `forget`: a key that was read just before must not
/// come back after it.
pub(crate) struct SubjectKeys {
    known: Cache<AccountId, SubjectKey>,
    /// Those asked for while others are loaded: the next query is for all of them.
    asked: Mutex<Vec<(AccountId, Answer)>>,
    /// Held by who loads keys for those who asked.
    turn: tokio::sync::Mutex<()>,
}

impl SubjectKeys {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            known: Cache::builder().max_capacity(CACHED_KEYS).time_to_live(lifetime).build(),
            asked: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    pub(crate) fn forget(&self, subject: AccountId) {
        self.known.insert(subject, SubjectKey::Forgotten);
    }

    fn get(&self, subject: AccountId) -> Option<SubjectKey> {
        self.known.get(&subject)
    }

    fn add(&self, subject: AccountId, key: SubjectKey) -> SubjectKey {
        self.known.entry(subject).or_insert(key).into_value()
    }
}

impl Vault {
    /// Seals under the person's key, which is made if there is none. [`VaultError::Forgotten`] if it was destroyed.
    pub async fn seal(&self, subject: AccountId, plaintext: &[u8]) -> Result<Sealed, VaultError> {
        let key = match self.0.subject_keys.get(subject) {
            Some(key) => key,
            None => self.make_key(subject).await?,
        };
        let SubjectKey::Known(cipher) = key else { return Err(VaultError::Forgotten(subject)) };
        let sealed = cipher.seal(&purpose(subject), plaintext)?;
        Ok(Sealed { subject, sealed: URL_SAFE_NO_PAD.encode(sealed) })
    }

    /// Makes and loads the keys of many people at once, for imports: up to a few thousand in one call. People who were
    /// forgotten are passed over; sealing for them fails.
    pub async fn ensure_keys(&self, subjects: &[AccountId]) -> Result<(), VaultError> {
        let missing: Vec<_> =
            subjects.iter().copied().filter(|subject| self.0.subject_keys.get(*subject).is_none()).collect();
        if !missing.is_empty() {
            self.make_keys(&missing).await?;
        }
        Ok(())
    }

    /// `None` once the person is forgotten (or when the vault never had the key: it was not the one beside this log).
    pub async fn open_sealed(&self, sealed: &Sealed) -> Result<Option<Vec<u8>>, VaultError> {
        Ok(self.open_many(std::slice::from_ref(sealed)).await?.pop().flatten())
    }

    /// In the order of `sealed`; one query for all the keys that are not in memory.
    pub async fn open_many(&self, sealed: &[Sealed]) -> Result<Vec<Option<Vec<u8>>>, VaultError> {
        let mut keys: HashMap<AccountId, SubjectKey> = HashMap::new();
        let mut missing = Vec::new();
        for Sealed { subject, .. } in sealed {
            match self.0.subject_keys.get(*subject) {
                Some(key) => drop(keys.insert(*subject, key)),
                None => missing.push(*subject),
            }
        }
        if !missing.is_empty() {
            keys.extend(self.load_keys(&missing).await?);
        }
        sealed
            .iter()
            .map(|Sealed { subject, sealed }| match keys.get(subject) {
                None | Some(SubjectKey::Forgotten) => Ok(None),
                Some(SubjectKey::Known(cipher)) => URL_SAFE_NO_PAD
                    .decode(sealed)
                    .ok()
                    .and_then(|bytes| cipher.open(&purpose(*subject), &bytes).ok())
                    .map(Some)
                    .ok_or(VaultError::Unreadable(*subject)),
            })
            .collect()
    }

    async fn load_keys(&self, subjects: &[AccountId]) -> Result<HashMap<AccountId, SubjectKey>, VaultError> {
        let ids: Vec<Uuid> = subjects.iter().map(|subject| subject.0).collect();
        let rows: Vec<(Uuid, Option<Vec<u8>>)> =
            sqlx::query_as("select subject, wrapped_key from vault.subjects where subject = any($1)")
                .bind(ids)
                .fetch_all(&self.0.pool)
                .await?;
        rows.into_iter()
            .map(|(id, wrapped)| {
                let subject = AccountId(id);
                let key = match wrapped {
                    None => SubjectKey::Forgotten,
                    Some(wrapped) => {
                        let key = self.0.wrapping.open_key(&key_purpose(subject), &wrapped);
                        SubjectKey::Known(Arc::new(Cipher::new(
                            &key.map_err(|_| VaultError::Unreadable(subject))?,
                        )))
                    }
                };
                Ok((subject, self.0.subject_keys.add(subject, key)))
            })
            .collect()
    }

    /// Loads or makes the key together with those that others ask for at the same time. If that fails for somebody's key, or
    /// if who did it was interrupted, everybody asks alone; a database that is away, is away for all. Has to be awaited to its
    /// end or dropped: others wait for it.
    async fn make_key(&self, subject: AccountId) -> Result<SubjectKey, VaultError> {
        let (sender, mut answer): (Answer, _) = oneshot::channel();
        self.0.subject_keys.asked.lock().push((subject, sender));
        let key = tokio::select! {
            biased;
            key = &mut answer => key.ok(),
            _turn = self.0.subject_keys.turn.lock() => {
                self.make_asked().await;
                answer.try_recv().ok()
            }
        };
        match key {
            Some(key) => key,
            None => self.make_keys(&[subject]).await?.remove(&subject).ok_or(VaultError::Forgotten(subject)),
        }
    }

    async fn make_asked(&self) {
        let asked = mem::take(&mut *self.0.subject_keys.asked.lock());
        let subjects: Vec<_> = asked.iter().map(|(subject, _)| *subject).collect();
        // Who asked may be gone.
        match self.make_keys(&subjects).await {
            Ok(keys) => {
                for (subject, sender) in asked {
                    if let Some(key) = keys.get(&subject) {
                        let _ = sender.send(Ok(key.clone()));
                    }
                }
            }
            Err(error) if error.is_unavailable() => {
                for (_, sender) in asked {
                    let _ = sender.send(Err(VaultError::Database(sqlx::Error::PoolTimedOut)));
                }
            }
            Err(_) => {}
        }
    }

    /// Loads the keys, and makes those that are not there. Of two processes that make the same key one wins, and both
    /// go on with that one.
    async fn make_keys(&self, subjects: &[AccountId]) -> Result<HashMap<AccountId, SubjectKey>, VaultError> {
        let mut keys = self.load_keys(subjects).await?;
        let mut missing: Vec<AccountId> =
            subjects.iter().copied().filter(|subject| !keys.contains_key(subject)).collect();
        if missing.is_empty() {
            return Ok(keys);
        }
        // In one order everywhere, so that two batches cannot wait for each other's rows.
        missing.sort_unstable();
        missing.dedup();
        let ids: Vec<Uuid> = missing.iter().map(|subject| subject.0).collect();
        let wrapped = missing
            .iter()
            .map(|subject| {
                self.0.wrapping.seal(&key_purpose(*subject), &*Zeroizing::new(random::bytes::<32>()?))
            })
            .collect::<Result<Vec<_>, VaultError>>()?;
        sqlx::query(
            "insert into vault.subjects (subject, wrapped_key) select * from unnest($1::uuid[], $2::bytea[])
             on conflict do nothing",
        )
        .bind(ids)
        .bind(wrapped)
        .execute(&self.0.pool)
        .await?;
        keys.extend(self.load_keys(&missing).await?);
        Ok(keys)
    }
}

/// Bound to the person: sealed data or a wrapped key put in another one's place does not open.
fn purpose(subject: AccountId) -> [u8; 16] {
    *subject.0.as_bytes()
}

fn key_purpose(subject: AccountId) -> Vec<u8> {
    [b"subject ".as_slice(), subject.0.as_bytes()].concat()
}
