//! Returns: never more than was bought, never more back than it cost.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use proptest::{collection::vec, prelude::*};
use souk_domain::{
    Money, PromotionId,
    order::{OrderLine, OrderPlaced, total},
    pricing::{Basket, Charges, Coupon, Discount, PriceList, TakenOff, TakesOff},
    returns::{
        AcceptedLine, Ask, Bought, Disposition, ReturnAccepted, ReturnCause, ReturnCommand, ReturnCompleted,
        ReturnDeclined, ReturnError, ReturnEvent, ReturnLine, ReturnParked, ReturnRequested, ReturnResumed,
        ReturnSettled, Returns, ReturnsState,
    },
    testing::{
        Given, decide,
        examples::{BUYER, cents, order_line, placed, return_id, sku, sku_id},
        fold,
    },
};
use uuid::Uuid;

/// Two red pots at 15.99 each.
fn bought() -> Bought {
    of(&[order_line("red", 2, 1599)], 2 * 1599)
}

/// What they cost less was taken off.
fn of(lines: &[OrderLine], paid: i64) -> Bought {
    let discount = discount(goods(lines).amount - paid, Some(TakenOff::Goods));
    bought_for(lines, Charges { discounts: vec![discount], ..Charges::default() })
}

fn bought_for(lines: &[OrderLine], charges: Charges) -> Bought {
    let total = charges.total(goods(lines)).unwrap();
    let placed = OrderPlaced { lines: lines.to_vec(), total, charges, ..placed() };
    Bought::of(&placed, return_id(1).returns.seller_id)
}

fn goods(lines: &[OrderLine]) -> Money {
    total(lines).unwrap().unwrap()
}

fn discount(amount: i64, taken_off: Option<TakenOff>) -> Discount {
    Discount { promotion_id: PromotionId::of_code("SPRING"), code: None, amount: cents(amount), taken_off }
}

fn ask(request: u128, quantity: u32) -> Ask {
    let lines = vec![(sku_id("red"), quantity)];
    Ask { returns: return_id(1).returns, request_id: Uuid::from_u128(request), buyer_id: BUYER, lines }
}

fn request(request: u128, quantity: u32) -> ReturnCommand {
    ReturnCommand::Request { ask: ask(request, quantity), bought: bought(), reason: None }
}

fn requested(number: u32, request: u128, quantity: u32, cause: ReturnCause) -> ReturnEvent {
    ReturnRequested {
        return_id: return_id(number),
        request_id: Uuid::from_u128(request),
        buyer_id: BUYER,
        cause,
        lines: vec![ReturnLine { sku_id: sku_id("red"), sku: sku("red"), quantity }],
        reason: None,
    }
    .into()
}

fn by_buyer(number: u32, request: u128, quantity: u32) -> ReturnEvent {
    requested(number, request, quantity, ReturnCause::BuyerRequest)
}

fn accept(number: u32, quantity: Option<u32>, refund: Option<i64>) -> ReturnCommand {
    let line =
        |quantity| AcceptedLine { sku_id: sku_id("red"), quantity, disposition: Disposition::WriteOff };
    let lines = quantity.map(|quantity| vec![line(quantity)]);
    ReturnCommand::Accept { number, lines, refund: refund.map(cents), bought: bought() }
}

fn accepted(number: u32, quantity: u32, disposition: Disposition, refund: i64) -> ReturnEvent {
    let lines = vec![AcceptedLine { sku_id: sku_id("red"), quantity, disposition }];
    ReturnAccepted { return_id: return_id(number), lines, refund: cents(refund) }.into()
}

#[test]
fn nothing_is_returned_twice() {
    Given::<Returns>::nothing()
        .when(request(1, 3))
        .then_refused(ReturnError::TooMany { sku: sku("red"), left: 2 })
        .when(request(1, 1))
        .then([by_buyer(1, 1, 1)])
        .when(request(1, 1))
        .then_nothing()
        .when(request(2, 2))
        .then_refused(ReturnError::TooMany { sku: sku("red"), left: 1 })
        .when(ReturnCommand::Decline { number: 1, reason: "worn".to_owned() })
        .then([ReturnDeclined { return_id: return_id(1), reason: "worn".to_owned() }.into()])
        .when(request(2, 2))
        .then([by_buyer(2, 2, 2)])
        .when(accept(2, Some(1), None))
        .then([accepted(2, 1, Disposition::WriteOff, 1599)])
        // What was not accepted may be asked for again.
        .when(request(3, 1))
        .then([by_buyer(3, 3, 1)]);
}

#[test]
fn the_refund_is_what_the_units_cost_or_less() {
    Given::<Returns>::events([by_buyer(1, 1, 2)])
        .when(accept(1, Some(1), Some(1600)))
        .then_refused(ReturnError::TooMuch { most: cents(1599) })
        .when(accept(1, Some(3), None))
        .then_refused(ReturnError::TooMany { sku: sku("red"), left: 2 })
        .when(accept(1, None, None))
        .then([accepted(1, 2, Disposition::Restock, 3198)])
        .when(accept(1, None, None))
        .then_nothing()
        .when(accept(1, Some(1), Some(5)))
        .then_refused(ReturnError::Decided)
        .when(ReturnCommand::Decline { number: 1, reason: "worn".to_owned() })
        .then_refused(ReturnError::Decided);
}

#[test]
fn a_return_ends_once_and_may_be_parked_on_the_way() {
    let return_id = return_id(1);
    let complete = |amount| ReturnCommand::Complete { number: 1, refunded: cents(amount) };
    let park = || ReturnCommand::Park { number: 1, reason: "no".to_owned() };
    Given::<Returns>::events([by_buyer(1, 1, 1)])
        .when(complete(99))
        .then_refused(ReturnError::Decided)
        .when(accept(1, None, Some(99)))
        .then([accepted(1, 1, Disposition::Restock, 99)])
        .when(park())
        .then([ReturnParked { return_id, reason: "no".to_owned() }.into()])
        .when(ReturnCommand::Resume { number: 1 })
        .then([ReturnResumed { return_id }.into()])
        .when(complete(100))
        .then_refused(ReturnError::TooMuch { most: cents(99) })
        .when(complete(98))
        .then([ReturnCompleted { return_id, refunded: cents(98) }.into()])
        .when(complete(98))
        .then_nothing()
        .when(park())
        .then_nothing();
}

#[test]
fn only_a_parked_return_is_settled_by_hand_and_twice_is_once() {
    let return_id = return_id(1);
    let settle = || ReturnCommand::Settle { number: 1, reason: "by transfer".to_owned() };
    let parked = || ReturnParked { return_id, reason: "no".to_owned() }.into();
    Given::<Returns>::events([by_buyer(1, 1, 1), accepted(1, 1, Disposition::Restock, 99)])
        .when(settle())
        .then_refused(ReturnError::NotParked)
        .when(ReturnCommand::Park { number: 1, reason: "no".to_owned() })
        .then([parked()])
        .when(settle())
        .then([ReturnSettled { return_id, reason: "by transfer".to_owned() }.into()])
        .when(settle())
        .then_nothing()
        .when(ReturnCommand::Complete { number: 1, refunded: cents(99) })
        .then([ReturnCompleted { return_id, refunded: cents(99) }.into()])
        .when(settle())
        .then_nothing();
}

#[test]
fn what_the_seller_gives_back_is_accepted_at_once_as_far_as_it_is_left() {
    let give_back = |request, quantity| ReturnCommand::GiveBack {
        ask: ask(request, quantity),
        bought: bought(),
        disposition: Disposition::WriteOff,
    };
    let declined = |number| -> ReturnEvent {
        let reason = "they were returned before".to_owned();
        ReturnDeclined { return_id: return_id(number), reason }.into()
    };
    // Who is to have the second unit is known when the buyer's return is decided.
    Given::<Returns>::events([by_buyer(1, 1, 1)])
        .when(give_back(2, 2))
        .then_refused(ReturnError::Undecided)
        .when(accept(1, None, None))
        .then([accepted(1, 1, Disposition::Restock, 1599)])
        .when(give_back(2, 2))
        .then([requested(2, 2, 1, ReturnCause::NotSent), accepted(2, 1, Disposition::WriteOff, 1599)])
        .when(give_back(2, 2))
        .then_nothing()
        .when(give_back(3, 1))
        .then([requested(3, 3, 1, ReturnCause::NotSent), declined(3)])
        .when(give_back(3, 1))
        .then_nothing();
    Given::<Returns>::events([by_buyer(1, 1, 2)])
        .when(ReturnCommand::Decline { number: 1, reason: "no".to_owned() })
        .then([ReturnDeclined { return_id: return_id(1), reason: "no".to_owned() }.into()])
        .when(give_back(2, 2))
        .then([requested(2, 2, 2, ReturnCause::NotSent), accepted(2, 2, Disposition::WriteOff, 3198)]);
}

#[test]
fn however_units_come_back_together_they_are_what_was_paid_for_them() {
    // Two lines of one SKU, one of another, and a coupon: 2 x 10 + 4 + 7 for 20.
    let lines = [order_line("red", 2, 10), order_line("blue", 1, 4), order_line("red", 1, 7)];
    let accept = |number| ReturnCommand::Accept { number, lines: None, refund: None, bought: of(&lines, 20) };
    let back = |number, refund| accepted(number, 1, Disposition::Restock, refund);
    Given::<Returns>::events([by_buyer(1, 1, 1), by_buyer(2, 2, 1), by_buyer(3, 3, 1)])
        .when(accept(3))
        .then([back(3, 6)])
        .when(accept(1))
        .then([back(1, 6)])
        .when(accept(2))
        .then([back(2, 5)])
        // Said again it is what it was.
        .when(accept(3))
        .then_nothing();
    let in_one = ReturnCommand::Accept { number: 1, lines: None, refund: None, bought: of(&lines, 20) };
    Given::<Returns>::events([by_buyer(1, 1, 3)]).when(in_one).then([accepted(
        1,
        3,
        Disposition::Restock,
        17,
    )]);
}

#[test]
fn tax_on_goods_goes_back_and_shipping_stays_and_what_is_off_shipping_is_not_off_the_goods() {
    let lines = [order_line("red", 2, 5_000)];
    let back = |amount, taken_off, shipping| {
        let discounts = vec![discount(amount, taken_off)];
        let charges =
            Charges { shipping: Some(cents(shipping)), tax: Some(cents(1_710)), discounts, credits: vec![] };
        let accept = ReturnCommand::Accept {
            number: 1,
            lines: None,
            refund: None,
            bought: bought_for(&lines, charges),
        };
        let state = fold::<Returns>(ReturnsState::default(), &[by_buyer(1, 1, 2)]);
        match decide::<Returns>(&state, &accept).as_deref() {
            Ok([ReturnEvent::ReturnAccepted(accepted)]) => accepted.refund.amount,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(back(2_000, Some(TakenOff::Goods), 1_000), 8_000 + 1_710 * 8 / 9);
    assert_eq!(back(1_000, Some(TakenOff::Shipping), 1_000), 10_000 + 1_710);
    assert_eq!(back(1_000, Some(TakenOff::Goods), 1_000), 9_000 + 1_710 * 9 / 10);
    // As it was recorded at first.
    assert_eq!((back(2_000, None, 1_000), back(1_000, None, 1_000)), (9_520, 11_710));
}

const LIST: &str = r#"{
    "shipping": { "USD": { "GB": { "flat": 499, "freeAbove": 20000 } } },
    "tax": { "GB": 1900 }
}"#;

fn any_coupon() -> impl Strategy<Value = Option<TakesOff>> {
    prop_oneof![
        Just(None),
        (1..=10_000_u32).prop_map(|basis_points| Some(TakesOff::Percentage { basis_points })),
        (1..20_000_i64).prop_map(|amount| Some(TakesOff::Amount { amount: cents(amount) })),
        Just(Some(TakesOff::FreeShipping)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_that_was_bought_comes_back_for_what_was_paid_for_it(
        bought in vec((1..10_000_i64, 1..4_u32), 1..4),
        takes_off in any_coupon(),
        first in 0..9_usize,
    ) {
        let names = ["red", "blue", "green"];
        let lines: Vec<_> = bought.iter().zip(names).map(|((price, n), name)| order_line(name, *n, *price)).collect();
        let list: PriceList = serde_json::from_str(LIST).unwrap();
        let basket = Basket { goods: goods(&lines), weight_grams: 0, country: Some("GB") };
        let code = |takes_off| Coupon { promotion_id: PromotionId::of_code("SPRING"), code: "SPRING", takes_off };
        let Ok(priced) = list.price(&basket, takes_off.as_ref().map(code)) else { return Ok(()) };
        let bought = bought_for(&lines, priced.charges.clone());
        let mut units: Vec<_> = lines.iter().flat_map(|line| (0..line.quantity).map(|_| line.sku_id)).collect();
        let middle = first % units.len();
        units.rotate_left(middle);
        let (mut state, mut refunded) = (ReturnsState::default(), 0);
        for (number, sku_id) in (1..).zip(units) {
            let ask = Ask { lines: vec![(sku_id, 1)], ..ask(number.into(), 1) };
            let request = ReturnCommand::Request { ask, bought: bought.clone(), reason: None };
            state = fold::<Returns>(state.clone(), &decide::<Returns>(&state, &request).unwrap());
            let accept = ReturnCommand::Accept { number, lines: None, refund: None, bought: bought.clone() };
            state = fold::<Returns>(state.clone(), &decide::<Returns>(&state, &accept).unwrap());
            refunded += state.returns[&number].accepted.as_ref().unwrap().refund.amount;
        }
        let off_goods: i64 = match takes_off {
            Some(TakesOff::FreeShipping) => 0,
            _ => priced.charges.discounts.iter().map(|discount| discount.amount.amount).sum(),
        };
        let net = priced.goods.amount - off_goods;
        // 19 % of it, down to a unit for each rounding.
        let tax = (net * 19 / 100 - 1)..=(net * 19 / 100 + 1);
        prop_assert!(tax.contains(&(refunded - net)), "{refunded} of {net}");
        prop_assert!(refunded <= priced.total.amount);
    }
}

#[test]
fn a_return_has_one_id() {
    let id = return_id(1);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert!(format!("{}-01", id.returns).parse::<souk_domain::ReturnId>().is_err());
}

#[test]
fn lines_of_one_sku_are_accepted_as_one() {
    let line = AcceptedLine { sku_id: sku_id("red"), quantity: 1, disposition: Disposition::Restock };
    let lines = Some(vec![line.clone(), line]);
    let accept = ReturnCommand::Accept { number: 1, lines, refund: None, bought: bought() };
    Given::<Returns>::events([by_buyer(1, 1, 2)])
        .when(accept.clone())
        .then([accepted(1, 2, Disposition::Restock, 3198)])
        .when(accept)
        .then_nothing();
}
