//! The index on the real catalogue of 19,406 electronics products. The data is not part of the project: it is looked for in
//! `SOUK_DATA_DIR`, else in `../shared/data` beside the repository, and the tests say so and pass where it is missing.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use flate2::read::GzDecoder;
use serde::Deserialize;
use souk_search::{Config, IndexWriter, ItemDocument, Query, SearchIndex, Sort};
use uuid::Uuid;

#[derive(Deserialize)]
struct Product {
    id: String,
    title: String,
    name: Option<String>,
    description: Option<String>,
    brand: Option<String>,
    price_minor: Option<i64>,
    currency: Option<String>,
    released: Option<DateTime<Utc>>,
    image: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, serde_json::Value>,
}

fn data_file(name: &str) -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let directory = std::env::var_os("SOUK_DATA_DIR").map_or(beside, PathBuf::from);
    let file = directory.join(name);
    if !file.exists() {
        eprintln!("SKIPPED: {} is not there (set SOUK_DATA_DIR)", file.display());
        return None;
    }
    Some(file)
}

fn item_id(product_id: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, product_id.as_bytes())
}

fn sku_id(item_id: Uuid) -> Uuid {
    Uuid::new_v5(&item_id, b"sku")
}

fn document(product: Product) -> ItemDocument {
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => text,
        other => other.to_string(),
    };
    ItemDocument {
        item_id: item_id(&product.id),
        seller_id: Uuid::from_u128(1),
        sku: product.name.unwrap_or_else(|| product.id.clone()),
        name: product.title,
        description: product.description.unwrap_or_default(),
        brand: product.brand,
        category: Vec::new(),
        tags: Vec::new(),
        attributes: product.attributes.into_iter().map(|(key, value)| (key, text(value))).collect(),
        price: product.price_minor.unwrap_or(0),
        currency: product.currency.unwrap_or_else(|| "USD".to_owned()),
        image: product.image,
        listed_at: product.released.unwrap_or(DateTime::UNIX_EPOCH),
        rating: None,
        skus: vec![sku_id(item_id(&product.id))],
        variants: Vec::new(),
    }
}

struct Catalogue {
    index: Arc<SearchIndex>,
    writer: IndexWriter,
    products: u64,
    _directory: tempfile::TempDir,
}

fn catalogue() -> Option<Catalogue> {
    let file = data_file("icecat-products.ndjson.gz")?;
    let directory = tempfile::tempdir().unwrap();
    let index = SearchIndex::open(directory.path(), Config::default()).unwrap();
    let mut writer = index.writer().unwrap();
    let mut products = 0;
    for line in BufReader::new(GzDecoder::new(File::open(file).unwrap())).lines() {
        writer.upsert(document(serde_json::from_str(&line.unwrap()).unwrap())).unwrap();
        products += 1;
        // Several commits, so that there are several segments and merges.
        if products % 4_000 == 0 {
            writer.commit(products).unwrap();
        }
    }
    writer.commit(products).unwrap();
    Some(Catalogue { index, writer, products, _directory: directory })
}

fn term(term: &str) -> Query {
    Query { term: Some(term.to_owned()), ..Query::default() }
}

/// One test, since filling the index is what takes time.
#[test]
fn the_real_catalogue_is_searchable() {
    let Some(mut catalogue) = catalogue() else { return };
    assert_eq!(catalogue.products, 19_406);
    assert_eq!(catalogue.index.len(), 19_406);
    assert_eq!(catalogue.index.position(), Some(19_406));

    laptops_are_found(&catalogue.index);
    brand_counts_add_up(&catalogue.index);
    filters_narrow(&catalogue.index);
    stock_needs_no_commit(&catalogue.index);
    pages_are_whole_while_items_are_written(&mut catalogue);
    relevance_holds(&catalogue.index);
}

fn laptops_are_found(index: &SearchIndex) {
    let found = index.search(&term("laptop")).unwrap();
    assert!(found.total > 100, "{} laptops", found.total);
    let named = |name: &str| {
        let name = name.to_lowercase();
        ["laptop", "notebook"].iter().any(|word| name.contains(word))
    };
    let laptops = found.hits.iter().filter(|hit| named(&hit.name)).count();
    assert_eq!(laptops, found.hits.len(), "{:#?}", found.hits);
    assert!(found.hits.iter().all(|hit| hit.highlight.as_ref().is_some_and(|html| html.contains("<em>"))));
    let suggested = index.suggest("lap", 10);
    assert!(
        suggested.iter().all(|suggestion| suggestion.text.to_lowercase().contains("lap")),
        "{suggested:?}"
    );
}

fn brand_counts_add_up(index: &SearchIndex) {
    let facets = vec!["brand".to_owned()];
    let found = index.search(&Query { facets: facets.clone(), ..term("toner cartridge black") }).unwrap();
    let brands = &found.facets["brand"];
    let sum: u64 = brands.iter().map(|brand| brand.count).sum();
    // Every product of the catalogue has a brand.
    assert_eq!(sum, found.total as u64);
    for brand in brands.iter().take(5) {
        let one = Query {
            brand: vec![brand.value.clone()],
            facets: facets.clone(),
            ..term("toner cartridge black")
        };
        let of_brand = index.search(&one).unwrap();
        assert_eq!(of_brand.total as u64, brand.count);
        assert_eq!(&of_brand.facets["brand"], brands, "its own filter does not change the facet");
    }
}

fn filters_narrow(index: &SearchIndex) {
    let query = Query {
        brand: vec!["hp".to_owned()],
        min_price: Some(10_000),
        max_price: Some(50_000),
        attributes: vec![("product_colour".to_owned(), "black".to_owned())],
        size: 100,
        ..Query::default()
    };
    let found = index.search(&query).unwrap();
    assert!(found.total > 10, "{}", found.total);
    for hit in &found.hits {
        assert_eq!(hit.brand.as_deref(), Some("HP"));
        assert!((10_000..=50_000).contains(&hit.price));
    }
    let cheaper = index.search(&Query { max_price: Some(30_000), ..query.clone() }).unwrap();
    let dearer = index.search(&Query { min_price: Some(30_001), ..query }).unwrap();
    assert_eq!(cheaper.total + dearer.total, found.total);
}

fn stock_needs_no_commit(index: &SearchIndex) {
    let in_stock = Query { in_stock: Some(true), ..term("laptop") };
    assert_eq!(index.search(&in_stock).unwrap().total, 0);
    let some = index.search(&term("laptop")).unwrap().hits.remove(3).item_id;
    let position = index.position();
    let sku = sku_id(some);
    index.availability().set(sku, 1);
    let found = index.search(&in_stock).unwrap();
    assert_eq!((found.total, found.hits[0].item_id), (1, some));
    index.availability().set(sku, 0);
    assert_eq!(index.search(&in_stock).unwrap().total, 0);
    assert_eq!(index.position(), position);
}

fn pages_are_whole_while_items_are_written(catalogue: &mut Catalogue) {
    for sort in [Sort::Price, Sort::PriceDesc, Sort::Relevance] {
        let mut query = Query { sort, size: 100, ..term("notebook intel") };
        let total = catalogue.index.search(&query).unwrap().total;
        let (mut seen, mut prices, mut position) = (HashSet::new(), Vec::new(), catalogue.products);
        loop {
            let page = catalogue.index.search(&query).unwrap();
            for hit in &page.hits {
                assert!(seen.insert(hit.item_id), "{sort:?}: {} came twice", hit.name);
                prices.push(hit.price);
            }
            // What was just shown is written again, as it is.
            for hit in page.hits.iter().step_by(7) {
                let same = catalogue.index.get(hit.item_id).unwrap().unwrap();
                catalogue.writer.upsert(same).unwrap();
            }
            position += 1;
            catalogue.writer.commit(position).unwrap();
            match page.next_cursor {
                Some(next) => query.cursor = Some(next),
                None => break,
            }
        }
        assert_eq!(seen.len(), total, "{sort:?}");
        assert!(total > 200, "{total}: no more than the second phase looks at");
        match sort {
            Sort::Price => assert!(prices.is_sorted()),
            Sort::PriceDesc => assert!(prices.iter().rev().is_sorted()),
            _ => {}
        }
    }
}

/// What people judged, over the queries there is a file for: unjudged products count as useless.
fn relevance_holds(index: &SearchIndex) {
    let Some(file) = data_file("icecat-judgements-tune.tsv") else { return };
    let mut grades: BTreeMap<String, HashMap<Uuid, f64>> = BTreeMap::new();
    for line in BufReader::new(File::open(file).unwrap()).lines().skip(1) {
        let line = line.unwrap();
        let [query, product, grade] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        grades.entry(query.to_owned()).or_default().insert(item_id(product), grade.parse().unwrap());
    }
    // Nothing can be said of a query that nobody found anything good for.
    grades.retain(|_, judged| judged.values().any(|grade| *grade > 0.0));
    let gain = |grade: f64, rank: usize| (2_f64.powf(grade) - 1.0) / (rank as f64 + 2.0).log2();
    let mut sum = 0.0;
    for (query, judged) in &grades {
        let found = index.search(&Query { size: 10, ..term(query) }).unwrap();
        let grade_of = |id: &Uuid| judged.get(id).copied().unwrap_or(0.0);
        let gained: f64 =
            found.hits.iter().enumerate().map(|(rank, hit)| gain(grade_of(&hit.item_id), rank)).sum();
        let mut best: Vec<f64> = judged.values().copied().collect();
        best.sort_by(|a, b| b.total_cmp(a));
        let ideal: f64 = best.iter().take(10).enumerate().map(|(rank, grade)| gain(*grade, rank)).sum();
        let ndcg = gained / ideal;
        if std::env::var_os("SOUK_SHOW_QUERIES").is_some() {
            eprintln!("{ndcg:.3}\t{query}\t{}", found.total);
        }
        sum += ndcg;
    }
    let mean = sum / grades.len() as f64;
    eprintln!("NDCG@10 over {} queries: {mean:.4}", grades.len());
    assert!(mean > 0.75, "NDCG@10 is {mean:.4}");
}
