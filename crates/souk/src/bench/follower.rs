//! When each order ended, from one live stream of events, so that asking does not disturb what is measured.

use std::{collections::HashMap, sync::Arc, time::Instant};

use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::client::Session;

#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) at: Instant,
    /// Why it was cancelled; none of a completed one.
    pub(super) reason: Option<String>,
}

#[derive(Default)]
struct Book {
    ended: HashMap<Uuid, Ended>,
    waiting: HashMap<Uuid, oneshot::Sender<Ended>>,
}

#[derive(Clone, Default)]
pub(super) struct Follower(Arc<Mutex<Book>>);

impl Follower {
    pub(super) async fn start(analyst: &Session) -> anyhow::Result<Self> {
        let mut events = analyst.events("OrderCompleted,OrderCancelled").await?;
        let follower = Self::default();
        let book = Arc::downgrade(&follower.0);
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                let Some(book) = book.upgrade() else { return };
                let event = match event {
                    Ok(event) => event,
                    Err(error) => {
                        tracing::error!(%error, "the stream of events broke off");
                        return;
                    }
                };
                let Some(order) = event.stream.strip_prefix("order-").and_then(|id| id.parse().ok()) else {
                    continue;
                };
                let reason = (event.kind == "OrderCancelled").then(|| event.data.reason.unwrap_or_default());
                let ended = Ended { at: Instant::now(), reason };
                let mut book = book.lock();
                match book.waiting.remove(&order) {
                    // Whoever waited may have given up.
                    Some(waiting) => drop(waiting.send(ended)),
                    None => drop(book.ended.insert(order, ended)),
                }
            }
        });
        Ok(follower)
    }

    /// Resolves when the order has ended; with an error if that can no longer be known.
    pub(super) fn of(&self, order: Uuid) -> oneshot::Receiver<Ended> {
        let (sender, receiver) = oneshot::channel();
        let mut book = self.0.lock();
        match book.ended.remove(&order) {
            Some(ended) => drop(sender.send(ended)),
            None => drop(book.waiting.insert(order, sender)),
        }
        receiver
    }
}
