//! Exports of the log: what is in them, and that one that was killed goes on without a gap or a double.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use souk_event_log::{EventLog, Expected, NewEvent, SqliteLog, StreamName, sqlite};
use souk_tests::binary;
use tempfile::TempDir;
use uuid::Uuid;

/// A data directory with a log in it, and nothing else.
struct Market(TempDir);

/// Events that are appended at once; twenty minutes lie between one time and the next.
const AT_ONCE: usize = 1_000;
const MINUTES: i64 = 20;

impl Market {
    async fn with(appends: usize) -> Self {
        let market = Self(tempfile::tempdir().unwrap());
        let ticks = AtomicI64::new(0);
        let clock = move || time(ticks.fetch_add(1, Ordering::Relaxed) * MINUTES * 60);
        let options = sqlite::Options { clock: Arc::new(clock), ..sqlite::Options::default() };
        let log = SqliteLog::open(&market.0.path().join("events.sqlite"), options).unwrap();
        for n in 0..appends {
            append(&log, n).await;
        }
        market
    }

    /// A thousand events on each day.
    async fn of_days(days: i64) -> Self {
        let market = Self(tempfile::tempdir().unwrap());
        let today = Arc::new(AtomicI64::new(0));
        let day = Arc::clone(&today);
        let clock = move || time(day.load(Ordering::Relaxed) * 24 * 60 * 60);
        let options = sqlite::Options { clock: Arc::new(clock), ..sqlite::Options::default() };
        let log = SqliteLog::open(&market.path("events.sqlite"), options).unwrap();
        for day in 0..days {
            today.store(day, Ordering::Relaxed);
            append(&log, day as usize).await;
        }
        market
    }

    fn log(&self) -> Arc<SqliteLog> {
        SqliteLog::open(&self.0.path().join("events.sqlite"), sqlite::Options::default()).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn export(&self, output: Option<&Path>, options: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(["events", "export", "--data-dir"])
            .arg(self.0.path())
            .args(options)
            .stdin(Stdio::null());
        if let Some(output) = output {
            command.arg("--output").arg(output);
        }
        command
    }

    fn exports(&self, output: Option<&Path>, options: &[&str]) -> String {
        let done = self.export(output, options).output().unwrap();
        assert!(done.status.success(), "{options:?}: {}", said(&done));
        String::from_utf8(done.stdout).unwrap()
    }

    fn refuses(&self, output: Option<&Path>, options: &[&str], status: i32) -> String {
        let done = self.export(output, options).output().unwrap();
        assert_eq!(done.status.code(), Some(status), "{options:?}: {}", said(&done));
        said(&done)
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn time(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_000_000 + seconds, 0).unwrap()
}

async fn append(log: &SqliteLog, n: usize) {
    let stream = StreamName::new(["order", "cart"][n % 2], n);
    let events = (0..AT_ONCE).map(|index| NewEvent {
        id: Uuid::from_u128((n * AT_ONCE + index) as u128),
        event_type: (if index == 0 { "Begun" } else { "Continued" }).into(),
        data: format!(r#"{{"n":{index},"total":{{"amount":{n},"currency":"USD"}},"text":"a, \"b\"\u00e9"}}"#)
            .into(),
        metadata: br#"{"schemaVersion":1,"actor":"test"}"#.to_vec().into(),
    });
    log.append(&stream, Expected::NoStream, events.collect()).await.unwrap();
}

/// Every file below, with what is in it.
fn contents(path: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    if path.is_file() {
        return BTreeMap::from([(PathBuf::new(), fs::read(path).unwrap())]);
    }
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        let name = PathBuf::from(entry.file_name().unwrap());
        all.extend(contents(&entry).into_iter().map(|(below, bytes)| (name.join(below), bytes)));
    }
    all
}

fn done(state: &Path) -> u64 {
    let text = fs::read_to_string(state).unwrap_or_default();
    serde_json::from_str::<Value>(&text).ok().and_then(|state| state["events"].as_u64()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_is_killed_goes_on_without_a_gap_or_a_double() {
    let market = Market::with(16).await;
    for (name, options) in [
        ("events.ndjson", &[][..]),
        ("events.csv.gz", &["--category", "order"]),
        ("events.parquet", &["--type", "Continued"]),
        ("by-day", &["--format", "parquet", "--partition", "day"]),
    ] {
        let options = [options, &["--chunk", "1500"]].concat();
        let (whole, broken) = (market.path(&format!("whole-{name}")), market.path(&format!("broken-{name}")));
        let state = market.path(&format!("broken-{name}.resume"));
        market.exports(Some(&whole), &options);
        let options = [&options[..], &["--resume"]].concat();
        let mut kills = 0;
        // A machine that is faster than we look may end it untouched: then it begins anew.
        for _ in 0..50 {
            loop {
                let before = done(&state);
                let mut child = market
                    .export(Some(&broken), &options)
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()
                    .unwrap();
                let ended = loop {
                    if let Some(status) = child.try_wait().unwrap() {
                        break Some(status);
                    }
                    if done(&state) > before {
                        child.kill().unwrap();
                        child.wait().unwrap();
                        break None;
                    }
                    std::thread::yield_now();
                };
                assert!(ended.is_none_or(|status| status.success()), "{name}");
                // Or the kill came after all was done.
                if ended.is_some() || !state.exists() {
                    break;
                }
                if done(&state) > 0 {
                    kills += 1;
                    if broken.is_file() {
                        // What a kill in the middle of writing leaves behind.
                        File::options().append(true).open(&broken).unwrap().write_all(b"half a li").unwrap();
                    }
                }
            }
            assert!(!state.exists(), "{name}");
            assert!(
                contents(&broken) == contents(&whole),
                "{name}: another export than the one without a break"
            );
            if kills >= 2 {
                break;
            }
            if broken.is_dir() {
                fs::remove_dir_all(&broken).unwrap();
            } else {
                fs::remove_file(&broken).unwrap();
            }
        }
        assert!(kills >= 2, "{name} was never killed on its way");
        println!("{name}: {kills} kills");
    }
}

/// What the page tells to do every night, but in a format that is read here.
fn nightly() -> String {
    let page = include_str!("../../docs/analysts.md");
    let (_, rest) = page.split_once("**Every night**").unwrap();
    let recipe = rest.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0;
    assert!(recipe.contains("--format parquet"), "{recipe}");
    recipe.replace("--format parquet", "--format ndjson")
}

/// Runs the recipe in the market's folder as of that day.
fn night(market: &Market, today: i64) -> Output {
    let programs = market.path("programs");
    if !programs.exists() {
        fs::create_dir(&programs).unwrap();
        symlink(binary(), programs.join("souk")).unwrap();
        let date = "#!/bin/sh\ncase $* in *yesterday*) echo $YESTERDAY ;; *) echo $TODAY ;; esac\n";
        fs::write(programs.join("date"), date).unwrap();
        fs::set_permissions(programs.join("date"), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    Command::new("sh")
        .args(["-ec", &nightly()])
        .current_dir(market.path(""))
        .env("PATH", path)
        .env("SOUK_DATA_DIR", market.path(""))
        .env("YESTERDAY", date(today - 1))
        .env("TODAY", date(today))
        .output()
        .unwrap()
}

fn date(day: i64) -> String {
    time(day * 24 * 60 * 60).date_naive().to_string()
}

/// The positions below, a day after the other.
fn positions(folder: &Path) -> Vec<u64> {
    let parts = contents(folder).into_values().map(|part| String::from_utf8(part).unwrap());
    let lines = parts.flat_map(|part| part.lines().map(str::to_owned).collect::<Vec<_>>());
    lines.map(|line| position(&serde_json::from_str(&line).unwrap())).collect()
}

#[tokio::test]
async fn each_night_brings_its_day_also_after_one_that_was_interrupted() {
    let market = Market::of_days(5).await;
    let folder = market.path("market");
    let exports = |today| {
        let done = night(&market, today);
        assert!(done.status.success(), "{}", said(&done));
        String::from_utf8(done.stdout).unwrap()
    };
    for today in 1..=2 {
        assert_eq!(exports(today), "1,000 events in market\n");
        assert_eq!(positions(&folder), (0..1_000 * today as u64).collect::<Vec<_>>());
    }
    // The same night again has nothing to bring, and says so.
    let again = night(&market, 2);
    assert!(!again.status.success() && said(&again).contains(&date(1)), "{}", said(&again));
    assert_eq!(positions(&folder).len(), 2_000);

    let (since, until, state) = (date(2), date(3), market.path("market.resume"));
    let options = ["--format", "ndjson", "--partition", "day", "--since", &since, "--until", &until];
    let mut third = market.export(Some(Path::new("market")), &[&options[..], &["--chunk", "10"]].concat());
    let mut third = third.current_dir(market.path("")).stdout(Stdio::null()).spawn().unwrap();
    while done(&state) == 0 {
        assert!(third.try_wait().unwrap().is_none(), "it was never interrupted");
        std::thread::yield_now();
    }
    third.kill().unwrap();
    third.wait().unwrap();
    assert!(state.exists() && positions(&folder).len() < 3_000);

    assert_eq!(exports(4), "1,000 events in market\n1,000 events in market\n");
    assert_eq!(positions(&folder), (0..4_000).collect::<Vec<_>>());
    assert!(!state.exists());
    // What is no other day of the same export is not mixed in.
    fs::write(&state, "{}").unwrap();
    assert!(!night(&market, 5).status.success());
}

/// Events appended meanwhile are not exported, however many there are.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_has_a_fixed_end_while_the_log_grows() {
    let market = Market::with(20).await;
    let (log, stop) = (market.log(), Arc::new(AtomicBool::new(false)));
    let appending = tokio::spawn({
        let (log, stop) = (Arc::clone(&log), Arc::clone(&stop));
        async move {
            for n in 20.. {
                append(&log, n).await;
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
    });
    let before = log.head().await.unwrap().unwrap();
    let exported = tokio::task::spawn_blocking(move || {
        let text = market.exports(None, &[]);
        (text, market)
    });
    let (text, _market) = exported.await.unwrap();
    let after = log.head().await.unwrap().unwrap();
    stop.store(true, Ordering::Relaxed);
    appending.await.unwrap();
    let positions: Vec<_> = text.lines().map(|line| position(&serde_json::from_str(line).unwrap())).collect();
    let last = *positions.last().unwrap();
    assert_eq!(positions, (0..=last).collect::<Vec<_>>());
    assert!(before <= last && last <= after, "{before} <= {last} <= {after}");
}

fn position(event: &Value) -> u64 {
    event["position"].as_u64().unwrap()
}

type Wanted<'a> = (&'a [&'a str], &'a dyn Fn(&Value) -> bool);

#[tokio::test]
async fn exports_are_narrowed_by_what_when_and_where() {
    let market = Market::with(10).await;
    let lines = |options: &[&str]| -> Vec<Value> {
        let text = market.exports(None, options);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines(&[]);
    assert_eq!(all.len(), 10 * AT_ONCE);
    let when = |event: &Value| event["recordedAt"].as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let (third, fifth) = (when(&all[3 * AT_ONCE]), when(&all[5 * AT_ONCE]));
    let (since, until) = (third.to_rfc3339(), fifth.to_rfc3339());
    let between = (3_500, 7_499);
    let (from, to) = (between.0.to_string(), between.1.to_string());
    let wanted: [Wanted<'_>; 8] = [
        (&["--category", "order"], &|event| event["stream"].as_str().unwrap().starts_with("order-")),
        (&["--type", "Begun"], &|event| event["type"] == "Begun"),
        (&["--stream", "cart-3"], &|event| event["stream"] == "cart-3"),
        (&["--since", &since], &|event| when(event) >= third),
        (&["--until", &until], &|event| when(event) < fifth),
        (&["--since", &since, "--until", &until, "--type", "Continued"], &|event| {
            when(event) >= third && when(event) < fifth && event["type"] == "Continued"
        }),
        (&["--from", &from, "--to", &to], &|event| (between.0..=between.1).contains(&position(event))),
        (&["--since", "2200-01-01"], &|_| false),
    ];
    for (options, wanted) in wanted {
        let expected: Vec<_> = all.iter().filter(|event| wanted(event)).cloned().collect();
        assert_eq!(lines(options), expected, "{options:?}");
    }
}

#[tokio::test]
async fn a_table_has_its_columns_also_where_there_are_no_rows() {
    let market = Market::with(1).await;
    let table = market.exports(None, &["--format", "csv", "--to", "0"]);
    let rows: Vec<_> = table.lines().collect();
    assert_eq!(
        rows,
        [
            "position,stream,category,stream_id,revision,type,version,recorded_at,occurred_at,actor,amount,currency,\
             correlation_id,causation_id,command_id,data,metadata,id,hash",
            &format!(
                r#"0,order-0,order,0,0,Begun,1,{at},{at},test,0,USD,,,,"{{""n"":0,""total"":{{""amount"":0,""currency"":""USD""}},""text"":""a, \""b\""\u00e9""}}","{{""schemaVersion"":1,""actor"":""test""}}",00000000-0000-0000-0000-000000000000,{hash}"#,
                at = time(0).to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
                hash = rows[1].rsplit(',').next().unwrap(),
            ),
        ]
    );
    assert_eq!(market.exports(None, &["--format", "csv", "--type", "Never"]), format!("{}\n", rows[0]));
    assert_eq!(market.exports(None, &["--type", "Never"]), "");
    let empty = market.path("empty.parquet");
    assert!(market.exports(Some(&empty), &["--type", "Never"]).contains("0 events"));
    assert_eq!(fs::read(empty).unwrap()[..4], *b"PAR1");
}

#[tokio::test]
async fn an_export_that_cannot_be_is_refused_and_says_why() {
    let market = Market::with(2).await;
    for (options, told) in [
        (&["--format", "parquet"][..], "--output"),
        (&["--partition", "day"], "--output"),
        (&["--resume"], "--output"),
        (&["--since", "yesterday"], "--since"),
        (&["--format", "xml"], "--format"),
    ] {
        let error = market.refuses(None, options, 2);
        assert!(error.contains(told), "{options:?}: {error}");
    }
    assert!(market.refuses(Some(&market.path("e.parquet.gz")), &[], 2).contains("--output"));
    assert!(market.refuses(Some(&market.path("no/such/folder/e.csv")), &[], 1).contains("no/such/folder"));

    // A folder takes another day, but none twice.
    let folder = market.path("days");
    let days = ["--format", "ndjson", "--partition", "day"];
    market.exports(Some(&folder), &days);
    let error = market.refuses(Some(&folder), &days, 1);
    assert!(error.contains("day=") && error.contains("twice"), "{error}");
    market.exports(Some(&folder), &[&days[..], &["--since", "2200-01-01"]].concat());
    let error = market.refuses(Some(&folder), &[&days[..], &["--resume"]].concat(), 1);
    assert!(error.contains("twice"), "{error}");
    let lines: usize =
        contents(&folder).values().map(|part| String::from_utf8_lossy(part).lines().count()).sum();
    assert_eq!(lines, 2 * AT_ONCE);

    // What is there without having been interrupted may be anything.
    let file = market.path("events.csv");
    fs::write(&file, "my diary").unwrap();
    assert!(market.refuses(Some(&file), &["--resume"], 1).contains("cannot be told"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "my diary");
    assert_ne!(market.refuses(Some(&file), &[&days[..], &["--resume"]].concat(), 1), "");
    market.exports(Some(&file), &[]);
    assert!(market.refuses(Some(&file), &["--resume", "--type", "Begun"], 1).contains("cannot be told"));

    // What goes on is the same export of the same log.
    let state = market.path("events.csv.resume");
    let note = |last: &str| {
        let request = json!({
            "format": "csv", "partition": null, "stream": null, "categories": [], "eventTypes": [],
            "from": 0, "to": null, "since": null, "until": null,
        });
        let note = json!({
            "request": request, "next": 1_000, "end": 1_999, "days": null, "length": 5, "events": 1_000, "last": [999, last],
        });
        fs::write(&state, note.to_string()).unwrap();
    };
    note(&Uuid::from_u128(999).to_string());
    let error = market.refuses(Some(&file), &["--resume", "--type", "Begun"], 1);
    assert!(error.contains("other options"), "{error}");
    note(&Uuid::from_u128(1).to_string());
    assert!(market.refuses(Some(&file), &["--resume"], 1).contains("another event at position 999"));
    fs::write(&state, "{").unwrap();
    assert!(market.refuses(Some(&file), &["--resume"], 1).contains("begins anew"));
    // Without --resume it does.
    market.exports(Some(&file), &[]);
    assert!(!state.exists());
}

/// Whoever shows what was written needs not understand it; whoever says what it means does.
#[tokio::test]
async fn an_event_of_tomorrow_is_exported_but_not_interpreted() {
    let market = Market::with(0).await;
    let log = market.log();
    for (id, event_type, version) in [(1, "OrderTeleported", 1), (2, "OrderPlaced", 99)] {
        let newer = NewEvent {
            id: Uuid::from_u128(id),
            event_type: event_type.into(),
            data: b"{}".to_vec(),
            metadata: format!(r#"{{"schemaVersion":{version}}}"#).into_bytes().into(),
        };
        log.append(&StreamName::new("order", id), Expected::NoStream, vec![newer]).await.unwrap();
        let state = Command::new(binary())
            .args(["events", "state", &format!("order-{id}"), "--data-dir"])
            .arg(market.path(""))
            .output()
            .unwrap();
        assert_eq!(state.status.code(), Some(1));
        assert!(said(&state).contains(event_type) && said(&state).contains("upgrade"), "{}", said(&state));
    }
    let exported = market.exports(None, &[]);
    assert!(exported.contains("OrderTeleported") && exported.contains(r#""version":99"#), "{exported}");
}

/// What a server hands out of the same log, by position and by time, but for the hashes, which stay in its file.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_a_server_is_exported_like_a_file() {
    let market = Market::with(4).await;
    let mut serve = Command::new(binary());
    serve
        .args(["events", "serve", "--listen", "127.0.0.1:0", "--insecure", "--data-dir"])
        .arg(market.path(""));
    let mut server = serve.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut said).unwrap();
    let log = format!("kurrentdb://{}?tls=false", said.trim().rsplit(' ').next().unwrap());
    let since = time(MINUTES * 60).to_rfc3339();
    for options in [&[][..], &["--category", "cart"], &["--since", &since, "--to", "2500"]] {
        let lines = |options: &[&str]| -> Vec<Value> {
            let text = market.exports(None, options);
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
        };
        let mut expected = lines(options);
        for event in &mut expected {
            event["hash"] = Value::Null;
        }
        assert!(expected.len() > AT_ONCE);
        assert_eq!(lines(&[options, &["--event-log", &log]].concat()), expected, "{options:?}");
    }
    server.kill().unwrap();
    server.wait().unwrap();
}
