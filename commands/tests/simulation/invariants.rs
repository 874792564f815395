//! What holds whatever went wrong: read from the log alone, by rules of its own, and compared with the gateways' books.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use souk_audit::{Audit, Finding};
use souk_domain::{
    AccountId, CartId, CreditId, DomainEvent, OrderId, PromotionId, ReturnId, SkuId,
    cart::{CartCheckedOut, CartEvent},
    credit::CreditEvent,
    inventory::InventoryEvent,
    ledger::{LedgerAccount, LedgerEvent},
    order::{OrderEvent, OrderPlaced},
    payment::PaymentEvent,
    promotion::PromotionEvent,
    returns::{Disposition, ReturnAccepted, ReturnEvent},
    shipment::ShipmentEvent,
};
use souk_event_log::Recorded;
use souk_gateways::Charge;
use uuid::Uuid;

use crate::{shoppers::Memory, till::Books, world::World};

#[derive(Default)]
struct Stock {
    on_hand: i64,
    open: BTreeMap<OrderId, u32>,
    ended: BTreeMap<OrderId, u32>,
}

#[derive(Default)]
struct Paid {
    requested: Vec<i64>,
    charged: Vec<i64>,
    failed: u32,
    refunded: Vec<i64>,
    /// What of these an operator has paid.
    by_hand: i64,
    /// By key.
    partly: BTreeMap<Uuid, i64>,
    /// What was asked to go back in parts.
    asked: i64,
    /// By name: undecided, won or lost.
    disputes: BTreeMap<String, (i64, Option<bool>)>,
    /// Those that were there when all was asked back.
    known: Option<BTreeSet<String>>,
    /// Disputes that the market lost.
    lost: i64,
    /// What is said to have gone back beyond the charge.
    losses: i64,
}

impl Paid {
    fn taken(&self) -> i64 {
        self.charged.iter().sum()
    }

    fn gone(&self) -> i64 {
        self.partly.values().sum::<i64>() + self.lost
    }

    /// What banks hold or keep, of the disputes that `counts` names.
    fn disputed(&self, counts: impl Fn(&str) -> bool) -> i64 {
        let disputes = self.disputes.iter().filter(|(name, (_, won))| *won != Some(true) && counts(name));
        disputes.map(|(_, (amount, _))| amount).sum()
    }

    /// What goes back as a whole is the rest that the bank had left, as far as that could be known when it was asked for.
    fn is_the_rest(&self, amount: i64) -> bool {
        let Some(known) = &self.known else { return false };
        let undecided = known.iter().any(|name| self.disputes[name].1.is_none());
        let rest = |taken: i64| (self.taken() - taken).max(0);
        let most = rest(self.disputed(|name| known.contains(name)));
        !undecided && (rest(self.disputed(|_| true))..=most).contains(&amount)
    }
}

/// The books of one seller.
#[derive(Default)]
struct SellerBooks {
    entries: BTreeSet<Uuid>,
    balances: BTreeMap<LedgerAccount, i64>,
    /// What entries about an order moved into clearing, and into losses.
    moved: BTreeMap<OrderId, (i64, i64)>,
}

/// A promotion: who holds it, and who has used it up.
#[derive(Default)]
struct Coupons {
    limit: usize,
    per_buyer: usize,
    /// Claimed and redeemed.
    used: BTreeMap<OrderId, AccountId>,
    open: BTreeSet<OrderId>,
    ended: BTreeSet<OrderId>,
}

/// A gift card or store credit.
#[derive(Default)]
struct Purse {
    balance: i64,
    open: BTreeMap<OrderId, i64>,
    ended: BTreeSet<OrderId>,
}

/// The log, sorted by what it is about.
#[derive(Default)]
pub(crate) struct Story {
    problems: Vec<String>,
    carts: BTreeMap<CartId, OrderId>,
    checkouts: BTreeMap<OrderId, CartCheckedOut>,
    placed: BTreeMap<OrderId, OrderPlaced>,
    /// The types of each order's events.
    orders: BTreeMap<OrderId, Vec<&'static str>>,
    stock: BTreeMap<SkuId, Stock>,
    committed: BTreeMap<(OrderId, SkuId), u32>,
    payments: BTreeMap<OrderId, Paid>,
    shipments: BTreeMap<(OrderId, AccountId), Vec<&'static str>>,
    coupons: BTreeMap<PromotionId, Coupons>,
    purses: BTreeMap<CreditId, Purse>,
    redeemed: BTreeSet<(OrderId, PromotionId)>,
    spent: BTreeMap<(OrderId, CreditId), i64>,
    /// What came back to credit, by order, refund and credit.
    credited: BTreeMap<(OrderId, Uuid, CreditId), i64>,
    /// Units that were accepted to be returned.
    returned: BTreeMap<(OrderId, SkuId), u32>,
    /// Units that are not sent, since they were returned before.
    withheld: BTreeMap<(OrderId, SkuId), u32>,
    accepted: BTreeMap<ReturnId, ReturnAccepted>,
    completed_returns: BTreeMap<ReturnId, i64>,
    put_back: BTreeMap<(ReturnId, SkuId), u32>,
    ledgers: BTreeMap<AccountId, SellerBooks>,
}

fn read<E: DomainEvent>(recorded: &Recorded) -> E {
    E::from_json(&recorded.event_type, recorded.schema_version(), &recorded.data).expect("an event of today")
}

fn id<T: std::str::FromStr>(recorded: &Recorded) -> T {
    recorded.stream.id().parse().ok().expect("an id")
}

impl Story {
    pub(crate) fn of(world: &World) -> Self {
        let mut story = Self::default();
        for event in world.log.events() {
            story.take(&event);
        }
        story
    }

    fn wrong(&mut self, problem: String) {
        self.problems.push(problem);
    }

    fn take(&mut self, event: &Recorded) {
        match event.stream.category() {
            "cart" => self.cart(id(event), read(event)),
            "order" => self.order(id(event), read(event)),
            "inventory" => self.inventory(id(event), read(event)),
            "payment" => self.payment(id(event), read(event)),
            "promotion" => self.promotion(id(event), read(event)),
            "credit" => self.credit(id(event), &read(event)),
            "shipment" => {
                let souk_domain::ShipmentId { order_id, seller_id } = id(event);
                let event = read::<ShipmentEvent>(event);
                if let ShipmentEvent::UnitsGivenUp(event) = &event {
                    for line in &event.lines {
                        *self.withheld.entry((order_id, line.sku_id)).or_default() += line.quantity;
                    }
                    return;
                }
                self.shipments.entry((order_id, seller_id)).or_default().push(event.event_type());
            }
            "return" => self.returns(read(event)),
            "ledger" => self.ledger(id(event), read(event)),
            _ => {}
        }
    }

    fn returns(&mut self, event: ReturnEvent) {
        let id = event.return_id();
        match event {
            ReturnEvent::ReturnAccepted(event) => {
                for line in &event.lines {
                    let key = (id.returns.order_id, line.sku_id);
                    *self.returned.entry(key).or_default() += line.quantity;
                }
                if self.accepted.insert(id, event).is_some() {
                    self.wrong(format!("return {id} is accepted twice"));
                }
            }
            ReturnEvent::ReturnCompleted(event) => {
                if self.completed_returns.insert(id, event.refunded.amount).is_some() {
                    self.wrong(format!("return {id} is completed twice"));
                }
            }
            ReturnEvent::ReturnRequested(_)
            | ReturnEvent::ReturnDeclined(_)
            | ReturnEvent::ReturnParked(_)
            | ReturnEvent::ReturnResumed(_)
            | ReturnEvent::ReturnSettled(_) => {}
        }
    }

    fn ledger(&mut self, seller: AccountId, event: LedgerEvent) {
        let books = self.ledgers.entry(seller).or_default();
        let mut problem = None;
        let postings = event.postings();
        if postings.iter().map(|posting| posting.amount.amount).sum::<i64>() != 0 {
            problem = Some(format!("{postings:?} do not sum to zero"));
        }
        for posting in &postings {
            *books.balances.entry(posting.account).or_default() += posting.amount.amount;
        }
        match event {
            LedgerEvent::EntryPosted(entry) => {
                let sum = |account| {
                    let of_account = postings.iter().filter(|posting| posting.account == account);
                    of_account.map(|posting| posting.amount.amount).sum::<i64>()
                };
                let moved = books.moved.entry(entry.order_id).or_default();
                moved.0 += sum(LedgerAccount::Clearing);
                moved.1 += sum(LedgerAccount::Losses);
                if !books.entries.insert(entry.entry_id) {
                    problem = Some(format!("{seller} books {} twice", entry.entry_id));
                }
            }
            LedgerEvent::PayoutRequested(_) => {
                if books.balances.get(&LedgerAccount::SellerPayable).is_some_and(|owed| *owed < 0) {
                    problem = Some(format!("{seller} is paid more than he is owed"));
                }
            }
            LedgerEvent::PayoutSettled(_) | LedgerEvent::PayoutFailed(_) => {}
        }
        self.problems.extend(problem);
    }

    /// What of these refunds came back to credit.
    fn credited(&self, order: OrderId, refunds: RangeInclusive<Uuid>) -> i64 {
        let (first, last) = (CreditId(Uuid::nil()), CreditId(Uuid::max()));
        let of = (order, *refunds.start(), first)..=(order, *refunds.end(), last);
        self.credited.range(of).map(|(_, amount)| amount).sum()
    }

    /// Returns against what was bought, put back and refunded; the ledgers against the payments.
    fn of_after(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for ((order, sku), units) in &self.returned {
            let lines = self.placed.get(order).into_iter().flat_map(|placed| &placed.lines);
            let bought: u32 = lines.filter(|line| line.sku_id == *sku).map(|line| line.quantity).sum();
            if *units > bought {
                problems.push(format!("of order {order} {units} of {sku} come back, {bought} were bought"));
            }
        }
        if self.withheld != self.returned {
            problems.push(format!(
                "{:?} are withheld of {:?} that no one has sent",
                self.withheld, self.returned
            ));
        }
        let mut restocked = BTreeMap::new();
        for (id, accepted) in &self.accepted {
            for line in accepted.lines.iter().filter(|line| line.disposition == Disposition::Restock) {
                *restocked.entry((*id, line.sku_id)).or_default() += line.quantity;
            }
            let (order, key) = (id.returns.order_id, id.refund_key());
            let by_gateway = self.payments.get(&order).and_then(|paid| paid.partly.get(&key));
            let refunded = by_gateway.unwrap_or(&0) + self.credited(order, key..=key);
            let (wanted, said) = (accepted.refund.amount, self.completed_returns.get(id));
            // What the bank has taken back is not given back once more.
            let lost = self.payments.get(&order).map_or(0, |paid| paid.lost);
            if said != Some(&refunded) || !(wanted - lost..=wanted).contains(&refunded) {
                problems.push(format!("return {id} of {wanted} refunds {refunded}, and says {said:?}"));
            }
        }
        if restocked != self.put_back {
            problems.push(format!("{:?} are put back of {restocked:?}", self.put_back));
        }
        let (mut booked, mut lost) = (BTreeMap::<OrderId, i64>::new(), BTreeMap::<OrderId, i64>::new());
        for books in self.ledgers.values() {
            for (order, (clearing, losses)) in &books.moved {
                *booked.entry(*order).or_default() += clearing;
                *lost.entry(*order).or_default() -= losses;
            }
        }
        for order in self.checkouts.keys() {
            let held = match (self.end_of(*order), self.payments.get(order)) {
                (Some("OrderCompleted"), Some(paid)) => {
                    let of_order = (*order, CreditId(Uuid::nil()))..=(*order, CreditId(Uuid::max()));
                    let spent: i64 = self.spent.range(of_order).map(|(_, amount)| amount).sum();
                    let credited = self.credited(*order, Uuid::nil()..=Uuid::max());
                    paid.taken() - paid.gone() + spent - credited
                }
                (_, Some(paid)) => paid.taken() - paid.refunded.iter().sum::<i64>() - paid.lost,
                _ => 0,
            };
            let booked = booked.get(order).copied().unwrap_or(0);
            if booked != -held {
                problems.push(format!("order {order} holds {held}, the ledgers say {}", -booked));
            }
            let losses = self.payments.get(order).map_or(0, |paid| paid.losses);
            let booked = lost.get(order).copied().unwrap_or(0);
            if booked != losses {
                problems.push(format!("of order {order} {losses} are lost, the ledgers say {booked}"));
            }
        }
        problems
    }

    fn cart(&mut self, cart: CartId, event: CartEvent) {
        let CartEvent::CartCheckedOut(checkout) = event else { return };
        let order = checkout.order_id;
        if self.carts.insert(cart, order).is_some() {
            self.wrong(format!("cart {cart} is checked out twice"));
        }
        if self.checkouts.insert(order, checkout).is_some() {
            self.wrong(format!("order {order} comes of two carts"));
        }
    }

    fn order(&mut self, order: OrderId, event: OrderEvent) {
        self.orders.entry(order).or_default().push(event.event_type());
        if let OrderEvent::OrderPlaced(placed) = event {
            let agreed = self.checkouts.get(&order);
            let same = |agreed: &CartCheckedOut| {
                agreed.lines == placed.lines
                    && (agreed.total, &agreed.charges) == (placed.total, &placed.charges)
            };
            if !agreed.is_some_and(same) {
                self.wrong(format!("order {order} is not what was checked out"));
            }
            if !adds_up(&placed) {
                self.wrong(format!("order {order} does not add up"));
            }
            self.placed.insert(order, placed);
        }
    }

    fn inventory(&mut self, sku: SkuId, event: InventoryEvent) {
        let stock = self.stock.entry(sku).or_default();
        let mut problem = None;
        match event {
            InventoryEvent::StockReceived(event) => stock.on_hand += i64::from(event.quantity),
            InventoryEvent::StockAdjusted(event) => stock.on_hand += event.change,
            InventoryEvent::StockReturned(event) => {
                stock.on_hand += i64::from(event.quantity);
                *self.put_back.entry((event.return_id, sku)).or_default() += event.quantity;
            }
            InventoryEvent::StockReserved(event) => {
                let known = stock.ended.contains_key(&event.order_id);
                if stock.open.insert(event.order_id, event.quantity).is_some() || known {
                    problem = Some(format!("{} reserves {sku} twice", event.order_id));
                }
            }
            InventoryEvent::ReservationRejected(event) => drop(stock.ended.insert(event.order_id, 0)),
            InventoryEvent::ReservationReleased(event) => {
                if stock.open.remove(&event.order_id).unwrap_or(0) != event.quantity {
                    problem = Some(format!("{} releases {} of {sku}", event.order_id, event.quantity));
                }
                stock.ended.insert(event.order_id, 0);
            }
            InventoryEvent::ReservationCommitted(event) => {
                if stock.open.remove(&event.order_id) != Some(event.quantity) {
                    problem = Some(format!("{} commits {} of {sku}", event.order_id, event.quantity));
                }
                stock.ended.insert(event.order_id, event.quantity);
                stock.on_hand -= i64::from(event.quantity);
                self.committed.insert((event.order_id, sku), event.quantity);
            }
        }
        let reserved: i64 = stock.open.values().copied().map(i64::from).sum();
        if reserved > stock.on_hand {
            problem = Some(format!("of {sku} {reserved} are reserved and {} there", stock.on_hand));
        }
        self.problems.extend(problem);
    }

    fn payment(&mut self, order: OrderId, event: PaymentEvent) {
        let paid = self.payments.entry(order).or_default();
        let mut problem = None;
        match event {
            PaymentEvent::PaymentPartlyRefunded(event) => {
                if paid.partly.insert(event.refund_key, event.amount.amount).is_some() {
                    problem = Some(format!("order {order} is refunded {} twice", event.refund_key));
                }
            }
            PaymentEvent::ChargebackOpened(event) => {
                if paid.disputes.insert(event.dispute_id.clone(), (event.amount.amount, None)).is_some() {
                    problem = Some(format!("{} is opened twice", event.dispute_id));
                }
            }
            PaymentEvent::ChargebackClosed(event) => {
                let decided = (event.amount.amount, Some(event.won));
                if paid.disputes.insert(event.dispute_id.clone(), decided) != Some((decided.0, None)) {
                    problem = Some(format!("{} is closed and was not open", event.dispute_id));
                }
                paid.lost += if event.won { 0 } else { event.amount.amount };
                paid.losses += event.loss.map_or(0, |loss| loss.amount);
            }
            PaymentEvent::RefundRequested(_) => paid.known = Some(paid.disputes.keys().cloned().collect()),
            PaymentEvent::PartialRefundRequested(event) => {
                paid.asked += event.amount.amount;
                if event.amount.amount > 0 && paid.asked + paid.disputed(|_| true) > paid.taken() {
                    problem = Some(format!("of order {order} more is to go back than is left"));
                }
            }
            PaymentEvent::PaymentRequested(event) => paid.requested.push(event.amount.amount),
            PaymentEvent::PaymentCompleted(event) => paid.charged.push(event.amount.amount),
            PaymentEvent::PaymentFailed(_) => paid.failed += 1,
            PaymentEvent::PaymentRefunded(event) => {
                let amount = event.amount.amount;
                if !paid.is_the_rest(amount) {
                    problem = Some(format!("{amount} of order {order} are not what was left of it"));
                }
                paid.refunded.push(amount);
                paid.losses += event.loss.map_or(0, |loss| loss.amount);
                paid.by_hand += if event.refund_id.starts_with("byHand:") { amount } else { 0 };
            }
            PaymentEvent::PaymentActionRequired(_) => {}
        }
        // Only the bank takes more than there is, and that is said to be lost.
        let (given, gone) =
            (paid.refunded.iter().sum::<i64>(), paid.refunded.iter().sum::<i64>() + paid.asked);
        if paid.partly.values().sum::<i64>() + given > paid.taken()
            || paid.losses != (gone + paid.lost - paid.taken()).max(0)
        {
            problem = Some(format!(
                "of order {order}, charged {}, {gone} goes back and {} is lost, said to be {} too much",
                paid.taken(),
                paid.lost,
                paid.losses
            ));
        }
        self.problems.extend(problem);
    }

    fn promotion(&mut self, promotion: PromotionId, event: PromotionEvent) {
        let coupons = self.coupons.entry(promotion).or_default();
        let mut problem = None;
        match event {
            PromotionEvent::PromotionCreated(event) => {
                let limit = |limit: Option<u32>| limit.map_or(usize::MAX, |limit| limit as usize);
                (coupons.limit, coupons.per_buyer) = (limit(event.limit), limit(event.limit_per_buyer));
            }
            PromotionEvent::CouponClaimed(event) => {
                let known = coupons.ended.contains(&event.order_id);
                if !coupons.open.insert(event.order_id) || known {
                    problem = Some(format!("{} claims {promotion} twice", event.order_id));
                }
                coupons.used.insert(event.order_id, event.buyer_id);
                let by_buyer = coupons.used.values().filter(|buyer| **buyer == event.buyer_id).count();
                if coupons.used.len() > coupons.limit || by_buyer > coupons.per_buyer {
                    problem = Some(format!("{promotion} is used too often: {:?}", coupons.used));
                }
            }
            PromotionEvent::CouponReleased(event) => {
                coupons.open.remove(&event.order_id);
                coupons.used.remove(&event.order_id);
                coupons.ended.insert(event.order_id);
            }
            PromotionEvent::CouponRedeemed(event) => {
                if !coupons.open.remove(&event.order_id) {
                    problem = Some(format!("{} redeems {promotion} unclaimed", event.order_id));
                }
                coupons.ended.insert(event.order_id);
                self.redeemed.insert((event.order_id, promotion));
            }
            PromotionEvent::CouponRejected(_) | PromotionEvent::PromotionEnded(_) => {}
        }
        self.problems.extend(problem);
    }

    fn credit(&mut self, credit: CreditId, event: &CreditEvent) {
        let purse = self.purses.entry(credit).or_default();
        let mut problem = None;
        match event {
            CreditEvent::CreditGranted(event) => purse.balance += event.amount.amount,
            CreditEvent::CreditHeld(event) => {
                let before = purse.open.insert(event.order_id, event.amount.amount);
                if before.is_some() || purse.ended.contains(&event.order_id) {
                    problem = Some(format!("{} holds of {credit} twice", event.order_id));
                }
            }
            CreditEvent::CreditReleased(event) => {
                let amount = event.amount.map(|amount| amount.amount);
                if purse.open.remove(&event.order_id) != amount {
                    problem = Some(format!("{} releases {amount:?} of {credit}", event.order_id));
                }
                purse.ended.insert(event.order_id);
            }
            CreditEvent::CreditSpent(event) => {
                let amount = event.amount.amount;
                if purse.open.remove(&event.order_id) != Some(amount) {
                    problem = Some(format!("{} spends {amount} of {credit}", event.order_id));
                }
                purse.ended.insert(event.order_id);
                purse.balance -= amount;
                self.spent.insert((event.order_id, credit), amount);
            }
            CreditEvent::CreditReturned(event) => {
                purse.balance += event.amount.amount;
                let of = (event.order_id, event.refund_key, credit);
                if self.credited.insert(of, event.amount.amount).is_some() {
                    problem = Some(format!("{} comes back twice to {credit}", event.refund_key));
                }
            }
            CreditEvent::CreditOpened(_) | CreditEvent::CreditHoldRejected(_) => {}
        }
        let held: i64 = purse.open.values().sum();
        if held > purse.balance {
            problem = Some(format!("of {credit} {held} are held and {} there", purse.balance));
        }
        self.problems.extend(problem);
    }

    fn end_of(&self, order: OrderId) -> Option<&'static str> {
        self.orders
            .get(&order)?
            .iter()
            .copied()
            .find(|told| matches!(*told, "OrderCompleted" | "OrderCancelled"))
    }

    /// Everything that is wrong, once all has ended; and how many orders were completed and cancelled.
    pub(crate) fn judge(mut self, world: &World, memory: &Memory) -> (Vec<String>, u64, u64) {
        for order in memory.acknowledged.lock().iter() {
            if !self.checkouts.contains_key(order) {
                self.problems.push(format!("order {order} was acknowledged and is not there"));
            }
        }
        for (sku, stock) in &self.stock {
            if !stock.open.is_empty() {
                self.problems.push(format!("{sku} stays reserved for {:?}", stock.open));
            }
        }
        let kept = self.coupons.iter().filter(|(_, coupons)| !coupons.open.is_empty());
        let kept = kept.map(|(id, coupons)| format!("{id} stays claimed by {:?}", coupons.open));
        let held = self.purses.iter().filter(|(_, purse)| !purse.open.is_empty());
        let held = held.map(|(id, purse)| format!("{id} stays held by {:?}", purse.open));
        self.problems.extend(kept.chain(held).collect::<Vec<_>>());
        let (mut completed, mut cancelled, mut earned) = (0, 0, 0);
        for order in self.checkouts.keys().copied().collect::<Vec<_>>() {
            let ended = self.end_of(order);
            let problems = match ended {
                Some("OrderCompleted") => self.of_completed(order),
                Some(_) => self.of_cancelled(order),
                None => vec!["does not end".to_owned()],
            };
            let problems = problems.into_iter().chain(self.of_any(order));
            self.problems
                .extend(problems.map(|problem| format!("order {order} {problem}")).collect::<Vec<_>>());
            match ended {
                Some("OrderCompleted") => (completed, earned) = (completed + 1, earned + self.due(order)),
                _ => cancelled += 1,
            }
        }
        let strangers = self.orders.keys().filter(|order| !self.checkouts.contains_key(order));
        self.problems
            .extend(strangers.map(|order| format!("order {order} comes of no cart")).collect::<Vec<_>>());
        // A dispute is between the banks: the gateways' books know nothing of it, and keep what they do not give back.
        let refunded: i64 = self.payments.values().map(|paid| paid.partly.values().sum::<i64>()).sum();
        let of_cancelled =
            self.payments.iter().filter(|(order, _)| self.end_of(**order) == Some("OrderCancelled"));
        let kept = of_cancelled.map(|(_, paid)| paid.taken() - paid.refunded.iter().sum::<i64>());
        let earned = earned - refunded + kept.sum::<i64>();
        self.problems.extend(self.of_after());
        self.problems.extend(audited(world));
        let books = world.till.books(world, |books| {
            // The operator has paid what he has said.
            for (order, paid) in self.payments.iter().filter(|(_, paid)| paid.by_hand > 0) {
                books.pay_back(*order, paid.by_hand);
            }
            let taken: i64 = books.lost.values().sum();
            let told: i64 = self.payments.values().map(|paid| paid.lost).sum();
            let wrong = (taken != told).then(|| format!("banks have taken {taken}, the log says {told}"));
            wrong.into_iter().chain(of_books(books, earned)).collect::<Vec<_>>()
        });
        self.problems.extend(books);
        (self.problems, completed, cancelled)
    }

    /// What the gateway was to take.
    fn due(&self, order: OrderId) -> i64 {
        self.checkouts.get(&order).map_or(0, |checkout| {
            let credits = checkout.charges.credits.iter().map(|credit| credit.amount.amount);
            checkout.total.amount - credits.sum::<i64>()
        })
    }

    /// The claims that became of an order.
    fn used(&self, order: OrderId) -> (BTreeSet<PromotionId>, BTreeMap<CreditId, i64>) {
        let redeemed = self.redeemed.iter().filter(|(of, _)| *of == order).map(|(_, id)| *id);
        let spent =
            self.spent.iter().filter(|((of, _), _)| *of == order).map(|((_, id), amount)| (*id, *amount));
        (redeemed.collect(), spent.collect())
    }

    fn of_any(&self, order: OrderId) -> Vec<String> {
        const FORWARD: [&str; 5] =
            ["OrderPlaced", "OrderStockReserved", "OrderPaid", "OrderReadyToShip", "OrderCompleted"];
        let mut problems = Vec::new();
        let told = self.orders.get(&order).map_or(&[][..], Vec::as_slice);
        let forward = told.iter().zip(FORWARD).take_while(|(told, step)| *told == step).count();
        let back =
            matches!(&told[forward..], [] | ["OrderCancelled"] | ["CancellationRequested", "OrderCancelled"]);
        if !back || (forward < told.len() && forward > 3) {
            problems.push(format!("went through {told:?}"));
        }
        if let Some(paid) = self.payments.get(&order) {
            let Paid { requested, charged, failed, refunded, .. } = paid;
            let due = self.due(order);
            let amounts_hold = [requested, charged].iter().all(|of| of.iter().all(|of| *of == due));
            if requested.len() > 1
                || charged.len() > 1
                || refunded.len() > charged.len()
                || *failed > 1
                || !amounts_hold
            {
                problems
                    .push(format!("of {due} asks {requested:?}, takes {charged:?}, gives back {refunded:?}"));
            }
        }
        problems
    }

    fn of_completed(&self, order: OrderId) -> Vec<String> {
        let mut problems = Vec::new();
        let mut wanted = BTreeMap::<SkuId, u32>::new();
        for line in &self.checkouts[&order].lines {
            *wanted.entry(line.sku_id).or_default() += line.quantity;
            let told = self.shipments.get(&(order, line.seller_id)).map_or(&[][..], Vec::as_slice);
            // What comes back before it was sent is not sent any more.
            let after = told.strip_prefix(&["ShipmentRequested", "ShipmentReady"]);
            if after.is_none_or(|after| after.iter().any(|event| *event != "UnitsGivenUp")) {
                problems.push(format!("is completed, its shipment {told:?}"));
            }
        }
        let committed: BTreeMap<SkuId, u32> = self
            .committed
            .iter()
            .filter(|((of, _), _)| *of == order)
            .map(|((_, sku), quantity)| (*sku, *quantity))
            .collect();
        if committed != wanted {
            problems.push(format!("is completed with {committed:?} of {wanted:?}"));
        }
        if !self.payments.get(&order).is_some_and(|paid| paid.charged.len() == 1 && paid.refunded.is_empty())
        {
            problems.push("is completed and not paid for once".to_owned());
        }
        let charges = &self.checkouts[&order].charges;
        let coupons = charges.discounts.iter().map(|discount| discount.promotion_id).collect();
        let credits = charges.credits.iter().map(|credit| (credit.credit_id, credit.amount.amount)).collect();
        let used = self.used(order);
        if used != (coupons, credits) {
            problems.push(format!("is completed, its claims {used:?} of {charges:?}"));
        }
        problems
    }

    fn of_cancelled(&self, order: OrderId) -> Vec<String> {
        let mut problems = Vec::new();
        if self.committed.keys().any(|(of, _)| *of == order) {
            problems.push("is cancelled, its goods gone".to_owned());
        }
        if self.payments.get(&order).is_some_and(|paid| paid.charged.len() != paid.refunded.len()) {
            problems.push("is cancelled, its money kept".to_owned());
        }
        let used = self.used(order);
        if used != Default::default() {
            problems.push(format!("is cancelled, its claims gone: {used:?}"));
        }
        for ((_, seller), told) in self.shipments.iter().filter(|((of, _), _)| *of == order) {
            if !matches!(told.last(), Some(&("ShipmentRefused" | "ShipmentCancelled"))) {
                problems.push(format!("is cancelled, the shipment of {seller} {told:?}"));
            }
        }
        problems
    }
}

/// What operators are told has to say the same.
fn audited(world: &World) -> Vec<String> {
    let mut audit = Audit::default();
    world.log.events().iter().for_each(|event| audit.take(event));
    audit.finish();
    let told = |finding: Finding| {
        format!("audit: {} at {:?}: {}", finding.stream, finding.position, finding.problem)
    };
    audit.findings.kept.into_iter().map(told).collect()
}

/// Goods less discounts, with shipping and tax, are the total, and credit pays no more than that.
fn adds_up(placed: &OrderPlaced) -> bool {
    let charges = &placed.charges;
    let goods: i64 = placed.lines.iter().map(|line| line.unit_price.amount * i64::from(line.quantity)).sum();
    let discounts: Vec<i64> = charges.discounts.iter().map(|discount| discount.amount.amount).collect();
    let credits: Vec<i64> = charges.credits.iter().map(|credit| credit.amount.amount).collect();
    let [shipping, tax] = [charges.shipping, charges.tax].map(|part| part.map_or(0, |part| part.amount));
    let total = goods - discounts.iter().sum::<i64>() + shipping + tax;
    let parts = discounts.iter().chain(&credits).chain([&shipping, &tax]);
    total == placed.total.amount && credits.iter().sum::<i64>() <= total && parts.min() >= Some(&0)
}

/// The gateways' books against what completed orders earned.
fn of_books(books: &mut Books, earned: i64) -> Vec<String> {
    books.arrive(std::time::Duration::MAX);
    let mut problems = Vec::new();
    let mut taken = BTreeMap::new();
    for charged in books.charges.values() {
        if let Charge::Charged { charge_id } = &charged.outcome {
            taken.insert(charge_id.clone(), charged.amount);
        }
    }
    for (charge, amount) in books.refunds.values() {
        match taken.get_mut(charge) {
            Some(left) if *left >= *amount => *left -= *amount,
            left => problems.push(format!("{amount} of {charge} are given back, of which {left:?} is left")),
        }
    }
    let kept: i64 = taken.values().sum();
    if kept != earned {
        problems.push(format!("the gateways hold {kept}, completed orders earned {earned}"));
    }
    problems
}
