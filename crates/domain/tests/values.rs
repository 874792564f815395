//! Money, currencies and ids: what parses, what adds up, what is derived from what.

use proptest::prelude::*;
use souk_domain::testing::examples::sku;
use souk_domain::{AccountId, CartId, Currency, ItemId, Money, MoneyError, OrderId, ShipmentId, Sku, SkuId};
use uuid::Uuid;

fn usd(amount: i64) -> Money {
    Money::new(amount, Currency::USD)
}

fn account(n: u128) -> AccountId {
    AccountId(Uuid::from_u128(n))
}

#[test]
fn money_adds_up_and_never_wraps() {
    assert_eq!(usd(1).plus(usd(2)), Ok(usd(3)));
    assert_eq!(usd(i64::MAX).plus(usd(1)), Err(MoneyError::Overflow));
    assert_eq!(usd(i64::MIN).plus(usd(-1)), Err(MoneyError::Overflow));
    assert_eq!(usd(1599).times(3), Ok(usd(4797)));
    assert_eq!(usd(i64::MAX).times(2), Err(MoneyError::Overflow));
    assert_eq!(Money::sum([usd(1), usd(2), usd(3)]), Some(Ok(usd(6))));
    assert_eq!(Money::sum([]), None);
}

#[test]
fn currencies_do_not_mix() {
    let mixed = MoneyError::Mixed(Currency::USD, Currency::GBP);
    assert_eq!(usd(1).plus(Money::new(1, Currency::GBP)), Err(mixed));
    assert_eq!(Money::sum([usd(1), Money::new(1, Currency::GBP)]), Some(Err(mixed)));
}

#[test]
fn a_currency_is_three_capital_letters() {
    assert_eq!("INR".parse::<Currency>().unwrap().to_string(), "INR");
    for text in ["", "US", "usd", "USDX", "U$D", "ÄÖ", "Ü1"] {
        assert_eq!(text.parse::<Currency>(), Err(MoneyError::Currency), "{text}");
    }
}

#[test]
fn money_is_written_as_an_object_of_whole_minor_units() {
    assert_eq!(serde_json::to_string(&usd(1599)).unwrap(), r#"{"amount":1599,"currency":"USD"}"#);
    for text in
        [r#"{"amount":15.99,"currency":"USD"}"#, r#"{"amount":1,"currency":"usd"}"#, r#"{"amount":1}"#]
    {
        assert!(serde_json::from_str::<Money>(text).is_err(), "{text}");
    }
}

#[test]
fn a_sku_is_short_printable_text_without_white_space_around_it() {
    let longest = "ä".repeat(64);
    for text in ["A", "ABC-1 red", "赤", &longest] {
        assert_eq!(sku(text).as_str(), text);
    }
    let too_long = "a".repeat(65);
    for text in ["", " ", " A", "A\n", "A\tB", "\u{7f}", &too_long] {
        assert!(Sku::parse(text).is_err(), "{text:?}");
        assert!(serde_json::from_value::<Sku>(text.into()).is_err(), "{text:?}");
    }
}

#[test]
fn two_sellers_may_use_the_same_sku() {
    assert_ne!(SkuId::of(account(1), &sku("A")), SkuId::of(account(2), &sku("A")));
    assert_ne!(SkuId::of(account(1), &sku("A")), SkuId::of(account(1), &sku("B")));
    assert_eq!(SkuId::of(account(1), &sku("A")), SkuId::of(account(1), &sku("A")));
}

/// Streams are named after them: another derivation would lose every cart, order and SKU there is.
#[test]
fn derived_ids_never_change() {
    let cart = CartId::nth(account(1), 1);
    assert_eq!(cart.to_string(), "c43defd0-81e6-5729-badd-5fec93222fce");
    assert_eq!(OrderId::of_cart(cart, 3, 0x12_3456).to_string(), "00000012-3456-88c6-9ec5-be1e120cd866");
    assert_eq!(SkuId::of(account(1), &sku("A")).to_string(), "ec388f04-1acd-575e-96d1-98daace68a73");
}

#[test]
fn each_cart_of_an_account_and_each_order_of_a_cart_is_another() {
    let cart = CartId::nth(account(1), 1);
    assert_ne!(cart, CartId::nth(account(1), 2));
    assert_ne!(cart, CartId::nth(account(2), 1));
    assert_ne!(OrderId::of_cart(cart, 1, 7), OrderId::of_cart(cart, 2, 7));
}

#[test]
fn orders_are_in_the_order_of_the_log_and_known_as_their_carts() {
    let carts = [3, 2, 1].map(|n| CartId::nth(account(1), n));
    let orders = [(0, 7), (1, 8), (2, 1 << 47)].map(|(n, position)| OrderId::of_cart(carts[n], 3, position));
    assert!(orders.is_sorted());
    assert!(orders.iter().zip(carts).all(|(order, cart)| order.is_of_cart(cart, 3)));
    assert!(!orders[0].is_of_cart(carts[0], 4) && !orders[0].is_of_cart(carts[1], 3));
    let of_the_first_builds = OrderId("2df544ea-62d7-58c6-9ec5-be1e120cd866".parse().unwrap());
    assert!(of_the_first_builds.is_of_cart(carts[2], 3));
    let another = OrderId("3df544ea-62d7-58c6-9ec5-be1e120cd866".parse().unwrap());
    assert!(!another.is_of_cart(carts[2], 3));
}

#[test]
fn what_is_no_id_does_not_parse() {
    let uuid = Uuid::from_u128(1).to_string();
    assert!(uuid.parse::<ItemId>().is_ok() && "item-1".parse::<ItemId>().is_err());
    for text in [
        "",
        &uuid,
        &format!("{uuid}-"),
        &format!("{uuid}{uuid}"),
        &format!("{uuid}--{uuid}"),
        "é".repeat(37).as_str(),
    ] {
        assert!(text.parse::<ShipmentId>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn a_shipment_id_reads_back(order in any::<u128>(), seller in any::<u128>()) {
        let id = ShipmentId { order_id: OrderId(Uuid::from_u128(order)), seller_id: account(seller) };
        prop_assert_eq!(id.to_string().parse::<ShipmentId>().unwrap(), id);
        prop_assert_eq!(serde_json::from_value::<ShipmentId>(serde_json::to_value(id).unwrap()).unwrap(), id);
    }
}
