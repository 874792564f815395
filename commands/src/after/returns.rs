//! What an accepted return leads to: what was not sent stays, the goods are back in stock and the money with the buyer, and
//! the return ends.
//! Each step may be repeated. What cannot be done is parked in view of an operator.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use souk_domain::{
    DomainEvent, Money, ReturnId, ReturnsId, ShipmentId, UnreadableEvent,
    credit::{CreditCommand, CreditState},
    inventory::InventoryCommand,
    order::Order,
    payment::{PaymentCommand, PaymentState},
    pricing::CreditUse,
    returns::{
        Disposition, ReturnAccepted, ReturnCommand, ReturnError, ReturnEvent, ReturnStatus, ReturnsState,
    },
    shipment::ShipmentEvent,
};
use souk_event_log::{Filter, Recorded};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use super::follower::{Duty, Errand, Left, News};
use crate::{
    Context, ExecuteError, Market,
    checkout::{BY_HAND, LONGEST_WAIT, SettlementError, pause, settle},
    executor::ReadFailure,
    flows::{
        returns::{ReturnFlowError, give_back},
        shipments::take_back,
    },
};

const ACTOR: &str = "process:returns";

#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum Task {
    /// Accepted, or resumed or settled by an operator.
    CarryOut(ReturnId),
    /// Given up by the seller, and not a return yet.
    GiveBack(ShipmentId, Uuid),
}

impl Task {
    /// Under which it is asked for and answered.
    fn key(self) -> Uuid {
        match self {
            Self::CarryOut(id) => id.refund_key(),
            Self::GiveBack(_, request) => request,
        }
    }
}

enum Failure {
    /// Worth another try.
    Later(String),
    /// Somebody has to decide something first.
    Undecided,
    /// No use in trying again.
    Never(String),
}

impl<R: std::error::Error> From<ExecuteError<R>> for Failure {
    fn from(error: ExecuteError<R>) -> Self {
        match error {
            ExecuteError::Unavailable(_) | ExecuteError::Stale { .. } => Self::Later(error.to_string()),
            ExecuteError::Refused(_) | ExecuteError::KeyReused | ExecuteError::Unreadable(_) => {
                Self::Never(error.to_string())
            }
        }
    }
}

impl From<ReadFailure> for Failure {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Unavailable(reason) => Self::Later(reason),
            ReadFailure::Unreadable(reason) => Self::Never(reason),
        }
    }
}

impl From<ReturnFlowError> for Failure {
    fn from(error: ReturnFlowError) -> Self {
        match error {
            ReturnFlowError::Return(ExecuteError::Refused(ReturnError::Undecided)) => Self::Undecided,
            ReturnFlowError::Return(error) => error.into(),
            ReturnFlowError::Order(error) => error.into(),
            ReturnFlowError::Shipment(error) => error.into(),
            ReturnFlowError::Vault(error) => Self::Later(error.to_string()),
            ReturnFlowError::NotCompleted(_)
            | ReturnFlowError::NotOfOrder(_)
            | ReturnFlowError::Ambiguous(_)
            | ReturnFlowError::UnderWay
            | ReturnFlowError::NotAsked => Self::Never(error.to_string()),
        }
    }
}

/// What is seen to right now, by key, and what was asked for meanwhile: that comes next. So whoever hears of the same again,
/// as after a failure of the log, sees to it once; and what an operator asks for just as a task ends is not lost.
struct UnderWay<E>(Mutex<HashMap<Uuid, Option<E>>>);

impl<E> UnderWay<E> {
    /// Gives the errand to the caller if nobody is at it.
    fn begin(&self, key: Uuid, errand: E) -> Option<E> {
        match self.0.lock().entry(key) {
            Entry::Occupied(mut busy) => {
                busy.insert(Some(errand));
                None
            }
            Entry::Vacant(free) => {
                free.insert(None);
                Some(errand)
            }
        }
    }

    /// After the one that was begun.
    fn next(&self, key: Uuid) -> Option<E> {
        let mut under_way = self.0.lock();
        let next = under_way.get_mut(&key).and_then(Option::take);
        if next.is_none() {
            under_way.remove(&key);
        }
        next
    }
}

pub(super) struct ReturnProcess {
    market: Arc<Market>,
    tasks: TaskTracker,
    under_way: UnderWay<Errand<Task>>,
}

impl Duty for ReturnProcess {
    type Task = Task;

    const NAME: &'static str = "process of returns";

    fn filter() -> Filter {
        Filter::event_types([
            "ReturnRequested",
            "ReturnAccepted",
            "ReturnResumed",
            "ReturnSettled",
            "ReturnParked",
            "ReturnCompleted",
            "UnitsGivenUp",
        ])
    }

    fn read(recorded: &Recorded) -> Result<Option<News<Task>>, UnreadableEvent> {
        let (name, version) = (&*recorded.event_type, recorded.schema_version());
        if recorded.stream.category() == "shipment" {
            let event = ShipmentEvent::from_json(name, version, &recorded.data)?;
            return Ok(match (event, recorded.stream.id().parse()) {
                (ShipmentEvent::UnitsGivenUp(event), Ok(shipment)) if event.return_id.is_none() => {
                    let task = Task::GiveBack(shipment, event.request_id);
                    Some(News::Asks(task.key(), task))
                }
                _ => None,
            });
        }
        Ok(match ReturnEvent::from_json(name, version, &recorded.data)? {
            ReturnEvent::ReturnRequested(event) => Some(News::Answers(event.request_id, 1)),
            event @ (ReturnEvent::ReturnAccepted(_)
            | ReturnEvent::ReturnResumed(_)
            | ReturnEvent::ReturnSettled(_)) => {
                let task = Task::CarryOut(event.return_id());
                Some(News::Asks(task.key(), task))
            }
            ReturnEvent::ReturnParked(event) => Some(News::Parks(event.return_id.refund_key())),
            ReturnEvent::ReturnCompleted(event) => Some(News::Answers(event.return_id.refund_key(), 1)),
            ReturnEvent::ReturnDeclined(_) => None,
        })
    }

    fn count_parked(count: usize) {
        metrics::gauge!("souk_returns_parked").set(u32::try_from(count).unwrap_or(u32::MAX));
    }

    /// Each on its own: a refund may take its time.
    async fn see_to(self: Arc<Self>, errands: Vec<Errand<Task>>, stop: &CancellationToken) -> Left<Task> {
        for errand in errands {
            let key = errand.task.key();
            let mut next = self.under_way.begin(key, errand);
            if next.is_some() {
                let (process, stop) = (Arc::clone(&self), stop.clone());
                self.tasks.spawn(async move {
                    while let Some(errand) = next {
                        process.carry_out(&errand, &stop).await;
                        next = process.under_way.next(key);
                    }
                });
            }
        }
        Left::default()
    }
}

impl ReturnProcess {
    pub(super) fn new(market: Arc<Market>) -> Arc<Self> {
        Arc::new(Self { market, tasks: TaskTracker::new(), under_way: UnderWay(Mutex::default()) })
    }

    /// Whatever waits for a gateway is taken up again at the next start.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
    }

    async fn carry_out(&self, errand: &Errand<Task>, stop: &CancellationToken) {
        for attempt in 1.. {
            let done = match errand.task {
                Task::CarryOut(id) => self.complete(id, errand).await,
                Task::GiveBack(shipment, request) => {
                    let context = context(request, "giveBack", errand);
                    give_back(&self.market, &context, shipment, request)
                        .await
                        .map(drop)
                        .map_err(Failure::from)
                }
            };
            let wait = match (done, errand.task) {
                (Ok(()), _) => return,
                (Err(Failure::Later(reason)), _) => {
                    tracing::warn!(reason, attempt, "a return waits for a part of ours that is away");
                    pause(attempt).min(LONGEST_WAIT)
                }
                (Err(Failure::Undecided), _) => pause(attempt),
                (Err(Failure::Never(reason)), Task::CarryOut(id)) => {
                    tracing::error!(%id, reason, "a return is parked: it needs an operator");
                    match self.park(id, reason, errand).await {
                        Ok(()) => return,
                        Err(_) => pause(attempt).min(LONGEST_WAIT),
                    }
                }
                (Err(Failure::Never(reason)), Task::GiveBack(shipment, _)) => {
                    tracing::error!(%shipment, reason, "what was given up cannot be made a return");
                    return;
                }
            };
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(wait) => {} }
        }
    }

    async fn complete(&self, id: ReturnId, errand: &Errand<Task>) -> Result<(), Failure> {
        let accepted = |state: &ReturnsState| {
            let one = state.returns.get(&id.number)?;
            let accepted = one.accepted.clone().filter(|_| one.status == ReturnStatus::Accepted)?;
            Some((accepted, one.by_hand))
        };
        let returns = &self.market.aggregates.returns;
        // As it is by now, for another process may have accepted it: what is passed over here nobody asks for again.
        let Some((accepted, by_hand)) = returns.read(id.returns, accepted).await?.value else {
            return Ok(());
        };
        let ReturnsId { order_id, seller_id } = id.returns;
        let taking_back = context(id.refund_key(), "takeBack", errand);
        take_back(&self.market, &taking_back, ShipmentId { order_id, seller_id }, Some(id)).await?;
        self.put_back(&accepted, errand).await?;
        let number = id.number;
        let refunded = self.refund(id, accepted.refund, by_hand, errand).await?;
        let context = context(id.refund_key(), "complete", errand);
        returns.execute(id.returns, ReturnCommand::Complete { number, refunded }, &context).await?;
        Ok(())
    }

    async fn put_back(&self, accepted: &ReturnAccepted, errand: &Errand<Task>) -> Result<(), Failure> {
        let return_id = accepted.return_id;
        for line in accepted.lines.iter().filter(|line| line.disposition == Disposition::Restock) {
            let context = context(return_id.refund_key(), &format!("putBack/{}", line.sku_id), errand);
            let command = InventoryCommand::PutBack { return_id, quantity: line.quantity };
            self.market.aggregates.inventory.execute(line.sku_id, command, &context).await?;
        }
        Ok(())
    }

    /// Through the gateway, as far as the order was paid there and that is not with the buyer already; the rest as the
    /// credit that had paid it. By hand: an operator has paid what the gateway was asked for. What a stream has taken on for
    /// this return stays so: whoever does this again, or beside this, divides it alike.
    async fn refund(
        &self,
        id: ReturnId,
        refund: Money,
        by_hand: bool,
        errand: &Errand<Task>,
    ) -> Result<Money, Failure> {
        let context = context(id.refund_key(), "refund", errand);
        let by_gateway = self.ask_gateway(id, refund, &context).await?;
        let rest = Money { amount: refund.amount - by_gateway, ..refund };
        // Neither waits for the other: what can go back goes back.
        let settled = if by_hand {
            self.record_by_hand(id, by_gateway, &context).await
        } else {
            match settle(&self.market, id.returns.order_id, Some(id.refund_key()), &context).await {
                Ok(_) => Ok(()),
                Err(SettlementError::Log(error)) => Err(error.into()),
                Err(error @ (SettlementError::NotGivenBack { .. } | SettlementError::Disputed)) => {
                    Err(Failure::Never(error.to_string()))
                }
            }
        };
        let credited = self.credit(id, rest, &context).await?;
        settled?;
        Ok(Money { amount: by_gateway + credited, ..refund })
    }

    /// How much of it goes through the gateway, in minor units.
    async fn ask_gateway(&self, id: ReturnId, amount: Money, context: &Context) -> Result<i64, Failure> {
        let (order, refund_key) = (id.returns.order_id, id.refund_key());
        let payments = &self.market.aggregates.payments;
        // All of it may have been paid with credit.
        let is_charged = |state: &PaymentState| matches!(state, PaymentState::Charged { .. });
        if !payments.read(order, is_charged).await?.value {
            return Ok(0);
        }
        let command = PaymentCommand::RequestPartialRefund { refund_key, amount };
        payments.execute(order, command, context).await?;
        let asked = |state: &PaymentState| match state {
            PaymentState::Charged { taken_back, .. } => taken_back.refund(refund_key),
            _ => None,
        };
        Ok(payments.read(order, asked).await?.value.map_or(0, |(asked, _)| asked.amount))
    }

    async fn record_by_hand(&self, id: ReturnId, amount: i64, context: &Context) -> Result<(), Failure> {
        if amount == 0 {
            return Ok(());
        }
        let (refund_key, refund_id) = (id.refund_key(), format!("{BY_HAND}:{id}"));
        let command = PaymentCommand::RecordPartialRefund { refund_key, refund_id };
        self.market
            .aggregates
            .payments
            .execute(id.returns.order_id, command, &context.step("byHand"))
            .await?;
        Ok(())
    }

    /// Back to the gift cards and store credit that the order was paid with: how much, in minor units.
    async fn credit(&self, id: ReturnId, refund: Money, context: &Context) -> Result<i64, Failure> {
        let (order_id, refund_key) = (id.returns.order_id, id.refund_key());
        let used = |order: &Option<Order>| {
            order.as_ref().map(|order| order.placed.charges.credits.clone()).unwrap_or_default()
        };
        let credits = &self.market.aggregates.credits;
        let mut credited = 0;
        for CreditUse { credit_id, .. } in self.market.aggregates.orders.read(order_id, used).await?.value {
            let amount = Money { amount: refund.amount - credited, ..refund };
            if amount.amount == 0 {
                break;
            }
            let command = CreditCommand::Return { order_id, refund_key, amount, reason: None };
            credits.execute(credit_id, command, &context.step(&format!("credit/{credit_id}"))).await?;
            let returned = |credit: &CreditState| credit.returned(order_id, refund_key);
            credited += credits.read(credit_id, returned).await?.value.unwrap_or(0);
        }
        Ok(credited)
    }

    async fn park(
        &self,
        id: ReturnId,
        reason: String,
        errand: &Errand<Task>,
    ) -> Result<(), ExecuteError<ReturnError>> {
        // Parked once for each time that it was accepted or resumed.
        let context = context(id.refund_key(), &format!("park/{}", errand.cause), errand);
        let command = ReturnCommand::Park { number: id.number, reason };
        self.market.aggregates.returns.execute(id.returns, command, &context).await.map(drop)
    }
}

/// The same step again has the same id.
fn context(key: Uuid, step: &str, errand: &Errand<Task>) -> Context {
    Context {
        correlation_id: errand.correlation_id,
        causation_id: Some(errand.cause),
        ..Context::new(Uuid::new_v5(&key, step.as_bytes()), ACTOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_errand_that_comes_again_is_seen_to_after_the_one_under_way_and_once() {
        let (under_way, key) = (UnderWay(Mutex::default()), Uuid::from_u128(1));
        assert_eq!(under_way.begin(key, 1), Some(1));
        assert_eq!((under_way.begin(key, 2), under_way.begin(key, 3)), (None, None));
        assert_eq!(under_way.next(key), Some(3));
        assert_eq!(under_way.next(key), None);
        assert_eq!(under_way.begin(key, 4), Some(4));
    }
}
