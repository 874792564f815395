//! The index on the real catalogue of 19,406 electronics products. The data is not part of the project: it is looked for in
//! `SOUK_DATA_DIR`, else in `../shared/data` beside the repository, and the tests say so and pass where it is missing.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use souk_search::evaluation::{Baseline, Judgements, products};
use souk_search::{Config, IndexWriter, Query, SearchIndex, Sort};

const PRODUCTS: &str = "icecat-products.ndjson.gz";
const JUDGEMENTS: &str = "icecat-judgements-tune.tsv";

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

struct Catalogue {
    index: Arc<SearchIndex>,
    writer: IndexWriter,
    products: u64,
    _directory: tempfile::TempDir,
}

fn catalogue() -> Option<Catalogue> {
    let file = data_file(PRODUCTS)?;
    let directory = tempfile::tempdir().unwrap();
    let index = SearchIndex::open(directory.path(), Config::default()).unwrap();
    let mut writer = index.writer().unwrap();
    let mut count = 0;
    for product in products(&file).unwrap() {
        writer.upsert(product.unwrap()).unwrap();
        count += 1;
        // Several commits, so that there are several segments and merges.
        if count % 4_000 == 0 {
            writer.commit(count).unwrap();
        }
    }
    writer.commit(count).unwrap();
    Some(Catalogue { index, writer, products: count, _directory: directory })
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
    let sku = index.get(some).unwrap().unwrap().skus[0];
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

/// What people judged, beside what a default Elasticsearch would find; see `docs/performance.md` for the figures.
fn relevance_holds(index: &SearchIndex) {
    let (Some(judged), Some(catalogue)) = (data_file(JUDGEMENTS), data_file(PRODUCTS)) else { return };
    let judgements = Judgements::read(&judged).unwrap();
    let souk = judgements.rate(|query| index.best(query, 10)).unwrap();
    let mut baseline = Baseline::new().unwrap();
    for product in products(&catalogue).unwrap() {
        baseline.add(&product.unwrap()).unwrap();
    }
    baseline.finish().unwrap();
    let other = judgements.rate(|query| baseline.search(query, 10)).unwrap();
    eprintln!("NDCG@10 over {} queries: {:.4}, baseline {:.4}", judgements.len(), souk.mean, other.mean);
    assert!(souk.mean > 0.79, "NDCG@10 is {:.4}", souk.mean);
    assert!(souk.mean > 1.12 * other.mean, "{:.4} beside {:.4}", souk.mean, other.mean);
}
