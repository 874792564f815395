//! Sends one consumer's events, until it is told to stop, or the consumer was changed, or gives up.
//!
//! Where it is, it notes in the vault: at once when something begins or ceases to fail, else every second. What was sent
//! and not noted is sent again after a crash, under the same ids.

use std::{future::pending, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use souk_event_log::{Clock, EventLog, Message, ReadError};
use souk_vault::{Consumer, Delivery, Progress, SigningSecrets, Vault, VaultError, Webhook};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Pace, Reach, Target, TargetError,
    post::{Answer, Outcome, Poster},
    wanted,
    window::{Due, Window},
};

/// Requests of one consumer under way at once, each of another stream.
const AT_ONCE: usize = 8;
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// Where nothing was sent, because nothing was for this consumer.
const NOTE_PASSED_EVERY: Duration = Duration::from_secs(5);
/// What is under way when it is told to stop may take so long.
const DRAIN: Duration = Duration::from_secs(3);

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) vault: Vault,
    pub(crate) poster: Poster,
    pub(crate) pace: Pace,
    pub(crate) clock: Clock,
}

/// Why it ended before it was told to. Worth another try.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("the URL {0}")]
    Target(#[from] TargetError),
    #[error("a request panicked: {0}")]
    Panic(#[from] JoinError),
}

pub(crate) struct Worker {
    shared: Arc<Shared>,
    consumer: Consumer,
    target: Target,
    secrets: Arc<SigningSecrets>,
    window: Window,
    sending: JoinSet<Sent>,
    standing: Standing,
    /// Since the last note.
    tries: Vec<Delivery>,
    note_at: Option<Instant>,
}

/// How it goes; noted beside the cursor.
struct Standing {
    failures: u32,
    failing_since: Option<DateTime<Utc>>,
    next_attempt_at: Option<DateTime<Utc>>,
    /// The same, as the timer has it.
    resume_at: Option<Instant>,
    last_error: Option<String>,
    delivered_at: Option<DateTime<Utc>>,
    paused_because: Option<String>,
}

struct Sent {
    outcome: Outcome,
    /// How many failures there were when it was sent.
    failures: u32,
    delivery: Delivery,
}

impl Worker {
    /// `None`: the consumer is gone.
    pub(crate) async fn new(shared: Arc<Shared>, consumer: Consumer) -> Result<Option<Self>, Failure> {
        let Some(webhook) = &consumer.webhook else { return Ok(None) };
        let Some(secrets) = shared.vault.signing_secrets(consumer.id).await? else { return Ok(None) };
        Ok(Some(Self {
            target: Target::parse(&webhook.url, Reach::Anywhere)?,
            secrets: Arc::new(secrets),
            window: Window::new(consumer.position, webhook.failures),
            sending: JoinSet::new(),
            standing: Standing::of(webhook, (shared.clock)()),
            tries: Vec::new(),
            note_at: None,
            consumer,
            shared,
        }))
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Failure> {
        let mut events = self.shared.log.subscribe(self.consumer.position, wanted(&self.consumer));
        while !stop.is_cancelled() {
            self.send();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(sent) = self.sending.join_next() => self.take(sent?),
                () = at(self.note_at) => {}
                () = at(self.standing.resume_at) => self.standing.resume_at = None,
                message = events.next(), if self.window.has_room() => self.look(message).await?,
            }
            if self.note_at.is_some_and(|at| at <= Instant::now()) && !self.note().await? {
                // Changed by its owner: somebody begins with it anew.
                return Ok(());
            }
            if self.standing.paused_because.is_some() {
                return Ok(());
            }
        }
        self.drain().await
    }

    /// As much as may be under way at once; after a failure nothing until the pause is over, and then one to find out.
    fn send(&mut self) {
        let most = if self.standing.failures == 0 { AT_ONCE } else { 1 };
        while self.standing.resume_at.is_none()
            && self.sending.len() < most
            && let Some(due) = self.window.next()
        {
            let (shared, secrets) = (Arc::clone(&self.shared), Arc::clone(&self.secrets));
            let (target, failures) = (self.target.clone(), self.standing.failures);
            self.sending.spawn(async move { post(&shared, &target, &secrets, &due, failures).await });
        }
    }

    async fn look(&mut self, message: Option<Result<Message, ReadError>>) -> Result<(), Failure> {
        match message {
            Some(Ok(Message::Event(event))) => self.window.push(event),
            Some(Ok(Message::Checkpoint(position))) => {
                self.window.pass(position);
                self.note_within(NOTE_PASSED_EVERY);
            }
            Some(Ok(Message::CaughtUp)) => {}
            Some(Err(error)) => {
                // A log that ends before what was delivered already is another one, restored from a backup, say.
                if self.window.cursor() <= self.shared.log.head().await? {
                    return Err(error.into());
                }
                self.pause(
                    "the log ends before this consumer's position: replay from where it should go on".into(),
                );
            }
            None => return Err(ReadError::Unavailable("the subscription ended".into()).into()),
        }
        Ok(())
    }

    fn take(&mut self, sent: Sent) {
        let Sent { outcome, failures, delivery } = sent;
        // Of requests that were under way together, one decides.
        let decides = failures == self.standing.failures;
        match outcome {
            Outcome::Delivered => {
                self.window.delivered(delivery.position);
                self.standing.delivered_at = Some(delivery.at);
                if decides && self.standing.failures > 0 {
                    self.standing.recover();
                    self.note_within(Duration::ZERO);
                }
            }
            Outcome::Failed { retry_after } => {
                self.window.failed(delivery.position);
                if decides {
                    self.fail(delivery.error.clone().unwrap_or_default(), retry_after.unwrap_or_default());
                }
            }
            Outcome::Gone => {
                self.window.failed(delivery.position);
                self.pause("the receiver answered 410 Gone: it wants no more".to_owned());
            }
        }
        self.tries.push(delivery);
        self.note_within(NOTE_EVERY);
    }

    fn fail(&mut self, error: String, at_least: Duration) {
        let (pace, now) = (&self.shared.pace, (self.shared.clock)());
        let standing = &mut self.standing;
        standing.failures += 1;
        let since = *standing.failing_since.get_or_insert(now);
        if now - since >= TimeDelta::from_std(pace.give_up_after).unwrap_or(TimeDelta::MAX) {
            let days = (now - since).num_days();
            return self.pause(format!("nothing was delivered for {days} days; at last: {error}"));
        }
        let pause = pace.delay(self.consumer.id, standing.failures).max(at_least);
        standing.wait(now, pause);
        standing.last_error = Some(error);
        self.note_within(Duration::ZERO);
    }

    fn pause(&mut self, reason: String) {
        tracing::warn!(consumer = %self.consumer.id, reason, "a webhook is paused");
        self.standing.paused_because = Some(reason);
        self.standing.next_attempt_at = None;
        self.note_within(Duration::ZERO);
    }

    fn note_within(&mut self, time: Duration) {
        let at = Instant::now() + time;
        self.note_at = Some(self.note_at.map_or(at, |noted| noted.min(at)));
    }

    /// False: the consumer was changed meanwhile, or is gone.
    async fn note(&mut self) -> Result<bool, VaultError> {
        self.note_at = None;
        let standing = &self.standing;
        let progress = Progress {
            position: self.window.cursor(),
            failures: standing.failures,
            failing_since: standing.failing_since,
            next_attempt_at: standing.next_attempt_at,
            last_error: standing.last_error.clone(),
            delivered_at: standing.delivered_at,
            paused_because: standing.paused_because.clone(),
        };
        let tries = std::mem::take(&mut self.tries);
        let Consumer { id, epoch, .. } = self.consumer;
        self.shared.vault.note_sending(id, epoch, &progress, &tries).await
    }

    async fn drain(mut self) -> Result<(), Failure> {
        let ended = timeout(DRAIN, async {
            while let Some(sent) = self.sending.join_next().await {
                self.take(sent?);
            }
            Ok::<_, Failure>(())
        });
        // What takes longer is cut off, and sent again some time.
        ended.await.unwrap_or(Ok(()))?;
        self.note().await?;
        Ok(())
    }
}

impl Standing {
    fn of(webhook: &Webhook, now: DateTime<Utc>) -> Self {
        let mut standing = Self {
            failures: webhook.failures,
            failing_since: webhook.failing_since,
            next_attempt_at: None,
            resume_at: None,
            last_error: webhook.last_error.clone(),
            delivered_at: webhook.delivered_at,
            paused_because: None,
        };
        // A restart of ours is no reason to try sooner.
        if let Some(pause) = webhook.next_attempt_at.and_then(|at| (at - now).to_std().ok()) {
            standing.wait(now, pause);
        }
        standing
    }

    fn wait(&mut self, now: DateTime<Utc>, pause: Duration) {
        self.next_attempt_at =
            TimeDelta::from_std(pause).ok().and_then(|pause| now.checked_add_signed(pause));
        self.resume_at = Some(Instant::now() + pause);
    }

    fn recover(&mut self) {
        *self = Self {
            failures: 0,
            failing_since: None,
            next_attempt_at: None,
            resume_at: None,
            last_error: None,
            delivered_at: self.delivered_at,
            paused_because: None,
        };
    }
}

async fn post(shared: &Shared, target: &Target, secrets: &SigningSecrets, due: &Due, failures: u32) -> Sent {
    let (began, at) = (Instant::now(), (shared.clock)());
    let Answer { outcome, status, error } = shared.poster.post(target, &due.event, secrets, at).await;
    let took = began.elapsed();
    let name = match (&outcome, status) {
        (Outcome::Delivered, _) => "delivered",
        (Outcome::Gone, _) => "gone",
        (Outcome::Failed { .. }, Some(_)) => "refused",
        (Outcome::Failed { .. }, None) => "unreachable",
    };
    metrics::counter!("souk_webhook_deliveries_total", "outcome" => name).increment(1);
    metrics::histogram!("souk_webhook_delivery_seconds", "outcome" => name).record(took);
    let delivery = Delivery {
        id: 0,
        position: due.event.position,
        event: due.event.id,
        event_type: due.event.event_type.to_string(),
        stream: due.event.stream.to_string(),
        attempt: due.attempt,
        at,
        delivered: outcome == Outcome::Delivered,
        status,
        error,
        took_ms: took.as_millis() as u32,
    };
    Sent { outcome, failures, delivery }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
