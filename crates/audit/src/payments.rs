//! Money: an order is charged once, what it costs; what goes back was taken before, and not by the bank already; a cancelled
//! order keeps none.

use std::collections::BTreeMap;

use souk_domain::{Money as Amount, OrderId, payment::PaymentEvent};

use crate::{At, Audit, Flow, ledgers::Back};

/// What the name of a charge or a refund begins with that an operator has settled.
pub const BY_HAND: &str = "byHand:";

/// The payment of one order, in minor units of what it is due in.
#[derive(Debug, Default)]
pub struct Money {
    /// What is to be charged, as the order has it.
    pub due: Option<Amount>,
    /// The gateway's name for the charge.
    pub charge_id: Option<Box<str>>,
    pub charged: i64,
    pub refunded: i64,
    /// What has gone back or is to, if it was asked for.
    pub asked_back: i64,
    /// The part of `refunded` that an operator has paid.
    pub refunded_by_hand: i64,
    /// What buyers' banks have taken back, unless that was won.
    pub disputed: i64,
    /// The part of `disputed` that the bank has decided.
    lost: i64,
    /// What was disputed when all was asked back, unless it was won: known before the refund, so it is no part of that.
    known: i64,
    /// What went back less than was agreed on of all returns together.
    pub(crate) short: i64,
    requested: bool,
    /// All of it is to go back, and not parts.
    given_up: bool,
    /// It was given up or refused: nothing may be charged any more.
    failed: bool,
}

impl Money {
    fn take(&mut self, event: &PaymentEvent) -> Result<(), String> {
        match event {
            PaymentEvent::PaymentRequested(event) => {
                let again = std::mem::replace(&mut self.requested, true);
                match self.due {
                    Some(due) if due != event.amount => {
                        Err(format!("expected a request of {due}, found {}", event.amount))
                    }
                    _ if again => Err("requested twice".into()),
                    _ => Ok(()),
                }
            }
            PaymentEvent::PaymentCompleted(event) => {
                let before = std::mem::replace(&mut self.charged, event.amount.amount);
                self.charge_id = Some(event.charge_id.as_str().into());
                match self.due {
                    _ if before != 0 => Err(format!("charged twice: {before} and {}", event.amount)),
                    _ if !self.requested || self.failed => {
                        Err("charged without a request that is open".into())
                    }
                    Some(due) if due == event.amount => Ok(()),
                    due => Err(format!("expected a charge of {due:?}, found {}", event.amount)),
                }
            }
            PaymentEvent::PaymentFailed(_) => {
                let fails = self.charged == 0 && !self.failed;
                self.failed = true;
                if fails { Ok(()) } else { Err("failed after it was settled".into()) }
            }
            PaymentEvent::RefundRequested(_) => {
                self.asked_back = self.due.map_or(0, |due| due.amount);
                self.known = self.disputed;
                self.given_up = true;
                Ok(())
            }
            PaymentEvent::PaymentRefunded(event) => {
                let checked = self.refund(event.amount, &event.refund_id);
                // As much as was asked: the rest is with the buyer already.
                self.asked_back = self.refunded;
                checked.and(self.is_the_rest(event.amount)).and(self.loses(event.amount, event.loss))
            }
            PaymentEvent::PaymentPartlyRefunded(event) => self.refund(event.amount, &event.refund_id),
            PaymentEvent::PartialRefundRequested(event) => {
                self.asked_back = self.asked_back.saturating_add(event.amount.amount);
                self.is_covered(self.asked_back)
            }
            PaymentEvent::ChargebackOpened(event) => {
                self.disputed = self.disputed.saturating_add(event.amount.amount);
                Ok(())
            }
            PaymentEvent::ChargebackClosed(event) if event.won => {
                self.disputed = self.disputed.saturating_sub(event.amount.amount);
                self.known = self.known.saturating_sub(event.amount.amount);
                Ok(())
            }
            PaymentEvent::ChargebackClosed(event) => {
                self.lost = self.lost.saturating_add(event.amount.amount);
                self.loses(event.amount, event.loss)
            }
            // It waits for the buyer.
            PaymentEvent::PaymentActionRequired(_) => Ok(()),
        }
    }

    fn refund(&mut self, amount: Amount, refund_id: &str) -> Result<(), String> {
        self.refunded = self.refunded.saturating_add(amount.amount);
        if refund_id.starts_with(BY_HAND) {
            self.refunded_by_hand = self.refunded_by_hand.saturating_add(amount.amount);
        }
        if self.refunded > self.asked_back {
            return Err(format!("gives back {} of {} that were to go back", self.refunded, self.asked_back));
        }
        self.is_covered(self.refunded)
    }

    /// The whole went back, less what the bank had taken. What it took while the refund was under way may be in that or not.
    fn is_the_rest(&self, amount: Amount) -> Result<(), String> {
        let rest = |taken: i64| self.charged.saturating_sub(taken).max(0);
        let (least, most) = (rest(self.lost), rest(self.known.min(self.lost)));
        if (least..=most).contains(&amount.amount) {
            return Ok(());
        }
        Err(format!("expected {least} to {most} to go back, which the bank has left, found {amount}"))
    }

    /// Of an amount that is gone, what the charge did not have any more. Events from before that was told do not say it.
    fn loses(&self, amount: Amount, loss: Option<Amount>) -> Result<(), String> {
        let refunds = if self.given_up { self.refunded } else { self.asked_back };
        let gone = refunds.saturating_add(self.lost);
        let expected = gone.saturating_sub(self.charged).clamp(0, amount.amount.max(0));
        match loss {
            Some(loss) if loss.amount != expected => {
                Err(format!("expected a loss of {expected}, found {loss}"))
            }
            _ => Ok(()),
        }
    }

    fn is_covered(&self, amount: i64) -> Result<(), String> {
        if (0..=self.charged).contains(&amount) {
            return Ok(());
        }
        Err(format!("expected at most {} to go back, which were charged, found {amount}", self.charged))
    }

    pub(crate) fn of_completed(&self) -> Result<(), String> {
        let due = self.due.map_or(0, |due| due.amount);
        if (self.charged, self.refunded) == (due, 0) {
            return Ok(());
        }
        let Self { charged, refunded, .. } = self;
        Err(format!(
            "completed: expected it to be paid with {due}, found {charged} charged, {refunded} given back"
        ))
    }

    pub(crate) fn of_cancelled(&self) -> Result<(), String> {
        let Self { charged, refunded, lost, .. } = self;
        // Nothing may have been due, and that is recorded, too.
        if (charged - lost..=*charged).contains(refunded)
            && (self.failed || !self.requested || self.charge_id.is_some())
        {
            return Ok(());
        }
        Err(format!(
            "cancelled: expected all money to be back, found {charged} charged, {refunded} given back, {lost} lost"
        ))
    }

    pub fn is_by_hand(&self) -> bool {
        self.charge_id.as_ref().is_some_and(|id| id.starts_with(BY_HAND))
    }

    pub(crate) fn add_to(&self, sums: &mut BTreeMap<String, Flow>) {
        let Some(due) = self.due.filter(|_| self.charged != 0 || self.refunded != 0) else { return };
        let flow = sums.entry(due.currency.to_string()).or_default();
        flow.charged = flow.charged.saturating_add(self.charged);
        flow.refunded = flow.refunded.saturating_add(self.refunded);
        flow.by_hand = flow.by_hand.saturating_add(self.refunded_by_hand);
        flow.by_hand = flow.by_hand.saturating_add(if self.is_by_hand() { self.charged } else { 0 });
        flow.disputed = flow.disputed.saturating_add(self.disputed);
    }
}

impl Audit {
    pub(crate) fn payment(&mut self, at: At<'_>, id: OrderId, event: &PaymentEvent) {
        let Some(order) = self.orders.get_mut(&id) else {
            return self.wrong(at, "expected an order for this payment, found none");
        };
        let (cancelled, owed) =
            (order.live.is_none() && !order.is_completed(), order.money.charged - order.money.refunded);
        let checked = order.money.take(event);
        let loss = event.loss().map_or(0, |loss| loss.amount);
        match event {
            PaymentEvent::ChargebackOpened(event) => {
                self.books.owe(id, Back::Disputed, event.amount.amount, at.time);
            }
            PaymentEvent::ChargebackClosed(event) => {
                self.books.owe(id, Back::Decided, event.amount.amount, at.time);
                let gone = if event.won { 0 } else { event.amount.amount - loss };
                self.books.owe(id, Back::Lost, gone, at.time);
            }
            _ => {}
        }
        self.books.owe(id, Back::Loss, loss, at.time);
        let moved = order.money.charged - order.money.refunded != owed;
        self.check(at, checked);
        if cancelled && moved {
            self.wrong(at, "money moves though the order is cancelled already");
        }
    }
}
