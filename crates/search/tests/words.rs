//! Words that are not in the shop's dictionary, or mean the same as others; and what weighs beside the text.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use souk_search::{
    Config, Hits, IndexWriter, ItemDocument, Query, SearchIndex, Sort, SynonymSource, VariantDocument,
};
use uuid::Uuid;

fn id(number: u32) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number))
}

fn sku_id(number: u32) -> Uuid {
    Uuid::from_u128(0xffff_0000 + u128::from(number))
}

fn day(day: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000 + day)
}

fn item(number: u32, name: &str) -> ItemDocument {
    ItemDocument {
        item_id: id(number),
        seller_id: id(900),
        sku: format!("SKU-{number}"),
        name: name.to_owned(),
        description: String::new(),
        brand: None,
        category: Vec::new(),
        tags: Vec::new(),
        attributes: BTreeMap::new(),
        price: 1_000,
        currency: "USD".to_owned(),
        image: None,
        listed_at: day(0),
        rating: None,
        skus: vec![sku_id(number)],
        variants: Vec::new(),
    }
}

struct Market {
    index: Arc<SearchIndex>,
    writer: IndexWriter,
    _directory: tempfile::TempDir,
}

impl Market {
    fn new(items: impl IntoIterator<Item = ItemDocument>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let index = SearchIndex::open(directory.path(), Config::default()).unwrap();
        let mut writer = index.writer().unwrap();
        for item in items {
            writer.upsert(item).unwrap();
        }
        writer.commit(1).unwrap();
        Self { index, writer, _directory: directory }
    }

    fn named(names: &[&str]) -> Self {
        Self::new((1..).zip(names).map(|(number, name)| item(number, name)))
    }

    fn find(&self, term: &str) -> Hits {
        self.index.search(&Query { term: Some(term.to_owned()), ..Query::default() }).unwrap()
    }

    fn numbers(&self, term: &str) -> Vec<u32> {
        numbers(&self.find(term))
    }
}

fn numbers(hits: &Hits) -> Vec<u32> {
    hits.hits.iter().map(|hit| (hit.item_id.as_u128() & 0xffff) as u32).collect()
}

#[test]
fn a_misspelt_word_is_corrected_and_what_it_finds_is_marked() {
    let market = Market::named(&["Wireless headphones", "Wired keyboard", "Laser printers", "Canon camera"]);
    for (typed, found, corrected) in [
        ("haedphones", 1, "headphones"),
        ("wireless haedphons!", 1, "wireless headphones!"),
        ("keybord wired", 2, "keyboard wired"),
        ("lazer pritner", 3, "laser printers"),
        ("cannon camera", 4, "canon camera"),
        ("Camrea", 4, "camera"),
    ] {
        let hits = market.find(typed);
        assert_eq!(numbers(&hits).first(), Some(&found), "{typed}");
        assert_eq!(hits.corrected_term.as_deref(), Some(corrected), "{typed}");
        assert!(hits.hits[0].highlight.as_ref().unwrap().contains("<em>"), "{typed}");
    }
    assert_eq!(
        market.find("wirless haedphones").hits[0].highlight.as_deref(),
        Some("<em>Wireless</em> <em>headphones</em>")
    );
}

#[test]
fn what_may_be_meant_as_it_is_is_not_corrected() {
    let market = Market::named(&["Toner C1234X", "Lamp", "Cable", "Printer 4500"]);
    // Short, in quotes, with a digit, nothing like it.
    for term in ["lanp", "\"cabel\"", "c1235x ", "4501 ", "zzzzzzzz"] {
        let hits = market.find(term);
        assert_eq!((hits.total, hits.corrected_term), (0, None), "{term}");
    }
    assert_eq!(market.find("cable").corrected_term, None);
}

#[test]
fn the_frequent_spelling_is_meant_and_comes_first() {
    let names = ["Bluetooth speaker"; 20].into_iter().chain(["Bluetooht speaker"]);
    let market = Market::named(&names.collect::<Vec<_>>());
    let hits = market.find("bluetooh ");
    assert_eq!((hits.total, hits.corrected_term.as_deref()), (21, Some("bluetooth")));
    let all = Query { term: Some("bluetooh ".to_owned()), size: 100, ..Query::default() };
    let last = numbers(&market.index.search(&all).unwrap()).pop();
    assert_eq!(last, Some(21), "a rare mistake is no rarity");
}

#[test]
fn the_last_word_may_be_unfinished() {
    let market = Market::named(&["Laptop", "Laptop bag", "Lamp", "Printer", "Printed shirt"]);
    let set = |term: &str| market.numbers(term).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(set("lapt"), BTreeSet::from([1, 2]));
    assert_eq!(set("la"), BTreeSet::from([1, 2, 3]));
    assert_eq!(set("l"), BTreeSet::from([1, 2, 3]), "one letter is a beginning");
    assert_eq!(market.numbers("laptop ba")[0], 2);
    assert_eq!(set("lapt "), BTreeSet::new(), "a space ends a word");
    assert!(set("printe").contains(&4), "although it has the stem of `print`");
    assert_eq!(market.find("lapt").corrected_term, None);
    assert!(market.find("lapt").hits[0].highlight.as_ref().unwrap().starts_with("<em>Laptop</em>"));
}

#[test]
fn synonyms_count_from_the_next_search_on() {
    let market =
        Market::named(&["Television stand", "TV stand", "Hard drive 1 TB", "HDD enclosure", "Notebook"]);
    let set = |term: &str| market.numbers(term).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(set("tv"), BTreeSet::from([2]));
    let rules = "tv, television\nhdd, hard drive\nlaptop => notebook";
    market.index.set_synonyms(SynonymSource::Admin, rules).unwrap();
    assert_eq!(market.numbers("tv"), [2, 1], "what was typed comes first");
    assert_eq!(set("hard drive"), BTreeSet::from([3, 4]));
    assert_eq!(set("hdd"), BTreeSet::from([3, 4]));
    assert_eq!(set("laptop"), BTreeSet::from([5]));
    assert_eq!(market.find("laptop").hits[0].highlight.as_deref(), Some("<em>Notebook</em>"));

    market.index.set_synonyms(SynonymSource::File, "enclosure, case").unwrap();
    assert_eq!((set("case"), set("laptop")), (BTreeSet::from([4]), BTreeSet::from([5])));
    assert!(market.index.set_synonyms(SynonymSource::Admin, "alone").is_err());
    assert_eq!(set("laptop"), BTreeSet::from([5]), "rules that cannot be read change nothing");
    market.index.set_synonyms(SynonymSource::Admin, "").unwrap();
    assert_eq!((set("laptop"), set("case")), (BTreeSet::new(), BTreeSet::from([4])));
}

#[test]
fn pages_stay_whole_while_words_and_synonyms_change() {
    let mut market = Market::new((0..60).map(|number| item(number, "Bluetooth speaker")));
    market.index.set_synonyms(SynonymSource::Admin, "speaker, loudspeaker").unwrap();
    for sort in [Sort::Relevance, Sort::Newest] {
        let term = Some("bluetoth speaker".to_owned());
        let mut query = Query { term, sort, size: 7, ..Query::default() };
        let mut seen = BTreeSet::new();
        for page in 0.. {
            let hits = market.index.search(&query).unwrap();
            assert_eq!(hits.corrected_term.as_deref(), Some("bluetooth speaker"));
            assert!(hits.hits.iter().all(|hit| seen.insert(hit.item_id)), "{sort:?}: a hit came twice");
            let Some(next) = hits.next_cursor else { break };
            query.cursor = Some(next);
            // New words that resemble the typed one, other rules, sales and stock.
            market
                .writer
                .upsert(item(100 + page, &format!("Bluetoth{} gadget", "x".repeat(page as usize))))
                .unwrap();
            market.writer.commit(u64::from(page) + 2).unwrap();
            market.index.set_synonyms(SynonymSource::Admin, "speaker, gadget").unwrap();
            market.index.availability().set(sku_id(59 - page), 1);
            market.index.availability().sell(sku_id(page), 1_000, day(i64::from(page)));
        }
        assert_eq!((0..60).filter(|number| seen.contains(&id(*number))).count(), 60, "{sort:?}");
        market.index.set_synonyms(SynonymSource::Admin, "").unwrap();
        for number in 100..110 {
            market.writer.delete(id(number));
        }
        market.writer.commit(100).unwrap();
    }
}

#[test]
fn of_equal_texts_what_sells_is_liked_and_can_be_had_comes_first() {
    let rated = |number, rating| ItemDocument { rating: Some(rating), ..item(number, "Lamp") };
    let market =
        Market::new([item(1, "Lamp"), item(2, "Lamp"), item(3, "Lamp"), rated(4, 4.8), rated(5, 1.5)]);
    let stock = market.index.availability();
    for number in [1, 2, 4, 5] {
        stock.set(sku_id(number), 1);
    }
    stock.sell(sku_id(2), 50, day(1));
    assert_eq!(market.numbers("lamp"), [2, 4, 1, 5, 3]);
    // Half a year later nobody cares.
    stock.sell(sku_id(1), 30, day(180));
    assert_eq!(market.numbers("lamp")[0], 1);
}

#[test]
fn an_item_shows_once_with_the_variant_that_matched() {
    let variant = |sku: &str, size: &str, colour: &str, price| VariantDocument {
        sku: sku.to_owned(),
        options: [("Size", size), ("Colour", colour)].map(|(key, of)| (key.to_owned(), of.to_owned())).into(),
        price,
    };
    let mut shirt = item(1, "Shirt");
    shirt.variants = vec![
        variant("A", "S", "Red", 900),
        variant("B", "M", "Blue", 1_500),
        variant("C", "L", "Green", 2_500),
    ];
    shirt.skus = vec![sku_id(10), sku_id(11), sku_id(12)];
    let market = Market::new([shirt, item(2, "Shirt")]);
    let shown = |query: Query| {
        let hits = market.index.search(&Query { sort: Sort::Price, ..query }).unwrap();
        let hit = hits.hits.into_iter().find(|hit| hit.item_id == id(1)).unwrap();
        (hit.price, hit.variant.unwrap().sku)
    };
    let all = Query::default();
    let attribute = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    assert_eq!(shown(all.clone()), (900, "A".to_owned()), "the cheapest");
    assert_eq!(shown(Query { attributes: attribute("size", "l"), ..all.clone() }), (900, "C".to_owned()));
    assert_eq!(shown(Query { min_price: Some(1_000), max_price: Some(2_000), ..all.clone() }).1, "B");
    assert_eq!(shown(Query { term: Some("blue shirts".to_owned()), ..all.clone() }).1, "B");
    market.index.availability().set(sku_id(12), 1);
    assert_eq!(shown(all.clone()).1, "C", "one that can be had");
    assert_eq!(market.find("shirt").hits.iter().filter(|hit| hit.variant.is_some()).count(), 1);
}

#[test]
fn odd_queries_are_answered() {
    let market = Market::named(&["The lamp", "Desk lamp", "A 15\" screen"]);
    let long = "lampp ".repeat(83) + "la";
    for (text, expected) in [
        ("", 3),
        (long.as_str(), 2),
        ("the", 1),
        ("the a of", 2),
        ("l", 2),
        ("🦀", 0),
        ("lamp 🦀", 2),
        ("\"desk lamp\"", 1),
    ] {
        assert_eq!(market.find(text).total, expected, "{text:?}");
    }
}

#[test]
fn hits_say_whether_nothing_has_all_the_words() {
    let market = Market::named(&["Red lamp of brass", "Red kettle", "Blue lamp of brass"]);
    let fewer = |term: &str, sort| {
        let query = Query { term: Some(term.to_owned()), sort, ..Query::default() };
        let hits = market.index.search(&query).unwrap();
        (hits.total > 0, hits.fewer_words)
    };
    for sort in [Sort::Relevance, Sort::Price] {
        assert_eq!(fewer("red lamp", sort), (true, false), "others have one of them, this has both");
        assert_eq!(fewer("green lamp brass", sort), (true, true));
        assert_eq!(fewer("green unicorn", sort), (false, false), "nothing has any");
        assert_eq!(fewer("lamp", sort), (true, false));
    }
}
