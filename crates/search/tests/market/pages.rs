//! In what order, page by page, and what a hit shows.

use std::collections::{BTreeMap, BTreeSet};

use souk_search::{ItemDocument, Query, SearchError, Sort, VariantDocument};

use crate::{Market, counts, facet, id, item, lamp, pairs, reopen, term};

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
