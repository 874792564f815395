//! How imported orders end. Follows the log, so it does not matter which process carries them on.

use std::{collections::HashMap, sync::Arc};

use anyhow::{Context as _, bail};
use futures::StreamExt;
use parking_lot::Mutex;
use souk_domain::{DomainEvent, OrderId, order::CancelReason, order::OrderEvent};
use souk_event_log::{EventLog, Filter, Message, Position, Recorded};
use tokio::sync::oneshot;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Completed,
    Cancelled(CancelReasonName),
    /// An operator has to look.
    Parked,
}

pub(super) type CancelReasonName = &'static str;

#[derive(Default)]
struct Book {
    ended: HashMap<OrderId, End>,
    waiting: HashMap<OrderId, oneshot::Sender<End>>,
    failed: Option<String>,
}

/// Ends of orders from a position of the log on.
#[derive(Clone, Default)]
pub(super) struct Ends(Arc<Mutex<Book>>);

impl Ends {
    pub(super) fn follow(log: &Arc<dyn EventLog>, after: Option<Position>) -> Self {
        let ends = Self::default();
        let filter = Filter::event_types(["OrderCompleted", "OrderCancelled", "CheckoutParked"]);
        let mut messages = log.subscribe(after, filter);
        let book = Arc::downgrade(&ends.0);
        tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                let Some(book) = book.upgrade() else { return };
                match message {
                    Ok(Message::Event(event)) => {
                        if let Some((order, end)) = read(&event) {
                            book.lock().note(order, end);
                        }
                    }
                    Ok(Message::Checkpoint(_) | Message::CaughtUp) => {}
                    Err(error) => return book.lock().fail(error.to_string()),
                }
            }
        });
        ends
    }

    /// Waits until the order has ended.
    pub(super) async fn of(&self, order: OrderId) -> anyhow::Result<End> {
        let answer = {
            let mut book = self.0.lock();
            if let Some(end) = book.ended.remove(&order) {
                return Ok(end);
            }
            if let Some(error) = &book.failed {
                bail!("the log can no longer be followed: {error}");
            }
            let (sender, answer) = oneshot::channel();
            book.waiting.insert(order, sender);
            answer
        };
        answer.await.context("the log can no longer be followed")
    }
}

impl Book {
    fn note(&mut self, order: OrderId, end: End) {
        match self.waiting.remove(&order) {
            Some(waiting) => {
                // Whoever waited may have gone.
                let _ = waiting.send(end);
            }
            None => {
                self.ended.insert(order, end);
            }
        }
    }

    fn fail(&mut self, error: String) {
        self.failed = Some(error);
        self.waiting.clear();
    }
}

fn read(event: &Recorded) -> Option<(OrderId, End)> {
    let order = event.stream.id().parse().ok()?;
    if event.stream.category() != "order" {
        return Some((order, End::Parked));
    }
    match OrderEvent::from_json(&event.event_type, event.schema_version(), &event.data).ok()? {
        OrderEvent::OrderCompleted(_) => Some((order, End::Completed)),
        OrderEvent::OrderCancelled(event) => Some((order, End::Cancelled(name(event.reason)))),
        _ => None,
    }
}

pub(super) fn name(reason: CancelReason) -> CancelReasonName {
    match reason {
        CancelReason::OutOfStock => "outOfStock",
        CancelReason::PaymentDeclined => "paymentDeclined",
        CancelReason::ShippingUnavailable => "shippingUnavailable",
        CancelReason::BuyerRequest => "buyerRequest",
        CancelReason::Timeout => "timeout",
        CancelReason::PromotionExhausted => "promotionExhausted",
        CancelReason::CreditExhausted => "creditExhausted",
    }
}
