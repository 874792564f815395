//! What one of many may hold at once, so that the others get theirs: accounts of calls, places of connections.

use std::{collections::HashMap, hash::Hash, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::Caller;

/// The same number for each, by whatever tells them apart.
pub(crate) struct Shares<K> {
    each: usize,
    taken: Mutex<HashMap<K, Arc<Semaphore>>>,
}

impl<K: Eq + Hash> Shares<K> {
    pub(crate) fn new(each: usize) -> Self {
        Self { each, taken: Mutex::default() }
    }

    pub(crate) fn of(&self, key: K) -> Arc<Semaphore> {
        let mut taken = self.taken.lock();
        // Who holds nothing, and waits for nothing, is forgotten.
        taken.retain(|_, share| Arc::strong_count(share) > 1);
        Arc::clone(taken.entry(key).or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

/// Room for calls of one kind. Who may append has room of its own: that is the market, which nobody else gets in the way
/// of. Of all others each account has its share.
pub(crate) struct Room {
    appenders: Arc<Semaphore>,
    others: Arc<Semaphore>,
    accounts: Shares<Arc<str>>,
}

/// Held for as long as the call lasts.
#[expect(dead_code, reason = "held, not used")]
pub(crate) struct Seat(Option<OwnedSemaphorePermit>, OwnedSemaphorePermit);

/// There is no room.
pub(crate) enum Full {
    ForAccount,
    ForAll,
}

impl Room {
    pub(crate) fn new(all: usize, each: usize) -> Self {
        Self {
            appenders: Arc::new(Semaphore::new(all)),
            others: Arc::new(Semaphore::new(all)),
            accounts: Shares::new(each),
        }
    }

    /// Waits for room.
    pub(crate) async fn wait(&self, caller: &Caller) -> Result<Seat, Full> {
        let (share, all) = self.of(caller);
        let share = match share {
            Some(share) => Some(share.acquire_owned().await.map_err(|_| Full::ForAccount)?),
            None => None,
        };
        Ok(Seat(share, all.acquire_owned().await.map_err(|_| Full::ForAll)?))
    }

    pub(crate) fn enter(&self, caller: &Caller) -> Result<Seat, Full> {
        let (share, all) = self.of(caller);
        let share = share.map(Semaphore::try_acquire_owned).transpose().map_err(|_| Full::ForAccount)?;
        Ok(Seat(share, all.try_acquire_owned().map_err(|_| Full::ForAll)?))
    }

    fn of(&self, caller: &Caller) -> (Option<Arc<Semaphore>>, Arc<Semaphore>) {
        if caller.rights.append {
            return (None, Arc::clone(&self.appenders));
        }
        (Some(self.accounts.of(Arc::clone(&caller.account))), Arc::clone(&self.others))
    }
}
