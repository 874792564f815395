//! Completions of what is typed.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use souk_search::{FoundQuery, ItemDocument, SuggestedFacet, SuggestionKind};

use crate::{Market, id, item, lamp, sku_id};

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
