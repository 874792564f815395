//! The saga's rules, told without a log: what a checkout does about what it learns.

use chrono::DateTime;
use souk_commands::checkout::{
    ByHand, Checkout, CheckoutAdvanced, CheckoutCommand, CheckoutError, CheckoutEvent, CheckoutParked,
    CheckoutResumed, CheckoutSettled, CheckoutStarted, Claim, Effect, Fact, Process, Reservation, Source,
};
use souk_domain::{
    AccountId, CartId, CreditId, PromotionId, SkuId,
    order::{CancelReason, ShortLine},
    testing::{
        Given,
        examples::{BUYER, SELLER, cents, sku_id},
    },
};
use uuid::Uuid;

const OTHER_SELLER: AccountId = AccountId(Uuid::from_u128(0x6));

/// Facts and effects in the order of the saga, for one or two SKUs and sellers.
struct Story(Given<Checkout>);

impl Story {
    fn of(skus: &[SkuId], sellers: &[AccountId]) -> Self {
        Self::claiming(skus, sellers, vec![])
    }

    /// A mug, with a coupon and a gift card.
    fn with_claims() -> Self {
        let claims = vec![
            Claim { source: coupon(), amount: None },
            Claim { source: gift_card(), amount: Some(cents(5)) },
        ];
        Self::claiming(&[mug()], &[SELLER], claims)
    }

    fn claiming(skus: &[SkuId], sellers: &[AccountId], claims: Vec<Claim>) -> Self {
        let started = CheckoutStarted {
            cart_id: CartId(Uuid::from_u128(1)),
            buyer_id: BUYER,
            reservations: skus.iter().map(|&sku_id| Reservation { sku_id, quantity: 1 }).collect(),
            claims,
            sellers: sellers.to_vec(),
            deadline: DateTime::UNIX_EPOCH,
            correlation_id: Uuid::nil(),
            backdated_to: None,
            decided: vec![],
        };
        Self(Given::events([started.into()]))
    }

    fn simple() -> Self {
        Self::of(&[mug()], &[SELLER])
    }

    /// Learns one fact, which must lead to exactly these effects.
    #[track_caller]
    fn then(self, fact: Fact, effects: impl IntoIterator<Item = Effect>) -> Self {
        let advanced: CheckoutEvent =
            CheckoutAdvanced { learnt: vec![fact.clone()], decided: effects.into_iter().collect() }.into();
        Self(self.0.when(CheckoutCommand::Learn(vec![fact])).then([advanced]))
    }

    #[track_caller]
    fn ignores(self, fact: Fact) -> Self {
        Self(self.0.when(CheckoutCommand::Learn(vec![fact])).then_nothing())
    }

    #[track_caller]
    fn waits_for(self, effects: impl IntoIterator<Item = Effect>) -> Self {
        let outstanding = self.0.state().as_ref().map(Process::outstanding);
        assert_eq!(outstanding, Some(effects.into_iter().collect::<Vec<_>>()));
        self
    }

    fn reserved(self) -> Self {
        self.then(Fact::StockReserved { sku_id: mug() }, [Effect::MarkStockReserved, Effect::RequestPayment])
    }

    fn paid(self) -> Self {
        self.reserved()
            .then(Fact::PaymentCompleted, [Effect::MarkPaid, Effect::RequestShipment { seller_id: SELLER }])
    }

    fn booked(self) -> Self {
        self.paid().then(Fact::ShipmentReady { seller_id: SELLER }, [Effect::MarkReadyToShip])
    }
}

fn mug() -> SkuId {
    sku_id("MUG")
}

fn coupon() -> Source {
    Source::Promotion(PromotionId::of_code("SPRING"))
}

fn gift_card() -> Source {
    Source::Credit(CreditId::of_gift_card("GIFT"))
}

fn pen() -> SkuId {
    sku_id("PEN")
}

/// For want of one of them.
fn short_of(sku_id: SkuId) -> [Effect; 2] {
    let short_lines = vec![ShortLine { sku_id, requested: 1, available: 0 }];
    [Effect::RestoreCart, Effect::CancelOrder { reason: CancelReason::OutOfStock, short_lines }]
}

fn cancelled(reason: CancelReason) -> [Effect; 2] {
    [Effect::RestoreCart, Effect::CancelOrder { reason, short_lines: vec![] }]
}

#[test]
fn an_order_goes_through_step_by_step() {
    Story::simple()
        .waits_for([Effect::PlaceOrder, Effect::Reserve { sku_id: mug(), quantity: 1 }])
        .booked()
        .then(Fact::ReadyToShip, [Effect::Commit { sku_id: mug() }])
        .waits_for([Effect::Commit { sku_id: mug() }])
        .then(Fact::ReservationCommitted { sku_id: mug() }, [Effect::CompleteOrder])
        .waits_for([Effect::CompleteOrder]);
}

#[test]
fn nothing_is_charged_before_every_line_is_reserved() {
    Story::of(&[mug(), pen()], &[SELLER])
        .then(Fact::StockReserved { sku_id: pen() }, [])
        .then(Fact::StockReserved { sku_id: mug() }, [Effect::MarkStockReserved, Effect::RequestPayment]);
}

#[test]
fn an_order_is_ready_when_all_its_sellers_are() {
    let (one, other) = (SELLER, OTHER_SELLER);
    Story::of(&[mug()], &[one, other])
        .reserved()
        .then(
            Fact::PaymentCompleted,
            [
                Effect::MarkPaid,
                Effect::RequestShipment { seller_id: one },
                Effect::RequestShipment { seller_id: other },
            ],
        )
        .then(Fact::ShipmentReady { seller_id: other }, [])
        .then(Fact::ShipmentReady { seller_id: one }, [Effect::MarkReadyToShip]);
}

#[test]
fn a_fact_that_is_known_changes_nothing() {
    Story::simple()
        .reserved()
        .ignores(Fact::StockReserved { sku_id: mug() })
        .then(Fact::PaymentCompleted, [Effect::MarkPaid, Effect::RequestShipment { seller_id: SELLER }])
        .ignores(Fact::PaymentCompleted)
        .ignores(Fact::StockReserved { sku_id: pen() });
}

#[test]
fn out_of_stock_releases_what_else_was_asked_for_and_charges_nothing() {
    Story::of(&[mug(), pen()], &[SELLER])
        .then(Fact::StockReserved { sku_id: mug() }, [])
        .then(Fact::ReservationRejected { sku_id: pen(), available: 0 }, [Effect::Release { sku_id: mug() }])
        .waits_for([Effect::Release { sku_id: mug() }])
        .then(Fact::ReservationReleased { sku_id: mug() }, short_of(pen()));
}

#[test]
fn the_only_line_out_of_stock_leaves_nothing_to_undo() {
    Story::simple().then(Fact::ReservationRejected { sku_id: mug(), available: 0 }, short_of(mug()));
}

#[test]
fn a_reservation_that_is_still_on_its_way_is_released_as_well() {
    Story::of(&[mug(), pen()], &[SELLER])
        .then(Fact::ReservationRejected { sku_id: pen(), available: 0 }, [Effect::Release { sku_id: mug() }])
        // It arrives before the release does: the release is still to come.
        .then(Fact::StockReserved { sku_id: mug() }, [])
        .then(Fact::ReservationReleased { sku_id: mug() }, short_of(pen()));
}

#[test]
fn a_reservation_that_comes_after_its_release_is_rejected_and_that_will_do() {
    Story::of(&[mug(), pen()], &[SELLER])
        .then(Fact::ReservationRejected { sku_id: pen(), available: 0 }, [Effect::Release { sku_id: mug() }])
        .then(Fact::ReservationRejected { sku_id: mug(), available: 5 }, short_of(pen()))
        .ignores(Fact::ReservationReleased { sku_id: mug() });
}

#[test]
fn a_declined_payment_gives_the_stock_back() {
    Story::simple()
        .reserved()
        .then(Fact::PaymentFailed, [Effect::Release { sku_id: mug() }])
        .then(Fact::ReservationReleased { sku_id: mug() }, cancelled(CancelReason::PaymentDeclined));
}

#[test]
fn a_refused_shipment_gives_back_stock_money_and_the_other_shipments() {
    let (one, other) = (SELLER, OTHER_SELLER);
    Story::of(&[mug()], &[one, other])
        .reserved()
        .then(
            Fact::PaymentCompleted,
            [
                Effect::MarkPaid,
                Effect::RequestShipment { seller_id: one },
                Effect::RequestShipment { seller_id: other },
            ],
        )
        .then(
            Fact::ShipmentRefused { seller_id: one },
            [Effect::Release { sku_id: mug() }, Effect::Refund, Effect::CancelShipment { seller_id: other }],
        )
        .then(Fact::PaymentRefunded, [])
        .then(Fact::ShipmentCancelled { seller_id: other }, [])
        .waits_for([Effect::Release { sku_id: mug() }])
        .then(Fact::ReservationReleased { sku_id: mug() }, cancelled(CancelReason::ShippingUnavailable));
}

#[test]
fn the_buyer_may_cancel_while_stock_is_reserved() {
    Story::simple()
        .then(Fact::CancellationRequested, [Effect::Release { sku_id: mug() }])
        .then(Fact::ReservationReleased { sku_id: mug() }, cancelled(CancelReason::BuyerRequest));
}

#[test]
fn a_payment_whose_outcome_is_unknown_is_settled_before_the_order_is_cancelled() {
    Story::simple()
        .reserved()
        .then(Fact::CancellationRequested, [Effect::Release { sku_id: mug() }, Effect::Refund])
        .then(Fact::ReservationReleased { sku_id: mug() }, [])
        // It had been charged after all: only its refund settles it.
        .then(Fact::PaymentCompleted, [])
        .waits_for([Effect::Refund])
        .then(Fact::PaymentRefunded, cancelled(CancelReason::BuyerRequest));
}

#[test]
fn the_buyer_may_cancel_while_shipments_are_booked() {
    Story::simple()
        .paid()
        .then(
            Fact::CancellationRequested,
            [Effect::Release { sku_id: mug() }, Effect::Refund, Effect::CancelShipment { seller_id: SELLER }],
        )
        .then(Fact::ShipmentReady { seller_id: SELLER }, [])
        .then(Fact::ShipmentCancelled { seller_id: SELLER }, [])
        .then(Fact::PaymentRefunded, [])
        .then(Fact::ReservationReleased { sku_id: mug() }, cancelled(CancelReason::BuyerRequest));
}

#[test]
fn a_cancellation_that_the_order_took_before_it_was_ready_wins() {
    Story::simple().booked().then(
        Fact::CancellationRequested,
        [Effect::Release { sku_id: mug() }, Effect::Refund, Effect::CancelShipment { seller_id: SELLER }],
    );
}

#[test]
fn a_deadline_gives_the_order_up_until_it_was_asked_to_get_ready() {
    let undo = || [Effect::Release { sku_id: mug() }, Effect::Refund];
    Story::simple().then(Fact::DeadlinePassed, [Effect::Release { sku_id: mug() }]);
    Story::simple().reserved().then(Fact::DeadlinePassed, undo());
    Story::simple()
        .paid()
        .then(Fact::DeadlinePassed, undo().into_iter().chain([Effect::CancelShipment { seller_id: SELLER }]));
    Story::simple().booked().ignores(Fact::DeadlinePassed);
    Story::simple()
        .booked()
        .then(Fact::ReadyToShip, [Effect::Commit { sku_id: mug() }])
        .ignores(Fact::DeadlinePassed)
        .ignores(Fact::CancellationRequested);
}

#[test]
fn the_first_reason_stays() {
    Story::simple()
        .reserved()
        .then(Fact::DeadlinePassed, [Effect::Release { sku_id: mug() }, Effect::Refund])
        .ignores(Fact::CancellationRequested)
        .then(Fact::PaymentFailed, [])
        .then(Fact::ReservationReleased { sku_id: mug() }, cancelled(CancelReason::Timeout));
}

#[test]
fn facts_that_come_together_are_recorded_together() {
    let facts = vec![Fact::StockReserved { sku_id: mug() }, Fact::PaymentCompleted];
    Story::simple().0.when(CheckoutCommand::Learn(facts.clone())).then([CheckoutAdvanced {
        learnt: facts,
        decided: vec![
            Effect::MarkStockReserved,
            Effect::RequestPayment,
            Effect::MarkPaid,
            Effect::RequestShipment { seller_id: SELLER },
        ],
    }
    .into()]);
}

/// Parks it for the effect, which must be what the checkout waits for.
#[track_caller]
fn parked(story: Story, effect: Effect) -> Given<Checkout> {
    assert!(story.0.state().as_ref().is_some_and(|process| process.outstanding().contains(&effect)));
    let (reason, attempts) = ("the bank is closed".to_owned(), 12);
    let park = CheckoutCommand::Park { effect: effect.clone(), reason: reason.clone(), attempts };
    story
        .0
        .when(park.clone())
        .then([CheckoutParked { effect, reason, attempts }.into()])
        .when(park)
        .then_nothing()
}

fn settle(outcome: ByHand) -> CheckoutCommand {
    CheckoutCommand::Settle { outcome, reason: "by bank transfer".into() }
}

fn settled(effect: Effect, outcome: ByHand) -> [CheckoutEvent; 1] {
    [CheckoutSettled { effect, outcome, reason: "by bank transfer".into() }.into()]
}

/// Charged or not, and cancelled meanwhile.
fn given_up(charged: bool) -> Story {
    let story = Story::simple().reserved();
    let story = if charged {
        story.then(Fact::PaymentCompleted, [Effect::MarkPaid, Effect::RequestShipment { seller_id: SELLER }])
    } else {
        story
    };
    let cancelled_shipment = charged.then_some(Effect::CancelShipment { seller_id: SELLER });
    let undo = [Effect::Release { sku_id: mug() }, Effect::Refund].into_iter().chain(cancelled_shipment);
    story.then(Fact::CancellationRequested, undo).then(Fact::ReservationReleased { sku_id: mug() }, [])
}

#[test]
fn a_parked_checkout_says_why_until_it_is_resumed() {
    let parked = parked(Story::simple().reserved(), Effect::RequestPayment);
    let reason = |process: &Process| process.parked.as_ref().map(|parked| parked.reason.clone());
    assert_eq!(parked.state().as_ref().and_then(reason).as_deref(), Some("the bank is closed"));
    let resumed = parked.when(CheckoutCommand::Resume).then([CheckoutResumed {}.into()]);
    assert_eq!(resumed.state().as_ref().unwrap().parked, None);
    resumed.when(CheckoutCommand::Resume).then_nothing();
}

#[test]
fn what_is_done_after_all_is_parked_no_longer() {
    let parked = parked(Story::simple(), Effect::Reserve { sku_id: mug(), quantity: 1 });
    let reserved = vec![Fact::StockReserved { sku_id: mug() }];
    let decided = vec![Effect::MarkStockReserved, Effect::RequestPayment];
    let advanced = CheckoutAdvanced { learnt: reserved.clone(), decided };
    let done =
        parked.when(CheckoutCommand::Learn(reserved)).then([advanced.into(), CheckoutResumed {}.into()]);
    assert_eq!(done.state().as_ref().unwrap().parked, None);
}

#[test]
fn a_refund_that_was_paid_by_hand_is_recorded_and_the_order_cancelled() {
    for outcome in [ByHand::Done, ByHand::NotNeeded] {
        let story = parked(given_up(false), Effect::Refund).when(settle(outcome));
        let story = Story(story.then(settled(Effect::Refund, outcome)));
        let story = story.waits_for([Effect::RecordByHand { of: Box::new(Effect::Refund), outcome }]);
        // Said again it is the same; said otherwise there is nothing left to say.
        let other = if outcome == ByHand::Done { ByHand::NotNeeded } else { ByHand::Done };
        let story = story.0.when(settle(outcome)).then_nothing();
        let story = story.when(settle(other)).then_refused(CheckoutError::NotParked);
        Story(story).then(Fact::PaymentRefunded, cancelled(CancelReason::BuyerRequest));
    }
}

#[test]
fn money_that_was_taken_has_to_go_back() {
    let story = parked(given_up(true), Effect::Refund);
    let story = story.when(settle(ByHand::NotNeeded)).then_refused(CheckoutError::WasCharged);
    story.when(settle(ByHand::Done)).then(settled(Effect::Refund, ByHand::Done));
}

#[test]
fn by_hand_is_settled_what_others_can_do_and_only_while_it_is_parked() {
    Story::simple().reserved().0.when(settle(ByHand::Done)).then_refused(CheckoutError::NotParked);
    Given::<Checkout>::nothing().when(settle(ByHand::Done)).then_refused(CheckoutError::NotFound);
    let payment = parked(Story::simple().reserved(), Effect::RequestPayment);
    payment.when(settle(ByHand::Done)).then_refused(CheckoutError::NotByHand);
    let shipment = Effect::CancelShipment { seller_id: SELLER };
    let story = parked(given_up(true), shipment.clone());
    story.when(settle(ByHand::NotNeeded)).then(settled(shipment, ByHand::NotNeeded));
}

#[test]
fn claims_are_held_before_anything_is_charged_and_committed_after_the_point_of_no_return() {
    let (mug, coupon, card) = (mug(), coupon(), gift_card());
    Story::with_claims()
        .waits_for([
            Effect::PlaceOrder,
            Effect::Reserve { sku_id: mug, quantity: 1 },
            Effect::Claim { claim: Claim { source: coupon, amount: None } },
            Effect::Claim { claim: Claim { source: card, amount: Some(cents(5)) } },
        ])
        .then(Fact::ClaimHeld { source: coupon }, [])
        .then(Fact::StockReserved { sku_id: mug }, [])
        .ignores(Fact::ClaimHeld { source: coupon })
        .then(Fact::ClaimHeld { source: card }, [Effect::MarkStockReserved, Effect::RequestPayment])
        .then(Fact::PaymentCompleted, [Effect::MarkPaid, Effect::RequestShipment { seller_id: SELLER }])
        .then(Fact::ShipmentReady { seller_id: SELLER }, [Effect::MarkReadyToShip])
        .then(
            Fact::ReadyToShip,
            [
                Effect::Commit { sku_id: mug },
                Effect::CommitClaim { source: coupon },
                Effect::CommitClaim { source: card },
            ],
        )
        .then(Fact::ReservationCommitted { sku_id: mug }, [])
        .then(Fact::ClaimCommitted { source: card }, [])
        .waits_for([Effect::CommitClaim { source: coupon }])
        .then(Fact::ClaimCommitted { source: coupon }, [Effect::CompleteOrder]);
}

#[test]
fn a_claim_that_is_rejected_ends_the_order_and_releases_the_rest() {
    let (mug, coupon, card) = (mug(), coupon(), gift_card());
    Story::with_claims()
        .then(Fact::StockReserved { sku_id: mug }, [])
        .then(
            Fact::ClaimRejected { source: coupon },
            [Effect::Release { sku_id: mug }, Effect::ReleaseClaim { source: card }],
        )
        // It arrives before its release does.
        .then(Fact::ClaimHeld { source: card }, [])
        .then(Fact::ReservationReleased { sku_id: mug }, [])
        .waits_for([Effect::ReleaseClaim { source: card }])
        .then(Fact::ClaimReleased { source: card }, cancelled(CancelReason::PromotionExhausted));
    Story::with_claims().then(
        Fact::ClaimRejected { source: card },
        [Effect::Release { sku_id: mug }, Effect::ReleaseClaim { source: coupon }],
    );
}

#[test]
fn a_cancelled_order_holds_no_claim() {
    let (mug, coupon, card) = (mug(), coupon(), gift_card());
    Story::with_claims()
        .then(Fact::StockReserved { sku_id: mug }, [])
        .then(Fact::ClaimHeld { source: coupon }, [])
        .then(Fact::ClaimHeld { source: card }, [Effect::MarkStockReserved, Effect::RequestPayment])
        .then(
            Fact::PaymentFailed,
            [
                Effect::Release { sku_id: mug },
                Effect::ReleaseClaim { source: coupon },
                Effect::ReleaseClaim { source: card },
            ],
        )
        .then(Fact::ReservationReleased { sku_id: mug }, [])
        .then(Fact::ClaimReleased { source: coupon }, [])
        .then(Fact::ClaimReleased { source: card }, cancelled(CancelReason::PaymentDeclined));
}
