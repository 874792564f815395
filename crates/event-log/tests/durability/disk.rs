//! A disk that is full, and files that may not grow: appends are refused with a reason, nothing that was acknowledged is
//! lost, reading goes on, and so do appends as soon as there is room, without a restart.

use std::{
    io::BufRead,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, mpsc::channel},
    time::Duration,
};

use futures::TryStreamExt;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use souk_event_log::{
    AppendError, Appended, Direction, EventLog, Expected, Filter, NewEvent, StreamName,
    sqlite::{Options, SqliteLog, verify},
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::child::{Child, say};

const FILE: &str = "SOUK_TEST_FILE";
const PATIENCE: Duration = Duration::from_mins(1);

fn event(n: u64, bytes: usize) -> NewEvent {
    NewEvent {
        id: Uuid::from_u128(n.into()),
        event_type: "Happened".into(),
        data: format!(r#"{{"n":{n},"filling":"{}"}}"#, "x".repeat(bytes)).into_bytes(),
        metadata: b"{}".to_vec(),
    }
}

/// Each event has a stream of its own, so that the same append again does nothing.
async fn append(log: &SqliteLog, n: u64, bytes: usize) -> Result<Appended, AppendError> {
    log.append(&StreamName::new("order", n), Expected::NoStream, vec![event(n, bytes)]).await
}

async fn numbers(log: &SqliteLog) -> Vec<u64> {
    let events: Vec<_> =
        log.read_all(0, Filter::all(), Direction::Forward, usize::MAX).try_collect().await.unwrap();
    events.iter().map(|event| event.id.as_u128() as u64).collect()
}

/// A small file system of its own.
struct Tmpfs(TempDir);

impl Tmpfs {
    /// `None` where this may not mount anything.
    fn mount(size: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_appends_until_there_is_room() {
    let Some(disk) = Tmpfs::mount("3m") else {
        println!("nothing may be mounted here: the limit of a process is tried alone");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let path = disk.0.path().join("events.sqlite");
    let log = SqliteLog::open(&path, Options::default()).unwrap();

    let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
    for n in (0..).step_by(8) {
        let several = (n..n + 8).map(|n| append(&log, n, 2_000));
        for (n, outcome) in (n..).zip(futures::future::join_all(several).await) {
            match outcome {
                Ok(_) => acknowledged.push(n),
                Err(error) => refused.push((n, error)),
            }
        }
        if refused.len() >= 30 {
            break;
        }
    }
    assert!(acknowledged.len() > 100, "{} before the disk was full", acknowledged.len());
    for (n, error) in &refused {
        assert!(matches!(error, AppendError::Unavailable(_) | AppendError::Unknown(_)), "{error}");
        assert!(error.to_string().contains("full"), "{n}: {error}");
    }
    let stored = numbers(&log).await;
    assert!(acknowledged.iter().all(|n| stored.contains(n)), "what was acknowledged can be read");

    std::fs::remove_file(&ballast).unwrap();
    for (n, _) in &refused {
        append(&log, *n, 2_000).await.expect("there is room again");
    }
    let mut stored = numbers(&log).await;
    stored.sort_unstable();
    let all: Vec<u64> = (0..(acknowledged.len() + refused.len()) as u64).collect();
    assert_eq!(stored, all, "each is there, and once");
    drop(log);
    let report = verify(&path, 0, |_| ()).unwrap();
    assert_eq!((report.events, report.bad), (all.len() as u64, None));
}

#[tokio::test]
async fn a_log_that_cannot_be_made_leaves_no_trap() {
    let Some(disk) = Tmpfs::mount("64k") else { return };
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 40 << 10]).unwrap();
    let path = disk.0.path().join("events.sqlite");
    let error = SqliteLog::open(&path, Options::default()).err().expect("no room").to_string();
    assert!(error.contains("full"), "{error}");
    drop(disk);

    let Some(disk) = Tmpfs::mount("1m") else { return };
    let path = disk.0.path().join("events.sqlite");
    std::fs::write(ballast_of(&disk), vec![1; (1 << 20) - (48 << 10)]).unwrap();
    let _ = SqliteLog::open(&path, Options::default());
    std::fs::remove_file(ballast_of(&disk)).unwrap();
    let log = SqliteLog::open(&path, Options::default()).expect("there is room again");
    append(&log, 1, 10).await.unwrap();
}

fn ballast_of(disk: &Tmpfs) -> PathBuf {
    disk.0.path().join("ballast")
}

#[test]
#[ignore = "the process that the other test limits"]
fn appends_while_it_may() {
    let Ok(file) = std::env::var(FILE) else { return };
    let path = Path::new(&file);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let log = SqliteLog::open(path, Options::default()).unwrap();
    let mut input = std::io::stdin().lock();
    let mut line = String::new();
    // Each line allows one append, or says whether files may grow.
    for n in 0.. {
        let appended = loop {
            line.clear();
            input.read_line(&mut line).unwrap();
            match line.trim() {
                "append" => break runtime.block_on(append(&log, n, 1_000)),
                "limit" => setrlimit(Resource::RLIMIT_FSIZE, 4096, RLIM_INFINITY).unwrap(),
                "lift" => setrlimit(Resource::RLIMIT_FSIZE, RLIM_INFINITY, RLIM_INFINITY).unwrap(),
                _ => return,
            }
        };
        match appended {
            Ok(_) => say(&format!("appended {n}")),
            Err(error) => say(&format!("refused {n}: {error}")),
        }
    }
}

#[test]
fn files_that_may_not_grow_stop_appends_until_they_may() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.sqlite");
    let (sender, lines) = channel();
    let settings = [(FILE, path.display().to_string())];
    let mut child = Child::spawn("disk::appends_while_it_may", &settings, 0, sender);
    let mut acknowledged = Vec::new();
    let mut appends = |child: &mut Child| -> Option<String> {
        child.tell("append");
        loop {
            let line = lines.recv_timeout(PATIENCE).expect("an answer").1.expect("the process goes on");
            if let Some(n) = line.strip_prefix("appended ") {
                acknowledged.push(n.parse::<u64>().unwrap());
                return None;
            }
            if line.starts_with("refused ") {
                return Some(line);
            }
        }
    };
    for _ in 0..3 {
        for _ in 0..20 {
            assert_eq!(appends(&mut child), None);
        }
        child.tell("limit");
        for _ in 0..5 {
            let refused = appends(&mut child).expect("no file may grow");
            assert!(refused.contains("disk I/O error while "), "{refused}");
        }
        child.tell("lift");
        assert_eq!(appends(&mut child), None, "it heals");
    }
    child.kill();

    let report = verify(&path, 0, |_| ()).unwrap();
    assert_eq!(report.bad, None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let log: Arc<SqliteLog> = SqliteLog::open(&path, Options::default()).unwrap();
        let stored = numbers(&log).await;
        let lost: Vec<_> = acknowledged.iter().filter(|n| !stored.contains(n)).collect();
        assert!(lost.is_empty(), "{lost:?}");
    });
}
