//! `docs/events.md` lists the events of the code: all of them, with their fields, and no others.

use std::path::Path;

use souk_domain::{
    Decider,
    account::Account,
    cart::Cart,
    credit::Credit,
    inventory::Inventory,
    item::Item,
    ledger::Ledger,
    order::Orders,
    payment::Payment,
    promotion::Promotion,
    returns::Returns,
    search,
    shipment::Shipment,
    synonyms::Synonyms,
    testing::{catalogue, examples, golden},
};

/// Streams whose events are defined, and checked against the page, in another crate.
const ELSEWHERE: [&str; 1] = ["checkout"];

#[test]
fn the_event_catalogue_tells_what_the_code_writes() {
    let page = golden::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/events.md"));
    catalogue::check::<Item>(&page, &examples::item());
    catalogue::check::<Inventory>(&page, &examples::inventory());
    catalogue::check::<Cart>(&page, &examples::cart());
    catalogue::check::<Orders>(&page, &examples::order());
    catalogue::check::<Payment>(&page, &examples::payment());
    catalogue::check::<Shipment>(&page, &examples::shipment());
    catalogue::check::<Account>(&page, &examples::account());
    catalogue::check_category(&page, search::CATEGORY, &examples::search());
    catalogue::check::<Synonyms>(&page, &examples::synonyms());
    catalogue::check::<Promotion>(&page, &examples::promotion());
    catalogue::check::<Credit>(&page, &examples::credit());
    catalogue::check::<Returns>(&page, &examples::returns());
    catalogue::check::<Ledger>(&page, &examples::ledger());

    let known = [
        Item::CATEGORY,
        Inventory::CATEGORY,
        Cart::CATEGORY,
        Orders::CATEGORY,
        Payment::CATEGORY,
        Shipment::CATEGORY,
        Account::CATEGORY,
        search::CATEGORY,
        Synonyms::CATEGORY,
        Promotion::CATEGORY,
        Credit::CATEGORY,
        Returns::CATEGORY,
        Ledger::CATEGORY,
    ];
    for category in catalogue::parse(&page).keys().map(String::as_str) {
        assert!(
            known.contains(&category) || ELSEWHERE.contains(&category),
            "nobody writes {category} streams"
        );
    }
}
