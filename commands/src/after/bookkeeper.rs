//! Writes the sellers' ledgers from the log: a sale with its commission when an order is completed, and what refunds and
//! chargebacks take back of it. A chargeback waits for the sale; of an order that was cancelled it is none of the sellers'.
//! What a bank takes although it was given back is the market's loss, and stands in the ledgers of those who sold.
//!
//! Every entry has the name of what it stands for, and the ledger takes a name once. What is not booked yet is known from
//! the log: an entry is an answer to the event that asked for it.

use std::{collections::BTreeMap, sync::Arc};

use futures::{StreamExt, future::join_all};
use serde::{Deserialize, Serialize};
use souk_domain::{
    AccountId, DomainEvent, Money, OrderId, ReturnId, UnreadableEvent,
    item::ItemState,
    ledger::{
        self, CommissionRate, EntryKind, EntryPosted, Ledger, LedgerAccount, LedgerCommand, LedgerError,
        LedgerEvent, Posting, moved,
    },
    order::{Order, OrderLine, OrderPlaced, OrderStatus},
    payment::{PaymentEvent, PaymentState, PaymentType},
    returns::ReturnEvent,
};
use souk_event_log::{Direction, Filter, ReadError, Recorded};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    commissions::Commissions,
    follower::{Duty, Errand, Left, News},
};
use crate::{
    Category, Context, ExecuteError, Market,
    checkout::{LONGEST_WAIT, pause},
    executor::ReadFailure,
};

const ACTOR: &str = "process:bookkeeper";

#[derive(Clone, Serialize, Deserialize)]
pub(super) enum Task {
    Sale(OrderId),
    Refund(ReturnId, Money),
    Chargeback {
        order: OrderId,
        dispute: String,
        amount: Money,
        kind: EntryKind,
        /// What of it no seller bears.
        #[serde(default)]
        loss: Option<Money>,
    },
    /// Refunded as a whole while the bank took it back.
    Loss(OrderId, Money),
}

impl Task {
    /// The name of its entries.
    fn key(&self) -> Uuid {
        match self {
            Self::Sale(order) => key(*order, "sale"),
            Self::Refund(id, _) => key(id.returns.order_id, &format!("refund/{id}")),
            Self::Chargeback { order, dispute, kind: EntryKind::Chargeback, .. } => opened(*order, dispute),
            Self::Chargeback { order, dispute, .. } => key(*order, &format!("chargeback/{dispute}/closed")),
            Self::Loss(order, _) => key(*order, "loss"),
        }
    }
}

/// The name of the entries that hold what is in dispute.
fn opened(order: OrderId, dispute: &str) -> Uuid {
    key(order, &format!("chargeback/{dispute}"))
}

fn key(order: OrderId, name: &str) -> Uuid {
    Uuid::new_v5(&order.0, format!("ledger/{name}").as_bytes())
}

#[derive(Debug, thiserror::Error)]
enum BookError {
    #[error(transparent)]
    Ledger(#[from] ExecuteError<LedgerError>),
    #[error(transparent)]
    Read(#[from] ReadFailure),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error(transparent)]
    Event(#[from] UnreadableEvent),
    #[error("order {0} is not there")]
    NoOrder(OrderId),
    #[error("what it takes back from is not booked yet")]
    Waits,
    #[error("it is none of the sellers'")]
    Never,
}

impl BookError {
    fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Ledger(ExecuteError::Unavailable(_) | ExecuteError::Stale { .. })
                | Self::Read(ReadFailure::Unavailable(_))
                | Self::Log(ReadError::Unavailable(_))
        )
    }
}

pub(super) struct Bookkeeper {
    market: Arc<Market>,
    commissions: Commissions,
}

impl Duty for Bookkeeper {
    type Task = Task;

    const NAME: &'static str = "bookkeeper";

    fn filter() -> Filter {
        Filter::event_types([
            "OrderCompleted",
            "ReturnCompleted",
            "PaymentRefunded",
            "ChargebackOpened",
            "ChargebackClosed",
            "EntryPosted",
        ])
    }

    fn read(recorded: &Recorded) -> Result<Option<News<Task>>, UnreadableEvent> {
        let (name, version, id) = (&*recorded.event_type, recorded.schema_version(), recorded.stream.id());
        let task = match name {
            "OrderCompleted" => id.parse().ok().map(Task::Sale),
            "ReturnCompleted" => match ReturnEvent::from_json(name, version, &recorded.data)? {
                ReturnEvent::ReturnCompleted(event) if event.refunded.amount > 0 => {
                    Some(Task::Refund(event.return_id, event.refunded))
                }
                _ => None,
            },
            "EntryPosted" => match LedgerEvent::from_json(name, version, &recorded.data)? {
                LedgerEvent::EntryPosted(event) => {
                    return Ok(Some(News::Answers(event.entry_id, event.parts)));
                }
                _ => None,
            },
            _ => {
                let (Ok(order), event) =
                    (id.parse(), PaymentEvent::from_json(name, version, &recorded.data)?)
                else {
                    return Ok(None);
                };
                taken_by_the_bank(order, event)
            }
        };
        Ok(task.map(|task| News::Asks(task.key(), task)))
    }

    /// Sales go to the ledgers together, so that each takes its own in one append. What takes back of a sale looks at what
    /// was taken back before, and so goes one by one.
    async fn see_to(self: Arc<Self>, errands: Vec<Errand<Task>>, stop: &CancellationToken) -> Left<Task> {
        let is_sale = |errand: &Errand<Task>| matches!(errand.task, Task::Sale(_));
        let (sales, others): (Vec<_>, Vec<_>) = errands.into_iter().partition(is_sale);
        join_all(sales.iter().map(|errand| self.book(errand, stop))).await;
        let mut left = Left::default();
        for errand in others {
            match self.book(&errand, stop).await {
                Err(BookError::Waits) => left.waiting.push(errand),
                Err(BookError::Never) => left.never.push(errand.task.key()),
                _ => {}
            }
        }
        left
    }
}

fn taken_by_the_bank(order: OrderId, event: PaymentEvent) -> Option<Task> {
    let loss = event.loss();
    let (dispute, amount, kind) = match event {
        PaymentEvent::ChargebackOpened(event) => (event.dispute_id, event.amount, EntryKind::Chargeback),
        PaymentEvent::ChargebackClosed(event) if event.won => {
            (event.dispute_id, event.amount, EntryKind::ChargebackWon)
        }
        PaymentEvent::ChargebackClosed(event) => (event.dispute_id, event.amount, EntryKind::ChargebackLost),
        PaymentEvent::PaymentRefunded(_) => return loss.map(|loss| Task::Loss(order, loss)),
        _ => return None,
    };
    Some(Task::Chargeback { order, dispute, amount, kind, loss })
}

/// A sale as it was booked, and what was taken back of it since.
#[derive(Default)]
struct Sold {
    is_booked: bool,
    gross: i64,
    commission: i64,
    taken_back: i64,
    commission_back: i64,
    /// In dispute.
    held: i64,
    /// What each dispute was opened with, by the name of its entry.
    disputes: BTreeMap<Uuid, i64>,
}

impl Sold {
    /// What a further chargeback can still take.
    fn left(&self) -> i64 {
        self.gross.saturating_sub(self.taken_back).saturating_sub(self.held).max(0)
    }

    /// What of the commission goes back with so much more of the price: in proportion, and all of it with all of that.
    fn commission_of(&self, amount: i64) -> i64 {
        let taken_back = self.taken_back.saturating_add(amount).min(self.gross);
        let exact = i128::from(self.commission) * i128::from(taken_back) / i128::from(self.gross.max(1));
        i64::try_from(exact).unwrap_or(self.commission).saturating_sub(self.commission_back).max(0)
    }
}

impl Bookkeeper {
    pub(super) fn new(market: Arc<Market>, commissions: Commissions) -> Arc<Self> {
        Arc::new(Self { market, commissions })
    }

    /// Until it is in the books. What this program cannot book is left to a later one: nothing answers for it.
    async fn book(&self, errand: &Errand<Task>, stop: &CancellationToken) -> Result<(), BookError> {
        let mut attempt = 1;
        loop {
            let error = match self.try_to_book(errand).await {
                Err(error) if error.is_passing() => error,
                Err(error) if !matches!(error, BookError::Waits | BookError::Never) => {
                    tracing::error!(entry = %errand.task.key(), %error, "an entry of the ledger cannot be booked");
                    return Err(error);
                }
                done => return done,
            };
            tracing::warn!(attempt, %error, "the bookkeeper waits for a part of ours that is away");
            let wait = pause(attempt).min(LONGEST_WAIT);
            attempt += 1;
            tokio::select! { () = stop.cancelled() => return Err(error), () = tokio::time::sleep(wait) => {} }
        }
    }

    async fn try_to_book(&self, errand: &Errand<Task>) -> Result<(), BookError> {
        let (order, entries) = match &errand.task {
            Task::Sale(id) => {
                let order = self.order(*id).await?;
                let entries = self.sale(&order.placed).await?;
                (order, entries)
            }
            Task::Refund(id, amount) => {
                let order = self.order(id.returns.order_id).await?;
                let seller = id.returns.seller_id;
                let entry = taken_back(&self.sold(seller, id.returns.order_id).await?, *amount);
                (order, vec![(seller, EntryKind::Refund, vec![], entry)])
            }
            Task::Chargeback { order: id, dispute, amount, kind, loss } => {
                // How it stands by now, wherever it was completed.
                let order = self.market.aggregates.orders.read(*id, Option::clone).await?.value;
                let order = order.ok_or(BookError::NoOrder(*id))?;
                let given_up = |state: &PaymentState| matches!(state, PaymentState::Refunded { .. });
                let loss = loss.unwrap_or(Money { amount: 0, ..*amount });
                let entries = if order.status == OrderStatus::Cancelled
                    || self.market.aggregates.payments.read(*id, given_up).await?.value
                {
                    lost(&order.placed, loss)?
                } else {
                    self.disputed(*id, &order, opened(*id, dispute), *amount, *kind, loss).await?
                };
                (order, entries)
            }
            Task::Loss(id, loss) => {
                let order = self.order(*id).await?;
                let entries = lost(&order.placed, *loss)?;
                (order, entries)
            }
        };
        let (parts, entry_id, order_id) = (entries.len() as u32, errand.task.key(), errand.task.order());
        let context = Context {
            correlation_id: errand.correlation_id,
            causation_id: Some(errand.cause),
            // What was imported happened in the past, and so did its sale.
            occurred_at: errand
                .occurred_at
                .filter(|_| order.placed.payment.payment_type == PaymentType::Invoice),
            ..Context::new(entry_id, ACTOR)
        };
        let ledgers = &self.market.aggregates.ledgers;
        let posted = entries.into_iter().map(|(seller, kind, rates, postings)| {
            let postings = by_account(&postings);
            let entry = EntryPosted { entry_id, kind, order_id, parts, rates, postings };
            ledgers.execute(seller, LedgerCommand::Post(entry), &context)
        });
        for posted in join_all(posted).await {
            posted?;
        }
        Ok(())
    }

    async fn order(&self, id: OrderId) -> Result<Order, BookError> {
        let orders = &self.market.aggregates.orders;
        // What was placed never changes. It may have been placed elsewhere, since it was seen here.
        if let Some(order) = orders.seen(id, Option::clone).await?.value {
            return Ok(order);
        }
        orders.read(id, Option::clone).await?.value.ok_or(BookError::NoOrder(id))
    }

    async fn sale(&self, placed: &OrderPlaced) -> Result<Vec<Entry>, BookError> {
        let mut entries = Vec::new();
        for (seller, gross) in ledger::gross(placed) {
            let lines = placed.lines.iter().filter(|line| line.seller_id == seller);
            let rates = self.rates(lines, gross).await?;
            let commission = rates.iter().map(CommissionRate::commission).fold(0, i64::saturating_add);
            let of = |account, units| Posting { account, amount: Money { amount: units, ..gross } };
            let postings = vec![
                of(LedgerAccount::Clearing, -gross.amount),
                of(LedgerAccount::SellerPayable, gross.amount - commission),
                of(LedgerAccount::Commission, commission),
            ];
            entries.push((seller, EntryKind::Sale, rates, postings));
        }
        Ok(entries)
    }

    /// The rates, and what of the seller's share each is charged on. An item's category is what it is by now.
    async fn rates(
        &self,
        lines: impl Iterator<Item = &OrderLine>,
        gross: Money,
    ) -> Result<Vec<CommissionRate>, BookError> {
        let mut weights = BTreeMap::<u32, i64>::new();
        for line in lines {
            let category = if self.commissions.is_flat() {
                vec![]
            } else {
                self.market.aggregates.items.seen(line.item_id, category_of).await?.value
            };
            let price = line.unit_price.amount.saturating_mul(line.quantity.into());
            let weight = weights.entry(self.commissions.rate(&category)).or_default();
            *weight = weight.saturating_add(price);
        }
        let rates = ledger::shares(gross, &weights).into_iter();
        let rates = rates.map(|(basis_points, on)| CommissionRate { on, basis_points });
        Ok(rates.filter(|rate| rate.basis_points > 0).collect())
    }

    /// What is opened is shared by what each seller still has of the sale, and what is closed as it was opened.
    async fn disputed(
        &self,
        id: OrderId,
        order: &Order,
        opened: Uuid,
        amount: Money,
        kind: EntryKind,
        loss: Money,
    ) -> Result<Vec<Entry>, BookError> {
        if order.status != OrderStatus::Completed {
            return Err(BookError::Waits);
        }
        let mut sold = BTreeMap::new();
        for seller in ledger::by_seller(&order.placed).into_keys() {
            sold.insert(seller, self.sold(seller, id).await?);
        }
        // Before a crash it may have come to some of the sellers.
        let share = |(seller, sold): (&AccountId, &Sold)| {
            sold.disputes.get(&opened).map(|share| (*seller, Money { amount: *share, ..amount }))
        };
        let mut shares: BTreeMap<_, _> = sold.iter().filter_map(share).collect();
        if shares.len() < sold.len() {
            if kind != EntryKind::Chargeback || sold.values().any(|sold| !sold.is_booked) {
                return Err(BookError::Waits);
            }
            let mut left = ledger::by_seller(&order.placed);
            left.retain(|seller, _| !shares.contains_key(seller));
            if left.keys().any(|seller| sold[seller].left() > 0) {
                left = left.into_keys().map(|seller| (seller, sold[&seller].left())).collect();
            }
            let rest = shares.values().fold(amount.amount, |rest, share| rest - share.amount);
            shares.extend(ledger::shares(Money { amount: rest, ..amount }, &left));
        }
        let losses = parts(loss, &shares);
        let entry = |(seller, sold): (AccountId, Sold)| {
            let of = |parts: &BTreeMap<AccountId, Money>| {
                parts.get(&seller).copied().unwrap_or(Money { amount: 0, ..amount })
            };
            (seller, kind, vec![], disputed(&sold, of(&shares), kind, of(&losses)))
        };
        Ok(sold.into_iter().map(entry).collect())
    }

    /// Looked up in the ledger, newest first: what is returned was mostly sold not long ago.
    async fn sold(&self, seller: AccountId, order: OrderId) -> Result<Sold, BookError> {
        let stream = Category::<Ledger>::stream(seller);
        let mut events = self.market.log.read_stream(&stream, u64::MAX >> 1, Direction::Backward, usize::MAX);
        let mut sold = Sold::default();
        while let Some(recorded) = events.next().await.transpose()? {
            if &*recorded.event_type != "EntryPosted" {
                continue;
            }
            let version = recorded.schema_version();
            let LedgerEvent::EntryPosted(entry) =
                LedgerEvent::from_json(&recorded.event_type, version, &recorded.data)?
            else {
                continue;
            };
            if entry.order_id != order {
                continue;
            }
            let sum = |account| {
                let of_account = entry.postings.iter().filter(|posting| posting.account == account);
                of_account.map(|posting| posting.amount.amount).sum::<i64>()
            };
            match entry.kind {
                EntryKind::Sale => {
                    sold.is_booked = true;
                    sold.gross = -sum(LedgerAccount::Clearing);
                    sold.commission = sum(LedgerAccount::Commission);
                    break;
                }
                EntryKind::Refund | EntryKind::ChargebackLost => {
                    sold.taken_back += sum(LedgerAccount::Clearing) + sum(LedgerAccount::Losses);
                    sold.commission_back -= sum(LedgerAccount::Commission);
                }
                EntryKind::Chargeback => {
                    sold.disputes.insert(entry.entry_id, sum(LedgerAccount::Chargebacks));
                }
                EntryKind::ChargebackWon => {}
            }
            sold.held += sum(LedgerAccount::Chargebacks);
        }
        Ok(sold)
    }
}

/// The price back to the buyer, and its commission back to the seller.
fn taken_back(sold: &Sold, amount: Money) -> Vec<Posting> {
    use LedgerAccount::{Clearing, Commission, SellerPayable};
    let back = Money { amount: sold.commission_of(amount.amount), ..amount };
    [moved(amount, SellerPayable, Clearing), moved(back, Commission, SellerPayable)].concat()
}

/// `loss`: what of the share the market bears.
fn disputed(sold: &Sold, share: Money, kind: EntryKind, loss: Money) -> Vec<Posting> {
    use LedgerAccount::{Chargebacks, Clearing, Losses, SellerPayable};
    let own = Money { amount: share.amount - loss.amount, ..share };
    let back = moved(share, Chargebacks, SellerPayable);
    match kind {
        EntryKind::Chargeback => moved(share, SellerPayable, Chargebacks),
        EntryKind::ChargebackLost => [back, taken_back(sold, own), moved(loss, Losses, Clearing)].concat(),
        EntryKind::ChargebackWon | EntryKind::Sale | EntryKind::Refund => back,
    }
}

/// Of an order that was cancelled, and so is nobody's sale.
fn lost(placed: &OrderPlaced, loss: Money) -> Result<Vec<Entry>, BookError> {
    if loss.amount == 0 {
        return Err(BookError::Never);
    }
    let shares = ledger::shares(loss, &ledger::by_seller(placed)).into_iter();
    let postings = |share| moved(share, LedgerAccount::Losses, LedgerAccount::Clearing);
    Ok(shares.map(|(seller, share)| (seller, EntryKind::ChargebackLost, vec![], postings(share))).collect())
}

/// Divides an amount in proportion to what it is a part of, so that none gets more than that; of [`ledger::shares`] the last
/// one could.
fn parts(amount: Money, of: &BTreeMap<AccountId, Money>) -> BTreeMap<AccountId, Money> {
    let whole = of.values().map(|of| i128::from(of.amount)).sum::<i128>().max(1);
    let (mut sum, mut given) = (0, 0);
    let part = |(seller, of): (&AccountId, &Money)| {
        sum += i128::from(of.amount);
        let upto = i64::try_from(i128::from(amount.amount) * sum / whole).unwrap_or(amount.amount);
        let part = upto - std::mem::replace(&mut given, upto);
        (*seller, Money { amount: part, ..amount })
    };
    of.iter().map(part).collect()
}

/// Of whom, what, at which rates, and what it moves.
type Entry = (AccountId, EntryKind, Vec<CommissionRate>, Vec<Posting>);

impl Task {
    fn order(&self) -> OrderId {
        match self {
            Self::Sale(order) | Self::Chargeback { order, .. } | Self::Loss(order, _) => *order,
            Self::Refund(id, _) => id.returns.order_id,
        }
    }
}

/// One posting per account that moves.
fn by_account(postings: &[Posting]) -> Vec<Posting> {
    let mut sums = BTreeMap::<LedgerAccount, Money>::new();
    for Posting { account, amount } in postings {
        let sum = sums.entry(*account).or_insert(Money { amount: 0, ..*amount });
        sum.amount = sum.amount.saturating_add(amount.amount);
    }
    let postings = sums.into_iter().map(|(account, amount)| Posting { account, amount });
    postings.filter(|posting| posting.amount.amount != 0).collect()
}

fn category_of(item: &ItemState) -> Vec<String> {
    item.as_ref().map(|item| item.details.category.clone()).unwrap_or_default()
}
