//! What people do: sellers who restock and change prices, buyers who fill carts, check out (once, or twice at the same
//! moment), accept a new price, and cancel. They outlive the servers: a request that got no answer is sent again.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::future::join_all;
use parking_lot::Mutex;
use souk_commands::{
    Context, ExecuteError, Market,
    flows::{
        self, Acknowledged,
        carts::{CartFlowError, LineRequest},
        checkout::{Address, CheckoutFlowError, CheckoutRequest},
        items::{Caller, NewItem, StockChange},
        pricing::Extras,
        returns::{LineBack, ReturnFlowError},
        revision::{self, ItemPatch},
    },
};
use souk_domain::{
    AccountId, CartId, CreditId, Currency, ItemId, Money, OrderId, PromotionId, Sku,
    credit::CreditCommand,
    item::Details,
    order::{OrderError, OrderPlaced, OrderStatus},
    payment::{PaymentCommand, PaymentState},
    pricing::{PricingError, TakesOff},
    promotion::{PromotionCommand, PromotionCreated},
    returns::{Disposition, ReturnError, ReturnLine},
};
use souk_gateways::PaymentDetails;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{
    random::Random,
    till::{DECLINED, REFUSED, SILENT, SILENT_COUNTRY},
    world::World,
};

pub(crate) const BUYERS: u64 = 4;
const SELLERS: u64 = 3;
const COUPON: &str = "SPRING";

pub(crate) fn buyer(n: u64) -> AccountId {
    AccountId(Uuid::from_u128(0xb000 + u128::from(n)))
}

fn seller(n: u64) -> AccountId {
    AccountId(Uuid::from_u128(0x5000 + u128::from(n)))
}

/// Everybody's intentions, drawn before anything happens.
pub(crate) struct Plan {
    goods: Vec<Good>,
    campaign: Option<Campaign>,
    visits: Vec<Vec<Visit>>,
    errands: Vec<Errand>,
    /// Whether anything comes after completed orders.
    returned: bool,
}

struct Good {
    seller: AccountId,
    sku: Sku,
    price: i64,
    quantity: u32,
}

/// What the market gives away, less of it than buyers would like to have.
#[derive(Clone)]
struct Campaign {
    promotion: PromotionCreated,
    /// On the one gift card whose code everybody knows.
    card: i64,
    /// To each buyer.
    credit: i64,
}

impl Campaign {
    fn draw(random: &mut Random) -> Self {
        let takes_off = match random.within(0..3) {
            0 => TakesOff::Percentage { basis_points: random.within(1..10_001) as u32 },
            1 => TakesOff::Amount { amount: usd(random.within(1..300) as i64) },
            _ => TakesOff::FreeShipping,
        };
        let promotion = PromotionCreated {
            code: COUPON.to_owned(),
            takes_off,
            minimum: None,
            starts_at: None,
            ends_at: None,
            limit: Some(random.within(1..4) as u32),
            limit_per_buyer: random.one_in(2).then_some(1),
        };
        Self { promotion, card: random.within(1..1_500) as i64, credit: random.within(1..300) as i64 }
    }
}

/// A buyer comes, fills the cart and checks out.
struct Visit {
    after: Duration,
    lines: Vec<(usize, u32)>,
    token: &'static str,
    country: &'static str,
    /// The button is pressed twice, and each click finds another server.
    twice: bool,
    /// Between looking at the cart and checking out.
    hesitates: Duration,
    cancels_after: Option<Duration>,
    disputes: Option<Dispute>,
    /// Brings what the campaign gives: the coupon, the gift card, the store credit.
    brings: [bool; 3],
    afterwards: Option<Afterwards>,
}

/// At the bank, whatever becomes of the order meanwhile: how much of what was charged, in per cent.
#[derive(Clone, Copy)]
struct Dispute {
    after: Duration,
    per_cent: i64,
    decided_after: Duration,
    /// The bank finds for the market.
    won: bool,
}

impl Dispute {
    fn draw(random: &mut Random) -> Self {
        Self {
            after: random.pause(),
            per_cent: if random.one_in(2) { 100 } else { random.within(1..101) as i64 },
            decided_after: random.pause(),
            won: random.one_in(3),
        }
    }
}

/// What comes after an order that was completed.
struct Afterwards {
    after: Duration,
    /// Returns, all asked for at once: of each line so many. Some are too much together.
    returns: Vec<(u32, Decision)>,
    /// Disputed at the bank when that is done.
    disputes: Option<Dispute>,
    /// The sellers ask for so much, twice at once; whether the transfer arrives.
    payout: Option<(i64, bool)>,
}

/// What a seller says to a return.
#[derive(Clone, Copy)]
enum Decision {
    /// So much of the price in per cent; whether the goods are worth keeping.
    Accepts(i64, bool),
    Declines,
}

impl Afterwards {
    fn draw(random: &mut Random) -> Self {
        let decision = |random: &mut Random| {
            if random.one_in(5) {
                return Decision::Declines;
            }
            Decision::Accepts(random.within(0..101) as i64, !random.one_in(3))
        };
        Self {
            after: random.pause(),
            returns: (0..random.within(0..4))
                .map(|_| (random.within(1..4) as u32, decision(random)))
                .collect(),
            disputes: random.one_in(3).then(|| Dispute::draw(random)),
            payout: random.one_in(2).then(|| (random.within(1..2_000) as i64, random.one_in(2))),
        }
    }
}

/// A seller sees to the goods.
struct Errand {
    after: Duration,
    good: usize,
    price: Option<i64>,
    change: Option<i64>,
}

fn usd(amount: i64) -> Money {
    Money::new(amount, Currency::USD)
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x005e_ed0f_9e09_1e00);
        let goods: Vec<_> = (0..random.within(1..6))
            .map(|n| Good {
                seller: seller(random.within(0..SELLERS)),
                sku: Sku::parse(&format!("SKU-{n}")).expect("a SKU"),
                price: random.within(1..500) as i64,
                // Now and then everybody wants the last one.
                quantity: random.within(1..12) as u32,
            })
            .collect();
        let campaign = random.one_in(2).then(|| Campaign::draw(&mut random));
        let visits: Vec<Vec<Visit>> = (0..random.within(1..BUYERS + 1))
            .map(|_| (0..random.within(1..4)).map(|_| Visit::draw(&mut random, goods.len())).collect())
            .collect();
        let errands = (0..random.within(0..4))
            .map(|_| Errand {
                after: random.pause(),
                good: random.within(0..goods.len() as u64) as usize,
                price: random.one_in(2).then(|| random.within(1..500) as i64),
                change: random.one_in(2).then(|| random.within(0..12) as i64 - 4),
            })
            .collect();
        let mut plan = Self { goods, campaign, visits, errands, returned: true };
        // Now and then everybody comes at the same moment.
        if random.one_in(3) {
            for visit in plan.visits.iter_mut().flatten() {
                (visit.after, visit.hesitates) = (Duration::ZERO, Duration::ZERO);
            }
        }
        plan
    }

    /// With all that a campaign gives.
    pub(crate) fn with_gifts(mut self) -> Self {
        self.campaign = Some(Campaign {
            promotion: PromotionCreated {
                code: COUPON.to_owned(),
                takes_off: TakesOff::Amount { amount: usd(50) },
                minimum: None,
                starts_at: None,
                ends_at: None,
                limit: Some(1),
                limit_per_buyer: Some(1),
            },
            card: 100,
            credit: 60,
        });
        for visit in self.visits.iter_mut().flatten() {
            visit.brings = [true; 3];
        }
        self
    }

    /// One buyer, one order for goods of two sellers.
    pub(crate) fn of_one(
        token: &'static str,
        country: &'static str,
        cancels_after: Option<Duration>,
        returned: bool,
    ) -> Self {
        let good = |n: u64| Good {
            seller: seller(n),
            sku: Sku::parse(&format!("SKU-{n}")).expect("a SKU"),
            price: 100,
            quantity: 5,
        };
        let visit = Visit {
            after: Duration::ZERO,
            lines: vec![(0, 2), (1, 3)],
            token,
            country,
            twice: false,
            hesitates: Duration::ZERO,
            cancels_after,
            disputes: None,
            brings: [false; 3],
            afterwards: Some(Afterwards {
                after: Duration::ZERO,
                returns: vec![(1, Decision::Accepts(50, true)), (2, Decision::Accepts(100, false))],
                disputes: None,
                payout: Some((100, true)),
            }),
        };
        Self {
            goods: vec![good(0), good(1)],
            campaign: None,
            visits: vec![vec![visit]],
            errands: vec![],
            returned,
        }
    }

    fn buyers(&self) -> usize {
        self.visits.len()
    }
}

impl Visit {
    fn draw(random: &mut Random, goods: usize) -> Self {
        Self {
            after: random.pause(),
            lines: (0..random.within(1..4))
                .map(|_| (random.within(0..goods as u64) as usize, random.within(1..5) as u32))
                .collect(),
            token: random.pick(&["pays", "pays", "pays", "pays", "pays", DECLINED, SILENT]),
            country: random.pick(&["GB", "GB", "GB", "GB", "GB", "GB", REFUSED, SILENT_COUNTRY]),
            twice: random.one_in(4),
            hesitates: random.pause(),
            cancels_after: random.one_in(4).then(|| random.pause()),
            disputes: random.one_in(8).then(|| Dispute::draw(random)),
            brings: [random.one_in(2), random.one_in(2), random.one_in(3)],
            afterwards: random.one_in(6).then(|| Afterwards::draw(random)),
        }
    }
}

/// What people remember of what they have done; servers come and go meanwhile.
#[derive(Default)]
pub(crate) struct Memory {
    opened: Mutex<Vec<ItemId>>,
    /// How much of the campaign is prepared, and the code of its gift card.
    given: Mutex<(usize, String)>,
    buyers: Mutex<Vec<Remembered>>,
    errands: Mutex<usize>,
    /// Orders that were acknowledged.
    pub(crate) acknowledged: Mutex<Vec<OrderId>>,
}

#[derive(Clone, Copy, Default)]
struct Remembered {
    visits: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Default)]
enum Stage {
    #[default]
    Outside,
    /// The cart as it was seen, how often another price was accepted, and whether codes are worth another try.
    AtTheTill(CartId, Money, u32, bool),
    Ordered(OrderId),
}

/// A day at the market, from wherever it was interrupted.
pub(crate) async fn live(world: &World, plan: &Plan, memory: &Memory, servers: &[Arc<Market>]) {
    open_shop(plan, memory, &servers[0]).await;
    prepare_campaign(plan, memory, &servers[0]).await;
    memory.buyers.lock().resize(plan.buyers(), Remembered::default());
    let buyers = (0..plan.buyers()).map(|n| Shopper { world, plan, memory, servers, n }.go());
    futures::future::join(join_all(buyers), run_errands(plan, memory, servers)).await;
}

/// The same command each time, for whoever asks again.
fn context(actor: &str, step: &str) -> Context {
    Context::new(Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{actor}/{step}").as_bytes()), actor)
}

/// Between two tries of a request that failed.
async fn again() {
    sleep(Duration::from_millis(700)).await;
}

async fn open_shop(plan: &Plan, memory: &Memory, server: &Market) {
    for (n, good) in plan.goods.iter().enumerate() {
        while memory.opened.lock().len() <= n {
            let new = NewItem {
                item_id: None,
                seller_id: good.seller,
                sku: good.sku.clone(),
                details: Details { name: good.sku.to_string(), ..Details::default() },
                price: Some(usd(good.price)),
                quantity: Some(good.quantity),
                variants: vec![],
            };
            match flows::items::list(server, &context("seller", &format!("list/{n}")), new).await {
                Ok(listed) => memory.opened.lock().push(listed.value.item_id),
                Err(_) => again().await,
            }
        }
    }
}

async fn prepare_campaign(plan: &Plan, memory: &Memory, server: &Market) {
    let Some(campaign) = &plan.campaign else { return };
    for step in 0..2 + plan.buyers() {
        while memory.given.lock().0 <= step {
            let context = context("admin", &format!("campaign/{step}"));
            let code = match step {
                0 => {
                    let promotion = PromotionId::of_code(COUPON);
                    let command = PromotionCommand::Create(campaign.promotion.clone());
                    let made = server.aggregates.promotions.execute(promotion, command, &context).await;
                    made.map(|_| String::new()).map_err(drop)
                }
                1 => {
                    let issued = flows::credits::issue(server, &context, usd(campaign.card), None).await;
                    issued.map(|issued| issued.value.code).map_err(drop)
                }
                _ => {
                    let owner = buyer(step as u64 - 2);
                    let (id, amount) = (CreditId::of_account(owner, Currency::USD), usd(campaign.credit));
                    let command = CreditCommand::Grant { owner, amount, reason: None };
                    let granted = server.aggregates.credits.execute(id, command, &context).await;
                    granted.map(|_| memory.given.lock().1.clone()).map_err(drop)
                }
            };
            match code {
                Ok(code) => *memory.given.lock() = (step + 1, code),
                Err(()) => again().await,
            }
        }
    }
}

async fn run_errands(plan: &Plan, memory: &Memory, servers: &[Arc<Market>]) {
    let item = |errand: &Errand| memory.opened.lock()[errand.good];
    let done = *memory.errands.lock();
    for (n, errand) in plan.errands.iter().enumerate().skip(done) {
        sleep(errand.after).await;
        let caller = Caller::Seller(plan.goods[errand.good].seller);
        let server = &servers[n % servers.len()];
        if let Some(price) = errand.price {
            let patch = ItemPatch { price: Some(usd(price)), ..ItemPatch::default() };
            let context = context("seller", &format!("price/{n}"));
            let _ = revision::revise(server, &context, item(errand), caller, None, patch).await;
        }
        if let Some(change) = errand.change {
            let request = StockChange { sku: None, change, reason: None };
            let context = context("seller", &format!("stock/{n}"));
            let _ = flows::items::change_stock(server, &context, item(errand), caller, request).await;
        }
        *memory.errands.lock() = n + 1;
    }
}

struct Shopper<'a> {
    world: &'a World,
    plan: &'a Plan,
    memory: &'a Memory,
    servers: &'a [Arc<Market>],
    n: usize,
}

impl Shopper<'_> {
    async fn go(self) {
        loop {
            let Remembered { visits, stage } = self.memory.buyers.lock()[self.n];
            let Some(visit) = self.plan.visits[self.n].get(visits) else { return };
            let next = match stage {
                Stage::Outside => self.fill_cart(visit, visits).await,
                Stage::AtTheTill(cart, amount, prices, codes) => {
                    self.check_out(visit, visits, (cart, amount), prices, codes).await
                }
                Stage::Ordered(order) => {
                    futures::future::join(self.change_mind(visit, visits, order), async {
                        if let Some(disputed) = visit.disputes.filter(|_| self.plan.returned) {
                            self.dispute(disputed, visits, "early", order).await;
                        }
                    })
                    .await;
                    if let Some(afterwards) = visit.afterwards.as_ref().filter(|_| self.plan.returned) {
                        self.live_with(afterwards, visits, order).await;
                    }
                    self.memory.buyers.lock()[self.n] =
                        Remembered { visits: visits + 1, stage: Stage::Outside };
                    continue;
                }
            };
            match next {
                Some(stage) => self.memory.buyers.lock()[self.n].stage = stage,
                None => again().await,
            }
        }
    }

    fn context(&self, visit: usize, step: &str) -> Context {
        context(&format!("buyer-{}", self.n), &format!("{visit}/{step}"))
    }

    fn server(&self, n: usize) -> &Market {
        &self.servers[n % self.servers.len()]
    }

    async fn fill_cart(&self, visit: &Visit, number: usize) -> Option<Stage> {
        sleep(visit.after).await;
        let mut seen = None;
        for (n, (good, quantity)) in visit.lines.iter().enumerate() {
            let item_id = self.memory.opened.lock()[*good];
            let request = LineRequest { item_id, sku: None, quantity: *quantity };
            let context = self.context(number, &format!("line/{n}"));
            let cart =
                flows::carts::set_line(self.server(self.n), &context, buyer(self.n as u64), request).await;
            seen = Some(cart.ok()?.value);
        }
        let seen = seen?;
        Some(Stage::AtTheTill(seen.cart_id, seen.total?, 0, self.plan.campaign.is_some()))
    }

    async fn check_out(
        &self,
        visit: &Visit,
        number: usize,
        (cart_id, amount): (CartId, Money),
        prices: u32,
        codes: bool,
    ) -> Option<Stage> {
        sleep(visit.hesitates).await;
        let context = self.context(number, &format!("checkOut/{prices}"));
        let card = self.memory.given.lock().1.clone();
        let brings = visit.brings.map(|brings| brings && codes);
        let click = async |server: usize| {
            let extras = Extras {
                coupon_code: brings[0].then(|| COUPON.to_lowercase()),
                gift_card_code: brings[1].then(|| card.clone()),
                use_store_credit: brings[2],
            };
            let request = CheckoutRequest {
                cart_id,
                amount,
                payment: PaymentDetails::Upi { vpa: visit.token.to_owned() },
                shipping_address: address(visit.country),
                extras,
            };
            flows::checkout::check_out(self.server(server), &context, buyer(self.n as u64), request).await
        };
        let clicks =
            if visit.twice { join_all([click(0), click(1)]).await } else { vec![click(self.n).await] };
        let mut next = None;
        for answer in clicks {
            match answer {
                Ok(done) => {
                    let order = done.value.order_id;
                    self.memory.acknowledged.lock().push(order);
                    next = Some(Stage::Ordered(order));
                }
                Err(CheckoutFlowError::AmountChanged { total }) => {
                    next = next.or(Some(Stage::AtTheTill(cart_id, total, prices + 1, codes)));
                }
                // Used up by others, or of no use here.
                Err(
                    CheckoutFlowError::Coupon(_)
                    | CheckoutFlowError::GiftCard(_)
                    | CheckoutFlowError::Pricing(PricingError::NothingToTakeOff),
                ) => next = next.or(Some(Stage::AtTheTill(cart_id, amount, prices + 1, false))),
                Err(
                    CheckoutFlowError::Payment(_)
                    | CheckoutFlowError::Cart(CartFlowError::Execute(ExecuteError::Unavailable(_))),
                ) => {}
                Err(error) => panic!("a checkout ends with {error:?}"),
            }
        }
        next
    }

    async fn change_mind(&self, visit: &Visit, number: usize, order: OrderId) {
        let Some(after) = visit.cancels_after else { return };
        sleep(after).await;
        loop {
            let context = self.context(number, "cancel");
            match flows::orders::cancel(self.server(self.n), &context, order).await {
                Ok(_) | Err(ExecuteError::Refused(OrderError::TooLateToCancel)) => return,
                Err(ExecuteError::Unavailable(_)) => again().await,
                // Not placed yet.
                Err(ExecuteError::Refused(OrderError::NotFound))
                    if self.world.elapsed() < Duration::from_hours(2) =>
                {
                    again().await;
                }
                Err(error) => panic!("a cancellation ends with {error:?}"),
            }
        }
    }

    /// The order is completed, and then it begins.
    async fn live_with(&self, afterwards: &Afterwards, number: usize, order: OrderId) {
        let placed = loop {
            match flows::orders::find(self.server(self.n), order).await.map(|found| found.value) {
                Ok(Some(found)) if found.status == OrderStatus::Completed => break found.placed,
                Ok(Some(found)) if found.status.is_final() => return,
                _ if self.world.elapsed() > Duration::from_hours(2) => return,
                _ => sleep(Duration::from_secs(30)).await,
            }
        };
        sleep(afterwards.after).await;
        let returns = afterwards.returns.iter().enumerate();
        join_all(returns.map(|(n, (quantity, decision))| {
            self.give_back(number, n, &placed, order, *quantity, *decision)
        }))
        .await;
        if let Some(disputed) = afterwards.disputes {
            self.dispute(disputed, number, "late", order).await;
        }
        if let Some((amount, arrives)) = afterwards.payout {
            for seller in placed.lines.iter().map(|line| line.seller_id).collect::<BTreeSet<_>>() {
                join_all([0, 1].map(|n| self.pay_out(number, n, seller, amount, arrives))).await;
            }
        }
    }

    /// What was charged; what credit has paid no bank can take back.
    async fn dispute(&self, disputed: Dispute, number: usize, name: &'static str, order: OrderId) {
        let Dispute { after, per_cent, decided_after, won } = disputed;
        sleep(after).await;
        let payments = &self.server(self.n).aggregates.payments;
        let charged = |state: &PaymentState| match state {
            PaymentState::Charged { amount, .. } | PaymentState::Refunded { charged: amount, .. } => {
                Some(*amount)
            }
            PaymentState::NotRequested | PaymentState::Pending { .. } | PaymentState::Failed { .. } => None,
        };
        let mut wait = Duration::from_millis(10);
        let charged = loop {
            let found = flows::orders::find(self.server(self.n), order).await.map(|found| found.value);
            let has_ended = matches!(found, Ok(Some(found)) if found.status.is_final());
            match payments.read(order, charged).await.map(|read| read.value) {
                Ok(Some(charged)) => break charged,
                Ok(None) if has_ended => return,
                _ if self.world.elapsed() > Duration::from_hours(2) => return,
                _ => sleep(wait).await,
            }
            wait = (2 * wait).min(Duration::from_secs(30));
        };
        if charged.amount == 0 {
            return;
        }
        let amount = Money { amount: (charged.amount * per_cent / 100).max(1), ..charged };
        let (dispute_id, reason) = (format!("dispute-{order}-{name}"), "fraudulent".to_owned());
        let opened = PaymentCommand::OpenChargeback { dispute_id: dispute_id.clone(), amount, reason };
        let context = self.context(number, &format!("dispute/{name}/open"));
        persist(|| payments.execute(order, opened.clone(), &context)).await.expect("a dispute");
        sleep(decided_after).await;
        let closed = PaymentCommand::CloseChargeback { dispute_id, won };
        let context = self.context(number, &format!("dispute/{name}/close"));
        persist(|| payments.execute(order, closed.clone(), &context)).await.expect("a dispute");
        if !won {
            self.world.till.books(self.world, |books| books.lost.insert((order, name), amount.amount));
        }
    }

    async fn give_back(
        &self,
        number: usize,
        n: usize,
        placed: &OrderPlaced,
        order: OrderId,
        quantity: u32,
        decision: Decision,
    ) {
        let lines = placed.lines.iter().map(|line| LineBack {
            item_id: Some(line.item_id),
            sku: line.sku.clone(),
            quantity,
        });
        let lines: Vec<_> = lines.collect();
        let server = self.server(n);
        let context = self.context(number, &format!("return/{n}"));
        let asked =
            persist_flow(|| flows::returns::request(server, &context, order, lines.clone(), "no")).await;
        let Some(opened) = asked else { return };
        for one in opened {
            let id = one.requested.return_id;
            let context = self.context(number, &format!("decide/{id}"));
            match decision {
                Decision::Declines => {
                    persist_flow(|| flows::returns::decline(server, &context, id, "worn".into())).await;
                }
                Decision::Accepts(per_cent, restock) => {
                    let of = |line: &ReturnLine| {
                        let bought = placed.lines.iter().find(|bought| bought.sku_id == line.sku_id);
                        bought.map_or(0, |bought| bought.unit_price.amount * i64::from(line.quantity))
                    };
                    let price: i64 = one.requested.lines.iter().map(of).sum();
                    let refund = Money { amount: price * per_cent / 100, ..placed.total };
                    let disposition = if restock { Disposition::Restock } else { Disposition::WriteOff };
                    let line = |line: &ReturnLine| (line.sku.clone(), line.quantity, disposition);
                    let lines: Vec<_> = one.requested.lines.iter().map(line).collect();
                    persist_flow(|| {
                        flows::returns::accept(server, &context, id, Some(lines.clone()), Some(refund))
                    })
                    .await;
                }
            }
        }
    }

    async fn pay_out(&self, number: usize, n: usize, seller: AccountId, amount: i64, arrives: bool) {
        let server = self.server(n);
        let context = self.context(number, &format!("payout/{seller}/{n}"));
        let asked = persist(|| flows::payouts::request(server, &context, seller, usd(amount))).await;
        let Ok(payout) = asked else { return };
        let (id, context) = (payout.value.payout_id, context.step("end"));
        let ended = if arrives {
            persist(|| flows::payouts::settle(server, &context, id, "transfer".into())).await
        } else {
            persist(|| flows::payouts::fail(server, &context, id, "closed".into())).await
        };
        ended.expect("a payout ends");
    }
}

/// Asks until there is an answer.
async fn persist<T, R, F: Future<Output = Result<T, ExecuteError<R>>>>(ask: impl Fn() -> F) -> Result<T, R> {
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(ExecuteError::Refused(refusal)) => return Err(refusal),
            Err(_) => again().await,
        }
    }
}

/// As [`persist`]; `None` if it is refused.
async fn persist_flow<T, F: Future<Output = Result<Acknowledged<T>, ReturnFlowError>>>(
    ask: impl Fn() -> F,
) -> Option<T> {
    loop {
        match ask().await {
            Ok(answer) => return Some(answer.value),
            Err(ReturnFlowError::Return(ExecuteError::Refused(
                // Of an order with a coupon its goods cost less than their price.
                ReturnError::TooMany { .. } | ReturnError::TooMuch { .. } | ReturnError::Decided,
            ))) => return None,
            Err(ReturnFlowError::Return(ExecuteError::Refused(refusal))) => {
                panic!("a return ends with {refusal}")
            }
            Err(_) => again().await,
        }
    }
}

fn address(country: &str) -> Address {
    Address {
        name: "Ada Byron".into(),
        line1: "1 Mill Lane".into(),
        line2: None,
        city: "Cambridge".into(),
        region: None,
        postal_code: "CB2 1RX".into(),
        country: country.into(),
    }
}
