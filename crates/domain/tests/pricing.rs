//! What an order costs: the parts always add up, and nothing goes below zero.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use proptest::prelude::*;
use souk_domain::{
    CreditId, Currency, Money, PromotionId,
    pricing::{Basket, Charges, Coupon, PriceList, Priced, PricingError, TakesOff},
    testing::examples::{cents, charges},
};

const LIST: &str = r#"{
    "defaultWeightGrams": 500,
    "shipping": { "USD": {
        "GB": { "flat": 499, "freeAbove": 5000 },
        "IN": { "byWeight": { "base": 300, "perKilogram": 200 } } } },
    "tax": { "GB": 2000, "*": 1 }
}"#;

fn list(text: &str) -> PriceList {
    serde_json::from_str(text).unwrap()
}

fn basket(goods: i64, weight_grams: u64, country: &str) -> Basket<'_> {
    Basket { goods: cents(goods), weight_grams, country: Some(country) }
}

fn coupon(takes_off: &TakesOff) -> Coupon<'_> {
    Coupon { promotion_id: PromotionId::of_code("SPRING"), code: "SPRING", takes_off }
}

/// Discount, shipping, tax, total.
fn parts(priced: &Priced) -> [i64; 4] {
    let amount = |money: Option<Money>| money.map_or(0, |money| money.amount);
    let Charges { shipping, tax, discounts, .. } = &priced.charges;
    let discount = discounts.iter().map(|discount| discount.amount.amount).sum();
    [discount, amount(*shipping), amount(*tax), priced.total.amount]
}

#[test]
fn nothing_configured_costs_nothing_and_records_nothing() {
    let basket = Basket { country: None, ..basket(3198, 0, "GB") };
    let priced = PriceList::default().price(&basket, None).unwrap();
    assert_eq!((priced.total, &priced.charges), (cents(3198), &Charges::default()));
}

#[test]
fn shipping_is_flat_or_by_weight_and_free_above_an_amount() {
    let list = list(LIST);
    let price = |goods, grams, country| parts(&list.price(&basket(goods, grams, country), None).unwrap());
    assert_eq!(price(1000, 1, "GB"), [0, 499, 300, 1799]);
    assert_eq!(price(5000, 1, "GB"), [0, 0, 1000, 6000]);
    assert_eq!(price(1000, 2_001, "IN")[1], 300 + 3 * 200);
    assert_eq!(price(1000, 0, "IN")[1], 300);
}

#[test]
fn tax_is_on_goods_after_discount_and_shipping_rounded_half_up() {
    let list = list(LIST);
    let tenth = TakesOff::Percentage { basis_points: 1_000 };
    let priced = list.price(&basket(1_005, 0, "GB"), Some(coupon(&tenth))).unwrap();
    // A tenth of 10.05 is 1.01; a fifth of 9.04 + 4.99 is 2.81.
    assert_eq!(parts(&priced), [101, 499, 281, 1684]);
    // Half of a unit is one.
    assert_eq!(parts(&list.price(&basket(4_700, 0, "IN"), None).unwrap())[2], 1);
}

#[test]
fn a_coupon_takes_off_what_there_is_and_not_more() {
    let list = list(LIST);
    let off = |takes_off: TakesOff, goods| {
        parts(&list.price(&basket(goods, 0, "GB"), Some(coupon(&takes_off))).unwrap())
    };
    assert_eq!(off(TakesOff::Amount { amount: cents(300) }, 1000), [300, 499, 240, 1439]);
    assert_eq!(off(TakesOff::Amount { amount: cents(3000) }, 1000), [1000, 499, 100, 599]);
    assert_eq!(off(TakesOff::FreeShipping, 1000), [499, 499, 200, 1200]);
    // What is paid for the goods decides whether shipping is free.
    assert_eq!(off(TakesOff::Amount { amount: cents(1) }, 5000)[1], 499);
    let free = TakesOff::FreeShipping;
    let refused = list.price(&basket(9000, 0, "GB"), Some(coupon(&free)));
    assert_eq!(refused, Err(PricingError::NothingToTakeOff));
}

#[test]
fn what_a_coupon_made_cheaper_is_written_with_it() {
    let written = |takes_off: TakesOff| {
        let priced = list(LIST).price(&basket(1000, 0, "GB"), Some(coupon(&takes_off))).unwrap();
        serde_json::to_value(&priced.charges.discounts[0]).unwrap()["takenOff"].clone()
    };
    assert_eq!(written(TakesOff::FreeShipping), "shipping");
    assert_eq!(written(TakesOff::Percentage { basis_points: 1_000 }), "goods");
}

#[test]
fn where_nothing_is_sent_to_is_said_and_not_guessed() {
    let list = list(LIST);
    let refused = list.price(&basket(1000, 0, "FR"), None);
    assert_eq!(refused, Err(PricingError::NotShippedTo("FR".to_owned())));
    let pounds = Basket { goods: Money::new(5, Currency::GBP), ..basket(5, 0, "GB") };
    assert_eq!(list.price(&pounds, None), Err(PricingError::NotShippedTo("GB".to_owned())));
    let nowhere = Basket { country: None, ..basket(5, 0, "GB") };
    assert_eq!(list.price(&nowhere, None), Err(PricingError::CountryNeeded));
}

#[test]
fn credit_pays_what_is_due_and_not_more() {
    let mut priced = list(LIST).price(&basket(1000, 0, "GB"), None).unwrap();
    let (card, account) = (CreditId::of_gift_card("a"), CreditId::of_gift_card("b"));
    priced.pay_with(card, 1000);
    assert_eq!((priced.due(), priced.total), (cents(799), cents(1799)));
    priced.pay_with(account, 0);
    priced.pay_with(account, 5000);
    assert_eq!(priced.due(), cents(0));
    assert_eq!(priced.charges.credits.len(), 2);
    priced.pay_with(account, 5000);
    assert_eq!(priced.charges.credits.len(), 2);
}

#[test]
fn parts_that_do_not_add_up_come_to_nothing() {
    assert_eq!(charges().total(cents(3198)), Some(cents(3198)));
    let broken: [fn(&mut Charges); 5] = [
        |charges| charges.shipping = Some(cents(-1)),
        |charges| charges.tax = Some(Money::new(1, Currency::GBP)),
        |charges| charges.discounts[0].amount = cents(3198 + 501),
        |charges| charges.credits[0].amount = cents(3199),
        |charges| charges.tax = Some(cents(i64::MAX)),
    ];
    for change in broken {
        let mut charges = charges();
        change(&mut charges);
        assert_eq!(charges.total(cents(3198)), None, "{charges:?}");
    }
}

#[test]
fn a_list_that_cannot_be_names_its_field() {
    let cases = [
        (r#"{"shipping": {"USD": {"GB": {}}}}"#, "shipping.USD.GB"),
        (r#"{"shipping": {"USD": {"GB": {"flat": 1, "byWeight": {"perKilogram": 1}}}}}"#, "shipping.USD.GB"),
        (r#"{"shipping": {"USD": {"GB": {"flat": -1}}}}"#, "shipping.USD.GB.flat"),
        (r#"{"shipping": {"USD": {"gb": {"flat": 1}}}}"#, "shipping.USD.gb"),
        (r#"{"tax": {"GB": 10001}}"#, "tax.GB"),
        (r#"{"tax": {"Britain": 1}}"#, "tax.Britain"),
    ];
    for (text, field) in cases {
        assert_eq!(list(text).check().unwrap_err().field, field);
    }
    assert_eq!(list(LIST).check(), Ok(()));
}

fn any_coupon() -> impl Strategy<Value = Option<TakesOff>> {
    prop_oneof![
        Just(None),
        (1..=10_000_u32).prop_map(|basis_points| Some(TakesOff::Percentage { basis_points })),
        (1..100_000_i64).prop_map(|amount| Some(TakesOff::Amount { amount: cents(amount) })),
        Just(Some(TakesOff::FreeShipping)),
    ]
}

proptest! {
    #[test]
    fn the_parts_add_up_and_none_is_negative(
        goods in 0..1_000_000_000_000_i64,
        grams in 0..10_000_000_u64,
        country in prop::sample::select(vec!["GB", "IN"]),
        takes_off in any_coupon(),
        credits in prop::collection::vec(0..10_000_i64, 0..3),
    ) {
        let priced = list(LIST).price(&basket(goods, grams, country), takes_off.as_ref().map(coupon));
        let Ok(mut priced) = priced else { return Ok(()) };
        for amount in credits {
            priced.pay_with(CreditId::of_gift_card("a"), amount);
        }
        let [discount, shipping, tax, total] = parts(&priced);
        prop_assert_eq!(goods - discount + shipping + tax, total);
        prop_assert!([discount, shipping, tax, total, priced.due().amount].iter().all(|part| *part >= 0));
        prop_assert_eq!(priced.charges.total(cents(goods)), Some(priced.total));
    }
}
