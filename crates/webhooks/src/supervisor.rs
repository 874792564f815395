//! Keeps a worker going for each consumer that has a webhook and may go on. What owners change, here or in another
//! process, is found by looking, twice a second.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use souk_domain::AccountId;
use souk_event_log::{Clock, EventLog};
use souk_vault::{Consumer, Vault, VaultError, Whose};
use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};
use uuid::Uuid;

use crate::{
    Pace, Reach,
    post::Poster,
    worker::{Failure, Shared, Worker},
};

/// After a failure, until the next try.
const REST: Duration = Duration::from_secs(1);
const TRIM_EVERY: Duration = Duration::from_mins(1);

/// Whether an account may be told of events still; `Err` where that cannot be found out at present.
pub type Owners = Arc<dyn Fn(AccountId) -> BoxFuture<'static, Result<bool, String>> + Send + Sync>;

pub struct Parts {
    pub log: Arc<dyn EventLog>,
    pub vault: Vault,
    pub owners: Owners,
    pub reach: Reach,
    pub pace: Pace,
    pub clock: Clock,
}

#[derive(Debug, thiserror::Error)]
#[error("the client for webhooks cannot be made: {0}")]
pub struct StartError(#[from] reqwest::Error);

/// The sending of webhooks.
pub struct Webhooks {
    shared: Arc<Shared>,
    owners: Owners,
}

impl Webhooks {
    pub fn new(parts: Parts) -> Result<Arc<Self>, StartError> {
        let Parts { log, vault, owners, reach, pace, clock } = parts;
        let poster = Poster::new(reach, pace.timeout)?;
        let shared = Arc::new(Shared { log, vault, poster, pace, clock });
        Ok(Arc::new(Self { shared, owners }))
    }

    /// Until told to stop: then nothing more is sent, what is under way may end, for some seconds, and where each is is
    /// noted.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        // Outlives a database that is away now and then.
        let mut trimmed = Instant::now();
        while !stop.is_cancelled() {
            let mut workers = Workers::new(Arc::clone(&self.shared));
            if let Err(error) = self.keep(&mut workers, &mut trimmed, &stop).await {
                tracing::warn!(%error, "webhooks are not sent for the moment");
            }
            workers.end().await;
            rest(REST, &stop).await;
        }
        // Another process tells from now on.
        Counts::default().show();
        show_lag(0);
    }

    async fn keep(
        &self,
        workers: &mut Workers,
        trimmed: &mut Instant,
        stop: &CancellationToken,
    ) -> Result<(), VaultError> {
        let mut allowed = Allowed { holds: self.shared.pace.owner_holds, asked: HashMap::new() };
        while !stop.is_cancelled() {
            let webhooks = self.shared.vault.webhooks().await?;
            self.measure(&webhooks).await;
            let mut active = Vec::new();
            for consumer in webhooks.into_iter().filter(|consumer| consumer.paused_because.is_none()) {
                match allowed.check(&self.owners, consumer.owner).await {
                    Some(true) => active.push(consumer),
                    Some(false) => {
                        let reason = "its owner may not read events any more";
                        self.shared.vault.pause(consumer.id, Whose::Everybodys, reason).await?;
                    }
                    // What runs may go on for the moment; nothing begins.
                    None if workers.running.contains_key(&consumer.id) => active.push(consumer),
                    None => {}
                }
            }
            workers.keep(active).await;
            if trimmed.elapsed() > TRIM_EVERY {
                *trimmed = Instant::now();
                self.shared.vault.trim_deliveries().await?;
            }
            rest(self.shared.pace.poll, stop).await;
        }
        Ok(())
    }

    async fn measure(&self, webhooks: &[Consumer]) {
        Counts::of(webhooks).show();
        if let Ok(head) = self.shared.log.head().await {
            let end = |position: Option<u64>| position.map_or(0, |position| position + 1);
            let open = webhooks.iter().filter(|consumer| consumer.paused_because.is_none());
            let lag = open.map(|consumer| end(head).saturating_sub(end(consumer.position))).max();
            show_lag(lag.unwrap_or_default());
        }
    }
}

#[derive(Default)]
struct Counts {
    active: u32,
    failing: u32,
    paused: u32,
}

impl Counts {
    fn of(webhooks: &[Consumer]) -> Self {
        let mut counts = Self::default();
        for consumer in webhooks {
            match (&consumer.paused_because, &consumer.webhook) {
                (Some(_), _) => counts.paused += 1,
                (None, Some(webhook)) if webhook.failures > 0 => counts.failing += 1,
                (None, _) => counts.active += 1,
            }
        }
        counts
    }

    fn show(self) {
        for (state, count) in [("active", self.active), ("failing", self.failing), ("paused", self.paused)] {
            metrics::gauge!("souk_webhook_consumers", "state" => state).set(count);
        }
    }
}

fn show_lag(events: u64) {
    metrics::gauge!("souk_webhook_lag_events").set(events as f64);
}

async fn rest(time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = sleep(time) => {}
    }
}

/// Who may read events, as far as it was asked a moment ago.
struct Allowed {
    holds: Duration,
    asked: HashMap<AccountId, (Instant, bool)>,
}

impl Allowed {
    async fn check(&mut self, owners: &Owners, account: AccountId) -> Option<bool> {
        self.asked.retain(|_, (at, _)| at.elapsed() < self.holds);
        if let Some((_, allowed)) = self.asked.get(&account) {
            return Some(*allowed);
        }
        match owners(account).await {
            Ok(allowed) => {
                self.asked.insert(account, (Instant::now(), allowed));
                Some(allowed)
            }
            Err(error) => {
                tracing::warn!(%account, error, "whether the owner of a webhook may read events is not known");
                None
            }
        }
    }
}

struct Workers {
    shared: Arc<Shared>,
    running: HashMap<Uuid, Running>,
    /// Those that failed lately, until they may begin again.
    resting: HashMap<Uuid, Instant>,
}

struct Running {
    /// Of the consumer, when it was begun.
    epoch: i64,
    stop: CancellationToken,
    task: AbortOnDropHandle<Result<(), Failure>>,
}

impl Workers {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, running: HashMap::new(), resting: HashMap::new() }
    }

    /// Begins and ends workers, so that there is one for each of these consumers as it is now.
    async fn keep(&mut self, active: Vec<Consumer>) {
        let wanted: HashMap<Uuid, i64> =
            active.iter().map(|consumer| (consumer.id, consumer.epoch)).collect();
        for (id, running) in &self.running {
            if wanted.get(id) != Some(&running.epoch) {
                running.stop.cancel();
            }
        }
        let ended: Vec<Uuid> = self
            .running
            .iter()
            .filter(|(_, running)| running.task.is_finished())
            .map(|(id, _)| *id)
            .collect();
        for id in ended {
            if let Some(running) = self.running.remove(&id)
                && !running.ended_well(id).await
            {
                self.resting.insert(id, Instant::now() + REST);
            }
        }
        self.resting.retain(|_, until| *until > Instant::now());
        for consumer in active {
            if !self.running.contains_key(&consumer.id) && !self.resting.contains_key(&consumer.id) {
                self.begin(consumer);
            }
        }
    }

    fn begin(&mut self, consumer: Consumer) {
        let (id, epoch, stop) = (consumer.id, consumer.epoch, CancellationToken::new());
        let (shared, until) = (Arc::clone(&self.shared), stop.clone());
        let task = tokio::spawn(async move {
            match Worker::new(shared, consumer).await? {
                Some(worker) => worker.run(until).await,
                None => Ok(()),
            }
        });
        self.running.insert(id, Running { epoch, stop, task: AbortOnDropHandle::new(task) });
    }

    async fn end(mut self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
        for (id, running) in self.running.drain() {
            running.ended_well(id).await;
        }
    }
}

impl Running {
    async fn ended_well(self, consumer: Uuid) -> bool {
        match self.task.await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::warn!(%consumer, %error, "a webhook was interrupted"),
            Err(error) => tracing::error!(%consumer, %error, "a webhook's worker ended badly"),
        }
        false
    }
}
