//! Who waits for an order is told when its status changes: one subscription to the log for all of them. An event of an
//! order that nobody waits for costs a look into a map.
//!
//! What is told is a hint of the latest status; whoever must not miss one reads the order's stream from where he was.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures::StreamExt;
use parking_lot::Mutex;
use souk_commands::Market;
use souk_domain::{
    AccountId, DomainEvent, OrderId,
    account::AccountEvent,
    order::{OrderEvent, OrderStatus},
};
use souk_event_log::{Filter, Message, ReadError, Recorded, Revision};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::auth::Revocations;

/// How long to wait after the log could not be read.
const RETRY: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Latest {
    pub(crate) revision: Revision,
    pub(crate) status: OrderStatus,
}

#[derive(Default)]
pub(crate) struct Hub(Mutex<HashMap<OrderId, Watched>>);

#[derive(Default)]
struct Watched {
    latest: watch::Sender<Option<Latest>>,
    /// How many wait.
    waiting: usize,
}

/// Somebody who waits; when the last one of an order is gone it is forgotten.
pub(crate) struct Watch {
    hub: Arc<Hub>,
    order: OrderId,
    pub(crate) latest: watch::Receiver<Option<Latest>>,
}

impl Hub {
    pub(crate) fn watch(self: &Arc<Self>, order: OrderId) -> Watch {
        let mut hub = self.0.lock();
        let watched = hub.entry(order).or_default();
        watched.waiting += 1;
        Watch { hub: Arc::clone(self), order, latest: watched.latest.subscribe() }
    }

    fn tell(&self, event: &Recorded) {
        let Some(status) = status_after(&event.event_type) else { return };
        let Ok(order) = event.stream.id().parse::<OrderId>() else { return };
        if let Some(watched) = self.0.lock().get(&order) {
            watched.latest.send_replace(Some(Latest { revision: event.revision, status }));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut hub = self.hub.0.lock();
        if let Some(watched) = hub.get_mut(&self.order) {
            watched.waiting -= 1;
            if watched.waiting == 0 {
                hub.remove(&self.order);
            }
        }
    }
}

impl Watch {
    /// Returns when a final status was told. It may have been there before: look at the order first, or after a while.
    pub(crate) async fn ended(&mut self) {
        let ended = |latest: &Option<Latest>| latest.is_some_and(|latest| latest.status.is_final());
        if self.latest.wait_for(ended).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// What an order is after an event of that type; `None` of a type that this program does not know.
pub(crate) fn status_after(event_type: &str) -> Option<OrderStatus> {
    Some(match event_type {
        "OrderPlaced" => OrderStatus::Placed,
        "OrderStockReserved" => OrderStatus::StockReserved,
        "OrderPaid" => OrderStatus::Paid,
        "OrderReadyToShip" => OrderStatus::ReadyToShip,
        "OrderCompleted" => OrderStatus::Completed,
        "CancellationRequested" => OrderStatus::Cancelling,
        "OrderCancelled" => OrderStatus::Cancelled,
        _ => return None,
    })
}

/// Follows what happens to orders from now on.
pub(crate) async fn follow_orders(hub: Arc<Hub>, market: Arc<Market>, stop: CancellationToken) {
    let filter = Filter::event_types(OrderEvent::TYPES.iter().map(|(name, _)| *name));
    follow(&market, filter, None, stop, |event| hub.tell(event)).await;
}

/// Follows who is suspended or forgotten, from as long ago as a token lives.
pub(crate) async fn follow_accounts(
    revocations: Arc<Revocations>,
    market: Arc<Market>,
    stop: CancellationToken,
) {
    let filter = Filter::event_types(["AccountSuspended", "AccountForgotten", "AccountReinstated"]);
    let since = Some(Revocations::horizon(market.clock.now()));
    follow(&market, filter, since, stop, |event| {
        let Ok(account) = event.stream.id().parse::<AccountId>() else { return };
        match AccountEvent::from_json(&event.event_type, event.schema_version(), &event.data) {
            Ok(AccountEvent::AccountReinstated(_)) => revocations.reinstate(account),
            // Also if it cannot be read: then it is newer than this program, and better taken seriously.
            _ => revocations.revoke(account, event.recorded_at),
        }
    })
    .await;
}

async fn follow(
    market: &Market,
    filter: Filter,
    since: Option<DateTime<Utc>>,
    stop: CancellationToken,
    tell: impl Fn(&Recorded),
) {
    let followed = async {
        let mut after = loop {
            let after = match since {
                Some(since) => market.log.last_before(since).await,
                None => market.log.head().await,
            };
            match after {
                Ok(after) => break after,
                Err(error) => pause(&error).await,
            }
        };
        loop {
            let mut messages = market.log.subscribe(after, filter.clone());
            while let Some(message) = messages.next().await {
                match message {
                    Ok(Message::Event(event)) => {
                        after = Some(event.position);
                        tell(&event);
                    }
                    Ok(Message::Checkpoint(position)) => after = Some(position),
                    Ok(Message::CaughtUp) => {}
                    Err(error) => {
                        pause(&error).await;
                        break;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = followed => {}
    }
}

async fn pause(error: &ReadError) {
    tracing::warn!(%error, "the log cannot be followed and will be tried again");
    tokio::time::sleep(RETRY).await;
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn every_event_of_an_order_has_a_status() {
        for (name, _) in OrderEvent::TYPES {
            assert!(status_after(name).is_some(), "{name}");
        }
    }

    #[test]
    fn nobody_waiting_nothing_kept() {
        let hub = Arc::<Hub>::default();
        let order = OrderId(Uuid::from_u128(1));
        let (one, two) = (hub.watch(order), hub.watch(order));
        drop(one);
        assert_eq!(hub.0.lock().len(), 1);
        drop(two);
        assert!(hub.0.lock().is_empty());
    }
}
