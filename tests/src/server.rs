//! A `souk serve` of the test's own.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use souk_local_postgres::{TestDatabase, TestPostgres};
use sqlx::PgPool;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{Answer, Person};

/// The program under test.
pub fn binary() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let folder = test.ancestors().find(|folder| folder.join("souk").is_file());
    folder.expect("target/…/souk: run `cargo build -p souk` first").join("souk")
}

pub struct Server {
    folder: TempDir,
    /// None of one that somebody else runs.
    database: Option<TestDatabase>,
    database_url: String,
    script: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    process: Option<Child>,
    address: String,
}

impl Server {
    pub async fn start() -> Self {
        Self::scripted("{}").await
    }

    /// With a sandbox that does what the script says.
    pub async fn scripted(script: &str) -> Self {
        Self::with(script, &[]).await
    }

    pub async fn with(script: &str, arguments: &[&str]) -> Self {
        let mut server = Self::unstarted().await;
        server.script = script.into();
        server.arguments = arguments.iter().map(ToString::to_string).collect();
        server.resume().await;
        server
    }

    /// Without any data yet; [`Self::resume`] starts it.
    pub async fn unstarted() -> Self {
        let database = TestPostgres::shared().await.database().await;
        Self { database_url: database.url().to_owned(), database: Some(database), ..Self::on("") }
    }

    /// The same, on somebody else's PostgreSQL.
    pub fn on(database_url: &str) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            database: None,
            database_url: database_url.into(),
            script: "{}".into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            process: None,
            address: String::new(),
        }
    }

    /// A variable of its environment from the next start on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// Starts it on the data it has.
    pub async fn resume(&mut self) {
        self.launch();
        self.until_ready().await;
    }

    /// As [`Self::resume`], but waits for nothing.
    pub fn launch(&mut self) {
        let script = self.folder.path().join("sandbox.json");
        std::fs::write(&script, &self.script).unwrap();
        let (listen, metrics) = (free_address(), free_address());
        let output = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let process = self
            .command(&["serve", "--listen", &listen, "--metrics-listen", &metrics])
            .arg("--sandbox")
            .arg(script)
            .args(&self.arguments)
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        self.process = Some(process);
        self.address = format!("http://{listen}");
    }

    /// A command of the program on this server's data.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data_dir())
            .arg("--database-url")
            .arg(&self.database_url)
            .env("SOUK_LOG", "info")
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Runs a command to its end and returns what it printed.
    pub async fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "souk {arguments:?} failed:\n{out}\n{err}");
        out.into_owned()
    }

    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    pub fn address(&self) -> &str {
        &self.address
    }

    async fn until_ready(&mut self) {
        let started = Instant::now();
        let client = reqwest::Client::new();
        while started.elapsed() < Duration::from_mins(1) {
            if let Some(status) = self.process.as_mut().unwrap().try_wait().unwrap() {
                panic!("souk serve ended with {status}:\n{}", self.log());
            }
            if let Ok(answer) = client.get(format!("{}/readyz", self.address)).send().await
                && answer.status().is_success()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("souk serve does not get ready:\n{}", self.log());
    }

    fn log(&self) -> String {
        let log = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let tail: Vec<_> = log.lines().rev().take(60).collect();
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.as_ref().unwrap().id().unwrap().cast_signed())
    }

    /// kill -9.
    pub async fn kill(&mut self) {
        self.end(Signal::SIGKILL).await;
    }

    /// Asks it to drain, and returns its exit status.
    pub async fn stop(&mut self) -> Option<i32> {
        self.end(Signal::SIGTERM).await
    }

    async fn end(&mut self, signal: Signal) -> Option<i32> {
        kill(self.pid(), signal).unwrap();
        let mut process = self.process.take().unwrap();
        let status = tokio::time::timeout(Duration::from_secs(30), process.wait()).await;
        status.unwrap_or_else(|_| panic!("souk does not end on {signal}:\n{}", self.log())).unwrap().code()
    }

    /// Somebody without an account.
    pub fn stranger(&self) -> Person {
        Person::stranger(&self.address)
    }

    pub async fn buyer(&self, name: &str) -> Person {
        self.stranger().registered(name, "buyer").await
    }

    pub async fn seller(&self, name: &str) -> Person {
        self.stranger().registered(name, "seller").await
    }

    /// An admin or an analyst, made by the command line as an operator would.
    pub async fn staff(&self, name: &str, role: &str) -> Person {
        let email = format!("{name}@example.com");
        let mut child = self
            .command(&["account", "create", "--email", &email, "--role", role])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stdin, b"correct horse battery\n").await.unwrap();
        drop(stdin);
        assert!(child.wait().await.unwrap().success(), "account create failed");
        self.stranger().logged_in(&email, "correct horse battery").await
    }

    /// Polls until the answer is as wanted.
    pub async fn until(&self, person: &Person, path: &str, wanted: impl Fn(&Value) -> bool) -> Answer {
        let started = Instant::now();
        loop {
            let answer = person.get(path).await;
            if wanted(&answer.body) {
                return answer;
            }
            assert!(
                started.elapsed() < Duration::from_secs(30),
                "{path} stays {}\n{}",
                answer.body,
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    /// Its PostgreSQL.
    pub async fn pool(&self) -> PgPool {
        self.database.as_ref().unwrap().pool().await
    }

    /// The event log, opened as any SQLite tool may.
    pub fn log_database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.data_dir().join("events.sqlite")).unwrap()
    }

    /// The sandbox's own books.
    pub fn bank(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.data_dir().join("bank.sqlite")).unwrap()
    }
}

/// Where nobody listens at the moment.
pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Makes a folder's parents passable, as a private PostgreSQL under another user needs it.
pub fn traversable(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}
