//! `souk bench recommendations`: recall@10 on a real shop's invoices, split by time, beside that of the most popular items.
//! What is asked is said in [`souk_recommendations::evaluation`].

use std::path::{Path, PathBuf};

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use souk_recommendations::{
    Book, Purchase,
    evaluation::{self, Learning, Recall},
};

use super::target::place;
use crate::{
    import::invoices,
    progress::{Progress, grouped},
};

#[derive(Clone, Debug, Args)]
pub(crate) struct RecommendationsArgs {
    /// Invoices as `souk import invoices` takes them, plain or .gz
    #[arg(long, env = "SOUK_BENCH_INVOICES", value_name = "FILE")]
    invoices: PathBuf,
    /// The part of their time that is only learnt from
    #[arg(long, env = "SOUK_BENCH_LEARNT", value_name = "SHARE", default_value_t = 0.8)]
    learnt: f64,
    /// One JSON object instead of a table
    #[arg(long, env = "SOUK_JSON")]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    measure: &'static str,
    orders_learnt: usize,
    orders_asked: usize,
    /// What is asked about is learnt then, as a shop does.
    learning: Answers,
    /// Nothing is learnt after the split.
    frozen: Answers,
    version: &'static str,
}

#[derive(Debug, Serialize)]
struct Answers {
    related: Answer,
    cart: Answer,
    home: Answer,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    questions: usize,
    souk: f64,
    most_popular: f64,
    most_popular_lately: f64,
    /// To the most popular.
    ratio: f64,
}

pub(crate) async fn run(args: RecommendationsArgs) -> anyhow::Result<()> {
    ensure!((0.0..1.0).contains(&args.learnt), "--learnt is a share, 0.8 for instance");
    tokio::task::spawn_blocking(move || measure(&args)).await?
}

fn measure(args: &RecommendationsArgs) -> anyhow::Result<()> {
    let purchases = invoices::purchases(&args.invoices)?;
    let folder = tempfile::Builder::new().prefix("souk-bench-").tempdir_in(place())?;
    let (learning, learnt, asked) = ask(folder.path(), &purchases, args.learnt, Learning::GoesOn)?;
    let (frozen, _, _) = ask(folder.path(), &purchases, args.learnt, Learning::Stops)?;
    let report = Report {
        bench: "recommendations",
        measure: "recall@10, mean over all questions; what is not among all items learnt from counts as not found",
        orders_learnt: learnt,
        orders_asked: asked,
        learning,
        frozen,
        version: env!("CARGO_PKG_VERSION"),
    };
    report.print(args.json)
}

fn ask(
    folder: &Path,
    purchases: &[Purchase],
    share: f64,
    learning: Learning,
) -> anyhow::Result<(Answers, usize, usize)> {
    let book = Book::open(&folder.join(format!("{learning:?}")))?;
    let progress = Progress::new("orders", purchases.len() as u64);
    let found = evaluation::recall(&book, purchases, share, learning, |n| progress.set(n as u64))?;
    progress.finish();
    let answers = Answers { related: found.related.into(), cart: found.cart.into(), home: found.home.into() };
    Ok((answers, found.learnt, found.asked))
}

impl From<Recall> for Answer {
    fn from(recall: Recall) -> Self {
        Self {
            questions: recall.questions,
            souk: recall.souk,
            most_popular: recall.popular,
            most_popular_lately: recall.popular_lately,
            ratio: recall.souk / recall.popular,
        }
    }
}

impl Report {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        println!(
            "souk {}: {} orders learnt, {} of later asked about",
            self.version,
            grouped(self.orders_learnt as u64),
            grouped(self.orders_asked as u64)
        );
        println!("{}", self.measure);
        for (title, answers) in
            [("learning goes on", &self.learning), ("nothing is learnt after the split", &self.frozen)]
        {
            println!();
            println!("{title:<36}{:>9}{:>9}{:>9}{:>9}{:>8}", "asked", "souk", "popular", "lately", "ratio");
            for (question, answer) in [
                ("of one item, the others of an order", &answers.related),
                ("of all but one, that one", &answers.cart),
                ("of a buyer, what is new in his order", &answers.home),
            ] {
                println!(
                    "{question:<36}{:>9}{:>9.4}{:>9.4}{:>9.4}{:>8.2}",
                    answer.questions,
                    answer.souk,
                    answer.most_popular,
                    answer.most_popular_lately,
                    answer.ratio
                );
            }
        }
        Ok(())
    }
}
