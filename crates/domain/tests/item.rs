//! Items: listed by their seller with at least one variant, revised, withdrawn and listed again.

use souk_domain::{
    Currency, Money,
    item::{
        Item, ItemCommand, ItemError, ItemEvent, ItemRelisted, ItemRevised, ItemWithdrawn, PriceChanged,
        Variant, VariantAdded, VariantRevised,
    },
    testing::{
        Given,
        examples::{cents, details, listed, sku, sku_id, variant},
    },
};

#[test]
fn a_seller_lists_an_item_once() {
    Given::<Item>::nothing()
        .when(list(vec![red()]))
        .then([listed_event(vec![red()])])
        .when(list(vec![]))
        .then_nothing();
}

#[test]
fn an_item_needs_a_variant() {
    Given::<Item>::nothing().when(list(vec![])).then_refused(ItemError::NoVariant);
}

#[test]
fn each_sku_stands_once() {
    let twice = || vec![red(), red()];
    let refusal = |text| ItemError::DuplicateSku(sku(text));
    Given::<Item>::nothing().when(list(twice())).then_refused(refusal("red"));
    Given::<Item>::events([listed_event(vec![red()])]).when(revise(twice())).then_refused(refusal("red"));
    Given::<Item>::events([listed_event(vec![red()])])
        .when(revise(vec![variant("blue", 1), variant("blue", 2)]))
        .then_refused(refusal("blue"));
}

#[test]
fn a_price_is_above_zero() {
    Given::<Item>::nothing().when(list(vec![variant("red", 0)])).then_refused(ItemError::PriceNotPositive);
    Given::<Item>::events([listed_event(vec![red()])])
        .when(revise(vec![variant("red", -1)]))
        .then_refused(ItemError::PriceNotPositive);
}

#[test]
fn all_prices_are_in_one_currency() {
    let pounds = || Variant { price: Money::new(1299, Currency::GBP), ..variant("blue", 1) };
    Given::<Item>::nothing().when(list(vec![red(), pounds()])).then_refused(ItemError::MixedCurrencies);
    Given::<Item>::events([listed_event(vec![red()])])
        .when(revise(vec![pounds()]))
        .then_refused(ItemError::MixedCurrencies);
}

#[test]
fn a_revision_tells_only_what_changed() {
    Given::<Item>::events([listed_event(vec![red()])])
        .when(ItemCommand::Revise {
            details: Some(details("Teapot")),
            variants: vec![variant("red", 1499), variant("blue", 1699)],
        })
        .then([
            ItemRevised { details: details("Teapot") }.into(),
            PriceChanged { sku_id: sku_id("red"), price: cents(1499) }.into(),
            VariantAdded { variant: variant("blue", 1699) }.into(),
        ])
        .when(ItemCommand::Revise { details: Some(details("Teapot")), variants: vec![variant("red", 1499)] })
        .then_nothing();
}

#[test]
fn a_variant_can_get_other_images() {
    let shown = || Variant { images: vec!["https://img.example/red-in-use.jpg".to_owned()], ..red() };
    Given::<Item>::events([listed_event(vec![red()])])
        .when(revise(vec![shown()]))
        .then([VariantRevised { sku_id: sku_id("red"), images: shown().images }.into()])
        .when(revise(vec![shown()]))
        .then_nothing();
}

#[test]
fn the_options_of_a_variant_are_what_was_sold() {
    let other = Variant { options: [("colour".to_owned(), "pink".to_owned())].into(), ..red() };
    Given::<Item>::events([listed_event(vec![red()])])
        .when(revise(vec![other]))
        .then_refused(ItemError::OptionsFixed(sku("red")));
}

#[test]
fn an_item_can_be_withdrawn_and_listed_again() {
    let item = Given::<Item>::events([listed_event(vec![red()])])
        .when(ItemCommand::Relist)
        .then_nothing()
        .when(withdraw())
        .then([ItemWithdrawn { reason: Some("sold out".to_owned()) }.into()]);
    assert!(item.state().as_ref().unwrap().withdrawn);
    let item = item.when(withdraw()).then_nothing().when(ItemCommand::Relist).then([ItemRelisted {}.into()]);
    assert!(!item.state().as_ref().unwrap().withdrawn);
}

#[test]
fn an_item_that_was_never_listed_cannot_change() {
    for command in [revise(vec![red()]), withdraw(), ItemCommand::Relist] {
        Given::<Item>::nothing().when(command).then_refused(ItemError::NotFound);
    }
}

#[test]
fn a_variant_is_found_by_its_sku_or_by_being_the_only_one() {
    let pot = Variant { options: [].into(), ..variant("pot", 999) };
    let find = |variants: Vec<Variant>, text: Option<&str>| {
        let item = Given::<Item>::events([listed_event(variants)]);
        item.state().as_ref().unwrap().variant(text.map(sku).as_ref()).cloned()
    };
    assert_eq!(find(vec![red()], None), Some(red()));
    assert_eq!(find(vec![red(), variant("blue", 1)], None), None, "which one is meant?");
    assert_eq!(find(vec![red(), pot.clone()], None), Some(pot), "the item's own SKU");
    assert_eq!(find(vec![red(), variant("blue", 1)], Some("red")), Some(red()));
    assert_eq!(find(vec![red()], Some("blue")), None);
}

fn red() -> Variant {
    variant("red", 1599)
}

fn list(variants: Vec<Variant>) -> ItemCommand {
    ItemCommand::List(listed(variants))
}

fn listed_event(variants: Vec<Variant>) -> ItemEvent {
    listed(variants).into()
}

fn revise(variants: Vec<Variant>) -> ItemCommand {
    ItemCommand::Revise { details: None, variants }
}

fn withdraw() -> ItemCommand {
    ItemCommand::Withdraw { reason: Some("sold out".to_owned()) }
}
