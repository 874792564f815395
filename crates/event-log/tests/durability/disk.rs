//! A disk that is full, and files that may not grow: appends are refused with a reason, nothing that was acknowledged is
//! lost, reading goes on, and so do appends as soon as there is room, without a restart.

use std::{
    io::BufRead,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        mpsc::{Receiver, channel},
    },
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
const NAMESPACE: &str = "SOUK_TEST_NAMESPACE";
/// While there is a file of this name, nothing can be forced to disk: [`SYNC_FAILS`].
const BROKEN: &str = "SOUK_TEST_BROKEN";
const PATIENCE: Duration = Duration::from_mins(1);

fn event(n: u64, bytes: usize) -> NewEvent {
    NewEvent {
        id: Uuid::from_u128(n.into()),
        event_type: "Happened".into(),
        data: format!(r#"{{"n":{n},"filling":"{}"}}"#, "x".repeat(bytes)).into_bytes(),
        metadata: b"{}".to_vec().into(),
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
    /// Who is not root may mount in a namespace of their own: there the test is run again. `None`: it was, and passed.
    fn mount(size: &str, test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let options = format!("size={size}");
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        assert!(
            std::env::var_os(NAMESPACE).is_none(),
            "nothing may be mounted even in a namespace of its own"
        );
        let again = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(NAMESPACE, "1")
            .status();
        assert!(
            again.is_ok_and(|status| status.success()),
            "{test} needs a small file system: run it as root, or where `unshare --user --mount` is allowed"
        );
        None
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_stops_appends_until_there_is_room() {
    let Some(disk) = Tmpfs::mount("3m", "disk::a_full_disk_stops_appends_until_there_is_room") else {
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
    const TEST: &str = "disk::a_log_that_cannot_be_made_leaves_no_trap";
    let Some(disk) = Tmpfs::mount("64k", TEST) else { return };
    let ballast = disk.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 40 << 10]).unwrap();
    let path = disk.0.path().join("events.sqlite");
    let error = SqliteLog::open(&path, Options::default()).err().expect("no room").to_string();
    assert!(error.contains("full"), "{error}");
    drop(disk);

    let Some(disk) = Tmpfs::mount("1m", TEST) else { return };
    let path = disk.0.path().join("events.sqlite");
    std::fs::write(ballast_of(&disk), vec![1; (1 << 20) - (48 << 10)]).unwrap();
    let error = SqliteLog::open(&path, Options::default()).err().expect("no room").to_string();
    assert!(error.contains("full"), "{error}");
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

/// The process of [`appends_while_it_may`], and what it had acknowledged.
struct Appending {
    folder: TempDir,
    child: Child,
    lines: Receiver<(u64, Option<String>)>,
    acknowledged: Vec<u64>,
}

impl Appending {
    fn start(folder: TempDir, settings: &[(&str, String)]) -> Self {
        let (sender, lines) = channel();
        let path = folder.path().join("events.sqlite");
        let settings = [settings, &[(FILE, path.display().to_string())]].concat();
        let child = Child::spawn("disk::appends_while_it_may", &settings, 0, sender);
        Self { folder, child, lines, acknowledged: Vec::new() }
    }

    /// One append: why it was refused, if it was.
    fn append(&mut self) -> Option<String> {
        self.child.tell("append");
        loop {
            let line = self.lines.recv_timeout(PATIENCE).expect("an answer").1.expect("the process goes on");
            if let Some(n) = line.strip_prefix("appended ") {
                self.acknowledged.push(n.parse().unwrap());
                return None;
            }
            if line.starts_with("refused ") {
                return Some(line);
            }
        }
    }

    /// Everything that was acknowledged is there after a kill, and the file is whole.
    fn end(mut self) {
        self.child.kill();
        let path = self.folder.path().join("events.sqlite");
        assert_eq!(verify(&path, 0, |_| ()).unwrap().bad, None);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let log: Arc<SqliteLog> = SqliteLog::open(&path, Options::default()).unwrap();
            let stored = numbers(&log).await;
            let lost: Vec<_> = self.acknowledged.iter().filter(|n| !stored.contains(n)).collect();
            assert!(lost.is_empty(), "{lost:?}");
        });
    }
}

#[test]
fn files_that_may_not_grow_stop_appends_until_they_may() {
    let mut process = Appending::start(tempfile::tempdir().unwrap(), &[]);
    for _ in 0..3 {
        for _ in 0..20 {
            assert_eq!(process.append(), None);
        }
        process.child.tell("limit");
        for _ in 0..5 {
            let refused = process.append().expect("no file may grow");
            assert!(refused.contains("disk I/O error while "), "{refused}");
        }
        process.child.tell("lift");
        assert_eq!(process.append(), None, "it heals");
    }
    process.end();
}

/// Stands in for the system's functions in a process that loads it first.
const SYNC_FAILS: &str = r#"
    #include <errno.h>
    #include <stdlib.h>
    #include <sys/syscall.h>
    #include <unistd.h>

    static int broken(void) {
        if (access(getenv("SOUK_TEST_BROKEN"), F_OK) != 0) return 0;
        errno = EIO;
        return 1;
    }
    int fsync(int file) { return broken() ? -1 : syscall(SYS_fsync, file); }
    int fdatasync(int file) { return broken() ? -1 : syscall(SYS_fdatasync, file); }
"#;

#[test]
#[cfg(target_os = "linux")]
fn what_cannot_be_forced_to_disk_is_not_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("sync.c"), folder.path().join("sync.so"));
    let broken = folder.path().join("broken");
    std::fs::write(&source, SYNC_FAILS).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    assert!(compiled.unwrap().success());
    let settings = [("LD_PRELOAD", library.display().to_string()), (BROKEN, broken.display().to_string())];
    let mut process = Appending::start(folder, &settings);
    for _ in 0..3 {
        for _ in 0..20 {
            assert_eq!(process.append(), None);
        }
        std::fs::write(&broken, "").unwrap();
        let refused = process.append().expect("the commit fails");
        assert!(refused.contains("forcing what was written to disk"), "{refused}");
        for _ in 0..5 {
            assert!(process.append().is_some(), "nobody knows what is on the disk");
        }
        std::fs::remove_file(&broken).unwrap();
        assert_eq!(process.append(), None, "it heals");
    }
    process.end();
}
