//! Every event that was ever written still reads, and what is written today is what the golden files say.

use std::{collections::BTreeSet, fs, path::Path};

use grown::{GrownEvent, Weighed};
use souk_domain::{
    DomainEvent, UnreadableEvent,
    inventory::InventoryEvent,
    testing::{examples, golden},
};

#[test]
fn every_version_of_every_event_reads_and_the_newest_is_written_as_ever() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut expected = golden::check(&dir, &examples::item());
    expected.extend(golden::check(&dir, &examples::inventory()));
    expected.extend(golden::check(&dir, &examples::cart()));
    expected.extend(golden::check(&dir, &examples::order()));
    expected.extend(golden::check(&dir, &examples::payment()));
    expected.extend(golden::check(&dir, &examples::shipment()));
    expected.extend(golden::check(&dir, &examples::account()));
    expected.extend(golden::check(&dir, &examples::search()));
    expected.extend(golden::check(&dir, &examples::synonyms()));
    expected.extend(golden::check(&dir, &examples::promotion()));
    expected.extend(golden::check(&dir, &examples::credit()));
    expected.extend(golden::check(&dir, &examples::returns()));
    expected.extend(golden::check(&dir, &examples::ledger()));

    let files: BTreeSet<_> =
        fs::read_dir(&dir).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(files, expected, "a golden file (left) without an event type and version (right)");
}

mod grown {
    //! An event whose quantity had no unit at first.

    use serde::{Deserialize, Serialize};
    use serde_json::Value;

    souk_domain::domain_events! {
        pub enum GrownEvent { Weighed = 2 upcast weighed }
    }

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub(crate) struct Weighed {
        pub(crate) grams: u32,
    }

    fn weighed(_version: u32, mut data: Value) -> Value {
        data["grams"] = data["kilos"].as_u64().map(|kilos| kilos * 1000).into();
        data
    }
}

#[test]
fn an_older_version_is_read_in_the_shape_of_today() {
    let event = GrownEvent::from(Weighed { grams: 3000 });
    assert_eq!(GrownEvent::from_json("Weighed", 1, br#"{"kilos":3}"#).unwrap(), event);
    assert_eq!(GrownEvent::from_json("Weighed", event.version(), &event.to_json()).unwrap(), event);
    assert!(GrownEvent::from_json("Weighed", 2, br#"{"kilos":3}"#).is_err());
}

#[test]
fn an_event_type_that_nobody_knows_yet_asks_for_an_upgrade() {
    let error = InventoryEvent::from_json("StockTeleported", 1, b"{}").unwrap_err();
    assert!(matches!(error, UnreadableEvent::Newer { .. }));
    assert!(error.to_string().contains("upgrade"), "{error}");
}

#[test]
fn a_damaged_event_says_which_it_is_and_what_is_wrong() {
    let error = InventoryEvent::from_json("StockReserved", 1, br#"{"quantity":1}"#).unwrap_err();
    assert!(matches!(error, UnreadableEvent::Malformed { .. }));
    let message = error.to_string();
    assert!(message.contains("StockReserved") && message.contains("orderId"), "{message}");
}
