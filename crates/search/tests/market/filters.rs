//! What is found: words, filters, facets, stock.

use std::collections::BTreeSet;

use souk_search::{ItemDocument, Query, SearchError, VariantDocument};

use crate::{Market, counts, facet, id, item, lamp, pairs, sku_id, term};

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
