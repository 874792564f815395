//! Filters that one variant has to meet, checked against a plain reading of what a buyer means.

use std::collections::{BTreeMap, BTreeSet};

use souk_search::{ItemDocument, Query, VariantDocument};

use crate::{Market, counts, facet, item, pairs, term};

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
