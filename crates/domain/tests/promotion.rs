//! Promotions: no code is used more often than it may be, and what is not used in the end may be used again.

use chrono::{DateTime, TimeDelta};
use proptest::prelude::*;
use souk_domain::{
    AccountId, Currency, Money, OrderId,
    pricing::TakesOff,
    promotion::{
        CouponClaimed, CouponRedeemed, CouponRefusal, CouponRejected, CouponRejection, CouponReleased,
        Promotion, PromotionCommand, PromotionCreated, PromotionEnded, PromotionError, PromotionEvent,
    },
    testing::{
        Given,
        examples::{BUYER, SELLER, cents, order_id, promotion_created},
        obey,
    },
};
use uuid::Uuid;

fn limited(limit: u32, limit_per_buyer: Option<u32>) -> PromotionCreated {
    PromotionCreated { limit: Some(limit), limit_per_buyer, ..promotion_created() }
}

fn claim(n: u128) -> PromotionCommand {
    PromotionCommand::Claim { order_id: order_id(n), buyer_id: BUYER }
}

fn claimed(n: u128) -> PromotionEvent {
    CouponClaimed { order_id: order_id(n), buyer_id: BUYER }.into()
}

fn rejected(n: u128, reason: CouponRejection) -> PromotionEvent {
    CouponRejected { order_id: order_id(n), buyer_id: BUYER, reason }.into()
}

#[test]
fn a_code_is_made_once() {
    let other = PromotionCreated { limit: None, ..promotion_created() };
    Given::<Promotion>::nothing()
        .when(PromotionCommand::Create(promotion_created()))
        .then([promotion_created().into()])
        .when(PromotionCommand::Create(promotion_created()))
        .then_nothing()
        .when(PromotionCommand::Create(other))
        .then_refused(PromotionError::CodeTaken);
}

#[test]
fn a_promotion_that_makes_no_sense_is_not_made() {
    let takes_off = |takes_off| PromotionCreated { takes_off, ..promotion_created() };
    let cases = [
        (takes_off(TakesOff::Percentage { basis_points: 0 }), PromotionError::Percentage),
        (takes_off(TakesOff::Percentage { basis_points: 10_001 }), PromotionError::Percentage),
        (takes_off(TakesOff::Amount { amount: cents(0) }), PromotionError::NotPositive),
        (PromotionCreated { minimum: Some(cents(-1)), ..promotion_created() }, PromotionError::NotPositive),
        (limited(0, None), PromotionError::NotPositive),
        (limited(1, Some(0)), PromotionError::NotPositive),
        (
            PromotionCreated { ends_at: Some(DateTime::UNIX_EPOCH), ..promotion_created() },
            PromotionError::Period,
        ),
    ];
    for (created, error) in cases {
        Given::<Promotion>::nothing().when(PromotionCommand::Create(created)).then_refused(error);
    }
}

#[test]
fn the_last_use_goes_to_who_claims_it_first_and_comes_back_if_he_does_not_buy() {
    Given::<Promotion>::events([limited(1, None).into()])
        .when(claim(1))
        .then([claimed(1)])
        .when(claim(1))
        .then_nothing()
        .when(claim(2))
        .then([rejected(2, CouponRejection::Exhausted)])
        .when(PromotionCommand::Release { order_id: order_id(1) })
        .then([CouponReleased { order_id: order_id(1) }.into()])
        .when(PromotionCommand::Release { order_id: order_id(1) })
        .then_nothing()
        .when(claim(3))
        .then([claimed(3)])
        .when(PromotionCommand::Redeem { order_id: order_id(3) })
        .then([CouponRedeemed { order_id: order_id(3) }.into()])
        .when(PromotionCommand::Redeem { order_id: order_id(3) })
        .then_nothing()
        .when(PromotionCommand::Release { order_id: order_id(3) })
        .then_nothing()
        .when(claim(4))
        .then([rejected(4, CouponRejection::Exhausted)]);
}

#[test]
fn a_buyer_uses_it_so_many_times_and_others_still_may() {
    let others = PromotionCommand::Claim { order_id: order_id(3), buyer_id: SELLER };
    Given::<Promotion>::events([limited(9, Some(1)).into()])
        .when(claim(1))
        .then([claimed(1)])
        .when(claim(2))
        .then([rejected(2, CouponRejection::ExhaustedForBuyer)])
        .when(others)
        .then([CouponClaimed { order_id: order_id(3), buyer_id: SELLER }.into()]);
}

#[test]
fn a_claim_that_comes_after_its_release_does_nothing() {
    Given::<Promotion>::events([limited(1, None).into()])
        .when(PromotionCommand::Release { order_id: order_id(1) })
        .then([CouponReleased { order_id: order_id(1) }.into()])
        .when(claim(1))
        .then_nothing()
        .when(PromotionCommand::Redeem { order_id: order_id(1) })
        .then_refused(PromotionError::NotClaimed(order_id(1)));
}

#[test]
fn one_that_has_ended_is_claimed_no_more_and_what_was_claimed_stays() {
    Given::<Promotion>::events([limited(9, None).into(), claimed(1)])
        .when(PromotionCommand::End)
        .then([PromotionEnded {}.into()])
        .when(PromotionCommand::End)
        .then_nothing()
        .when(claim(2))
        .then([rejected(2, CouponRejection::Ended)])
        .when(PromotionCommand::Redeem { order_id: order_id(1) })
        .then([CouponRedeemed { order_id: order_id(1) }.into()]);
    Given::<Promotion>::nothing().when(PromotionCommand::End).then_refused(PromotionError::NotFound);
}

#[test]
fn a_code_says_why_it_cannot_be_used() {
    let start = DateTime::UNIX_EPOCH;
    let promotion = Given::<Promotion>::events([limited(1, None).into()]);
    let usable = |goods, now| promotion.state().usable(BUYER, goods, now).map(|created| created.code.clone());
    assert_eq!(usable(cents(2_000), start), Ok("SPRING".to_owned()));
    assert_eq!(usable(cents(2_000), start - TimeDelta::seconds(1)), Err(CouponRefusal::NotYet));
    assert_eq!(usable(cents(2_000), start + TimeDelta::days(1)), Err(CouponRefusal::Ended));
    assert_eq!(usable(cents(1_999), start), Err(CouponRefusal::BelowMinimum(cents(2_000))));
    assert_eq!(usable(Money::new(5_000, Currency::GBP), start), Err(CouponRefusal::Currency));
    let used = Given::<Promotion>::events([limited(1, None).into(), claimed(1)]);
    assert_eq!(used.state().usable(BUYER, cents(2_000), start), Err(CouponRefusal::Exhausted));
    let none = Given::<Promotion>::nothing();
    assert_eq!(none.state().usable(BUYER, cents(2_000), start), Err(CouponRefusal::Unknown));
}

fn any_command() -> impl Strategy<Value = PromotionCommand> {
    let ids = (0..12_u128, 0..3_u128);
    (0..3_u8, ids).prop_map(|(kind, (order, buyer))| {
        let (order_id, buyer_id) = (OrderId(Uuid::from_u128(order)), AccountId(Uuid::from_u128(buyer)));
        match kind {
            0 => PromotionCommand::Claim { order_id, buyer_id },
            1 => PromotionCommand::Release { order_id },
            _ => PromotionCommand::Redeem { order_id },
        }
    })
}

proptest! {
    #[test]
    fn no_interleaving_exceeds_a_limit(commands in prop::collection::vec(any_command(), 0..80)) {
        let create = PromotionCommand::Create(limited(4, Some(2)));
        let commands: Vec<_> = std::iter::once(create).chain(commands).collect();
        let mut in_use = std::collections::BTreeMap::new();
        let (state, history) = obey::<Promotion>(&commands);
        for event in history {
            match event {
                PromotionEvent::CouponClaimed(event) => drop(in_use.insert(event.order_id, event.buyer_id)),
                PromotionEvent::CouponReleased(event) => drop(in_use.remove(&event.order_id)),
                _ => {}
            }
            prop_assert!(in_use.len() <= 4);
            for n in 0..3 {
                let buyer = AccountId(Uuid::from_u128(n));
                prop_assert!(in_use.values().filter(|of| **of == buyer).count() <= 2);
            }
        }
        prop_assert_eq!(state.claimed() + state.redeemed, in_use.len() as u64);
    }
}
