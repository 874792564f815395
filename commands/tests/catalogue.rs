//! The process manager's own events: on the page, and in golden files.

use std::{collections::BTreeSet, fs, path::Path};

use chrono::DateTime;
use souk_commands::checkout::{
    ByHand, Checkout, CheckoutAdvanced, CheckoutEvent, CheckoutParked, CheckoutResumed, CheckoutSettled,
    CheckoutStarted, Claim, Effect, Fact, Reservation, Source,
};
use souk_domain::{
    CartId, CreditId,
    testing::{
        catalogue,
        examples::{BUYER, SELLER, cents, sku_id},
        golden,
    },
};
use uuid::Uuid;

fn examples() -> Vec<CheckoutEvent> {
    let reserve = Effect::Reserve { sku_id: sku_id("MUG"), quantity: 2 };
    let source = Source::Credit(CreditId::of_gift_card("GIFT"));
    vec![
        CheckoutStarted {
            cart_id: CartId(Uuid::from_u128(0xCA)),
            buyer_id: BUYER,
            reservations: vec![Reservation { sku_id: sku_id("MUG"), quantity: 2 }],
            claims: vec![Claim { source, amount: Some(cents(5)) }],
            sellers: vec![SELLER],
            deadline: DateTime::UNIX_EPOCH,
            correlation_id: Uuid::from_u128(0xC0),
            backdated_to: Some(DateTime::UNIX_EPOCH),
            decided: vec![Effect::PlaceOrder, reserve.clone()],
        }
        .into(),
        CheckoutAdvanced {
            learnt: vec![Fact::StockReserved { sku_id: sku_id("MUG") }, Fact::ClaimHeld { source }],
            decided: vec![Effect::MarkStockReserved, Effect::RequestPayment],
        }
        .into(),
        CheckoutParked { effect: reserve, reason: "no answer".into(), attempts: 12 }.into(),
        CheckoutResumed {}.into(),
        CheckoutSettled {
            effect: Effect::Refund,
            outcome: ByHand::Done,
            reason: "paid back by bank transfer 4711".into(),
        }
        .into(),
    ]
}

#[test]
fn the_event_catalogue_tells_what_the_process_manager_writes() {
    let page = golden::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md"));
    catalogue::check::<Checkout>(&page, &examples());
}

#[test]
fn every_version_of_every_event_reads_and_the_newest_is_written_as_ever() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let expected = golden::check(&dir, &examples());
    let files: BTreeSet<_> =
        fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, expected, "a golden file (left) without an event type and version (right)");
}
