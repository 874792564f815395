//! The decider of `checkout-{orderId}`: what a command makes of the saga, in one record with what it came of.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use souk_domain::{CartId, Decider, OrderId, SkuId, cart::CartCheckedOut, pricing::Charges};
use uuid::Uuid;

use super::{
    events::{
        ByHand, CheckoutAdvanced, CheckoutEvent, CheckoutParked, CheckoutResumed, CheckoutSettled,
        CheckoutStarted, Claim, Effect, Fact, Reservation, Source,
    },
    process::Process,
};

#[derive(Clone, Debug)]
pub enum CheckoutCommand {
    Start {
        cart_id: CartId,
        checkout: Box<CartCheckedOut>,
        deadline: DateTime<Utc>,
        correlation_id: Uuid,
        backdated_to: Option<DateTime<Utc>>,
    },
    Learn(Vec<Fact>),
    Park {
        effect: Effect,
        reason: String,
        attempts: u32,
    },
    Resume,
    Settle {
        outcome: ByHand,
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckoutError {
    #[error("there is no such checkout")]
    NotFound,
    #[error("nothing of this checkout is parked")]
    NotParked,
    #[error("what is parked cannot be done outside: retry it, or cancel the order")]
    NotByHand,
    #[error("the buyer was charged: the money has to go back")]
    WasCharged,
    #[error("the buyer disputes the payment: it goes on by itself once that is decided")]
    Disputed,
}

pub struct Checkout;

impl Decider for Checkout {
    type Id = OrderId;
    type Command = CheckoutCommand;
    type Event = CheckoutEvent;
    type State = Option<Process>;
    type Error = CheckoutError;

    const CATEGORY: &'static str = "checkout";
    const STATE_VERSION: u32 = 2;

    fn evolve(state: Option<Process>, event: &CheckoutEvent) -> Option<Process> {
        if let CheckoutEvent::CheckoutStarted(started) = event {
            return Some(Process::start(started));
        }
        let mut process = state?;
        match event {
            CheckoutEvent::CheckoutStarted(_) => {}
            CheckoutEvent::CheckoutAdvanced(advanced) => {
                for fact in &advanced.learnt {
                    process.learn(fact);
                }
                if process.is_past_what_is_parked() {
                    process.parked = None;
                }
            }
            CheckoutEvent::CheckoutParked(parked) => process.parked = Some(parked.clone()),
            CheckoutEvent::CheckoutResumed(_) => process.parked = None,
            CheckoutEvent::CheckoutSettled(settled) => {
                process.parked = None;
                process.settled.push(settled.clone());
            }
        }
        Some(process)
    }

    fn decide(
        state: &Option<Process>,
        command: &CheckoutCommand,
        _now: DateTime<Utc>,
    ) -> Result<Vec<CheckoutEvent>, CheckoutError> {
        match (state, command) {
            (None, CheckoutCommand::Start { cart_id, checkout, deadline, correlation_id, backdated_to }) => {
                Ok(vec![start(*cart_id, checkout, *deadline, *correlation_id, *backdated_to).into()])
            }
            (None, _) => Err(CheckoutError::NotFound),
            (Some(process), CheckoutCommand::Learn(facts)) => Ok(learn(process, facts)),
            (Some(process), CheckoutCommand::Park { effect, reason, attempts })
                if process.parked.is_none() =>
            {
                let (effect, reason) = (effect.clone(), reason.clone());
                Ok(vec![CheckoutParked { effect, reason, attempts: *attempts }.into()])
            }
            (Some(process), CheckoutCommand::Resume) if process.parked.is_some() => {
                Ok(vec![CheckoutResumed {}.into()])
            }
            (Some(process), CheckoutCommand::Settle { outcome, reason }) => settle(process, *outcome, reason),
            (
                Some(_),
                CheckoutCommand::Start { .. } | CheckoutCommand::Park { .. } | CheckoutCommand::Resume,
            ) => Ok(vec![]),
        }
    }

    fn begins(command: &CheckoutCommand) -> bool {
        matches!(command, CheckoutCommand::Start { .. })
    }
}

fn start(
    cart_id: CartId,
    checkout: &CartCheckedOut,
    deadline: DateTime<Utc>,
    correlation_id: Uuid,
    backdated_to: Option<DateTime<Utc>>,
) -> CheckoutStarted {
    let mut quantities = BTreeMap::<SkuId, u32>::new();
    let mut sellers = Vec::new();
    for line in &checkout.lines {
        let quantity = quantities.entry(line.sku_id).or_default();
        *quantity = quantity.saturating_add(line.quantity);
        if !sellers.contains(&line.seller_id) {
            sellers.push(line.seller_id);
        }
    }
    let mut started = CheckoutStarted {
        cart_id,
        buyer_id: checkout.buyer_id,
        reservations: quantities
            .into_iter()
            .map(|(sku_id, quantity)| Reservation { sku_id, quantity })
            .collect(),
        claims: claims(&checkout.charges),
        sellers,
        deadline,
        correlation_id,
        backdated_to,
        decided: vec![],
    };
    started.decided = Process::start(&started).outstanding();
    started
}

fn claims(charges: &Charges) -> Vec<Claim> {
    let coupons = charges
        .discounts
        .iter()
        .map(|discount| Claim { source: Source::Promotion(discount.promotion_id), amount: None });
    let credits = charges
        .credits
        .iter()
        .map(|credit| Claim { source: Source::Credit(credit.credit_id), amount: Some(credit.amount) });
    coupons.chain(credits).collect()
}

fn settle(process: &Process, outcome: ByHand, reason: &str) -> Result<Vec<CheckoutEvent>, CheckoutError> {
    let Some(parked) = &process.parked else {
        let said =
            process.settled.iter().any(|settled| settled.outcome == outcome && settled.reason == reason);
        return if said { Ok(vec![]) } else { Err(CheckoutError::NotParked) };
    };
    process.may_be_settled(&parked.effect, outcome)?;
    Ok(vec![CheckoutSettled { effect: parked.effect.clone(), outcome, reason: reason.to_owned() }.into()])
}

fn learn(before: &Process, facts: &[Fact]) -> Vec<CheckoutEvent> {
    let mut process = before.clone();
    let (mut learnt, mut decided) = (Vec::new(), Vec::new());
    for fact in facts {
        if let Some(effects) = process.learn(fact) {
            learnt.push(fact.clone());
            decided.extend(effects);
        }
    }
    if learnt.is_empty() {
        return vec![];
    }
    let resumed = process.is_past_what_is_parked().then(|| CheckoutResumed {}.into());
    [CheckoutAdvanced { learnt, decided }.into()].into_iter().chain(resumed).collect()
}
