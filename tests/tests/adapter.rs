//! The adapter for event servers against a server that is killed and started again: the real program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, future::join_all};
use souk_event_log::{
    AppendError, Direction, EventLog, Expected, Filter, KurrentLog, Message, NewEvent, StreamName,
};
use souk_tests::binary;
use tokio::process::{Child, Command};
use uuid::Uuid;

const WRITERS: usize = 6;
const KILLS: usize = 8;

struct EventServer {
    data: PathBuf,
    address: String,
    process: Child,
}

impl EventServer {
    fn start(data: &Path) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let process = Self::spawn(data, &address);
        Self { data: data.into(), address, process }
    }

    fn spawn(data: &Path, address: &str) -> Child {
        Command::new(binary())
            .args(["events", "serve", "--listen", address, "--insecure", "--allow-append", "--data-dir"])
            .arg(data)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    /// kill -9, and up again.
    async fn restart(&mut self) {
        self.process.kill().await.unwrap();
        self.process = Self::spawn(&self.data, &self.address);
    }

    async fn connect(&self) -> Arc<KurrentLog> {
        let address = format!("kurrentdb://{}?tls=false", self.address).parse().unwrap();
        KurrentLog::connect(address).await.unwrap()
    }
}

fn event(writer: usize, n: u64) -> NewEvent {
    NewEvent {
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{writer}/{n}").as_bytes()),
        event_type: "Counted".into(),
        data: format!(r#"{{"writer":{writer},"n":{n}}}"#).into_bytes(),
        metadata: b"{}".to_vec(),
    }
}

/// Counts in a stream of its own until told to stop; how far it came.
async fn counts(log: Arc<KurrentLog>, writer: usize, stop: tokio::sync::watch::Receiver<bool>) -> u64 {
    let stream = StreamName::new("count", writer);
    let mut n = 0_u64;
    while !*stop.borrow() {
        let expected = n.checked_sub(1).map_or(Expected::NoStream, Expected::Exact);
        match log.append(&stream, expected, vec![event(writer, n)]).await {
            Ok(appended) => {
                assert_eq!(appended.last_revision, n);
                n += 1;
            }
            // Whatever became of it: the same again finds out.
            Err(AppendError::Unknown(_) | AppendError::Unavailable(_)) => {}
            Err(conflict) => panic!("writer {writer} at {n}: {conflict}"),
        }
    }
    n
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_and_started_again_costs_no_append_and_no_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = EventServer::start(folder.path());
    let log = server.connect().await;
    let mut messages = log.subscribe(None, Filter::categories(["count"]));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(counts(Arc::clone(&log), writer, stopped.clone()))).collect();
    let mut seen = Vec::new();
    for kill in 1..=KILLS {
        // At least so many between two kills, wherever they fall.
        while seen.len() < kill * 100 {
            if let Message::Event(event) = messages.next().await.unwrap().unwrap() {
                seen.push(event);
            }
        }
        server.restart().await;
    }
    stop.send(true).unwrap();
    let counted: Vec<u64> = join_all(writers).await.into_iter().map(Result::unwrap).collect();
    let total: u64 = counted.iter().sum();
    while (seen.len() as u64) < total {
        let message = tokio::time::timeout(Duration::from_secs(30), messages.next()).await;
        if let Message::Event(event) = message.unwrap().unwrap().unwrap() {
            seen.push(event);
        }
    }
    println!("{total} events in {WRITERS} streams, {KILLS} kills");

    assert!(seen.is_sorted_by(|a, b| a.position < b.position), "out of order, or twice");
    for (writer, counted) in counted.iter().enumerate() {
        let stream = StreamName::new("count", writer);
        let stored: Vec<_> =
            log.read_stream(&stream, 0, Direction::Forward, usize::MAX).try_collect().await.unwrap();
        assert_eq!(stored.len() as u64, *counted);
        for (n, stored) in (0..).zip(&stored) {
            assert_eq!((stored.id, stored.revision), (event(writer, n).id, n));
        }
        let delivered: Vec<_> = seen.iter().filter(|event| event.stream == stream).cloned().collect();
        assert_eq!(delivered, stored);
    }
}
