//! `souk bench search`: how good the hits are, by what people judged; or how fast they come, from a server of its own on an
//! index made for it.

mod catalogue;
mod freshness;
mod relevance;
mod shop;
mod speed;

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use clap::Args;

use crate::config::duration;

#[derive(Clone, Debug, Args)]
pub(crate) struct SearchArgs {
    /// Products, one JSON object a line, plain or .gz: to be found, or to make more of
    #[arg(long, env = "SOUK_BENCH_PRODUCTS", value_name = "FILE")]
    products: Option<PathBuf>,
    /// Measures relevance: lines of query, product id and grade, apart by tabs, below a line of their names
    #[arg(
        long,
        env = "SOUK_BENCH_JUDGEMENTS",
        value_name = "FILE",
        requires = "products",
        conflicts_with = "items"
    )]
    judgements: Option<PathBuf>,
    /// Lists each query as well
    #[arg(long, env = "SOUK_BENCH_QUERIES", requires = "judgements")]
    queries: bool,
    /// Measures speed, over so many items: the products with words of theirs changed for others, or, without a file, made up
    #[arg(long, env = "SOUK_BENCH_ITEMS", value_name = "N")]
    items: Option<usize>,
    /// Searches offered per second where latency is measured
    #[arg(long, env = "SOUK_BENCH_RATE", value_name = "N", default_value_t = 200.0)]
    rate: f64,
    /// Items listed per second where it is measured how soon one is found
    #[arg(long, env = "SOUK_BENCH_LIST_RATE", value_name = "N", default_value_t = 500.0)]
    list_rate: f64,
    /// Clients of the closed loop
    #[arg(long, env = "SOUK_BENCH_CLIENTS", value_name = "N", default_value_t = 8)]
    clients: usize,
    /// How long each measurement takes
    #[arg(long, env = "SOUK_BENCH_DURATION", value_name = "TIME", default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// One JSON object instead of a table
    #[arg(long, env = "SOUK_JSON")]
    json: bool,
}

pub(crate) async fn run(args: SearchArgs) -> anyhow::Result<()> {
    match (&args.judgements, &args.products, args.items) {
        (Some(judgements), Some(products), None) => {
            let (judgements, products) = (judgements.clone(), products.clone());
            tokio::task::spawn_blocking(move || {
                relevance::run(&judgements, &products, args.queries, args.json)
            })
            .await?
        }
        (None, _, Some(items)) if items > 0 => speed::run(items, &args).await,
        _ => bail!("give --judgements FILE and --products FILE for relevance, or --items N for speed"),
    }
}
