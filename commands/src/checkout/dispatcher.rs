//! Carries out the effects that a checkout recorded. Each may be sent again: its command ids derive from the order and
//! the step, and an effect that was carried out before only tells what came of it.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use souk_domain::{
    AccountId, CartId, CreditId, Ending, OrderId, PromotionId, ShipmentId, SkuId,
    cart::{CartCommand, CartLine, CartState},
    credit::{CreditCommand, CreditState},
    inventory::{InventoryCommand, InventoryState},
    order::{Order, OrderCancelled, OrderCommand, OrderError, OrderPlaced},
    payment::{PaymentCommand, PaymentRequested, PaymentState, PaymentType},
    promotion::{PromotionCommand, PromotionState},
    shipment::{ShipmentCommand, ShipmentRequested, ShipmentState, ShipmentStatus},
};
use souk_gateways::GatewayError;
use uuid::Uuid;

use super::{
    LONGEST_WAIT, booking,
    events::{ByHand, Claim, Effect, Fact, Source},
    pause,
    process::{Phase, Process},
    settlement::{self, SettlementError},
};
use crate::{Context, ExecuteError, Market, executor::ReadFailure, flows};

pub(super) struct Dispatcher {
    pub(super) market: Arc<Market>,
    /// Tries of one effect before the checkout is parked. The log and the vault are waited for without end.
    pub(super) attempts: u32,
}

/// What all effects of a checkout have in common.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) cart_id: CartId,
    pub(super) buyer_id: AccountId,
    pub(super) correlation_id: Uuid,
    pub(super) backdated_to: Option<DateTime<Utc>>,
}

impl Origin {
    pub(super) fn of(process: &Process) -> Self {
        let Process { cart_id, buyer_id, correlation_id, backdated_to, .. } = *process;
        Self { cart_id, buyer_id, correlation_id, backdated_to }
    }
}

/// An effect that could not be carried out.
pub(super) struct Failed {
    pub(super) effect: Effect,
    pub(super) reason: String,
    pub(super) attempts: u32,
}

enum EffectError {
    /// The log or the vault is away, or a gateway is left alone for a moment: nothing an operator could decide, so it is
    /// tried until they are back.
    Unavailable(String),
    /// Worth another try.
    Later(String),
    /// No use in trying again.
    Never(String),
    /// Tried often enough already.
    GivenUp { reason: String, attempts: u32 },
}

impl<R: std::error::Error> From<ExecuteError<R>> for EffectError {
    fn from(error: ExecuteError<R>) -> Self {
        match error {
            ExecuteError::Unavailable(reason) => Self::Unavailable(reason),
            ExecuteError::Stale { .. } => Self::Later(error.to_string()),
            ExecuteError::Refused(_) | ExecuteError::KeyReused | ExecuteError::Unreadable(_) => {
                Self::Never(error.to_string())
            }
        }
    }
}

impl From<ReadFailure> for EffectError {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Unavailable(reason) => Self::Unavailable(reason),
            ReadFailure::Unreadable(reason) => Self::Never(reason),
        }
    }
}

type Outcome = Result<Option<Fact>, EffectError>;

impl Dispatcher {
    /// Carries out what one record decided. Returns what turned out to be known already, and what failed for good.
    pub(super) async fn carry_out(
        &self,
        order: OrderId,
        origin: &Origin,
        effects: Vec<Effect>,
        cause: Option<Uuid>,
    ) -> (Vec<Fact>, Vec<Failed>) {
        let (first, rest): (Vec<_>, Vec<_>) = effects
            .into_iter()
            .partition(|effect| matches!(effect, Effect::PlaceOrder | Effect::RestoreCart));
        let (mut facts, mut failed) = (Vec::new(), Vec::new());
        for group in [first, rest] {
            for outcome in join_all(
                group.into_iter().map(|effect| Box::pin(self.try_often(order, origin, effect, cause))),
            )
            .await
            {
                match outcome {
                    Ok(fact) => facts.extend(fact),
                    Err(failure) => failed.push(failure),
                }
            }
        }
        (facts, failed)
    }

    async fn try_often(
        &self,
        order: OrderId,
        origin: &Origin,
        effect: Effect,
        cause: Option<Uuid>,
    ) -> Result<Option<Fact>, Failed> {
        let context = Context { causation_id: cause, ..context_of(order, origin, &effect) };
        let (mut attempt, mut waited) = (0, 0);
        loop {
            if attempt + waited > 0 && self.is_too_late_for(order, &effect).await {
                return Ok(None);
            }
            match self.perform(order, origin, &effect, &context).await {
                Ok(fact) => return Ok(fact),
                Err(EffectError::Unavailable(reason)) => {
                    waited += 1;
                    tracing::warn!(%order, ?effect, reason, "an effect waits for what is away");
                    tokio::time::sleep(pause(waited).min(LONGEST_WAIT)).await;
                }
                Err(EffectError::Later(reason)) if attempt < self.attempts => {
                    attempt += 1;
                    tracing::warn!(%order, ?effect, attempt, reason, "an effect will be tried again");
                    tokio::time::sleep(pause(attempt)).await;
                }
                Err(EffectError::Later(reason) | EffectError::Never(reason)) => {
                    return Err(Failed { effect, reason, attempts: attempt + 1 });
                }
                Err(EffectError::GivenUp { reason, attempts }) => {
                    return Err(Failed { effect, reason, attempts });
                }
            }
        }
    }

    /// What was let go of in the meantime must not be taken any more: nobody would let go of it again.
    async fn is_too_late_for(&self, order: OrderId, effect: &Effect) -> bool {
        let moved_on = |process: &Option<Process>| {
            process.as_ref().is_some_and(|process| process.phase != Phase::Reserving)
        };
        matches!(effect, Effect::Reserve { .. } | Effect::Claim { .. })
            && self.market.aggregates.checkouts.seen(order, moved_on).await.is_ok_and(|seen| seen.value)
    }

    async fn perform(&self, order: OrderId, origin: &Origin, effect: &Effect, context: &Context) -> Outcome {
        match effect {
            Effect::PlaceOrder => self.place(order, origin.cart_id, context).await,
            Effect::Reserve { sku_id, quantity } => {
                let command = InventoryCommand::Reserve { order_id: order, quantity: *quantity };
                self.inventory(*sku_id, order, command, context).await
            }
            Effect::Commit { sku_id } => {
                self.inventory(*sku_id, order, InventoryCommand::Commit { order_id: order }, context).await
            }
            Effect::Release { sku_id } => {
                self.inventory(*sku_id, order, InventoryCommand::Release { order_id: order }, context).await
            }
            Effect::MarkStockReserved => self.order(order, OrderCommand::MarkStockReserved, context).await,
            Effect::MarkPaid => self.order(order, OrderCommand::MarkPaid, context).await,
            Effect::MarkReadyToShip => self.order(order, OrderCommand::MarkReadyToShip, context).await,
            Effect::CompleteOrder => self.order(order, OrderCommand::Complete, context).await,
            Effect::CancelOrder { reason, short_lines } => {
                // Given up before it could be placed: it is placed all the same, since the buyer was told of it.
                let placing = context_of(order, origin, &Effect::PlaceOrder);
                self.place(order, origin.cart_id, &placing).await?;
                let cancelled = OrderCancelled { reason: *reason, short_lines: short_lines.clone() };
                self.order(order, OrderCommand::Cancel(cancelled), context).await
            }
            Effect::Claim { claim } => self.claim(order, origin, claim, context).await,
            Effect::ReleaseClaim { source } => self.release_claim(order, *source, context).await,
            Effect::CommitClaim { source } => self.commit_claim(order, *source, context).await,
            Effect::RequestPayment => {
                let placed = self.placed(order).await?;
                let request = PaymentRequested { amount: placed.due(), method: placed.payment };
                self.payment(order, PaymentCommand::Request(request), context).await
            }
            Effect::Refund => self.payment(order, PaymentCommand::RequestRefund, context).await,
            Effect::RequestShipment { seller_id } => {
                let mut placed = self.placed(order).await?;
                placed.lines.retain(|line| line.seller_id == *seller_id);
                let request = ShipmentRequested {
                    order_id: order,
                    seller_id: *seller_id,
                    lines: placed.lines,
                    ship_to: placed.ship_to,
                };
                let shipment = ShipmentId { order_id: order, seller_id: *seller_id };
                self.shipment(shipment, ShipmentCommand::Request(request), context).await
            }
            Effect::CancelShipment { seller_id } => {
                let shipment = ShipmentId { order_id: order, seller_id: *seller_id };
                // The carrier first: once it is cancelled with us nobody would tell him again.
                self.market.carrier.cancel(booking::key(shipment)).await?;
                self.shipment(shipment, ShipmentCommand::Cancel, context).await
            }
            Effect::RestoreCart => self.restore_cart(origin, context).await,
            Effect::RecordByHand { of, outcome } => self.record_by_hand(order, of, *outcome, context).await,
        }
    }

    /// The aggregate says the same as the operator where it can, and the checkout learns what stands for the effect.
    async fn record_by_hand(
        &self,
        order: OrderId,
        effect: &Effect,
        outcome: ByHand,
        context: &Context,
    ) -> Outcome {
        match *effect {
            Effect::Refund => {
                let payments = &self.market.aggregates.payments;
                payments.execute(order, PaymentCommand::RequestRefund, context).await?;
                Ok(fact_of(&settlement::settle_by_hand(&self.market, order, outcome, context).await?))
            }
            Effect::RequestShipment { seller_id } => {
                let shipment = ShipmentId { order_id: order, seller_id };
                let carrier = settlement::BY_HAND.to_owned();
                let booking_id = format!("{carrier}:{shipment}");
                self.shipment(shipment, ShipmentCommand::RecordReady { carrier, booking_id }, context).await
            }
            Effect::CancelShipment { seller_id } => {
                let shipment = ShipmentId { order_id: order, seller_id };
                self.shipment(shipment, ShipmentCommand::Cancel, context).await
            }
            Effect::Commit { sku_id } => {
                let command = InventoryCommand::Commit { order_id: order };
                match self.inventory(sku_id, order, command, context).await {
                    Err(EffectError::Never(reason)) => {
                        tracing::warn!(%order, %sku_id, reason, "the goods left without the stock knowing of it");
                        Ok(Some(Fact::ReservationCommitted { sku_id }))
                    }
                    done => done,
                }
            }
            Effect::Release { sku_id } => {
                let command = InventoryCommand::Release { order_id: order };
                match self.inventory(sku_id, order, command, context).await {
                    Err(EffectError::Never(reason)) => {
                        tracing::warn!(%order, %sku_id, reason, "the stock could not be told of what is back");
                        Ok(Some(Fact::ReservationReleased { sku_id }))
                    }
                    done => done,
                }
            }
            _ => Err(EffectError::Never("this is not done by hand".into())),
        }
    }

    async fn place(&self, order: OrderId, cart_id: CartId, context: &Context) -> Outcome {
        if self.market.aggregates.orders.seen(order, Option::is_some).await?.value {
            return Ok(None);
        }
        let cart = flows::checkout::checked_out(&self.market, cart_id).await.map_err(EffectError::Later)?;
        let Some(checkout) = cart else {
            return Err(EffectError::Never(format!("cart {cart_id} was not checked out")));
        };
        flows::checkout::place(&self.market, order, cart_id, checkout, context).await?;
        Ok(None)
    }

    async fn placed(&self, order: OrderId) -> Result<OrderPlaced, EffectError> {
        let read = |state: &Option<Order>| state.as_ref().map(|order| order.placed.clone());
        let placed = self.market.aggregates.orders.seen(order, read).await?.value;
        placed.ok_or_else(|| EffectError::Later("the order is not placed yet".into()))
    }

    async fn order(&self, order: OrderId, command: OrderCommand, context: &Context) -> Outcome {
        let ready = matches!(command, OrderCommand::MarkReadyToShip);
        match self.market.aggregates.orders.execute(order, command, context).await {
            Ok(done) => Ok((ready && done.events.is_empty()).then_some(Fact::ReadyToShip)),
            // A cancellation came first. The process hears of it by itself, but this may come earlier.
            Err(ExecuteError::Refused(OrderError::BeingCancelled)) => Ok(Some(Fact::CancellationRequested)),
            // The step before is still on its way.
            Err(ExecuteError::Refused(error @ OrderError::OutOfOrder { .. })) => {
                Err(EffectError::Later(error.to_string()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn inventory(
        &self,
        sku_id: SkuId,
        order: OrderId,
        command: InventoryCommand,
        context: &Context,
    ) -> Outcome {
        let inventory = &self.market.aggregates.inventory;
        if !inventory.execute(sku_id, command, context).await?.events.is_empty() {
            return Ok(None);
        }
        let known = |state: &InventoryState| match (state.open_reservation(order), state.ending(order)) {
            (Some(_), _) => Some(Fact::StockReserved { sku_id }),
            (None, Some(Ending::Rejected)) => {
                Some(Fact::ReservationRejected { sku_id, available: state.available() })
            }
            (None, Some(Ending::Released)) => Some(Fact::ReservationReleased { sku_id }),
            (None, Some(Ending::Committed)) => Some(Fact::ReservationCommitted { sku_id }),
            (None, None) => None,
        };
        Ok(inventory.seen(sku_id, known).await?.value)
    }

    async fn claim(&self, order_id: OrderId, origin: &Origin, claim: &Claim, context: &Context) -> Outcome {
        match (claim.source, claim.amount) {
            (Source::Promotion(id), _) => {
                let command = PromotionCommand::Claim { order_id, buyer_id: origin.buyer_id };
                self.coupon(id, order_id, command, context).await
            }
            (Source::Credit(id), Some(amount)) => {
                self.credit(id, order_id, CreditCommand::Hold { order_id, amount }, context).await
            }
            (Source::Credit(_), None) => Err(EffectError::Never("a claim on credit has an amount".into())),
        }
    }

    async fn release_claim(&self, order_id: OrderId, source: Source, context: &Context) -> Outcome {
        match source {
            Source::Promotion(id) => {
                self.coupon(id, order_id, PromotionCommand::Release { order_id }, context).await
            }
            Source::Credit(id) => {
                self.credit(id, order_id, CreditCommand::Release { order_id }, context).await
            }
        }
    }

    async fn commit_claim(&self, order_id: OrderId, source: Source, context: &Context) -> Outcome {
        match source {
            Source::Promotion(id) => {
                self.coupon(id, order_id, PromotionCommand::Redeem { order_id }, context).await
            }
            Source::Credit(id) => self.credit(id, order_id, CreditCommand::Spend { order_id }, context).await,
        }
    }

    async fn coupon(
        &self,
        id: PromotionId,
        order: OrderId,
        command: PromotionCommand,
        context: &Context,
    ) -> Outcome {
        let promotions = &self.market.aggregates.promotions;
        if !promotions.execute(id, command, context).await?.events.is_empty() {
            return Ok(None);
        }
        let known = |state: &PromotionState| (state.has_claimed(order), state.ending(order));
        let (held, ending) = promotions.seen(id, known).await?.value;
        Ok(standing_of(Source::Promotion(id), held, ending))
    }

    async fn credit(
        &self,
        id: CreditId,
        order: OrderId,
        command: CreditCommand,
        context: &Context,
    ) -> Outcome {
        let credits = &self.market.aggregates.credits;
        if !credits.execute(id, command, context).await?.events.is_empty() {
            return Ok(None);
        }
        let known = |state: &CreditState| (state.is_held_by(order), state.ending(order));
        let (held, ending) = credits.seen(id, known).await?.value;
        Ok(standing_of(Source::Credit(id), held, ending))
    }

    async fn payment(&self, order: OrderId, command: PaymentCommand, context: &Context) -> Outcome {
        let asks = matches!(command, PaymentCommand::Request(_));
        let nothing_new =
            self.market.aggregates.payments.execute(order, command, context).await?.events.is_empty();
        match settlement::settle(&self.market, order, None, context).await {
            Ok(settled) => Ok(fact_of(&settled).filter(|_| nothing_new)),
            // Given up meanwhile: whoever wants the money back sees to it.
            Err(SettlementError::NotGivenBack { .. } | SettlementError::Disputed) if asks => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn shipment(&self, shipment: ShipmentId, command: ShipmentCommand, context: &Context) -> Outcome {
        let shipments = &self.market.aggregates.shipments;
        let nothing_new = shipments.execute(shipment, command, context).await?.events.is_empty();
        booking::book(&self.market, shipment, context).await?;
        if !nothing_new {
            return Ok(None);
        }
        let seller_id = shipment.seller_id;
        let status = shipments.seen(shipment, |state: &ShipmentState| state.status).await?.value;
        Ok(match status {
            ShipmentStatus::Ready
            | ShipmentStatus::PartlyDispatched
            | ShipmentStatus::Dispatched
            | ShipmentStatus::Delivered => Some(Fact::ShipmentReady { seller_id }),
            ShipmentStatus::Refused => Some(Fact::ShipmentRefused { seller_id }),
            ShipmentStatus::Cancelled => Some(Fact::ShipmentCancelled { seller_id }),
            ShipmentStatus::NotRequested | ShipmentStatus::Requested => None,
        })
    }

    /// The lines of a cancelled order go into the buyer's next cart, if that is empty.
    async fn restore_cart(&self, origin: &Origin, context: &Context) -> Outcome {
        let carts = &self.market.aggregates.carts;
        let cart = carts.read(origin.cart_id, CartState::clone).await?.value;
        let imported = origin.backdated_to.is_some();
        let lines: Vec<CartLine> = cart.lines;
        if imported || lines.is_empty() {
            return Ok(None);
        }
        let number = cart.number + 1;
        let command = CartCommand::Restore { account_id: origin.buyer_id, number, lines };
        carts.execute(CartId::nth(origin.buyer_id, number), command, context).await?;
        Ok(None)
    }
}

/// How a payment stands, for those who did not see it come to that.
fn fact_of(payment: &PaymentState) -> Option<Fact> {
    match payment {
        PaymentState::Charged { .. } => Some(Fact::PaymentCompleted),
        PaymentState::Failed { .. } => Some(Fact::PaymentFailed),
        PaymentState::Refunded { .. } => Some(Fact::PaymentRefunded),
        PaymentState::NotRequested | PaymentState::Pending { .. } => None,
    }
}

impl From<SettlementError> for EffectError {
    fn from(error: SettlementError) -> Self {
        let reason = error.to_string();
        match error {
            SettlementError::Log(error) => error.into(),
            SettlementError::NotGivenBack { attempts, .. } => Self::GivenUp { reason, attempts },
            SettlementError::Disputed => Self::Never(reason),
        }
    }
}

impl From<GatewayError> for EffectError {
    fn from(error: GatewayError) -> Self {
        match error {
            GatewayError::Invalid { .. } => Self::Never(error.to_string()),
            GatewayError::Unavailable(_) | GatewayError::Unknown(_) => Self::Later(error.to_string()),
            // Nobody was asked, so it counts for nothing.
            GatewayError::Resting(_) => Self::Unavailable(error.to_string()),
        }
    }
}

/// What is known of a claim already.
fn standing_of(source: Source, held: bool, ending: Option<Ending>) -> Option<Fact> {
    match ending {
        _ if held => Some(Fact::ClaimHeld { source }),
        Some(Ending::Rejected) => Some(Fact::ClaimRejected { source }),
        Some(Ending::Released) => Some(Fact::ClaimReleased { source }),
        Some(Ending::Committed) => Some(Fact::ClaimCommitted { source }),
        None => None,
    }
}

/// An imported order is backdated, and so is all that follows from it.
pub(super) fn backdated(payment: PaymentType, occurred_at: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    occurred_at.filter(|_| payment == PaymentType::Invoice)
}

fn context_of(order: OrderId, origin: &Origin, effect: &Effect) -> Context {
    Context {
        correlation_id: origin.correlation_id,
        occurred_at: origin.backdated_to,
        ..Context::new(Uuid::new_v5(&order.0, step_of(effect).as_bytes()), super::ACTOR)
    }
}

fn step_of(effect: &Effect) -> String {
    match effect {
        Effect::PlaceOrder => "place".to_owned(),
        Effect::Reserve { sku_id, .. } => format!("reserve/{sku_id}"),
        Effect::MarkStockReserved => "markStockReserved".to_owned(),
        Effect::RequestPayment => "requestPayment".to_owned(),
        Effect::MarkPaid => "markPaid".to_owned(),
        Effect::RequestShipment { seller_id } => format!("requestShipment/{seller_id}"),
        Effect::MarkReadyToShip => "markReadyToShip".to_owned(),
        Effect::Commit { sku_id } => format!("commit/{sku_id}"),
        Effect::CompleteOrder => "complete".to_owned(),
        Effect::Release { sku_id } => format!("release/{sku_id}"),
        Effect::Refund => "refund".to_owned(),
        Effect::CancelShipment { seller_id } => format!("cancelShipment/{seller_id}"),
        Effect::RestoreCart => "restoreCart".to_owned(),
        Effect::CancelOrder { .. } => "cancel".to_owned(),
        Effect::Claim { claim } => format!("claim/{}", claim.source),
        Effect::ReleaseClaim { source } => format!("releaseClaim/{source}"),
        Effect::CommitClaim { source } => format!("commitClaim/{source}"),
        Effect::RecordByHand { of, .. } => format!("byHand/{}", step_of(of)),
    }
}
