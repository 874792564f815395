//! How fast a log becomes an index, and how fast searches are answered over HTTP, with twenty hits and three facets, by a
//! server of its own: in a closed loop, at a rate, and with a misspelt word; suggestions at that rate; beside the same
//! question asked of bare Tantivy in this process.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::ensure;
use hdrhistogram::Histogram;
use serde::Serialize;
use souk_search::{Query, SearchIndex};
use tokio::{runtime::Handle, task::JoinSet, time::sleep};

use super::{
    super::{
        market::caught_up,
        report::{Conditions, Latency, histogram, record},
        target::Target,
    },
    SearchArgs,
    catalogue::Catalogue,
    freshness::listed_to_found,
    shop,
};
use crate::{client::Client, data_dir::DataDir, proc, progress::grouped};

const FACETS: [&str; 3] = ["brand", "category", "price"];
const SIZE: usize = 20;
const TERMS: usize = 1_000;
/// Searches in this process, one after another, for the comparison.
const ALONE: usize = 500;
/// A million items take minutes.
const VIEWS_OF_ALL: Duration = Duration::from_hours(1);

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    bench: &'static str,
    items: u64,
    /// From the log, merges included, with nothing beside.
    indexed_per_second: f64,
    index_bytes: u64,
    start_to_first_answer_seconds: f64,
    closed_loop: Load,
    open_loop: Load,
    one_word_misspelt: Load,
    /// Beginnings of the same words, one of four misspelt.
    suggestions: Load,
    /// Items listed, `perSecond` of them; from when that was due until a search found one.
    listed_to_found: Load,
    gathering: Gathering,
    alone: Alone,
    /// Without the mapped index, which the system may take back.
    souk_memory_bytes: Option<u64>,
    conditions: Conditions,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Load {
    /// Offered per second; none of a closed loop.
    pub(super) rate: Option<f64>,
    pub(super) clients: Option<usize>,
    pub(super) per_second: f64,
    pub(super) failed: u64,
    /// Milliseconds; at a rate from when the search was due.
    pub(super) latency_ms: Latency,
}

/// What is popular, in this process.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Gathering {
    seconds: f64,
    bytes: usize,
}

/// The same searches one after another, in milliseconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alone {
    bare_tantivy_ms: Latency,
    in_process_ms: Latency,
    http_ms: Latency,
    in_process_to_bare_mean: f64,
    http_to_bare_mean: f64,
}

pub(super) async fn run(items: usize, args: &SearchArgs) -> anyhow::Result<()> {
    let catalogue = Arc::new(Catalogue::open(args.products.as_deref())?);
    let terms = catalogue.terms(TERMS);
    ensure!(!terms.is_empty(), "no product has two words to search for");
    let folder = Target::folder()?;
    let data = DataDir::new(&folder.path().join("data"));
    data.create()?;
    shop::list(&data, &catalogue, items).await?;
    let (index, took) = shop::index(&data, items).await?;
    let indexed_per_second = items as f64 / took.as_secs_f64();
    let measured = tokio::task::spawn_blocking({
        let terms = terms.clone();
        move || measure_here(&index, &terms)
    });
    let Here { bare, in_process, gathering } = measured.await??;
    let index_bytes = size_of(&data.search())?;

    // The first start makes the database, and views that are not measured here.
    let target = Target::start_in(folder).await?;
    let views = caught_up(&Client::new(&target.url)?, Instant::now(), VIEWS_OF_ALL).await?;
    ensure!(views.is_some(), "the views did not follow within {VIEWS_OF_ALL:?}");
    let folder = target.stop_and_keep().await?;
    let began = Instant::now();
    let target = Target::start_in(folder).await?;
    first_answer(&target, &terms[0].0).await?;
    let start = began.elapsed().as_secs_f64();

    let right: Arc<[String]> = terms.iter().map(|(right, _)| url(&target, right)).collect();
    let wrong: Arc<[String]> = terms.iter().map(|(_, wrong)| url(&target, wrong)).collect();
    let http =
        reqwest::Client::builder().no_proxy().tcp_nodelay(true).pool_max_idle_per_host(1_000).build()?;
    let (_, alone) = closed(&http, &right, 1, Some(ALONE), args.duration * 10).await?;
    let (closed_loop, _) = closed(&http, &right, args.clients, None, args.duration).await?;
    let open_loop = open(&http, &right, args.rate, args.duration).await?;
    let misspelt = open(&http, &wrong, args.rate, args.duration).await?;
    // Not before these: the server has gathered by now what is popular.
    let typed: Arc<[String]> = prefixes(&terms).map(|prefix| suggest_url(&target, &prefix)).collect();
    let suggestions = open(&http, &typed, args.rate, args.duration).await?;
    let listed = (args.list_rate * args.duration.as_secs_f64()) as usize;
    let new_items = (items..items + listed).map(|number| catalogue.item(number));
    let listed_to_found = listed_to_found(&target, &http, args.list_rate, new_items).await?;
    let memory = target.pid.and_then(proc::Usage::of).map(|usage| usage.anonymous_bytes);

    let report = Report {
        bench: "search",
        items: items as u64,
        indexed_per_second,
        index_bytes,
        start_to_first_answer_seconds: start,
        closed_loop,
        open_loop,
        one_word_misspelt: misspelt,
        suggestions,
        listed_to_found,
        gathering,
        alone: Alone {
            bare_tantivy_ms: Latency::of(&bare),
            in_process_ms: Latency::of(&in_process),
            http_ms: Latency::of(&alone),
            in_process_to_bare_mean: in_process.mean() / bare.mean(),
            http_to_bare_mean: alone.mean() / bare.mean(),
        },
        souk_memory_bytes: memory,
        conditions: Conditions::of_this_machine(
            target.data.as_ref().map(DataDir::path),
            "a server of its own".to_owned(),
        ),
    };
    target.stop().await?;
    report.print(args.json)
}

struct Here {
    bare: Histogram<u64>,
    in_process: Histogram<u64>,
    gathering: Gathering,
}

/// Searches in this process, before a server does.
fn measure_here(index: &SearchIndex, terms: &[(String, String)]) -> anyhow::Result<Here> {
    let (mut bare, mut in_process) = (histogram(), histogram());
    let queries = || terms.iter().cycle().take(ALONE).map(|(term, _)| term);
    // Once unmeasured, so that both find the index in memory.
    for warm in [true, false] {
        for term in queries() {
            let began = Instant::now();
            index.search_bare(term, SIZE)?;
            if !warm {
                record(&mut bare, began.elapsed());
            }
        }
        for term in queries() {
            let query = Query {
                term: Some(term.clone()),
                facets: FACETS.map(str::to_owned).to_vec(),
                size: SIZE,
                ..Query::default()
            };
            let began = Instant::now();
            index.search(&query)?;
            if !warm {
                record(&mut in_process, began.elapsed());
            }
        }
    }
    let began = Instant::now();
    let bytes = index.gather_suggestions(&[])?;
    let gathering = Gathering { seconds: began.elapsed().as_secs_f64(), bytes };
    Ok(Here { bare, in_process, gathering })
}

fn size_of(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size_of(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// What is typed on the way to the terms: three letters or more, in one of four with letters exchanged.
fn prefixes(terms: &[(String, String)]) -> impl Iterator<Item = String> {
    terms.iter().enumerate().map(|(number, (right, wrong))| {
        let (term, letters) = if number % 4 == 3 { (wrong, 7 + number % 5) } else { (right, 3 + number % 6) };
        term.chars().take(letters).collect()
    })
}

fn suggest_url(target: &Target, prefix: &str) -> String {
    format!("{}/v1/suggestions?prefix={}", target.url, escaped(prefix))
}

fn escaped(text: &str) -> percent_encoding::PercentEncode<'_> {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
}

fn url(target: &Target, term: &str) -> String {
    let term = escaped(term);
    format!("{}/v1/items?term={term}&size={SIZE}&facets={}", target.url, FACETS.join(","))
}

/// Waits until a search is answered.
async fn first_answer(target: &Target, term: &str) -> anyhow::Result<()> {
    let http = reqwest::Client::builder().no_proxy().build()?;
    let (url, began) = (url(target, term), Instant::now());
    while began.elapsed() < Duration::from_mins(5) {
        if http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        sleep(Duration::from_millis(5)).await;
    }
    anyhow::bail!("no search was answered")
}

async fn ask(http: &reqwest::Client, url: &str) -> bool {
    match http.get(url).send().await {
        Ok(answer) if answer.status().is_success() => answer.bytes().await.is_ok(),
        _ => false,
    }
}

/// Clients who each wait for an answer before they ask again, for a time or so many searches.
async fn closed(
    http: &reqwest::Client,
    urls: &Arc<[String]>,
    clients: usize,
    most: Option<usize>,
    duration: Duration,
) -> anyhow::Result<(Load, Histogram<u64>)> {
    let (began, asked) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let (http, urls, asked) = (http.clone(), Arc::clone(urls), Arc::clone(&asked));
        tasks.spawn(async move {
            let (mut took, mut failed) = (histogram(), 0);
            while began.elapsed() < duration {
                let number = asked.fetch_add(1, Ordering::Relaxed);
                if most.is_some_and(|most| number >= most) {
                    break;
                }
                let since = Instant::now();
                if ask(&http, &urls[number % urls.len()]).await {
                    record(&mut took, since.elapsed());
                } else {
                    failed += 1;
                }
            }
            (took, failed)
        });
    }
    let (mut took, mut failed) = (histogram(), 0);
    while let Some(done) = tasks.join_next().await {
        let (of_client, failed_there): (Histogram<u64>, u64) = done?;
        took.add(of_client)?;
        failed += failed_there;
    }
    let per_second = took.len() as f64 / began.elapsed().as_secs_f64();
    let load =
        Load { rate: None, clients: Some(clients), per_second, failed, latency_ms: Latency::of(&took) };
    Ok((load, took))
}

/// Searches that are due at even distances, whether those before were answered or not.
async fn open(
    http: &reqwest::Client,
    urls: &Arc<[String]>,
    rate: f64,
    duration: Duration,
) -> anyhow::Result<Load> {
    ensure!(rate > 0.0, "--rate has to be more than 0");
    let began = Instant::now();
    let (http, urls) = (http.clone(), Arc::clone(urls));
    let asking = move |number: usize, due: Instant| {
        let (http, urls) = (http.clone(), Arc::clone(&urls));
        async move { ask(&http, &urls[number % urls.len()]).await.then(|| due.elapsed()) }
    };
    let mut tasks = at_rate(rate, (rate * duration.as_secs_f64()) as usize, asking).await?;
    let (mut took, mut failed) = (histogram(), 0);
    while let Some(done) = tasks.join_next().await {
        match done? {
            Some(time) => record(&mut took, time),
            None => failed += 1,
        }
    }
    let per_second = took.len() as f64 / began.elapsed().as_secs_f64();
    Ok(Load { rate: Some(rate), clients: None, per_second, failed, latency_ms: Latency::of(&took) })
}

/// Begins so many at even distances, each told its number and when it is due.
pub(super) async fn at_rate<F>(
    rate: f64,
    count: usize,
    begin: impl Fn(usize, Instant) -> F + Send + 'static,
) -> anyhow::Result<JoinSet<F::Output>>
where
    F: Future<Output: Send> + Send + 'static,
{
    let runtime = Handle::current();
    // Tokio's timers are late by a millisecond or two, which is as long as a suggestion takes.
    let all = tokio::task::spawn_blocking(move || {
        let (first, mut tasks) = (Instant::now(), JoinSet::new());
        for number in 0..count {
            let due = first + Duration::from_secs_f64(number as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            tasks.spawn_on(begin(number, due), &runtime);
        }
        tasks
    });
    Ok(all.await?)
}

impl Report {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        println!("{} items; searches of two words with {SIZE} hits and 3 facets", grouped(self.items));
        println!();
        println!(
            "{:<40}{:>10}{:>10}{:>10}{:>10}{:>8}",
            "milliseconds", "per s", "p50", "p99", "max", "failed"
        );
        let of_rate = |load: &Load| load.rate.unwrap_or_default();
        for (name, load) in [
            (
                format!("closed loop, {} clients", self.closed_loop.clients.unwrap_or_default()),
                &self.closed_loop,
            ),
            (format!("{}/s offered", of_rate(&self.open_loop)), &self.open_loop),
            (
                format!("{}/s offered, one word misspelt", of_rate(&self.one_word_misspelt)),
                &self.one_word_misspelt,
            ),
            (format!("{}/s offered, suggestions", of_rate(&self.suggestions)), &self.suggestions),
            (format!("{}/s listed, until found", of_rate(&self.listed_to_found)), &self.listed_to_found),
        ] {
            let Latency { p50, p99, max, .. } = load.latency_ms;
            println!(
                "{name:<40}{:>10.1}{p50:>10.2}{p99:>10.2}{max:>10.2}{:>8}",
                load.per_second, load.failed
            );
        }
        let Alone { bare_tantivy_ms, in_process_ms, http_ms, in_process_to_bare_mean, http_to_bare_mean } =
            &self.alone;
        for (name, Latency { p50, p99, max, .. }) in [
            ("one after another, bare Tantivy", bare_tantivy_ms),
            ("one after another, in process", in_process_ms),
            ("one after another, HTTP", http_ms),
        ] {
            println!("{name:<40}{:>10}{p50:>10.2}{p99:>10.2}{max:>10.2}", "");
        }
        println!();
        println!("{:<40}{in_process_to_bare_mean:>10.2}", "in process : bare Tantivy (means)");
        println!("{:<40}{http_to_bare_mean:>10.2}", "HTTP : bare Tantivy (means)");
        println!("{:<40}{:>10.2} s", "start until the first answer", self.start_to_first_answer_seconds);
        println!("{:<40}{:>10} items/s", "indexed", grouped(self.indexed_per_second.round() as u64));
        println!("{:<40}{:>10} MiB", "index on disk", grouped(self.index_bytes >> 20));
        let Gathering { seconds, bytes } = self.gathering;
        println!("{:<40}{seconds:>10.2} s, {} MiB", "what is popular, gathered", grouped(bytes as u64 >> 20));
        if let Some(bytes) = self.souk_memory_bytes {
            println!("{:<40}{:>10} MiB", "memory of souk beyond the mapped index", grouped(bytes >> 20));
        }
        println!();
        self.conditions.print_machine();
        Ok(())
    }
}
