//! kill -9, two hundred times and at random, of processes that append under load: everything that was acknowledged is
//! there, whole and in order, and the chain of hashes holds. Some are killed while they open the file or recover it, some
//! while another goes on to append to the same file.
//!
//! The moments depend on the machine, everything else on the seed that is printed: `SOUK_SEED=… cargo test --test durability`.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasher, Hasher, RandomState},
    path::{Path, PathBuf},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use futures::TryStreamExt;
use souk_event_log::{
    Direction, EventLog, Expected, Filter, NewEvent, Position, Recorded, StreamName,
    sqlite::{Options, SqliteLog, verify},
};
use uuid::Uuid;

use crate::child::{Child, say};

/// Kills of a process that had acknowledged something. Those that are killed earlier come on top.
const KILLS: u64 = 200;
/// Tasks that append at once in each process.
const TASKS: u64 = 12;
/// How long to wait for a process to do anything.
const PATIENCE: Duration = Duration::from_mins(2);
const FILE: &str = "SOUK_TEST_FILE";
const CHILD: &str = "SOUK_TEST_CHILD";
const SEED: &str = "SOUK_SEED";

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// One append of a task. What it holds follows from its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Append {
    child: u64,
    task: u64,
    n: u64,
}

impl Append {
    fn random(self) -> Random {
        Random(self.child << 40 ^ self.task << 32 ^ self.n)
    }

    /// A third of the tasks share a stream.
    fn stream(self) -> StreamName {
        if self.task.is_multiple_of(3) {
            StreamName::new("shared", 1)
        } else {
            StreamName::new("own", format!("{}-{}", self.child, self.task))
        }
    }

    /// One to four, now and then large enough for many pages.
    fn events(self) -> Vec<NewEvent> {
        let mut random = self.random();
        let count = 1 + random.below(4);
        let event = |index| {
            let length = if random.below(40) == 0 { 30_000 } else { 50 + random.below(500) as usize };
            let filling: String = (0..length).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
            let Self { child, task, n } = self;
            NewEvent {
                id: Uuid::from_u128(
                    u128::from(child) << 96 | u128::from(task) << 64 | u128::from(n) << 8 | u128::from(index),
                ),
                event_type: "Happened".into(),
                data: format!(r#"{{"index":{index},"count":{count},"filling":"{filling}"}}"#).into_bytes(),
                metadata: b"{}".to_vec().into(),
            }
        };
        (0..count).map(event).collect()
    }

    fn of(event: &Recorded) -> (Self, u64) {
        let id = event.id.as_u128();
        let append = Self {
            child: (id >> 96) as u64,
            task: (id >> 64) as u64 & 0xffff_ffff,
            n: (id >> 8) as u64 & 0xff_ffff,
        };
        (append, id as u64 & 0xff)
    }
}

#[test]
#[ignore = "the process that the other test kills"]
fn appends_until_killed() {
    let Ok(file) = std::env::var(FILE) else { return };
    let child: u64 = std::env::var(CHILD).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let log = SqliteLog::open(Path::new(&file), Options::default()).unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> =
            (0..TASKS).map(|task| tokio::spawn(appends(Arc::clone(&log), child, task))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

async fn appends(log: Arc<SqliteLog>, child: u64, task: u64) {
    let mut last = None;
    for n in 0.. {
        let append = Append { child, task, n };
        let expected = match last {
            _ if task.is_multiple_of(3) => Expected::Any,
            None => Expected::NoStream,
            Some(revision) => Expected::Exact(revision),
        };
        let appended = log.append(&append.stream(), expected, append.events()).await.unwrap();
        last = Some(appended.last_revision);
        say(&format!("appended {task} {n} {} {}", appended.last_revision, appended.position));
    }
}

#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    revision: u64,
    position: Position,
}

/// What was told, and how far it was checked.
struct Ledger {
    path: PathBuf,
    acknowledged: BTreeMap<Append, Acknowledged>,
    /// Of each task of each process, how many appends are in the log.
    tasks: HashMap<(u64, u64), u64>,
    checked: Position,
}

impl Ledger {
    fn note(&mut self, child: u64, line: &str) -> bool {
        let Some(told) = line.strip_prefix("appended ") else { return false };
        let mut numbers = told.split(' ').map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        let append = Append { child, task: next(), n: next() };
        self.acknowledged.insert(append, Acknowledged { revision: next(), position: next() });
        true
    }

    /// Checks what the log holds beyond what was checked before. Nobody has the file open.
    fn check(&mut self) {
        if self.checked == 0 {
            // It may have been killed before it had made the file. Whoever opens it next does.
            drop(SqliteLog::open(&self.path, Options::default()).unwrap());
        }
        let report = verify(&self.path, self.checked, |_| ()).unwrap();
        assert_eq!(report.bad, None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let events: Vec<Arc<Recorded>> = runtime.block_on(async {
            let log = SqliteLog::open(&self.path, Options::default()).unwrap();
            let events = log.read_all(self.checked, Filter::all(), Direction::Forward, usize::MAX);
            events.try_collect().await.unwrap()
        });
        let mut rest = &events[..];
        while let Some(first) = rest.first() {
            let (append, index) = Append::of(first);
            assert_eq!(index, 0, "{append:?} begins in the middle");
            let wanted = append.events();
            assert!(rest.len() >= wanted.len(), "{append:?} is there in part");
            let (stored, after) = rest.split_at(wanted.len());
            for (index, (stored, wanted)) in stored.iter().zip(&wanted).enumerate() {
                assert_eq!((stored.id, &stored.data), (wanted.id, &wanted.data), "{append:?}");
                assert_eq!(stored.stream, append.stream());
                assert_eq!(stored.revision, first.revision + index as u64, "{append:?}");
            }
            let done = self.tasks.entry((append.child, append.task)).or_default();
            assert_eq!(append.n, *done, "{append:?} is out of order, or twice");
            *done += 1;
            let last = &stored[stored.len() - 1];
            if let Some(told) = self.acknowledged.remove(&append) {
                assert_eq!((told.revision, told.position), (last.revision, last.position), "{append:?}");
            }
            self.checked = last.position + 1;
            rest = after;
        }
        let lost = self.acknowledged.first_key_value();
        assert!(
            lost.is_none(),
            "acknowledged, but not in the log, which ends before {}: {lost:?}",
            self.checked
        );
    }
}

struct Harness {
    random: Random,
    ledger: Ledger,
    sender: Sender<(u64, Option<String>)>,
    lines: Receiver<(u64, Option<String>)>,
    children: u64,
    /// Killed under load.
    killed: u64,
}

impl Harness {
    fn spawn(&mut self) -> (u64, Child) {
        self.children += 1;
        let settings = [(FILE, self.ledger.path.display().to_string()), (CHILD, self.children.to_string())];
        (
            self.children,
            Child::spawn("kills::appends_until_killed", &settings, self.children, self.sender.clone()),
        )
    }

    /// Until a process has told of so many appends.
    fn hear(&mut self, child: u64, appends: u64) {
        let began = Instant::now();
        let mut heard = 0;
        while heard < appends {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let (from, line) = self.lines.recv_timeout(left).expect("the process does something");
            match line {
                Some(line) if self.ledger.note(from, &line) && from == child => heard += 1,
                Some(_) => {}
                None => assert_ne!(from, child, "process {from} ended by itself"),
            }
        }
    }

    fn kill(&mut self, mut child: Child) {
        std::thread::sleep(Duration::from_micros(self.random.below(3_000)));
        child.kill();
    }

    /// One process, or two of which the first is killed before the other.
    fn round(&mut self) {
        let (number, first) = self.spawn();
        match self.random.below(8) {
            // While it opens the file, which the one before may have left in any state.
            0 | 1 => std::thread::sleep(Duration::from_micros(self.random.below(15_000))),
            2 | 3 => {
                let (other, second) = self.spawn();
                let appends = 1 + self.random.below(100);
                self.hear(number, appends);
                self.hear(other, 1);
                self.kill(first);
                let appends = 1 + self.random.below(60);
                self.hear(other, appends);
                self.killed += 2;
                return self.end(second);
            }
            _ => {
                let appends = 1 + self.random.below(150);
                self.hear(number, appends);
                self.killed += 1;
            }
        }
        self.end(first);
    }

    /// The last process of a round, and what it had told.
    fn end(&mut self, child: Child) {
        self.kill(child);
        while let Ok((from, line)) = self.lines.try_recv() {
            if let Some(line) = line {
                self.ledger.note(from, &line);
            }
        }
    }
}

#[test]
fn what_was_acknowledged_survives_two_hundred_kills() {
    let seed = std::env::var(SEED)
        .map_or_else(|_| RandomState::new().build_hasher().finish(), |seed| seed.parse().unwrap());
    println!("{SEED}={seed}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.sqlite");
    let (sender, lines) = channel();
    let ledger = Ledger { path, acknowledged: BTreeMap::new(), tasks: HashMap::new(), checked: 0 };
    let mut harness = Harness { random: Random(seed), ledger, sender, lines, children: 0, killed: 0 };
    let began = Instant::now();
    let mut acknowledged = 0;
    while harness.killed < KILLS {
        harness.round();
        // Otherwise the next process has to recover what this one left.
        if harness.random.below(3) == 0 || harness.killed >= KILLS {
            acknowledged += harness.ledger.acknowledged.len();
            harness.ledger.check();
        } else if harness.random.below(8) == 0 {
            // It can be made anew of the write-ahead log at any time.
            let _ = std::fs::remove_file(harness.ledger.path.with_extension("sqlite-shm"));
        }
    }
    let Harness { children, killed, ledger, .. } = harness;
    let events = ledger.checked;
    println!(
        "{children} processes killed in {:?}, {killed} under load: {acknowledged} appends acknowledged, {events} events",
        began.elapsed()
    );
}
