//! The adapter for event servers against a server that is killed and started again: the real program.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, future::join_all};
use souk_event_log::{
    AppendError, Appended, Direction, EventLog, EventStream, Expected, Filter, KurrentLog, Message, NewEvent,
    Position, ReadError, Revision, StreamName, Subscription,
    conformance::{Factory, appends, handles, reads, subscriptions},
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
        connect(&self.address).await
    }
}

async fn connect(address: &str) -> Arc<KurrentLog> {
    KurrentLog::connect(format!("kurrentdb://{address}?tls=false").parse().unwrap()).await.unwrap()
}

fn event(writer: usize, n: u64) -> NewEvent {
    NewEvent {
        id: Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{writer}/{n}").as_bytes()),
        event_type: "Counted".into(),
        data: format!(r#"{{"writer":{writer},"n":{n}}}"#).into_bytes(),
        metadata: b"{}".to_vec().into(),
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

/// A log whose appends are sent again, the same, until it is known what became of them.
struct Persistent(Arc<KurrentLog>);

#[async_trait]
impl EventLog for Persistent {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        loop {
            match self.0.append(stream, expected, events.clone()).await {
                Err(AppendError::Unknown(_) | AppendError::Unavailable(_)) => {}
                known => return known,
            }
        }
    }

    fn read_stream(
        &self,
        stream: &StreamName,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> EventStream {
        self.0.read_stream(stream, from, direction, limit)
    }

    fn read_all(&self, from: Position, filter: Filter, direction: Direction, limit: usize) -> EventStream {
        self.0.read_all(from, filter, direction, limit)
    }

    fn subscribe(&self, after: Option<Position>, filter: Filter) -> Subscription {
        self.0.subscribe(after, filter)
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.0.head().await
    }

    async fn last_before(&self, time: DateTime<Utc>) -> Result<Option<Position>, ReadError> {
        self.0.last_before(time).await
    }

    async fn stream_head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadError> {
        self.0.stream_head(stream).await
    }
}

/// Handles of the server's log, for one property; others use the same server.
struct Shared {
    address: String,
    property: &'static str,
}

#[async_trait]
impl Factory for Shared {
    async fn open(&self) -> Arc<dyn EventLog> {
        Arc::new(Persistent(connect(&self.address).await))
    }

    fn scope(&self) -> String {
        self.property.replace('_', "")
    }
}

/// Kills the server and starts it again, over and over, a little after it answers.
async fn keep_killing(mut server: EventServer, kills: tokio::sync::watch::Sender<usize>) {
    loop {
        // Ever other moments: what is under way is hit here and there.
        let pause = 100 + *kills.borrow() as u64 * 137 % 500;
        tokio::time::sleep(Duration::from_millis(pause)).await;
        server.restart().await;
        kills.send_modify(|kills| *kills += 1);
        server.connect().await;
    }
}

/// Runs the properties side by side while the server is killed, and says how often it was.
macro_rules! hold_under_kills {
    ($address:expr, $kills:expr, $($module:ident::$property:ident),+ $(,)?) => {
        let running = [$({
            let (shared, kills) =
                (Shared { address: $address.clone(), property: stringify!($property) }, $kills.clone());
            tokio::spawn(async move {
                $module::$property(&shared).await;
                println!("{}: {} kills", shared.property, *kills.borrow());
            })
        }),+];
        join_all(running).await.into_iter().for_each(Result::unwrap);
    };
}

/// What every adapter has to do, while the server is killed and started again. Left out is what rests on a server that
/// stays: where several write to one stream without an expectation, a repeat is not told from a second append.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_properties_of_a_log_hold_while_the_server_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let server = EventServer::start(folder.path());
    let address = server.address.clone();
    server.connect().await;
    let (count, kills) = tokio::sync::watch::channel(0);
    let killing = tokio::spawn(keep_killing(server, count));
    hold_under_kills!(
        address,
        kills,
        appends::expected_revisions_hold,
        appends::an_append_is_all_or_nothing,
        appends::one_of_many_wins,
        appends::repeated_appends_are_idempotent,
        appends::repeats_without_expectation,
        appends::an_empty_append_is_a_check,
        appends::what_was_given_is_stored,
        appends::recorded_at_never_goes_back,
        reads::a_stream_reads_both_ways,
        reads::nothing_reads_as_nothing,
        reads::long_reads_are_complete,
        subscriptions::catch_up_meets_live,
        subscriptions::checkpoints_pass_what_was_left_out,
        subscriptions::caught_up_is_told,
        subscriptions::a_slow_subscriber_misses_nothing,
        subscriptions::one_stream_can_be_followed,
        handles::exact_revisions_hold_between_handles,
        handles::a_log_outlives_its_handles,
    );
    assert!(*kills.borrow() >= 10, "it was hardly ever killed");
    killing.abort();
}
