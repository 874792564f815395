//! The index from outside, on a small market made by hand: filters, facets, orders, cursors, stock, crashes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use souk_search::{
    Config, FoundQuery, Hits, IndexWriter, ItemDocument, Origin, Query, SearchError, SearchIndex, Sort,
    SuggestedFacet, SuggestionKind, VariantDocument,
};
use uuid::Uuid;

fn id(number: u32) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number))
}

fn sku_id(number: u32) -> Uuid {
    Uuid::from_u128(0xffff_0000 + u128::from(number))
}

fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn item(number: u32, name: &str) -> ItemDocument {
    ItemDocument {
        item_id: id(number),
        seller_id: id(900 + number % 2),
        sku: format!("SKU-{number}"),
        name: name.to_owned(),
        description: String::new(),
        brand: None,
        category: Vec::new(),
        tags: Vec::new(),
        attributes: BTreeMap::new(),
        price: i64::from(number) * 100,
        currency: "USD".to_owned(),
        image: None,
        listed_at: DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(i64::from(number)),
        rating: None,
        skus: vec![sku_id(number)],
        variants: Vec::new(),
    }
}

fn lamp(number: u32, brand: &str, colour: &str) -> ItemDocument {
    ItemDocument {
        brand: Some(brand.to_owned()),
        category: vec!["Home".to_owned(), "Lighting".to_owned(), "Desk Lamps".to_owned()],
        attributes: pairs(&[("Colour", colour), ("Power", "60 W")]),
        ..item(number, "Desk lamp with a shade")
    }
}

struct Market {
    directory: tempfile::TempDir,
    index: Arc<SearchIndex>,
    writer: IndexWriter,
}

impl Market {
    fn new(items: impl IntoIterator<Item = ItemDocument>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let index = SearchIndex::open(directory.path(), Config::default()).unwrap();
        assert_eq!(*index.origin(), Origin::Created);
        assert_eq!(index.position(), None);
        let mut writer = index.writer().unwrap();
        for item in items {
            writer.upsert(item).unwrap();
        }
        writer.commit(1).unwrap();
        Self { directory, index, writer }
    }

    fn find(&self, query: &Query) -> Hits {
        self.index.search(query).unwrap()
    }

    /// Numbers of the items found, in order.
    fn numbers(&self, query: &Query) -> Vec<u32> {
        self.find(query).hits.iter().map(|hit| (hit.item_id.as_u128() & 0xffff_ffff) as u32).collect()
    }

    fn set(&self, query: &Query) -> BTreeSet<u32> {
        self.numbers(query).into_iter().collect()
    }
}

fn reopen(directory: &Path) -> Arc<SearchIndex> {
    SearchIndex::open(directory, Config::default()).unwrap()
}

/// Where the files of the index lie.
fn place(directory: &Path) -> PathBuf {
    let mut entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    entries.find(|entry| entry.file_name().to_string_lossy().starts_with("index")).unwrap().path()
}

fn term(term: &str) -> Query {
    Query { term: Some(term.to_owned()), ..Query::default() }
}

fn facet(hits: &Hits, name: &str) -> Vec<(String, u64)> {
    hits.facets[name].iter().map(|count| (count.value.clone(), count.count)).collect()
}

fn counts(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected.iter().map(|(value, count)| ((*value).to_owned(), *count)).collect()
}

#[test]
fn words_are_found_in_every_kind_of_text() {
    let mut everything = item(1, "Café table");
    everything.description = "<p>Made of <b>oak</b> &amp; steel</p>".to_owned();
    everything.brand = Some("Möbelhaus".to_owned());
    everything.category = vec!["Furniture".to_owned(), "Tables".to_owned()];
    everything.tags = vec!["outdoor".to_owned()];
    everything.attributes = pairs(&[("finish", "walnut"), ("foldable", "true"), ("wheels", "false")]);
    everything.variants =
        vec![VariantDocument { sku: "TB-77/X".to_owned(), options: pairs(&[("size", "large")]), price: 5 }];
    let market = Market::new([everything, item(2, "Something else")]);
    for word in [
        "cafe",
        "CAFÉ",
        "tables",
        "oak",
        "steel",
        "mobelhaus",
        "furniture",
        "outdoors",
        "walnut",
        "foldable",
        "large",
        "tb-77/x",
        "TB77X",
        "sku-1",
        "cafe table oak",
    ] {
        assert_eq!(market.numbers(&term(word)), [1], "{word}");
    }
    for word in ["p", "amp", "wheels", "nothing"] {
        assert!(market.numbers(&term(word)).is_empty(), "{word}");
    }
}

#[test]
fn filters_combine_and_ignore_case() {
    let mut shirt = item(4, "Shirt");
    shirt.variants = vec![
        VariantDocument { sku: "S".to_owned(), options: pairs(&[("Size", "S")]), price: 1_000 },
        VariantDocument { sku: "XL".to_owned(), options: pairs(&[("Size", "XL")]), price: 3_000 },
    ];
    let mut rated = lamp(3, "Lumen", "White");
    rated.rating = Some(4.2);
    let market = Market::new([lamp(1, "Lumen", "Black"), lamp(2, "Glow", "Black"), rated, shirt]);
    let all = Query::default();
    let text = |text: &str| text.to_owned();

    let checks: [(Query, &[u32]); 16] = [
        (Query { brand: vec![text("lumen")], ..all.clone() }, &[1, 3]),
        (Query { brand: vec![text("LUMEN"), text("Glow")], ..all.clone() }, &[1, 2, 3]),
        (Query { brand: vec![text(" ")], ..all.clone() }, &[1, 2, 3, 4]),
        (Query { category: Some(text("home > lighting")), ..all.clone() }, &[1, 2, 3]),
        (Query { category: Some(text("desk lamps")), ..all.clone() }, &[1, 2, 3]),
        (Query { category: Some(text("Desk")), ..all.clone() }, &[]),
        (Query { attributes: vec![(text("colour"), text("black"))], ..all.clone() }, &[1, 2]),
        (
            Query {
                attributes: vec![(text("colour"), text("black")), (text("colour"), text("white"))],
                ..all.clone()
            },
            &[1, 2, 3],
        ),
        (
            Query {
                attributes: vec![(text("colour"), text("black"))],
                brand: vec![text("glow")],
                ..all.clone()
            },
            &[2],
        ),
        (Query { attributes: vec![(text("size"), text("xl"))], ..all.clone() }, &[4]),
        (Query { min_price: Some(2_000), max_price: Some(3_000), ..all.clone() }, &[4]),
        (Query { max_price: Some(200), ..all.clone() }, &[1, 2]),
        (Query { min_price: Some(1_500), max_price: Some(2_500), ..all.clone() }, &[]),
        (Query { min_rating: Some(4.2), ..all.clone() }, &[3]),
        (Query { seller: Some(id(901)), ..all.clone() }, &[1, 3]),
        (
            Query { seller: Some(id(901)), term: Some(text("lamps")), max_price: Some(100), ..all.clone() },
            &[1],
        ),
    ];
    for (query, expected) in checks {
        assert_eq!(market.set(&query), expected.iter().copied().collect(), "{query:?}");
        // Asking for every facet moves the filters from the inverted index into the pass: the same must be found.
        let names = ["brand", "category", "price", "seller", "rating", "inStock", "attributes.colour"];
        let with_facets = Query { facets: names.map(str::to_owned).to_vec(), ..query };
        assert_eq!(market.set(&with_facets), expected.iter().copied().collect(), "{with_facets:?}");
    }
}

#[test]
fn a_facet_ignores_its_own_filter_and_no_other() {
    let market = Market::new([
        lamp(1, "Lumen", "Black"),
        lamp(2, "Lumen", "White"),
        lamp(3, "Glow", "Black"),
        lamp(4, "Glow", "White"),
        lamp(50, "Glow", "White"),
    ]);
    let query = Query {
        brand: vec!["Lumen".to_owned()],
        attributes: vec![("colour".to_owned(), "White".to_owned())],
        facets: ["brand", "attributes.colour", "price", "category"].map(str::to_owned).to_vec(),
        ..Query::default()
    };
    let hits = market.find(&query);
    assert_eq!(hits.total, 1);
    assert_eq!(facet(&hits, "brand"), counts(&[("Glow", 2), ("Lumen", 1)]));
    assert_eq!(facet(&hits, "attributes.colour"), counts(&[("Black", 1), ("White", 1)]));
    assert_eq!(facet(&hits, "price"), counts(&[("0-999", 1)]));
    assert_eq!(
        facet(&hits, "category"),
        counts(&[("Home", 1), ("Home > Lighting", 1), ("Home > Lighting > Desk Lamps", 1)])
    );

    let priced = Query { max_price: Some(100), facets: vec!["price".to_owned()], ..Query::default() };
    assert_eq!(facet(&market.find(&priced), "price"), counts(&[("0-999", 4), ("5000-9999", 1)]));
    let unknown = Query { facets: vec!["colour".to_owned()], ..Query::default() };
    assert!(matches!(market.index.search(&unknown), Err(SearchError::Facet(name)) if name == "colour"));
    let nobodys = Query { facets: vec!["attributes.a.b\\c".to_owned()], ..Query::default() };
    assert_eq!(facet(&market.find(&nobodys), "attributes.a.b\\c"), []);
}

#[test]
fn a_path_written_as_one_name_takes_nobody_elses_items_out_of_it() {
    let odd = |number, category: &[&str]| ItemDocument {
        category: category.iter().map(|name| (*name).to_owned()).collect(),
        ..item(number, "Desk lamp")
    };
    let market = Market::new([
        lamp(1, "Lumen", "Black"),
        lamp(2, "Lumen", "Black"),
        odd(3, &["Home > Lighting > Desk Lamps"]),
        odd(4, &["", ""]),
    ]);
    let hits = market.find(&Query { facets: vec!["category".to_owned()], ..term("lamp") });
    let home = hits.facets["category"].iter().find(|count| count.value == "Home").unwrap();
    assert!(home.count >= 2, "{home:?}");
}

#[test]
fn stock_changes_what_is_found_without_a_commit() {
    let market = Market::new([item(1, "Lamp"), item(2, "Lamp")]);
    let query =
        |in_stock| Query { in_stock: Some(in_stock), facets: vec!["inStock".to_owned()], ..term("lamp") };
    assert_eq!(market.set(&query(true)), BTreeSet::new());

    market.index.availability().set(sku_id(2), 3);
    let hits = market.find(&query(true));
    assert_eq!(market.set(&query(true)), BTreeSet::from([2]));
    assert!(hits.hits[0].in_stock);
    assert_eq!(facet(&hits, "inStock"), counts(&[("false", 1), ("true", 1)]));
    assert_eq!(market.set(&query(false)), BTreeSet::from([1]));

    market.index.availability().set(sku_id(2), 0);
    assert_eq!(market.set(&query(true)), BTreeSet::new());
}

#[test]
fn stock_survives_a_restart() {
    let Market { directory, index, writer } = Market::new([item(1, "Lamp"), item(2, "Lamp")]);
    index.availability().set(sku_id(2), 3);
    index.availability().save(7).unwrap();
    drop((index, writer));
    let index = reopen(directory.path());
    assert_eq!(*index.origin(), Origin::Opened);
    assert_eq!(index.availability().position(), Some(7));
    let found = index.search(&Query { in_stock: Some(true), ..Query::default() }).unwrap();
    assert_eq!(found.hits.iter().map(|hit| hit.item_id).collect::<Vec<_>>(), [id(2)]);
}

#[test]
fn orders_are_by_their_key_and_missing_ratings_come_last() {
    let rated = |number, rating| ItemDocument { rating, ..item(number, "Lamp") };
    let market = Market::new([rated(1, Some(3.5)), rated(2, None), rated(3, Some(4.9)), rated(4, Some(0.0))]);
    let by = |sort| market.numbers(&Query { sort, ..term("lamp") });
    assert_eq!(by(Sort::Price), [1, 2, 3, 4]);
    assert_eq!(by(Sort::PriceDesc), [4, 3, 2, 1]);
    assert_eq!(by(Sort::Newest), [4, 3, 2, 1]);
    assert_eq!(by(Sort::Rating), [3, 1, 4, 2]);
    assert_eq!(market.numbers(&Query::default()), [4, 3, 2, 1], "without a term the newest come first");
}

#[test]
fn more_of_what_was_asked_for_comes_first_and_a_title_before_a_description() {
    let mut mention = item(1, "Bracket");
    mention.description = "Holds a camera".to_owned();
    let mut half = item(2, "Camera camera camera");
    half.description = "camera camera camera".to_owned();
    let market = Market::new([mention, half, item(3, "Underwater camera"), item(4, "Kettle")]);
    assert_eq!(market.numbers(&term("underwater camera"))[0], 3);
    assert_eq!(market.find(&term("underwater camera")).total, 3, "few hits: half of the words will do");
    assert_eq!(*market.numbers(&term("camera")).last().unwrap(), 1);
    assert_eq!(market.numbers(&term("SKU-4")), [4]);
    assert_eq!(market.numbers(&term("\"camera underwater\"")), Vec::<u32>::new(), "a phrase keeps its order");
    assert_eq!(market.numbers(&term("\"underwater camera\"")), [3]);
}

#[test]
fn odd_terms_are_answered() {
    let market = Market::new([item(1, "The lamp"), item(2, "A 15\" screen")]);
    let long = "x".repeat(500);
    let many = "lamp ".repeat(500);
    for (text, expected) in [
        ("", 2),
        ("  ", 2),
        ("🦀", 0),
        ("?!\"", 0),
        ("\"", 0),
        (long.as_str(), 0),
        (many.as_str(), 1),
        ("the", 1),
        ("the a of", 2),
        ("15 inch", 1),
        ("15in screen", 1),
        ("l", 1),
        ("AND OR NOT (", 0),
        ("name:lamp^9 -foo*", 1),
        ("\u{0}\u{ffff}", 0),
    ] {
        assert_eq!(market.find(&term(text)).total, expected, "{text:?}");
    }
}

#[test]
fn odd_items_are_taken() {
    let mut empty = item(1, "");
    (empty.sku, empty.currency, empty.brand) = (String::new(), String::new(), Some(String::new()));
    empty.category = vec![String::new()];
    empty.tags = vec![String::new()];
    empty.attributes = pairs(&[("", ""), ("a.b\\c", "x"), ("\u{0}\u{1}", "y"), ("é", "z")]);
    empty.rating = Some(f32::NAN);
    let mut huge = item(2, &"long name ".repeat(10_000));
    huge.sku = "x".repeat(100_000);
    huge.brand = Some("b".repeat(100_000));
    huge.category = vec!["c".repeat(100_000)];
    huge.attributes = [("k".repeat(1_000), "v".repeat(100_000))].into();
    huge.description = "<".repeat(50_000);
    huge.price = i64::MIN;
    let market = Market::new([empty, huge]);
    assert_eq!(market.index.len(), 2);
    assert_eq!(market.numbers(&term("long name")), [2]);
    let with_attribute = |key: &str, value: &str| Query {
        attributes: vec![(key.to_owned(), value.to_owned())],
        facets: vec![format!("attributes.{key}"), "price".to_owned()],
        ..Query::default()
    };
    for (key, value) in [("A.B\\C", "x"), ("\u{0}\u{1}", "y"), ("e", "z")] {
        let hits = market.find(&with_attribute(key, value));
        assert_eq!(hits.total, 1, "{key}");
    }
    let dotted = market.find(&with_attribute("a.b\\c", "x"));
    assert_eq!(facet(&dotted, "attributes.a.b\\c"), counts(&[("x", 1)]));
    assert_eq!(market.numbers(&Query { sort: Sort::Price, ..Query::default() }), [2, 1]);
    assert!(!market.index.suggest("long", 5).is_empty());
}

#[test]
fn an_empty_index_answers() {
    let directory = tempfile::tempdir().unwrap();
    let index = reopen(directory.path());
    let names = ["brand", "category", "price", "seller", "rating", "inStock", "attributes.colour"];
    for sort in [Sort::Relevance, Sort::Price, Sort::Rating] {
        let query = Query { sort, facets: names.map(str::to_owned).to_vec(), ..term("usb lamp") };
        assert_eq!(index.search(&query).unwrap().total, 0);
        assert_eq!(index.search(&Query { term: None, ..query }).unwrap().total, 0);
    }
    assert_eq!(index.suggest("l", 5), []);
}

#[test]
fn pages_hold_every_hit_once_while_items_change() {
    for sort in [Sort::Relevance, Sort::Price, Sort::PriceDesc, Sort::Newest, Sort::Rating] {
        // Many equal keys, so that the tie-breaker works, and more hits than the second phase looks at.
        let items = (0..450).map(|number| {
            let filler = "lamp ".repeat(1 + number as usize % 3);
            let rating = Some((number % 5) as f32);
            ItemDocument { price: i64::from(number % 7), rating, ..item(number, &format!("{filler} shade")) }
        });
        let mut market = Market::new(items);
        let mut query = Query { sort, size: 37, ..term("lamp shade") };
        let mut seen = BTreeSet::new();
        let mut prices = Vec::new();
        for page in 0.. {
            let hits = market.find(&query);
            assert!(hits.hits.len() == 37 || hits.next_cursor.is_none(), "only the last page is short");
            for hit in &hits.hits {
                assert!(seen.insert(hit.item_id), "{sort:?}: a hit came twice on page {page}");
                prices.push(hit.price);
            }
            let Some(next) = hits.next_cursor else { break };
            query.cursor = Some(next);
            // Between pages: an item is written again as it was, and new ones come in that match.
            let again = market.index.get(id(page % 450)).unwrap().unwrap();
            market.writer.upsert(again).unwrap();
            for new in 0..5 {
                market.writer.upsert(item(1_000 + page * 5 + new, "Lamp shade")).unwrap();
            }
            market.writer.commit(u64::from(page) + 2).unwrap();
        }
        let old = (0..450).filter(|number| seen.contains(&id(*number))).count();
        assert_eq!(old, 450, "{sort:?}: every hit that was there comes");
        match sort {
            Sort::Price => assert!(prices.is_sorted()),
            Sort::PriceDesc => assert!(prices.iter().rev().is_sorted()),
            _ => {}
        }
    }
}

#[test]
fn what_is_found_first_does_not_depend_on_how_the_index_is_cut() {
    // Long and short items apart, so that what a segment believes of its blocks is wrong for the whole.
    let words = |number: u32| if number < 2_000 { number % 5 } else { 40 + number % 60 };
    let items: Vec<ItemDocument> = (0..4_000)
        .map(|number| {
            let title = format!("{}shade {}", "lamp ".repeat(number as usize % 4), number % 13);
            let words: Vec<String> =
                (0..words(number)).map(|word| format!("word{}", (number + word) % 97)).collect();
            ItemDocument { description: words.join(" "), ..item(number, &title) }
        })
        .collect();
    let whole = Market::new(items.clone());
    let mut cut = Market::new([]);
    for (position, part) in (2..).zip(items.chunks(500)) {
        for item in part {
            cut.writer.upsert(item.clone()).unwrap();
        }
        cut.writer.commit(position).unwrap();
    }
    for words in ["lamp", "lamp shade", "shade 7", "lamp shade 12", "word5 lamp", "word96 word95 shade"] {
        let facets = vec!["price".to_owned(), "seller".to_owned()];
        let query = Query { size: 50, facets, ..term(words) };
        let (expected, found) = (whole.find(&query), cut.find(&query));
        assert_eq!(found.total, expected.total, "{words}");
        assert_eq!(found.facets, expected.facets, "{words}");
        assert_eq!(cut.numbers(&query), whole.numbers(&query), "{words}");
    }
}

#[test]
fn a_cursor_of_another_search_is_refused() {
    let market = Market::new((1..10).map(|number| item(number, "Lamp")));
    let next = |query: &Query| market.find(query).next_cursor.unwrap();
    let by_price = next(&Query { sort: Sort::Price, size: 2, ..Query::default() });
    let by_score = next(&Query { size: 2, ..term("lamp") });
    for (query, cursor) in [
        (term("lamp"), &by_price),
        (Query { sort: Sort::Price, ..Query::default() }, &by_score),
        (term("lamp shade"), &by_score),
        (term("lamp"), &"garbage".to_owned()),
        (term("lamp"), &String::new()),
    ] {
        let query = Query { cursor: Some(cursor.clone()), ..query };
        assert!(matches!(market.index.search(&query), Err(SearchError::Cursor)), "{query:?}");
    }
    assert_eq!(market.find(&Query { cursor: Some(by_score), size: 0, ..term("lamp") }).hits.len(), 1);
}

#[test]
fn changes_show_at_the_commit_and_not_before() {
    let mut market = Market::new([item(1, "Lamp")]);
    let mut cheaper = market.index.get(id(1)).unwrap().unwrap();
    assert_eq!(cheaper, item(1, "Lamp"));
    cheaper.price = 1;
    market.writer.upsert(cheaper.clone()).unwrap();
    assert_eq!(market.writer.pending(), 1);
    assert_eq!(market.find(&Query::default()).hits[0].price, 100);
    market.writer.commit(2).unwrap();
    assert_eq!((market.index.position(), market.index.len(), market.writer.pending()), (Some(2), 1, 0));
    assert_eq!(market.find(&Query::default()).hits[0].price, 1);
    assert_eq!(market.index.get(id(1)).unwrap(), Some(cheaper));

    market.writer.delete(id(1));
    market.writer.delete(id(2));
    market.writer.commit(3).unwrap();
    assert_eq!(market.index.get(id(1)).unwrap(), None);
    assert_eq!(market.find(&Query::default()).total, 0);
    assert!(matches!(market.index.writer(), Err(SearchError::Locked)));
}

#[test]
fn a_rebuild_is_served_all_at_once() {
    let mut market = Market::new([item(1, "Lamp"), item(2, "Lamp")]);
    market.index.availability().set(sku_id(2), 1);
    market.writer.upsert(item(3, "Never committed")).unwrap();
    market.writer.clear().unwrap();
    market.writer.upsert(item(2, "Lamp")).unwrap();
    market.writer.upsert(item(4, "Lamp")).unwrap();
    assert_eq!(market.set(&Query::default()), BTreeSet::from([1, 2]));
    market.writer.commit(5).unwrap();
    assert_eq!(market.set(&Query::default()), BTreeSet::from([2, 4]));
    assert_eq!(market.set(&Query { in_stock: Some(true), ..Query::default() }), BTreeSet::from([2]));
}

#[test]
fn what_was_not_committed_is_gone_after_a_crash_and_the_position_says_so() {
    let Market { directory, index, mut writer } = Market::new([item(1, "Lamp")]);
    writer.commit(41).unwrap();
    writer.upsert(item(2, "Lamp")).unwrap();
    drop((index, writer));
    let index = reopen(directory.path());
    assert_eq!((index.position(), index.len()), (Some(41), 1));
    let mut writer = index.writer().unwrap();
    writer.upsert(item(3, "Lamp")).unwrap();
    writer.commit(42).unwrap();
    index.availability().set(sku_id(3), 1);
    let in_stock = index.search(&Query { in_stock: Some(true), ..Query::default() }).unwrap();
    assert_eq!(in_stock.hits.iter().map(|hit| hit.item_id).collect::<Vec<_>>(), [id(3)]);
}

#[test]
fn a_damaged_index_is_replaced_by_an_empty_one() {
    type Damage = fn(&Path);
    let damages: [Damage; 4] = [
        |index| fs::write(index.join("meta.json"), "{ torn").unwrap(),
        |index| fs::remove_file(index.join("meta.json")).unwrap(),
        |index| {
            let meta = fs::read_to_string(index.join("meta.json")).unwrap();
            fs::write(index.join("meta.json"), meta.replace("format\\\":", "format\\\":9")).unwrap();
        },
        |index| {
            let mut files = fs::read_dir(index).unwrap().map(|entry| entry.unwrap().path());
            let store = files.find(|path| path.extension().is_some_and(|end| end == "store")).unwrap();
            let mut bytes = fs::read(&store).unwrap();
            bytes[0] ^= 1;
            fs::write(store, bytes).unwrap();
        },
    ];
    for (number, damage) in damages.into_iter().enumerate() {
        let Market { directory, index, writer } = Market::new([item(1, "Lamp")]);
        drop((index, writer));
        damage(&place(directory.path()));
        let index = reopen(directory.path());
        assert!(matches!(index.origin(), Origin::Recreated(_)), "damage {number}: {:?}", index.origin());
        assert_eq!((index.position(), index.len()), (None, 0), "damage {number}");
        let mut writer = index.writer().unwrap();
        writer.upsert(item(1, "Lamp")).unwrap();
        writer.commit(9).unwrap();
        assert_eq!(index.len(), 1);
    }
}

#[test]
fn hits_show_the_item_and_where_it_matched() {
    let mut lamp = lamp(1, "Lumen", "Black");
    lamp.description = "A <b>lamp</b> with 3 < 4 \"modes\"".to_owned();
    lamp.image = Some("/lamp.jpg".to_owned());
    lamp.variants = vec![
        VariantDocument { sku: "B".to_owned(), options: BTreeMap::new(), price: 900 },
        VariantDocument { sku: "A".to_owned(), options: BTreeMap::new(), price: 700 },
    ];
    let market = Market::new([lamp]);
    let hit = market.find(&term("LAMPS")).hits.remove(0);
    assert_eq!((hit.sku.as_str(), hit.price, hit.currency.as_str()), ("SKU-1", 700, "USD"));
    assert_eq!(hit.image.as_deref(), Some("/lamp.jpg"));
    assert_eq!(hit.category, ["Home", "Lighting", "Desk Lamps"]);
    assert_eq!(hit.highlight.as_deref(), Some("A <em>lamp</em> with 3 &lt; 4 &quot;modes&quot;"));
    assert_eq!(market.find(&Query::default()).hits[0].highlight, None);
}

#[test]
fn suggestions_come_from_brands_categories_and_titles_that_are_there() {
    let mut market =
        Market::new([lamp(1, "Lumen", "Black"), lamp(2, "Lightworks", "Black"), lamp(3, "Lumen", "Red")]);
    let texts = |prefix: &str, size| -> Vec<(String, SuggestionKind)> {
        market.index.suggest(prefix, size).into_iter().map(|found| (found.text, found.kind)).collect()
    };
    assert_eq!(
        texts("L", 10),
        [
            ("Lumen".to_owned(), SuggestionKind::Brand),
            ("Lightworks".to_owned(), SuggestionKind::Brand),
            ("Desk Lamps".to_owned(), SuggestionKind::Category),
            ("Lighting".to_owned(), SuggestionKind::Category),
            ("Desk lamp with a shade".to_owned(), SuggestionKind::Title),
        ]
    );
    assert_eq!(texts("lumên", 1), [("Lumen".to_owned(), SuggestionKind::Brand)]);
    assert_eq!(texts("", 10), []);
    assert_eq!(texts("zzz", 10), []);
    market.writer.delete(id(2));
    market.writer.commit(2).unwrap();
    assert_eq!(market.index.suggest("lightw", 5), []);
}

#[test]
fn suggestions_tell_names_apart_that_begin_alike_for_long() {
    let name = |end: &str| format!("Adjustable desk lamp with a shade of {end}");
    let market = Market::new([item(1, &name("linen")), item(2, &name("glass")), item(3, &name("linen"))]);
    let texts = |prefix: &str| -> BTreeSet<String> {
        market.index.suggest(prefix, 5).into_iter().map(|found| found.text).collect()
    };
    assert_eq!(texts(&name("")), BTreeSet::from([name("linen"), name("glass")]));
    assert_eq!(texts(&name("gl")), BTreeSet::from([name("glass")]));
    assert_eq!(texts(&name("linen")), BTreeSet::from([name("linen")]));
    // The key of this one is cut before a space.
    let market = Market::new([item(1, "Professional wireless x keyboard")]);
    assert_eq!(market.index.suggest("professional wire", 5)[0].text, "Professional wireless x keyboard");
}

#[test]
fn what_is_popular_is_suggested_first_with_the_filter_it_leads_to_and_past_a_typo() {
    let names = ["Lantern red", "Lantern blue", "Lantern green"];
    let items = names.iter().zip(1..).map(|(name, number)| ItemDocument {
        name: (*name).to_owned(),
        ..lamp(number, ["Lumen", "Lumina", "Lumen"][number as usize - 1], "Black")
    });
    let market = Market::new(items);
    let now = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(20_000);
    market.index.availability().sell(sku_id(3), 9, now);
    market.index.availability().sell(sku_id(2), 20, now);
    let category = SuggestedFacet::new("category", "Home > Lighting > Desk Lamps");
    let query = |text: &str| FoundQuery { text: text.to_owned(), facet: Some(category.clone()) };
    let queries = ["lantern green", "lantern", "lantren", "lanter", "lantern unicorn"].map(query);
    assert!(market.index.gather_suggestions(&queries).unwrap() > 0);
    let suggest = |prefix: &str| -> Vec<(String, SuggestionKind)> {
        market.index.suggest(prefix, 6).into_iter().map(|found| (found.text, found.kind)).collect()
    };
    let (asked, title) = (SuggestionKind::Query, SuggestionKind::Title);
    let lanterns = [
        ("lantern green".to_owned(), asked),
        ("lantern".to_owned(), asked),
        ("Lantern blue".to_owned(), title),
        ("Lantern red".to_owned(), title),
    ];
    assert_eq!(suggest("lan"), lanterns, "neither misspelt, half-written nor unknown words");
    assert_eq!(suggest("lentern"), lanterns);
    assert_eq!(suggest("lum"), ["Lumina", "Lumen"].map(|brand| (brand.to_owned(), SuggestionKind::Brand)));
    let of = |prefix: &str| market.index.suggest(prefix, 1)[0].facet.clone();
    assert_eq!(of("lantern"), Some(category.clone()));
    assert_eq!(of("lumina"), Some(SuggestedFacet::new("brand", "Lumina")));
    assert_eq!(of("desk"), Some(category.clone()));
    assert_eq!(of("red"), Some(category), "a title by a word further on");
    for odd in ["", " ", "🦀", "\"", "%", &"lantern ".repeat(60), &"x".repeat(500), "é", "\u{0}"] {
        assert_eq!(suggest(odd), [], "{odd:?}");
    }

    // What came after the gathering is there at once, after what is popular.
    let mut market = market;
    market.writer.upsert(item(9, "Lantern of the sea")).unwrap();
    market.writer.commit(2).unwrap();
    let found = market.index.suggest("lan", 6);
    assert_eq!(found.last().unwrap().text, "Lantern of the sea");
}

/// A choice that is the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }

    fn of<'a>(&mut self, choice: &[&'a str]) -> &'a str {
        choice[self.below(choice.len())]
    }
}

const COLOURS: [&str; 3] = ["Red", "Blue", "Green"];
const SIZES: [&str; 3] = ["S", "M", "L"];
const FITS: [&str; 2] = ["slim", "wide"];

fn shirt(number: u32, dice: &mut Dice) -> ItemDocument {
    let mut shirt = item(number, ["Shirt", "Shirt of linen"][dice.below(2)]);
    shirt.brand = Some(dice.of(&["Lumen", "Glow"]).to_owned());
    shirt.attributes = pairs(&[("Fit", dice.of(&FITS))]);
    if dice.below(4) == 0 {
        shirt.attributes.insert("Colour".to_owned(), dice.of(&COLOURS).to_owned());
    }
    // More than a word of bits holds, now and then.
    let count = if dice.below(20) == 0 { 65 + dice.below(80) } else { dice.below(4) };
    for at in 0..count {
        let (colour, size) =
            if at < 64 && count > 64 { ("Red", "S") } else { (dice.of(&COLOURS), dice.of(&SIZES)) };
        let mut options = pairs(&[("colour", colour), ("Size", size)]);
        if dice.below(6) == 0 {
            options.remove("colour");
        }
        let price = [500, 1_500, 3_000, 30_000][dice.below(4)];
        shirt.variants.push(VariantDocument { sku: format!("{number}-{at}"), options, price });
    }
    shirt
}

/// Whether a buyer would say that it is what was asked for.
fn is_asked_for(item: &ItemDocument, query: &Query) -> bool {
    let brand = query.brand.is_empty() || query.brand.iter().any(|brand| item.brand.as_ref() == Some(brand));
    let none = BTreeMap::new();
    let own = [(&none, item.price)];
    let variants: Vec<_> = match &*item.variants {
        [] => own.to_vec(),
        variants => variants.iter().map(|variant| (&variant.options, variant.price)).collect(),
    };
    let keys: BTreeSet<_> = query.attributes.iter().map(|(key, _)| key.to_lowercase()).collect();
    brand
        && variants.iter().any(|(options, price)| {
            let priced = query.min_price.is_none_or(|low| *price >= low)
                && query.max_price.is_none_or(|high| *price <= high);
            let has = |wanted: &(String, String)| {
                let mut all = item.attributes.iter().chain(*options);
                all.any(|(key, value)| {
                    key.eq_ignore_ascii_case(&wanted.0) && value.eq_ignore_ascii_case(&wanted.1)
                })
            };
            priced
                && keys.iter().all(|key| {
                    query.attributes.iter().any(|wanted| wanted.0.to_lowercase() == *key && has(wanted))
                })
        })
}

fn shirts(seed: u64, count: u32) -> (Vec<ItemDocument>, Market) {
    let mut dice = Dice(seed);
    let items: Vec<_> = (0..count).map(|number| shirt(number, &mut dice)).collect();
    let mut market = Market::new(items.iter().take(items.len() / 2).cloned());
    for item in items.iter().skip(items.len() / 2) {
        market.writer.upsert(item.clone()).unwrap();
    }
    market.writer.commit(2).unwrap();
    (items, market)
}

fn any_query(dice: &mut Dice) -> Query {
    let mut query =
        Query { size: 100, term: (dice.below(2) == 0).then(|| "shirt".to_owned()), ..Query::default() };
    if dice.below(3) == 0 {
        query.brand.push(dice.of(&["Lumen", "Glow"]).to_owned());
    }
    for (key, values) in [("colour", &COLOURS[..]), ("size", &SIZES), ("FIT", &FITS)] {
        for _ in 0..dice.below(3) {
            query.attributes.push((key.to_owned(), dice.of(values).to_uppercase()));
        }
    }
    if dice.below(3) == 0 {
        query.min_price = Some([400, 1_000, 2_000][dice.below(3)]);
        query.max_price = Some([2_000, 4_000, 40_000][dice.below(3)]);
    }
    query
}

#[test]
fn one_variant_meets_all_the_filters() {
    let variant = |sku: &str, size: &str, colour: &str, price| VariantDocument {
        sku: sku.to_owned(),
        options: pairs(&[("size", size), ("colour", colour)]),
        price,
    };
    let mut shirt = item(1, "Shirt");
    shirt.attributes = pairs(&[("fabric", "linen")]);
    shirt.variants = vec![variant("A", "S", "red", 1_000), variant("B", "M", "blue", 2_000)];
    let market = Market::new([shirt]);
    let asked = |attributes: &[(&str, &str)], max_price: Option<i64>, facets: &[&str]| Query {
        attributes: attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        max_price,
        facets: facets.iter().map(|name| (*name).to_owned()).collect(),
        ..Query::default()
    };
    let facets = ["attributes.size", "attributes.colour", "attributes.fabric", "price"];
    let found = |attributes: &[(&str, &str)], max_price| {
        let (plain, counted) = (asked(attributes, max_price, &[]), asked(attributes, max_price, &facets));
        let (plain, counted) = (market.find(&plain), market.find(&counted));
        assert_eq!(plain.total, counted.total, "{attributes:?}");
        (plain.total, plain.hits.first().and_then(|hit| Some(hit.variant.as_ref()?.sku.clone())), counted)
    };
    let b = Some("B".to_owned());
    assert_eq!(found(&[("size", "M"), ("colour", "blue"), ("fabric", "linen")], None).1, b);
    assert_eq!(found(&[("size", "M"), ("colour", "red"), ("colour", "blue")], Some(2_000)).1, b);
    assert_eq!(found(&[("size", "M")], Some(1_000)).0, 0, "the cheap one is another");
    let (total, _, counted) = found(&[("size", "M"), ("colour", "red")], None);
    assert_eq!(total, 0, "the red one is small");
    assert_eq!(facet(&counted, "attributes.size"), counts(&[("S", 1)]), "what there is in red");
    assert_eq!(facet(&counted, "attributes.colour"), counts(&[("blue", 1)]), "what there is in M");
    assert_eq!(facet(&counted, "attributes.fabric"), []);
    let (_, _, counted) = found(&[("size", "M")], None);
    assert_eq!(facet(&counted, "attributes.colour"), counts(&[("blue", 1)]));
    assert_eq!(facet(&counted, "attributes.size"), counts(&[("M", 1), ("S", 1)]));
    assert_eq!(facet(&counted, "price"), counts(&[("1000-2499", 1)]));
}

#[test]
fn filters_find_what_a_buyer_would_and_facets_count_what_they_would_find() {
    let (items, market) = shirts(7, 90);
    let mut dice = Dice(11);
    let mut of_several = 0;
    for _ in 0..200 {
        let query = any_query(&mut dice);
        let expected: BTreeSet<u32> = (0..)
            .zip(&items)
            .filter(|(_, item)| is_asked_for(item, &query))
            .map(|(number, _)| number)
            .collect();
        assert_eq!(market.set(&query), expected, "{query:?}");
        let names = ["brand", "price", "attributes.colour", "attributes.size", "attributes.fit"];
        let asked = Query { facets: names.map(str::to_owned).to_vec(), ..query.clone() };
        let hits = market.find(&asked);
        assert_eq!(market.set(&asked), expected, "{asked:?}");
        for (name, values) in &hits.facets {
            for found in values {
                let mut narrowed = query.clone();
                match name.as_str() {
                    "brand" => narrowed.brand = vec![found.value.clone()],
                    "price" => {
                        let (low, high) = found.value.split_once('-').unwrap();
                        narrowed.min_price = low.parse().ok();
                        narrowed.max_price = high.parse().ok();
                    }
                    _ => {
                        let key = name.strip_prefix("attributes.").unwrap();
                        narrowed.attributes.retain(|(of, _)| !of.eq_ignore_ascii_case(key));
                        narrowed.attributes.push((key.to_owned(), found.value.clone()));
                    }
                }
                let expected = items.iter().filter(|item| is_asked_for(item, &narrowed)).count();
                assert_eq!(found.count, expected as u64, "{name} {} of {query:?}", found.value);
            }
            // And what is not counted is not found.
            if let Some(key) = name.strip_prefix("attributes.") {
                for value in COLOURS.iter().chain(&SIZES).chain(&FITS) {
                    let mut narrowed = query.clone();
                    narrowed.attributes.retain(|(of, _)| !of.eq_ignore_ascii_case(key));
                    narrowed.attributes.push((key.to_owned(), (*value).to_owned()));
                    let counted = values.iter().any(|found| found.value == *value);
                    assert_eq!(
                        counted,
                        items.iter().any(|item| is_asked_for(item, &narrowed)),
                        "{narrowed:?}"
                    );
                }
            }
        }
        of_several += usize::from(query.attributes.len() > 1 && !expected.is_empty());
    }
    assert!(of_several > 25, "{of_several}");
    // The same where the best are found by score.
    let (items, market) = shirts(13, 1_400);
    for colour in COLOURS {
        let attributes = vec![("colour".to_owned(), colour.to_owned()), ("size".to_owned(), "M".to_owned())];
        let mut query = Query { attributes, size: 100, ..term("shirt") };
        let expected: BTreeSet<u32> = (0..)
            .zip(&items)
            .filter(|(_, item)| is_asked_for(item, &query))
            .map(|(number, _)| number)
            .collect();
        let mut found = BTreeSet::new();
        loop {
            found.extend(market.numbers(&query));
            query.cursor = market.find(&query).next_cursor;
            if query.cursor.is_none() {
                break;
            }
        }
        assert!(expected.len() > 200 && found == expected, "{colour}: {} of {}", found.len(), expected.len());
    }
}

#[test]
fn an_index_is_ready_once_it_is_whole_and_stays_so() {
    let Market { directory, index, mut writer } = Market::new([item(1, "Lamp")]);
    assert!(!index.is_ready(), "there may be more to come");
    drop((index, writer));
    let index = reopen(directory.path());
    assert_eq!((index.position(), index.is_ready()), (Some(1), false), "a crash does not make it whole");
    writer = index.writer().unwrap();
    writer.commit_whole(Some(2)).unwrap();
    assert!(index.is_ready());
    writer.commit(3).unwrap();
    drop((index, writer));
    assert!(reopen(directory.path()).is_ready());
    // Of nothing nothing is missing.
    let empty = tempfile::tempdir().unwrap();
    let index = reopen(empty.path());
    index.writer().unwrap().commit_whole(None).unwrap();
    assert!(index.is_ready());
}

#[test]
fn an_index_of_an_earlier_format_answers_until_the_new_one_is_whole() {
    let Market { directory, index, mut writer } =
        Market::new([lamp(1, "Lumen", "Red"), lamp(2, "Glow", "Red")]);
    writer.commit_whole(Some(7)).unwrap();
    drop((index, writer));
    let now = place(directory.path());
    let before = now.with_file_name("index");
    fs::rename(&now, &before).unwrap();
    let meta = fs::read_to_string(before.join("meta.json")).unwrap();
    // Formats before the fourth did not say whether they were whole.
    let meta = meta.replace("format\\\":4", "format\\\":3").replace(",\\\"whole\\\":true", "");
    assert!(meta.contains("{\\\"format\\\":3,\\\"position\\\":7}"), "{meta}");
    fs::write(before.join("meta.json"), meta).unwrap();

    let query = Query { brand: vec!["Lumen".to_owned()], facets: vec!["brand".to_owned()], ..term("lamp") };
    let looks_as_ever = |index: &Arc<SearchIndex>| {
        let hits = index.search(&query).unwrap();
        assert_eq!((hits.total, index.len(), index.suggest("lum", 5).len()), (1, 2, 1));
        assert_eq!(facet(&hits, "brand"), counts(&[("Glow", 1), ("Lumen", 1)]));
        assert!(index.is_ready());
    };
    let index = reopen(directory.path());
    assert_eq!((index.origin(), index.position(), index.shown_position()), (&Origin::Beside, None, Some(7)));
    looks_as_ever(&index);
    let mut writer = index.writer().unwrap();
    writer.upsert(lamp(1, "Lumen", "Red")).unwrap();
    writer.commit(3).unwrap();
    looks_as_ever(&index);
    assert!(!index.is_whole());
    // A crash in the middle.
    drop((index, writer));
    let index = reopen(directory.path());
    assert_eq!((index.position(), index.shown_position()), (Some(3), Some(7)));
    looks_as_ever(&index);
    let mut writer = index.writer().unwrap();
    writer.upsert(lamp(2, "Glow", "Red")).unwrap();
    writer.upsert(lamp(3, "Glow", "Red")).unwrap();
    writer.commit_whole(Some(9)).unwrap();
    assert!(index.is_whole() && index.shown_position() == Some(9) && index.len() == 3 && !before.exists());
    drop((index, writer));
    let index = reopen(directory.path());
    assert_eq!((index.origin(), index.len(), index.is_ready()), (&Origin::Opened, 3, true));
}
