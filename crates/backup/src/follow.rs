//! Follows the log: what was appended is in the backup within a second.
//!
//! First the copy of what the vault has of the accounts that the new events name, then the events, then the manifest: so
//! what a manifest counts on can always be read. The whole vault and the bank are copied now and then, beside that, and at the end.
//!
//! When the place or the vault cannot be reached it is tried again, ever less often; what is appended meanwhile waits in
//! the log, not in memory.

use std::{pin::pin, time::Duration};

use futures::{FutureExt, StreamExt};
use souk_event_log::{Filter, Message, ReadError, Subscription};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    BackupError,
    ship::{ACCOUNT_COPIES, Backup, Step, WholeCopy},
};

/// From the beginning of one shipment to the next, but of those that are full.
const PACE: Duration = Duration::from_millis(400);
/// Pause after a failure; doubled with each, up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Pause after a whole copy that failed.
const WHOLE_AGAIN: Duration = Duration::from_secs(5);
const ANCHOR_EVERY: Duration = Duration::from_mins(5);
/// How long the end may take.
const FAREWELL: Duration = Duration::from_secs(20);

struct Follower<'b, P> {
    backup: &'b mut Backup,
    progress: P,
    messages: Subscription,
    /// Whether the manifest counts on a copy of the vault that was begun since the backup caught up, and on copies of accounts
    /// since, which keep it up to date.
    live: bool,
    /// The whole copy that is being taken, if one is.
    whole: JoinSet<Result<WholeCopy, BackupError>>,
    caught_up: bool,
    /// The manifest does not say what was written.
    unpublished: bool,
    whole_every: Duration,
    whole_due: Instant,
    anchor_due: Instant,
    next: Instant,
    failures: u32,
}

/// Goes on until told to stop, and then brings everything to a good end. `progress` is told how it catches up.
pub async fn follow(
    backup: &mut Backup,
    whole_every: Duration,
    stop: impl Future<Output = ()>,
    progress: impl FnMut(Step),
) -> Result<(), BackupError> {
    let mut stop = pin!(stop);
    let now = Instant::now();
    let messages = subscribe(backup);
    let mut follower = Follower {
        backup,
        progress,
        messages,
        live: false,
        whole: JoinSet::new(),
        caught_up: false,
        unpublished: false,
        whole_every,
        whole_due: now,
        anchor_due: now,
        next: now,
        failures: 0,
    };
    loop {
        let has_work = follower.has_work();
        tokio::select! {
            () = &mut stop => return follower.finish().await,
            message = follower.messages.next(), if !follower.backup.is_full() => follower.hear(message).await?,
            () = sleep_until(follower.next), if has_work => follower.work().await?,
            Some(copied) = follower.whole.join_next() => follower.adopt(copied?).await?,
            () = sleep_until(follower.whole_due), if follower.caught_up && follower.whole.is_empty() => follower.copy_whole(),
        }
    }
}

fn subscribe(backup: &Backup) -> Subscription {
    backup.source.log.subscribe(backup.gathered(), Filter::all())
}

impl<P: FnMut(Step)> Follower<'_, P> {
    fn has_work(&self) -> bool {
        self.backup.is_full() || self.unpublished || (self.caught_up && self.backup.has_news())
    }

    /// Takes a message, and what else is there at the moment.
    async fn hear(&mut self, message: Option<Result<Message, ReadError>>) -> Result<(), BackupError> {
        let mut heard = Some(message);
        while let Some(message) = heard {
            match message {
                Some(Ok(Message::Event(event))) => self.backup.gather(&event)?,
                Some(Ok(Message::Checkpoint(_))) => {}
                Some(Ok(Message::CaughtUp)) => self.caught_up = true,
                Some(Err(error @ ReadError::Corrupt(_))) => return Err(error.into()),
                Some(Err(ReadError::Unavailable(_))) | None => {
                    tracing::warn!("the log cannot be followed for the moment");
                    tokio::time::sleep(PAUSE).await;
                    self.messages = subscribe(self.backup);
                }
            }
            heard = if self.backup.is_full() { None } else { self.messages.next().now_or_never() };
        }
        Ok(())
    }

    async fn work(&mut self) -> Result<(), BackupError> {
        let began = Instant::now();
        let full = self.backup.is_full();
        match self.step().await {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!(events = self.backup.events(), "the backup goes on");
                }
                (self.failures, self.next) = (0, if full { began } else { began + PACE });
            }
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                let pause = PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
                tracing::warn!(%error, events = self.backup.events(), "the backup is behind and will be tried again");
                (self.failures, self.next) = (self.failures + 1, Instant::now() + pause);
            }
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<(), BackupError> {
        if (self.live || !self.whole.is_empty())
            && self.backup.has_news()
            && !self.backup.copy_accounts().await?
        {
            (self.live, self.unpublished) = (false, false);
            self.whole = JoinSet::new();
            self.whole_due = Instant::now();
        }
        if self.backup.has_news() || self.backup.is_full() {
            self.backup.ship().await?;
            self.unpublished = self.live;
            if !self.live {
                (self.progress)(Step::Events { done: self.backup.events(), of: 0 });
            }
        }
        if self.unpublished {
            self.backup.publish().await?;
            self.unpublished = false;
        }
        if self.live && self.anchor_due <= Instant::now() {
            self.backup.anchor().await?;
            self.anchor_due = Instant::now() + ANCHOR_EVERY;
        }
        if self.backup.account_copies >= ACCOUNT_COPIES {
            self.whole_due = Instant::now();
        }
        Ok(())
    }

    fn copy_whole(&mut self) {
        self.whole.spawn(self.backup.whole_copy(|_| ()));
        self.whole_due = Instant::now() + self.whole_every;
    }

    async fn adopt(&mut self, copied: Result<WholeCopy, BackupError>) -> Result<(), BackupError> {
        let adopted = match copied {
            Ok(whole) => self.backup.adopt(whole).await,
            Err(error) => Err(error),
        };
        match adopted {
            Ok(()) => {
                tracing::info!(events = self.backup.events(), "the vault was copied as a whole");
                (self.live, self.unpublished) = (true, false);
            }
            Err(error) if error.is_final() => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "the vault could not be copied as a whole and will be tried again");
                self.whole_due = Instant::now() + WHOLE_AGAIN.min(self.whole_every);
            }
        }
        Ok(())
    }

    /// What there is still to be had from the log, and a last whole copy.
    async fn finish(mut self) -> Result<(), BackupError> {
        self.whole.shutdown().await;
        let backup = &mut *self.backup;
        let mut live = self.live;
        let end = async {
            let head = backup.source.log.head().await?;
            while backup.gathered() < head {
                if backup.is_full() {
                    live = live && backup.copy_accounts().await?;
                    backup.ship().await?;
                }
                match self.messages.next().await {
                    Some(Ok(Message::Event(event))) => backup.gather(&event)?,
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                    None => return Err(ReadError::Unavailable("the log was closed".into()).into()),
                }
            }
            live = live && backup.copy_accounts().await?;
            backup.ship().await?;
            if live {
                backup.publish().await?;
            }
            backup.anchor().await?;
            // The server, and its PostgreSQL with it, may have been told to stop at the same time.
            match backup.copy_whole(|_| ()).await {
                Err(error) if live => {
                    tracing::warn!(%error, "the vault could not be copied as a whole at the end; its accounts are complete");
                    Ok(())
                }
                copied => copied,
            }
        };
        timeout(FAREWELL, end).await.unwrap_or_else(|_| {
            Err(BackupError::object(
                "the end of the log",
                format!("it is not in the backup: {FAREWELL:?} were not enough"),
            ))
        })
    }
}
