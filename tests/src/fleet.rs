//! A market of several processes over one event server, which takes appends with a password alone: two each of `api`,
//! `process`, `project` and `search`, or fewer that do more.

use std::{
    fs::File,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use souk_local_postgres::{TestDatabase, TestPostgres};
use tempfile::TempDir;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
};

use crate::{
    Gate, Person,
    server::{binary, free_address},
};

/// Any 32 bytes, the same for all.
const MASTER_KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// Who appends to the log.
const CREDENTIAL: &str = "fleet:0123456789abcdef";

pub struct Fleet {
    folder: TempDir,
    database: TestDatabase,
    log: String,
    nodes: Vec<Node>,
}

struct Node {
    name: String,
    /// What it runs beside where the data is.
    arguments: Vec<String>,
    /// Where it answers: over HTTP, or gRPC.
    address: String,
    /// What is asked there to see that it is up.
    sign: &'static str,
    /// Where it finds the log.
    log: String,
    process: Option<Child>,
}

impl Fleet {
    /// Starts all of them, and waits until those that answer do.
    pub async fn start() -> Self {
        Self::of(&["api", "process", "project", "api,search"], 2).await
    }

    /// So many processes of each of these roles, named after the last of its roles.
    pub async fn of(each: &[&str], number: usize) -> Self {
        let log = free_address();
        let mut fleet = Self {
            folder: tempfile::tempdir().unwrap(),
            database: TestPostgres::shared().await.database().await,
            nodes: Vec::new(),
            log: log.clone(),
        };
        let serve =
            ["events", "serve", "--listen", &log, "--allow-append", "--event-server-credential", CREDENTIAL];
        fleet.add("log", &log, "", &serve);
        fleet.begin("log").await;
        for &roles in each {
            for number in 1..=number {
                let name = format!("{}{number}", roles.rsplit(',').next().unwrap());
                let (listen, metrics) = (free_address(), free_address());
                let mut serve =
                    vec!["serve", "--roles", roles, "--listen", &listen, "--metrics-listen", &metrics];
                serve.push("--webhook-allow-private");
                // A process without an API shows by its metrics that it is there.
                let (address, sign) =
                    if roles.starts_with("api") { (&listen, "readyz") } else { (&metrics, "metrics") };
                fleet.add(&name, address, sign, &serve);
            }
        }
        for name in fleet.names() {
            fleet.begin(&name).await;
        }
        for name in fleet.names() {
            fleet.until_up(&name).await;
        }
        fleet
    }

    fn add(&mut self, name: &str, address: &str, sign: &'static str, arguments: &[&str]) {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let (name, address, log) = (name.into(), address.into(), self.log.clone());
        self.nodes.push(Node { name, arguments, address, sign, log, process: None });
    }

    /// From its next start on a process finds the log at the end of this.
    pub fn put_between(&mut self, name: &str, gate: &Gate) {
        self.node_mut(name).log = gate.address().into();
    }

    /// Where the event server answers.
    pub fn log_address(&self) -> &str {
        &self.log
    }

    /// Where a process keeps its files.
    pub fn data_dir(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn names(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.name.clone()).collect()
    }

    /// Starts a process, unless it runs.
    pub async fn begin(&mut self, name: &str) {
        if self.node(name).process.is_some() {
            return;
        }
        let output = File::options().create(true).append(true).open(self.output(name)).unwrap();
        let arguments: Vec<_> = self.node(name).arguments.iter().map(String::as_str).collect();
        let mut command = self.command(name, &arguments);
        let process = command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        self.node_mut(name).process = Some(process);
        if name == "log" {
            self.until_up(name).await;
        }
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--data-dir").arg(self.folder.path().join(name));
        if name != "log" {
            let log = self.nodes.iter().find(|node| node.name == name).map_or(&self.log, |node| &node.log);
            command
                .args(["--event-log", &format!("kurrentdb://{CREDENTIAL}@{log}?tls=false")])
                .args(["--database-url", self.database.url(), "--master-key", MASTER_KEY, "--sandbox-bank"])
                .arg(self.bank_file());
        }
        command.env("SOUK_LOG", "info").stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// kill -9.
    pub async fn kill(&mut self, name: &str) {
        let mut process = self.node_mut(name).process.take().unwrap();
        kill(Pid::from_raw(process.id().unwrap().cast_signed()), Signal::SIGKILL).unwrap();
        process.wait().await.unwrap();
    }

    /// It is there, and does nothing, until [`Self::wake`].
    pub fn freeze(&self, name: &str) {
        self.signal(name, Signal::SIGSTOP);
    }

    pub fn wake(&self, name: &str) {
        self.signal(name, Signal::SIGCONT);
    }

    fn signal(&self, name: &str, signal: Signal) {
        let id = self.node(name).process.as_ref().unwrap().id().unwrap();
        kill(Pid::from_raw(id.cast_signed()), signal).unwrap();
    }

    /// Ends all of them, the log last.
    pub async fn stop(&mut self) {
        for node in self.nodes.iter_mut().rev() {
            let Some(mut process) = node.process.take() else { continue };
            kill(Pid::from_raw(process.id().unwrap().cast_signed()), Signal::SIGTERM).unwrap();
            let ended = tokio::time::timeout(Duration::from_secs(30), process.wait()).await;
            assert!(ended.is_ok(), "{} does not end", node.name);
        }
    }

    pub async fn until_up(&mut self, name: &str) {
        let started = Instant::now();
        let (address, path) = (self.node(name).address.clone(), self.node(name).sign);
        loop {
            let up = match name {
                "log" => tokio::net::TcpStream::connect(&address).await.is_ok(),
                _ => reqwest::get(format!("http://{address}/{path}"))
                    .await
                    .is_ok_and(|answer| answer.status().is_success()),
            };
            if up {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_mins(1),
                "{name} is not up:\n{}",
                self.output_of(name)
            );
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
    }

    fn node(&self, name: &str) -> &Node {
        self.nodes.iter().find(|node| node.name == name).unwrap()
    }

    fn node_mut(&mut self, name: &str) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.name == name).unwrap()
    }

    pub fn address(&self, name: &str) -> String {
        format!("http://{}", self.node(name).address)
    }

    /// Somebody without an account, at one of the processes.
    pub fn stranger(&self, name: &str) -> Person {
        Person::stranger(&self.address(name))
    }

    /// An admin or an analyst, made by the command line as an operator would, at one of the processes.
    pub async fn staff(&self, at: &str, name: &str, role: &str) -> Person {
        let email = format!("{name}@example.com");
        let mut command = self.command("desk", &["account", "create", "--email", &email, "--role", role]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"correct horse battery\n").await.unwrap();
        assert!(child.wait().await.unwrap().success(), "account create failed");
        self.stranger(at).logged_in(&email, "correct horse battery").await
    }

    fn output(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.output"))
    }

    /// What a process has said.
    pub fn output_of(&self, name: &str) -> String {
        std::fs::read_to_string(self.output(name)).unwrap_or_default()
    }

    pub fn log_database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("log/events.sqlite")).unwrap()
    }

    fn bank_file(&self) -> PathBuf {
        self.folder.path().join("bank.sqlite")
    }

    pub fn bank(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.bank_file()).unwrap()
    }
}
