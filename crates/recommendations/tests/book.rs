//! What a book learns, keeps and forgets.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use souk_recommendations::{Book, Change, Purchase};
use uuid::Uuid;

const TEA: Uuid = Uuid::from_u128(1);
const POT: Uuid = Uuid::from_u128(2);
const HAMMER: Uuid = Uuid::from_u128(3);
const NAILS: Uuid = Uuid::from_u128(4);
const BISCUITS: Uuid = Uuid::from_u128(5);

fn day(n: i64) -> DateTime<Utc> {
    "2026-01-01T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::days(n)
}

fn buyer(n: u128) -> Uuid {
    Uuid::from_u128(0x100 + n)
}

fn bought(who: u128, items: &[Uuid], on: i64) -> Change {
    Change::Bought(Purchase { buyer: buyer(who), items: items.to_vec(), at: day(on) })
}

struct Shelf {
    directory: tempfile::TempDir,
    book: Arc<Book>,
}

impl Shelf {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let book = Book::open(directory.path()).unwrap();
        Self { directory, book }
    }

    fn open_again(&mut self) {
        self.book = Book::open(self.directory.path()).unwrap();
    }

    fn together(&self, item: Uuid) -> Vec<Uuid> {
        self.book.together(item, 10).unwrap().iter().map(|pick| pick.item).collect()
    }

    fn picks(&self, who: u128, cart: &[Uuid], on: i64) -> Vec<Uuid> {
        let taste = self.book.taste(Some(buyer(who)), cart, day(on), 10).unwrap();
        taste.picks.iter().map(|pick| pick.item).collect()
    }
}

/// Tea goes with pots, hammers with nails.
fn habits() -> Vec<Change> {
    (0..20).flat_map(|n| [bought(2 * n, &[TEA, POT], 0), bought(2 * n + 1, &[HAMMER, NAILS], 0)]).collect()
}

#[test]
fn what_is_bought_together_belongs_together() {
    let mut shelf = Shelf::new();
    shelf.book.apply(&habits(), 7).unwrap();
    shelf.book.apply(&[bought(90, &[TEA, HAMMER], 0)], 8).unwrap();
    assert_eq!(shelf.together(TEA), [POT], "once beside a hammer is no habit");
    assert_eq!(shelf.together(HAMMER), [NAILS]);
    assert!(shelf.together(BISCUITS).is_empty(), "nobody has bought them");
    shelf.open_again();
    assert_eq!((shelf.together(TEA), shelf.book.position()), (vec![POT], Some(8)));
}

#[test]
fn orders_shortly_after_one_another_count_a_little_and_long_after_not_at_all() {
    let shelf = Shelf::new();
    shelf.book.apply(&habits(), 0).unwrap();
    for n in 0..10 {
        let (soon, late) = (bought(200 + n, &[BISCUITS], 12), bought(200 + n, &[NAILS], 100));
        shelf.book.apply(&[bought(200 + n, &[TEA], 10), soon, late], 1).unwrap();
    }
    assert_eq!(shelf.together(BISCUITS), [TEA]);
    assert_eq!(shelf.together(TEA)[0], POT, "in one order says more than in two");
    assert_eq!(shelf.together(NAILS), [HAMMER]);
}

#[test]
fn a_buyer_is_offered_what_goes_with_what_he_has_but_not_that() {
    let shelf = Shelf::new();
    shelf.book.apply(&habits(), 0).unwrap();
    shelf.book.apply(&[bought(300, &[TEA], 5)], 1).unwrap();
    let taste = shelf.book.taste(Some(buyer(300)), &[NAILS], day(6), 10).unwrap();
    let picks: Vec<_> = taste.picks.iter().map(|pick| (pick.item, pick.because)).collect();
    assert!(picks.contains(&(POT, TEA)) && picks.contains(&(HAMMER, NAILS)), "{picks:?}");
    assert_eq!((taste.bought, taste.had), (vec![TEA], [TEA, NAILS].into()));
    assert!(shelf.picks(300, &[POT, TEA], 6).is_empty());
    assert!(shelf.picks(301, &[], 6).is_empty(), "a stranger has no taste yet");
}

#[test]
fn what_is_used_up_is_offered_again_after_a_week() {
    let shelf = Shelf::new();
    shelf.book.apply(&habits(), 0).unwrap();
    // People come back for biscuits, and have them with tea.
    for n in 0..5 {
        let visits = (1..4).map(|visit| bought(n, &[TEA, BISCUITS], 40 * visit));
        shelf.book.apply(&visits.collect::<Vec<_>>(), 1).unwrap();
    }
    shelf.book.apply(&[bought(400, &[TEA, BISCUITS], 130)], 2).unwrap();
    let biscuits = |on| shelf.picks(400, &[], on).contains(&BISCUITS);
    assert!(!biscuits(131), "just bought");
    assert!(biscuits(140));
    assert!(!shelf.picks(0, &[], 300).contains(&POT), "nobody buys a second pot");
}

#[test]
fn who_asked_to_be_forgotten_has_no_history_and_gets_none() {
    let shelf = Shelf::new();
    shelf.book.apply(&habits(), 0).unwrap();
    let history = |who: u128| shelf.book.taste(Some(buyer(who)), &[], day(1), 10).unwrap().bought;
    assert_eq!(history(0).len(), 2);
    shelf.book.apply(&[Change::Forgotten(buyer(0)), bought(0, &[HAMMER], 1)], 1).unwrap();
    assert!(history(0).is_empty(), "what was under way when he left is not kept either");
    assert_eq!(shelf.together(TEA), [POT], "what he was a part of names nobody");
}

#[test]
fn the_same_purchases_make_the_same_book_in_whatever_batches() {
    let (one, mut other) = (Shelf::new(), Shelf::new());
    let mut changes = habits();
    changes.extend((0..40).map(|n| {
        let items: Vec<Uuid> = (0..130).map(|item| Uuid::from_u128(0x1000 + item * (n % 7 + 1))).collect();
        bought(n % 9, &items, n as i64)
    }));
    changes.push(Change::Forgotten(buyer(3)));
    for change in changes.chunks(5) {
        one.book.apply(change, 9).unwrap();
    }
    other.book.apply(&[bought(1, &[TEA], 1)], 3).unwrap();
    let draft = other.book.draft().unwrap();
    draft.apply(&changes, 9).unwrap();
    assert_eq!(other.book.position(), Some(3), "the old one is read until the new one is published");
    other.book.publish(draft).unwrap();
    assert_eq!(one.book.dump().unwrap(), other.book.dump().unwrap());
    other.open_again();
    assert_eq!(other.book.position(), Some(9));
    assert_eq!(one.book.dump().unwrap(), other.book.dump().unwrap());
}

#[test]
fn however_much_is_bought_a_row_is_bounded() {
    let shelf = Shelf::new();
    for n in 0..200_u128 {
        let items: Vec<Uuid> = (0..40).map(|item| Uuid::from_u128(0x1000 + 40 * n + item)).collect();
        let items: Vec<Uuid> = items.into_iter().chain([TEA]).collect();
        shelf.book.apply(&[bought(0, &items, 0)], n as u64).unwrap();
    }
    // 8,000 items were bought with tea, all by one buyer.
    let longest = shelf.book.dump().unwrap().iter().map(String::len).max().unwrap();
    assert!(longest < 12_000, "{longest}");
}

#[test]
fn a_book_that_is_damaged_or_was_never_finished_is_begun_anew() {
    let mut shelf = Shelf::new();
    shelf.book.apply(&habits(), 5).unwrap();
    for _ in 0..3 {
        drop(shelf.book.draft().unwrap());
    }
    let files = std::fs::read_dir(shelf.directory.path()).unwrap().filter(|file| {
        file.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "sqlite")
    });
    assert_eq!(files.count(), 2, "drafts that were given up do not pile up");
    shelf.open_again();
    assert_eq!(shelf.book.position(), Some(5), "a draft does not count");
    shelf.book = Shelf::new().book;
    for file in std::fs::read_dir(shelf.directory.path()).unwrap() {
        std::fs::write(file.unwrap().path(), "not a database, but some text that is long enough").unwrap();
    }
    shelf.open_again();
    assert_eq!((shelf.book.position(), shelf.together(TEA)), (None, vec![]));
}
