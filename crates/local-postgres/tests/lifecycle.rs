//! A private server through its life: made, stopped, adopted, crashed. Each test has a server of its own.

#![expect(clippy::expect_used, reason = "a test that cannot go on fails")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use souk_local_postgres::{Error, LocalPostgres, Options};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

/// A folder that the server's user can pass through when the tests run as root.
fn folder() -> TempDir {
    tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o711)).tempdir().expect("a folder")
}

fn quick() -> Options {
    Options { lock_timeout: Duration::ZERO, ..Options::default() }
}

async fn start(dir: &Path) -> LocalPostgres {
    LocalPostgres::start(dir, quick()).await.expect("PostgreSQL starts")
}

async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("a connection")
}

async fn write(url: &str) {
    let mut connection = connect(url).await;
    sqlx::query("create table kept (n int)").execute(&mut connection).await.expect("created");
    sqlx::query("insert into kept values (42)").execute(&mut connection).await.expect("inserted");
}

async fn read(url: &str) -> i32 {
    sqlx::query_scalar("select n from kept").fetch_one(&mut connect(url).await).await.expect("kept")
}

fn pid_file(dir: &Path) -> PathBuf {
    dir.join("data/postmaster.pid")
}

fn pid(dir: &Path) -> i32 {
    let text = fs::read_to_string(pid_file(dir)).expect("a pid file");
    text.lines().next().and_then(|line| line.parse().ok()).expect("a pid")
}

#[tokio::test]
async fn data_is_kept_from_one_run_to_the_next() {
    let folder = folder();
    let dir = folder.path().join("not/there/yet");
    let began = Instant::now();
    let postgres = start(&dir).await;
    assert!(began.elapsed() < Duration::from_secs(20), "an empty folder took {:?}", began.elapsed());
    write(postgres.url()).await;
    assert_eq!(LocalPostgres::attach(&dir).await.expect("attached").as_deref(), Some(postgres.url()));
    postgres.stop().await.expect("stopped");
    assert!(!pid_file(&dir).exists());
    assert_eq!(LocalPostgres::attach(&dir).await.expect("looked"), None);

    let postgres = start(&dir).await;
    assert_eq!(read(postgres.url()).await, 42);
    postgres.stop().await.expect("stopped");
}

#[tokio::test]
async fn what_a_killed_process_left_running_is_adopted_and_stopped_at_the_end() {
    let folder = folder();
    let dir = folder.path().join("postgres");
    let postgres = start(&dir).await;
    write(postgres.url()).await;
    let pid_before = pid(&dir);
    postgres.leave_running();

    let adopted = start(&dir).await;
    assert_eq!(pid(&dir), pid_before);
    assert_eq!(read(adopted.url()).await, 42);
    adopted.stop().await.expect("stopped");
    assert!(!pid_file(&dir).exists());
}

#[tokio::test]
async fn a_server_that_was_killed_recovers() {
    let folder = folder();
    let dir = folder.path().join("postgres");
    let postgres = start(&dir).await;
    write(postgres.url()).await;
    kill(Pid::from_raw(pid(&dir)), Signal::SIGKILL).expect("killed");
    postgres.leave_running();

    let postgres = start(&dir).await;
    assert_eq!(read(postgres.url()).await, 42);
    postgres.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_server_that_is_kept_comes_back_when_it_ends_by_itself() {
    let folder = folder();
    let dir = folder.path().join("postgres");
    let postgres = start(&dir).await;
    let url = postgres.url().to_owned();
    write(&url).await;
    let (enough, told) = tokio::sync::oneshot::channel::<()>();
    let keeping = tokio::spawn(postgres.keep(async { drop(told.await) }));
    let before = pid(&dir);
    kill(Pid::from_raw(before), Signal::SIGKILL).expect("killed");
    let deadline = Instant::now() + Duration::from_secs(30);
    while PgConnection::connect(&url).await.is_err() || pid(&dir) == before {
        assert!(Instant::now() < deadline, "it did not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(read(&url).await, 42);
    enough.send(()).expect("it is still kept");
    keeping.await.expect("kept").expect("stopped");
    assert!(!pid_file(&dir).exists());
}

#[tokio::test]
async fn a_pid_file_that_names_somebody_else_does_not_hinder() {
    let folder = folder();
    let dir = folder.path().join("postgres");
    start(&dir).await.stop().await.expect("stopped");
    // As after a restart of a container: the same pid, another program.
    let mut other = std::process::Command::new("sleep").arg("600").spawn().expect("another process");
    fs::write(pid_file(&dir), format!("{}\n{}\n1\n5432\n/nowhere\n", other.id(), dir.display()))
        .expect("written");

    assert_eq!(LocalPostgres::attach(&dir).await.expect("looked"), None);
    start(&dir).await.stop().await.expect("stopped");
    other.kill().expect("ended");
    other.wait().expect("collected");
}

#[tokio::test]
async fn only_one_process_is_responsible_for_a_folder() {
    let folder = folder();
    let dir = folder.path().join("postgres");
    let (first, second) =
        tokio::join!(LocalPostgres::start(&dir, quick()), LocalPostgres::start(&dir, quick()));
    let (winner, loser) = if first.is_ok() { (first, second) } else { (second, first) };
    let error = loser.expect_err("the folder is taken");
    assert!(matches!(error, Error::InUse { .. }), "{error}");

    // One that waits gets it once the first has let go.
    let patient = Options { lock_timeout: Duration::from_mins(1), ..Options::default() };
    let winner = winner.expect("one of them");
    let (waited, ()) = tokio::join!(LocalPostgres::start(&dir, patient), async {
        tokio::task::yield_now().await;
        winner.stop().await.expect("stopped");
    });
    waited.expect("started").stop().await.expect("stopped");
}

#[tokio::test]
async fn a_dropped_server_is_told_to_end() {
    let folder = folder();
    let dir = folder.path().join("postgres");
    drop(start(&dir).await);
    // `attach` waits for a server that shuts down, and starting waits for it, too.
    while LocalPostgres::attach(&dir).await.expect("looked").is_some() {
        tokio::task::yield_now().await;
    }
    start(&dir).await.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_path_too_long_for_a_socket_gets_a_short_one() {
    let folder = folder();
    let dir = folder.path().join("a-long-name-".repeat(12)).join("postgres");
    let postgres = start(&dir).await;
    assert!(postgres.url().contains("host=/tmp/souk-pg-"), "{}", postgres.url());
    write(postgres.url()).await;
    assert_eq!(LocalPostgres::attach(&dir).await.expect("attached").as_deref(), Some(postgres.url()));
    let socket_dir = PathBuf::from(postgres.url().split_once("host=").expect("a host").1);
    assert_eq!(fs::metadata(&socket_dir).expect("there").permissions().mode() & 0o777, 0o700);
    postgres.stop().await.expect("stopped");
    assert!(!socket_dir.exists(), "a folder outside the data directory is cleared away");
}

#[tokio::test]
async fn an_interrupted_set_up_is_begun_again() {
    let folder = folder();
    let dir = folder.path().join("postgres");
    fs::create_dir_all(dir.join("data.new")).expect("a folder");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).expect("passable");
    fs::write(dir.join("data.new/half"), "written").expect("a file");
    start(&dir).await.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_server_that_cannot_start_says_why() {
    let folder = folder();
    let settings = vec![("shared_buffers".to_owned(), "nonsense".to_owned())];
    let error = LocalPostgres::start(&folder.path().join("postgres"), Options { settings, ..quick() })
        .await
        .expect_err("a setting it does not understand");
    assert!(matches!(&error, Error::Died { tail, .. } if tail.contains("shared_buffers")), "{error}");
}
