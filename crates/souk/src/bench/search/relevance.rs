//! NDCG@10 of Souk and of what a default Elasticsearch would find, through the index as it is served.

use std::path::Path;

use anyhow::Context;
use serde::Serialize;
use souk_search::{
    Config, SearchIndex,
    evaluation::{Baseline, Judgements, Relevance, products},
};

use super::super::target::place;
use crate::progress::{Progress, grouped};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    measure: &'static str,
    products: u64,
    queries: usize,
    souk: f64,
    baseline: f64,
    ratio: f64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    by_query: Vec<OfQuery>,
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct OfQuery {
    query: String,
    souk: f64,
    baseline: f64,
}

pub(super) fn run(judgements: &Path, catalogue: &Path, by_query: bool, json: bool) -> anyhow::Result<()> {
    let judgements = Judgements::read(judgements)?;
    let folder = tempfile::Builder::new().prefix("souk-bench-").tempdir_in(place())?;
    let index = SearchIndex::open(folder.path(), Config::default()).context("the index")?;
    let mut writer = index.writer()?;
    let mut baseline = Baseline::new()?;
    let progress = Progress::new("products indexed", 0);
    let mut count = 0;
    for product in products(catalogue)? {
        let product = product?;
        baseline.add(&product)?;
        writer.upsert(product)?;
        count += 1;
        progress.add(1);
    }
    writer.commit(count)?;
    baseline.finish()?;
    progress.finish();
    let souk = judgements.rate(|query| index.best(query, 10))?;
    let other = judgements.rate(|query| baseline.search(query, 10))?;
    let report = Report {
        bench: "search",
        measure: "NDCG@10, gain 2^grade - 1, discount log2(rank + 1), unjudged 0",
        products: count,
        queries: judgements.len(),
        souk: souk.mean,
        baseline: other.mean,
        ratio: souk.mean / other.mean,
        by_query: if by_query { pairs(souk, other) } else { Vec::new() },
        version: env!("CARGO_PKG_VERSION"),
    };
    report.print(json)
}

/// The worst first.
fn pairs(souk: Relevance, other: Relevance) -> Vec<OfQuery> {
    let pairs = souk.queries.into_iter().zip(other.queries);
    let mut pairs: Vec<OfQuery> = pairs
        .map(|(souk, other)| OfQuery { query: souk.query, souk: souk.ndcg, baseline: other.ndcg })
        .collect();
    pairs.sort_by(|a, b| a.souk.total_cmp(&b.souk));
    pairs
}

impl Report {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        println!(
            "{} products, {} queries that something good is known for",
            grouped(self.products),
            self.queries
        );
        println!("{}", self.measure);
        println!();
        println!("{:<44}{:>8}", "", "NDCG@10");
        println!("{:<44}{:>8.4}", format!("souk {}", self.version), self.souk);
        println!("{:<44}{:>8.4}", "as a default Elasticsearch scores", self.baseline);
        println!("{:<44}{:>8.3}", "ratio", self.ratio);
        if !self.by_query.is_empty() {
            println!();
            println!("{:<44}{:>8}{:>12}", "query", "souk", "baseline");
        }
        for OfQuery { query, souk, baseline } in &self.by_query {
            println!("{query:<44}{souk:>8.3}{baseline:>12.3}");
        }
        Ok(())
    }
}
