//! A search needs the index alone: it answers while PostgreSQL or the log is away, and whatever happens to the index it
//! never finds less than there is and says nothing of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use souk_local_postgres::{LocalPostgres, Options};
use souk_tests::{Fleet, Gate, Person, Server, item, money, traversable};

/// As long as a search may take, on a machine that has other work.
const SOON: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_mins(1);

/// With a term, a typo, filters, facets, orders; and completions.
const SEARCHES: [&str; 5] = [
    "/v1/items?record=false&term=mug&facets=true,attributes.size&attribute=size:M&attribute=glaze:red&minPrice=1000&sort=price",
    "/v1/items?record=false&term=handel&facets=brand",
    "/v1/items?brand=Claybank&category=Home&inStock=true&facets=category,seller&size=1",
    "/v1/items?sort=-price",
    "/v1/suggestions?prefix=mug",
];

/// One that comes in two sizes and two glazes, but in M only red.
fn mug(sku: &str) -> Value {
    let mut mug = item(sku, 5);
    let variant = |end: &str, size: &str, glaze: &str, price: i64| {
        let options = json!({"size": size, "glaze": glaze});
        json!({"sku": format!("{sku}-{end}"), "options": options, "price": money(price), "quantity": 3})
    };
    mug["variants"] = json!([variant("A", "M", "red", 1_500), variant("B", "L", "blue", 900)]);
    mug
}

async fn listed(seller: &Person, body: &Value) {
    let began = Instant::now();
    loop {
        let answer = seller.post("/v1/items", body.clone()).await;
        if answer.status == 201 {
            return;
        }
        // What was away may take a moment to be back.
        assert!(answer.status == 503 && began.elapsed() < PATIENCE, "{} {}", answer.status, answer.text);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_found(person: &Person, path: &str, total: usize) {
    let began = Instant::now();
    loop {
        // Nobody answers before the process is up.
        let answer = match person.request(reqwest::Method::GET, path).send().await {
            Ok(answer) => answer.text().await.unwrap(),
            Err(error) => error.to_string(),
        };
        let body: Value = serde_json::from_str(&answer).unwrap_or_default();
        if body["total"] == json!(total) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{path} stays {answer}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}

/// What the searches answer, but for what names them.
async fn answers(person: &Person) -> Vec<Value> {
    let mut all = Vec::new();
    for path in SEARCHES {
        let began = Instant::now();
        let mut answer = person.get(path).await.expect(200);
        assert!(began.elapsed() < SOON, "{path} took {:?}", began.elapsed());
        answer.as_object_mut().unwrap().remove("searchId");
        if let Some(suggestions) = answer["suggestions"].as_array_mut() {
            // What is popular among them is found out later.
            suggestions.sort_by_key(|suggestion| suggestion["text"].to_string());
        }
        all.push(answer);
    }
    all
}

/// Of a market with three mugs, when everything is there.
async fn answers_to_three(person: &Person) -> Vec<Value> {
    until_found(person, "/v1/items?term=mug&inStock=true", 3).await;
    // Titles are completed as soon as they are gathered.
    let began = Instant::now();
    while person.get(SEARCHES[4]).await.body["suggestions"].as_array().is_none_or(|found| found.len() < 4) {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let found = answers(person).await;
    assert_eq!(found[0]["total"], json!(3));
    assert_eq!(found[0]["items"][0]["variant"]["options"], json!({"size": "M", "glaze": "red"}));
    assert_eq!(found[0]["facets"]["attributes.size"], json!([{"value": "M", "count": 3}]), "what is red");
    assert_eq!(found[1]["correctedTerm"], json!("handle"));
    assert_eq!(found[4]["suggestions"].as_array().unwrap().len(), 4, "three mugs and their category");
    assert_eq!((&found[1]["total"], found[2]["items"].as_array().unwrap().len()), (&json!(3), 1));
    found
}

#[tokio::test]
async fn searches_go_on_while_postgresql_is_away() {
    let folder = tempfile::tempdir().unwrap();
    traversable(folder.path());
    let place = folder.path().join("postgres");
    let postgres = LocalPostgres::start(&place, Options::default()).await.unwrap();
    let address = postgres.url().to_owned();
    let mut server = Server::on(&address);
    server.resume().await;
    let (seller, stranger) = (server.seller("sam").await, server.stranger());
    for sku in ["A", "B", "C"] {
        listed(&seller, &mug(sku)).await;
    }
    let before = answers_to_three(&stranger).await;

    postgres.stop().await.unwrap();
    let away = Instant::now();
    assert_eq!(stranger.get("/readyz").await.body["postgres"]["status"], json!("down"));
    let mut rounds = 0;
    while rounds < 3 || away.elapsed() < Duration::from_secs(8) {
        assert_eq!(answers(&stranger).await, before);
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    let postgres = LocalPostgres::start(&place, Options::default()).await.unwrap();
    assert_eq!(postgres.url(), address);
    listed(&seller, &mug("DINGO")).await;
    until_found(&stranger, "/v1/items?term=mug&inStock=true", 4).await;
    assert_eq!(server.stop().await, Some(0));
    postgres.stop().await.unwrap();
}

#[tokio::test]
async fn searches_go_on_while_the_log_is_away() {
    let mut fleet = Fleet::of(&["api,process,project", "api,search"], 1).await;
    let seller = fleet.stranger("project1").registered("sam", "seller").await;
    for sku in ["A", "B", "C"] {
        listed(&seller, &mug(sku)).await;
    }
    let stranger = fleet.stranger("search1");
    let before = answers_to_three(&stranger).await;

    fleet.kill("log").await;
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(6) {
        assert_eq!(answers(&stranger).await, before);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(stranger.get("/readyz").await.body["log"]["status"], json!("down"));
    seller.post("/v1/items", mug("DINGO")).await.refused(503);
    fleet.begin("log").await;
    listed(&seller, &mug("ELAND")).await;
    until_found(&stranger, "/v1/items?term=eland&brand=Claybank", 1).await;

    // It is there, but does not answer.
    let before = answers(&stranger).await;
    fleet.freeze("log");
    let away = Instant::now();
    while away.elapsed() < Duration::from_secs(3) {
        assert_eq!(answers(&stranger).await, before);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    fleet.wake("log");
    listed(&seller, &mug("FINCH")).await;
    until_found(&stranger, "/v1/items?term=finch&brand=Claybank", 1).await;
    fleet.stop().await;
}

/// Where the files of the index lie.
fn index_of(data: &Path) -> PathBuf {
    let mut entries = fs::read_dir(data.join("search")).unwrap().map(|entry| entry.unwrap());
    entries.find(|entry| entry.file_name().to_string_lossy().starts_with("index")).unwrap().path()
}

/// Those of the index that end so, the largest first.
fn files(data: &Path, end: &str) -> Vec<PathBuf> {
    let files = fs::read_dir(index_of(data)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|of| of == end)).collect();
    files.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().len()));
    files
}

fn flip(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 8.min(middle)] {
        *byte ^= 0xff;
    }
    fs::write(file, bytes).unwrap();
}

fn cut_meta(data: &Path) {
    let meta = index_of(data).join("meta.json");
    let bytes = fs::read(&meta).unwrap();
    fs::write(meta, &bytes[..bytes.len() / 2]).unwrap();
}

/// As a program of the format before has left it.
fn make_older(data: &Path) {
    let now = index_of(data);
    let before = now.with_file_name("index");
    fs::rename(&now, &before).unwrap();
    let meta = fs::read_to_string(before.join("meta.json")).unwrap();
    let (head, tail) = meta.split_once("format\\\":").unwrap();
    let tail = tail.trim_start_matches(|c: char| c.is_ascii_digit());
    let older = format!("{head}format\\\":3{tail}").replace(",\\\"whole\\\":true", "");
    assert_ne!(older, meta);
    fs::write(before.join("meta.json"), older).unwrap();
}

/// Searches without a pause, until told to stop, and takes no answer but all that there is, or a 503 that says when to
/// ask again.
struct Watch {
    stop: Arc<AtomicBool>,
    found: Arc<AtomicUsize>,
    looking: tokio::task::JoinHandle<()>,
}

impl Watch {
    fn begin(person: &Person, path: &str, total: usize, may_be_away: bool) -> Self {
        let (stop, found) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (person, path) = (person.clone(), path.to_owned());
        let looking = tokio::spawn({
            let (stop, found) = (Arc::clone(&stop), Arc::clone(&found));
            async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = person.request(reqwest::Method::GET, &path).send().await;
                    match answer {
                        // It is not there yet.
                        Err(_) if may_be_away => tokio::time::sleep(Duration::from_millis(5)).await,
                        answer => {
                            let answer = answer.unwrap();
                            let status = answer.status().as_u16();
                            let again = answer.headers().contains_key("retry-after");
                            let body: Value = answer.json().await.unwrap();
                            if may_be_away && status == 503 && again {
                                continue;
                            }
                            let seen = body["total"].as_u64().unwrap_or_default();
                            assert!(status == 200 && seen >= total as u64, "{status} {body}");
                            found.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            }
        });
        Self { stop, found, looking }
    }

    /// How often all was found.
    async fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.await.unwrap();
        self.found.load(Ordering::Relaxed)
    }
}

type Damage = fn(&Path);

#[tokio::test]
async fn a_damaged_index_is_built_anew_and_never_finds_too_little() {
    let mut server = Server::start().await;
    let seller = server.seller("sam").await;
    for n in 0..40 {
        listed(&seller, &mug(&format!("N{n}"))).await;
    }
    let all = "/v1/items?term=mug&facets=brand&size=1";
    let damages: [(&str, Damage); 6] = [
        ("stored items", |data| flip(&files(data, "store")[0])),
        ("terms", |data| flip(&files(data, "term")[0])),
        ("columns", |data| flip(&files(data, "fast")[0])),
        ("a segment gone", |data| fs::remove_file(&files(data, "idx")[0]).unwrap()),
        ("meta.json cut", cut_meta),
        ("an earlier format", make_older),
    ];
    for (total, (what, damage)) in (40..).zip(damages) {
        until_found(&server.stranger(), all, total).await;
        assert_eq!(server.stop().await, Some(0));
        damage(&server.data_dir());
        server.launch();
        let stranger = server.stranger();
        let watch = Watch::begin(&stranger, all, total, true);
        until_found(&stranger, all, total).await;
        listed(&seller.at(server.address()), &mug(&format!("D{total}"))).await;
        until_found(&stranger, all, total + 1).await;
        assert!(watch.end().await > 0, "{what}");
    }
    assert_eq!(server.stop().await, Some(0));
}

/// How far the search index of a process is, of what is being built.
async fn built(person: &Person) -> Option<u64> {
    let ready = person.get("/readyz").await.body;
    let building =
        |status: &&Value| status["name"] == json!("search") && status["state"] == json!("building");
    ready["projectors"].as_array()?.iter().find(building)?["position"].as_u64()
}

async fn until_alive(person: &Person) {
    let began = Instant::now();
    while person.request(reqwest::Method::GET, "/healthz").send().await.is_err() {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_built(person: &Person, least: u64) -> u64 {
    until_alive(person).await;
    let began = Instant::now();
    loop {
        if let Some(position) = built(person).await.filter(|position| *position >= least) {
            return position;
        }
        assert!(began.elapsed() < PATIENCE, "not built up to {least}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_index_that_is_half_built_says_so_or_lets_the_one_before_answer() {
    let mut fleet = Fleet::of(&["api,process,project", "api,search"], 1).await;
    let gate = Gate::to(fleet.log_address()).await;
    let seller = fleet.stranger("project1").registered("sam", "seller").await;
    let with_much_to_say = |sku: String| {
        let mut item = item(&sku, 0);
        item["description"] = json!("Holds a third of a litre. ".repeat(360));
        item
    };
    for part in 0..4 {
        let many = (0..25).map(|n| with_much_to_say(format!("N{part}X{n}")));
        let bodies: Vec<_> = many.collect();
        join_all(bodies.iter().map(|body| listed(&seller, body))).await;
    }
    // Who asks how long the log is gets its last event.
    listed(&seller, &item("LAST", 0)).await;
    let stranger = fleet.stranger("search1");
    let all = "/v1/items?term=mug&size=1";
    until_found(&stranger, all, 101).await;
    let data = fleet.data_dir("search1");

    // Damaged, and the log stops in the middle of what it says.
    fleet.kill("search1").await;
    flip(&files(&data, "store")[0]);
    fleet.put_between("search1", &gate);
    gate.shut_after(600_000);
    fleet.begin("search1").await;
    let half = until_built(&stranger, 10).await;
    for path in [all, "/v1/suggestions?prefix=mug", "/v1/recommendations"] {
        let answer = stranger.get(path).await;
        assert_ne!(answer.header("retry-after"), "", "{path}: {}", answer.text);
        answer.refused(503);
    }

    // A crash there. It goes on, and says so again.
    fleet.kill("search1").await;
    gate.shut_after(100_000);
    fleet.begin("search1").await;
    until_alive(&stranger).await;
    stranger.get(all).await.refused(503);
    let watch = Watch::begin(&stranger, all, 101, true);
    gate.open();
    until_found(&stranger, all, 101).await;
    assert!(watch.end().await > 0);
    println!("damaged: built up to {half} before the crash");

    // Of an earlier format: that answers while the new one is built, and after a crash of that.
    fleet.kill("search1").await;
    make_older(&data);
    gate.shut_after(300_000);
    fleet.begin("search1").await;
    until_found(&stranger, all, 101).await;
    let watch = Watch::begin(&stranger, all, 101, false);
    listed(&seller, &item("NEW", 0)).await;
    assert_eq!(stranger.get(all).await.expect(200)["total"], json!(101), "it learns nothing new");
    assert!(watch.end().await > 0);
    fleet.kill("search1").await;
    gate.shut_after(100_000);
    fleet.begin("search1").await;
    until_found(&stranger, all, 101).await;
    let watch = Watch::begin(&stranger, all, 101, false);
    gate.open();
    until_found(&stranger, all, 102).await;
    assert!(watch.end().await > 0);
    assert!(!index_of(&data).ends_with("index"), "the one before is gone");
    fleet.stop().await;
}

#[tokio::test]
async fn searches_find_no_less_while_the_index_is_built_anew() {
    let server = Server::start().await;
    let (seller, admin) = (server.seller("sam").await, server.staff("ada", "admin").await);
    for n in 0..40 {
        listed(&seller, &mug(&format!("N{n}"))).await;
    }
    let (stranger, all) =
        (server.stranger(), "/v1/items?term=mug&attribute=size:M&attribute=glaze:red&size=1");
    until_found(&stranger, all, 40).await;
    let watches: Vec<_> = (0..2).map(|_| Watch::begin(&stranger, all, 40, false)).collect();
    server.run(&["views", "rebuild", "search"]).await;
    admin.post("/v1/admin/projections/search/rebuild", json!({})).await.expect(202);
    // The second comes while the first is at work, or has just ended.
    server.run(&["views", "rebuild", "search"]).await;
    // Its files are gone from the disk; those that are open are not.
    for end in ["store", "term", "idx", "pos", "fast", "fieldnorm"] {
        for file in files(&server.data_dir(), end) {
            fs::remove_file(file).unwrap();
        }
    }
    server.run(&["views", "rebuild", "search"]).await;
    listed(&seller, &mug("NEW")).await;
    until_found(&stranger, all, 41).await;
    for watch in watches {
        assert!(watch.end().await > 0);
    }
    // And what was built is on the disk again.
    let mut server = server;
    assert_eq!(server.stop().await, Some(0));
    server.resume().await;
    until_found(&server.stranger(), all, 41).await;
}
