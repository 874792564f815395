//! The saga, pure. Forward: reserve, pay, book the shipments, pass the point of no return, commit. Backward from any
//! point before it: release, refund, cancel the shipments, and only then is the order cancelled.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use souk_domain::{
    AccountId, CartId, SkuId,
    order::{CancelReason, ShortLine},
};
use uuid::Uuid;

use super::{
    decider::CheckoutError,
    events::{ByHand, CheckoutParked, CheckoutSettled, CheckoutStarted, Claim, Effect, Fact, Source},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Phase {
    Reserving,
    Paying,
    Shipping,
    /// The order decides now between going through and a cancellation that came in.
    Readying,
    Committing,
    Completing,
    Compensating(CancelReason),
    Cancelling(CancelReason),
}

/// How it stands with something that is reserved: stock, or a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Hold {
    Asked,
    Held,
    Rejected,
    Released,
    Committed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Paying {
    NotAsked,
    Asked,
    Completed,
    /// Nothing was taken, or it was given back.
    Settled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Shipping {
    NotAsked,
    Asked,
    Ready,
    Refused,
    Cancelled,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    pub cart_id: CartId,
    pub buyer_id: AccountId,
    pub phase: Phase,
    pub deadline: DateTime<Utc>,
    pub correlation_id: Uuid,
    pub backdated_to: Option<DateTime<Utc>>,
    /// What could not be done, so that it waits for an operator.
    pub parked: Option<CheckoutParked>,
    /// What operators have seen to outside.
    pub(super) settled: Vec<CheckoutSettled>,
    stock: BTreeMap<SkuId, (u32, Hold)>,
    claims: Vec<(Claim, Hold)>,
    short_lines: Vec<ShortLine>,
    payment: Paying,
    shipments: BTreeMap<AccountId, Shipping>,
}

impl Process {
    pub(super) fn start(started: &CheckoutStarted) -> Self {
        Self {
            cart_id: started.cart_id,
            buyer_id: started.buyer_id,
            phase: Phase::Reserving,
            deadline: started.deadline,
            correlation_id: started.correlation_id,
            backdated_to: started.backdated_to,
            parked: None,
            settled: vec![],
            stock: started.reservations.iter().map(|r| (r.sku_id, (r.quantity, Hold::Asked))).collect(),
            claims: started.claims.iter().map(|claim| (claim.clone(), Hold::Asked)).collect(),
            short_lines: vec![],
            payment: Paying::NotAsked,
            shipments: started.sellers.iter().map(|seller| (*seller, Shipping::NotAsked)).collect(),
        }
    }

    /// Its deadline, as long as that has something to guard.
    pub(super) fn given_up_at(&self) -> Option<DateTime<Utc>> {
        matches!(self.phase, Phase::Reserving | Phase::Paying | Phase::Shipping).then_some(self.deadline)
    }

    /// What could not be done was done after all, or is not wanted any more.
    pub(super) fn is_past_what_is_parked(&self) -> bool {
        self.parked.as_ref().is_some_and(|parked| !self.outstanding().contains(&parked.effect))
    }

    /// Takes a fact in and tells what follows; `None` if it is known already, or of no concern any more.
    pub(super) fn learn(&mut self, fact: &Fact) -> Option<Vec<Effect>> {
        match fact {
            Fact::StockReserved { sku_id } => self.stock_becomes(*sku_id, &[Hold::Asked], Hold::Held)?,
            Fact::ReservationRejected { sku_id, available } => {
                self.stock_becomes(*sku_id, &[Hold::Asked], Hold::Rejected)?;
                self.note_short(*sku_id, *available);
            }
            Fact::ReservationReleased { sku_id } => {
                self.stock_becomes(*sku_id, &[Hold::Asked, Hold::Held], Hold::Released)?;
            }
            Fact::ReservationCommitted { sku_id } => {
                self.stock_becomes(*sku_id, &[Hold::Held], Hold::Committed)?;
            }
            Fact::PaymentCompleted => self.payment_becomes(&[Paying::Asked], Paying::Completed)?,
            Fact::PaymentFailed | Fact::PaymentRefunded => {
                self.payment_becomes(&[Paying::Asked, Paying::Completed], Paying::Settled)?;
            }
            Fact::ShipmentReady { seller_id } => {
                self.shipment_becomes(*seller_id, &[Shipping::Asked], Shipping::Ready)?;
            }
            Fact::ShipmentRefused { seller_id } => {
                self.shipment_becomes(*seller_id, &[Shipping::Asked], Shipping::Refused)?;
            }
            Fact::ShipmentCancelled { seller_id } => {
                self.shipment_becomes(*seller_id, &[Shipping::Asked, Shipping::Ready], Shipping::Cancelled)?;
            }
            Fact::ClaimHeld { source } => self.claim_becomes(*source, &[Hold::Asked], Hold::Held)?,
            Fact::ClaimRejected { source } => {
                self.claim_becomes(*source, &[Hold::Asked], Hold::Rejected)?;
            }
            Fact::ClaimReleased { source } => {
                self.claim_becomes(*source, &[Hold::Asked, Hold::Held], Hold::Released)?;
            }
            Fact::ClaimCommitted { source } => {
                self.claim_becomes(*source, &[Hold::Held], Hold::Committed)?;
            }
            Fact::ReadyToShip | Fact::CancellationRequested | Fact::DeadlinePassed => {}
        }
        self.react(fact)
    }

    /// The whole course of the saga.
    fn react(&mut self, fact: &Fact) -> Option<Vec<Effect>> {
        use Phase::{
            Cancelling, Committing, Compensating, Completing, Paying, Readying, Reserving, Shipping,
        };
        match (self.phase, fact) {
            (Reserving, Fact::StockReserved { .. } | Fact::ClaimHeld { .. }) if self.all_is(Hold::Held) => {
                self.phase = Paying;
                self.payment = self::Paying::Asked;
                Some(vec![Effect::MarkStockReserved, Effect::RequestPayment])
            }
            (Paying, Fact::PaymentCompleted) => {
                self.phase = Shipping;
                self.shipments.values_mut().for_each(|shipment| *shipment = self::Shipping::Asked);
                Some([Effect::MarkPaid].into_iter().chain(self.request_shipments()).collect())
            }
            (Shipping, Fact::ShipmentReady { .. }) if self.all_shipments_are_ready() => {
                self.phase = Readying;
                Some(vec![Effect::MarkReadyToShip])
            }
            (Readying, Fact::ReadyToShip) => {
                self.phase = Committing;
                Some(self.commitments())
            }
            (Committing, Fact::ReservationCommitted { .. } | Fact::ClaimCommitted { .. })
                if self.all_is(Hold::Committed) =>
            {
                self.phase = Completing;
                Some(vec![Effect::CompleteOrder])
            }

            (Reserving, Fact::ReservationRejected { .. }) => Some(self.compensate(CancelReason::OutOfStock)),
            (Reserving, Fact::ClaimRejected { source }) => Some(self.compensate(source.exhausted())),
            (Paying, Fact::PaymentFailed) => Some(self.compensate(CancelReason::PaymentDeclined)),
            (Shipping, Fact::ShipmentRefused { .. }) => {
                Some(self.compensate(CancelReason::ShippingUnavailable))
            }
            (Reserving | Paying | Shipping | Readying, Fact::CancellationRequested) => {
                Some(self.compensate(CancelReason::BuyerRequest))
            }
            // Once the order was asked to get ready, its answer comes: the deadline has nothing left to guard.
            (Reserving | Paying | Shipping, Fact::DeadlinePassed) => {
                Some(self.compensate(CancelReason::Timeout))
            }

            (Compensating(reason), _) if !is_trigger(fact) => Some(self.cancel_once_undone(reason)),
            (Compensating(_) | Cancelling(_) | Readying | Committing | Completing, _) if is_trigger(fact) => {
                None
            }
            (Reserving | Paying | Shipping, Fact::ReadyToShip) => None,
            _ => Some(vec![]),
        }
    }

    /// Undoes everything that was sent and is not known refused.
    fn compensate(&mut self, reason: CancelReason) -> Vec<Effect> {
        self.phase = Phase::Compensating(reason);
        let mut effects = self.compensations();
        effects.extend(self.cancel_once_undone(reason));
        effects
    }

    fn compensations(&self) -> Vec<Effect> {
        let releases = self
            .stock
            .iter()
            .filter(|(_, (_, stock))| matches!(stock, Hold::Asked | Hold::Held))
            .map(|(&sku_id, _)| Effect::Release { sku_id });
        let claims = self
            .claims
            .iter()
            .filter(|(_, claim)| matches!(claim, Hold::Asked | Hold::Held))
            .map(|(claim, _)| Effect::ReleaseClaim { source: claim.source });
        let refund = matches!(self.payment, Paying::Asked | Paying::Completed).then_some(Effect::Refund);
        let cancellations = self
            .shipments
            .iter()
            .filter(|(_, shipment)| matches!(shipment, Shipping::Asked | Shipping::Ready))
            .map(|(&seller_id, _)| Effect::CancelShipment { seller_id });
        releases.chain(claims).chain(refund).chain(cancellations).collect()
    }

    fn cancel_once_undone(&mut self, reason: CancelReason) -> Vec<Effect> {
        if !self.compensations().is_empty() {
            return vec![];
        }
        self.phase = Phase::Cancelling(reason);
        self.cancellation(reason)
    }

    fn cancellation(&self, reason: CancelReason) -> Vec<Effect> {
        let short_lines = if reason == CancelReason::OutOfStock { self.short_lines.clone() } else { vec![] };
        vec![Effect::RestoreCart, Effect::CancelOrder { reason, short_lines }]
    }

    fn commitments(&self) -> Vec<Effect> {
        let held = |hold: Hold| hold == Hold::Held;
        let stock = self.stock.iter().filter(|(_, (_, stock))| held(*stock));
        let claims = self.claims.iter().filter(|(_, claim)| held(*claim));
        stock
            .map(|(&sku_id, _)| Effect::Commit { sku_id })
            .chain(claims.map(|(claim, _)| Effect::CommitClaim { source: claim.source }))
            .collect()
    }

    /// What was decided and has no answer yet: to be done again after a crash. Of what an operator has seen to only the
    /// record is left to be made.
    pub fn outstanding(&self) -> Vec<Effect> {
        let by_hand = |effect: Effect| match self.settled.iter().find(|settled| settled.effect == effect) {
            Some(settled) => Effect::RecordByHand { of: Box::new(effect), outcome: settled.outcome },
            None => effect,
        };
        self.unanswered().into_iter().map(by_hand).collect()
    }

    fn unanswered(&self) -> Vec<Effect> {
        match self.phase {
            Phase::Reserving => [Effect::PlaceOrder].into_iter().chain(self.requests()).collect(),
            Phase::Paying => vec![Effect::MarkStockReserved, Effect::RequestPayment],
            Phase::Shipping => [Effect::MarkStockReserved, Effect::MarkPaid]
                .into_iter()
                .chain(self.request_shipments())
                .collect(),
            Phase::Readying => vec![Effect::MarkStockReserved, Effect::MarkPaid, Effect::MarkReadyToShip],
            Phase::Committing => self.commitments(),
            Phase::Completing => vec![Effect::CompleteOrder],
            Phase::Compensating(_) => self.compensations(),
            Phase::Cancelling(reason) => self.cancellation(reason),
        }
    }

    /// What is to be reserved, as far as it is not known to be.
    fn requests(&self) -> impl Iterator<Item = Effect> {
        let stock = self.stock.iter().filter(|(_, (_, stock))| *stock == Hold::Asked);
        let claims = self.claims.iter().filter(|(_, claim)| *claim == Hold::Asked);
        stock
            .map(|(&sku_id, &(quantity, _))| Effect::Reserve { sku_id, quantity })
            .chain(claims.map(|(claim, _)| Effect::Claim { claim: claim.clone() }))
    }

    /// Whether an operator may say so of what is parked. What only this program can do is not done outside, and money that
    /// was taken has to go back.
    pub(super) fn may_be_settled(&self, effect: &Effect, outcome: ByHand) -> Result<(), CheckoutError> {
        match (effect, outcome) {
            (Effect::Refund, ByHand::NotNeeded) if self.payment == Paying::Completed => {
                Err(CheckoutError::WasCharged)
            }
            (Effect::Refund | Effect::CancelShipment { .. } | Effect::Release { .. }, _)
            | (Effect::RequestShipment { .. } | Effect::Commit { .. }, ByHand::Done) => Ok(()),
            _ => Err(CheckoutError::NotByHand),
        }
    }

    fn request_shipments(&self) -> impl Iterator<Item = Effect> {
        self.shipments
            .iter()
            .filter(|(_, shipment)| **shipment == Shipping::Asked)
            .map(|(&seller_id, _)| Effect::RequestShipment { seller_id })
    }

    fn all_is(&self, wanted: Hold) -> bool {
        self.stock.values().all(|(_, stock)| *stock == wanted)
            && self.claims.iter().all(|(_, claim)| *claim == wanted)
    }

    /// A reservation that came after its release is rejected as well: of that there was enough.
    fn note_short(&mut self, sku_id: SkuId, available: u64) {
        let requested = self.stock.get(&sku_id).map_or(0, |(quantity, _)| *quantity);
        if available < u64::from(requested) {
            self.short_lines.push(ShortLine { sku_id, requested, available });
        }
    }

    fn claim_becomes(&mut self, source: Source, from: &[Hold], to: Hold) -> Option<()> {
        let claim = self.claims.iter_mut().find(|(claim, _)| claim.source == source);
        claim.and_then(|(_, claim)| step(claim, from, to))
    }

    fn all_shipments_are_ready(&self) -> bool {
        self.shipments.values().all(|shipment| *shipment == Shipping::Ready)
    }

    fn stock_becomes(&mut self, sku: SkuId, from: &[Hold], to: Hold) -> Option<()> {
        self.stock.get_mut(&sku).and_then(|(_, stock)| step(stock, from, to))
    }

    fn payment_becomes(&mut self, from: &[Paying], to: Paying) -> Option<()> {
        step(&mut self.payment, from, to)
    }

    fn shipment_becomes(&mut self, seller: AccountId, from: &[Shipping], to: Shipping) -> Option<()> {
        self.shipments.get_mut(&seller).and_then(|shipment| step(shipment, from, to))
    }
}

fn step<T: PartialEq>(value: &mut T, from: &[T], to: T) -> Option<()> {
    if !from.contains(value) {
        return None;
    }
    *value = to;
    Some(())
}

/// Facts that tell of no answer to anything asked.
fn is_trigger(fact: &Fact) -> bool {
    matches!(fact, Fact::CancellationRequested | Fact::DeadlinePassed | Fact::ReadyToShip)
}
