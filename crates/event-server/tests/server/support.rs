//! A server over an SQLite log of the test's own, and short words for what tests ask of it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use futures::StreamExt;
use souk_event_log::{Clock, EventLog, SqliteLog, sqlite};
use souk_event_server::{
    Access, Options, serve,
    wire::{
        StreamIdentifier, Uuid as WireUuid,
        streams::{
            AppendReq, AppendResp, DeleteReq, ProposedMessage, ReadReq, ReadResp, Target, append_req,
            append_resp,
            read_req::{
                self, AllOptions, ControlOption, Direction, Options as ReadOptions, StreamOptions,
                UuidOption, options, uuid_option,
            },
            read_resp::{Content, RecordedEvent},
            streams_client::StreamsClient,
            target::Expected,
        },
        uuid::Value,
    },
};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Status, Streaming, transport::Channel};
use uuid::Uuid;

pub(crate) struct Server {
    pub(crate) log: Arc<SqliteLog>,
    pub(crate) address: SocketAddr,
    /// Seconds since 1970, for the log and for the server.
    pub(crate) now: Arc<AtomicI64>,
    stop: CancellationToken,
    running: JoinHandle<Result<(), tonic::transport::Error>>,
    _folder: TempDir,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// Open to all, the category `order` protected, but for what is changed.
    pub(crate) async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let now = Arc::new(AtomicI64::new(Utc::now().timestamp()));
        let clock: Clock = {
            let now = Arc::clone(&now);
            Arc::new(move || DateTime::from_timestamp(now.load(Ordering::Relaxed), 0).unwrap())
        };
        let log_options = sqlite::Options { clock: Arc::clone(&clock), ..sqlite::Options::default() };
        let log = SqliteLog::open(&folder.path().join("events.sqlite"), log_options).unwrap();
        let mut options = Options::new(Access::Open, clock);
        options.allow_append = true;
        options.protected.insert("order".to_owned());
        change(&mut options);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(serve(Arc::clone(&log) as _, options, listener, stop.clone()));
        Self { log, address, now, stop, running, _folder: folder }
    }

    pub(crate) async fn client(&self) -> Client {
        connect(self.address).await
    }

    /// Tells the server to stop, and waits until it has.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// A server over some other log, open to all, until the guard is dropped.
pub(crate) async fn serve_log(log: Arc<dyn EventLog>) -> (SocketAddr, DropGuard) {
    let options = Options { allow_append: true, ..Options::new(Access::Open, Arc::new(Utc::now)) };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    tokio::spawn(serve(log, options, listener, stop.clone()));
    (address, stop.drop_guard())
}

pub(crate) async fn connect(address: SocketAddr) -> Client {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    Client(StreamsClient::new(channel.connect().await.unwrap()).max_decoding_message_size(usize::MAX))
}

pub(crate) struct Client(pub(crate) StreamsClient<Channel>);

pub(crate) fn event(number: u128) -> ProposedMessage {
    typed(number, "Happened")
}

pub(crate) fn typed(number: u128, event_type: &str) -> ProposedMessage {
    ProposedMessage {
        id: Some(WireUuid { value: Some(Value::String(Uuid::from_u128(number).to_string())) }),
        metadata: HashMap::from([
            ("type".to_owned(), event_type.to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
        ]),
        custom_metadata: b"{}".to_vec(),
        data: format!(r#"{{"number":{number}}}"#).into_bytes(),
    }
}

pub(crate) fn target(stream: &str, expected: Expected) -> Target {
    let stream_identifier = Some(StreamIdentifier { stream_name: stream.into() });
    Target { stream_identifier, expected: Some(expected) }
}

pub(crate) const ANY: Expected = Expected::Any(());
pub(crate) const NO_STREAM: Expected = Expected::NoStream(());
pub(crate) const EXISTS: Expected = Expected::StreamExists(());

impl Client {
    /// The answer as it is.
    pub(crate) async fn append(
        &mut self,
        stream: &str,
        expected: Expected,
        events: impl IntoIterator<Item = ProposedMessage>,
    ) -> Result<append_resp::Result, Status> {
        let mut messages = vec![append_req::Content::Options(target(stream, expected))];
        messages.extend(events.into_iter().map(append_req::Content::ProposedMessage));
        let messages = messages.into_iter().map(|content| AppendReq { content: Some(content) });
        let AppendResp { result } =
            self.0.append(futures::stream::iter(messages.collect::<Vec<_>>())).await?.into_inner();
        Ok(result.unwrap())
    }

    /// Appends events with these numbers, which must succeed.
    pub(crate) async fn add(&mut self, stream: &str, numbers: impl IntoIterator<Item = u128>) -> u64 {
        let result = self.append(stream, ANY, numbers.into_iter().map(event)).await.unwrap();
        position(&result)
    }

    /// Describes the stream.
    pub(crate) async fn describe(&mut self, stream: &str, json: &str) {
        let mut metadata = typed(rand::random(), "$metadata");
        metadata.data = json.into();
        let result = self.append(&format!("$${stream}"), ANY, [metadata]).await.unwrap();
        assert!(matches!(result, append_resp::Result::Success(_)), "{result:?}");
    }

    pub(crate) async fn delete(&mut self, stream: &str, expected: Expected) -> Result<(), Status> {
        self.0.delete(DeleteReq { options: Some(target(stream, expected)) }).await.map(|_| ())
    }

    pub(crate) async fn tombstone(&mut self, stream: &str, expected: Expected) -> Result<(), Status> {
        self.0.tombstone(DeleteReq { options: Some(target(stream, expected)) }).await.map(|_| ())
    }

    /// What a read comes to.
    pub(crate) async fn read(&mut self, options: ReadOptions) -> Result<Vec<Content>, Status> {
        let mut stream = self.open(options).await?;
        let mut contents = Vec::new();
        while let Some(message) = stream.next().await {
            contents.push(message?.content.unwrap());
        }
        Ok(contents)
    }

    /// The call may be refused before there is any message.
    pub(crate) async fn open(&mut self, options: ReadOptions) -> Result<Streaming<ReadResp>, Status> {
        Ok(self.0.read(ReadReq { options: Some(options) }).await?.into_inner())
    }

    /// The numbers of a stream's events, in the order read.
    pub(crate) async fn numbers(&mut self, options: ReadOptions) -> Vec<u64> {
        self.read(options).await.unwrap().iter().filter_map(number).collect()
    }
}

pub(crate) fn position(result: &append_resp::Result) -> u64 {
    let append_resp::Result::Success(success) = result else { panic!("{result:?}") };
    let Some(souk_event_server::wire::streams::success::At::Position(at)) = success.at else {
        panic!("{success:?}")
    };
    assert_eq!(at.commit_position, at.prepare_position);
    at.commit_position
}

pub(crate) fn recorded(content: &Content) -> Option<&RecordedEvent> {
    match content {
        Content::Event(event) => event.event.as_ref(),
        _ => None,
    }
}

/// The number of an event made by [`event`].
pub(crate) fn number(content: &Content) -> Option<u64> {
    let data: serde_json::Value = serde_json::from_slice(&recorded(content)?.data).unwrap();
    data["number"].as_u64()
}

fn options(stream_option: options::StreamOption) -> ReadOptions {
    ReadOptions {
        read_direction: Direction::Forwards.into(),
        resolve_links: false,
        uuid_option: Some(UuidOption { content: Some(uuid_option::Content::String(())) }),
        control_option: Some(ControlOption { compatibility: 1 }),
        stream_option: Some(stream_option),
        count_option: Some(options::CountOption::Count(u64::MAX)),
        filter_option: Some(options::FilterOption::NoFilter(())),
    }
}

pub(crate) type FromRevision = read_req::stream_options::From;
pub(crate) type FromPosition = read_req::all_options::From;

/// The whole stream, forwards.
pub(crate) fn stream(name: &str) -> ReadOptions {
    stream_from(name, FromRevision::Start(()))
}

pub(crate) fn stream_from(name: &str, from: FromRevision) -> ReadOptions {
    let stream_identifier = Some(StreamIdentifier { stream_name: name.into() });
    options(options::StreamOption::Stream(StreamOptions { stream_identifier, from: Some(from) }))
}

pub(crate) fn all() -> ReadOptions {
    all_from(FromPosition::Start(()))
}

pub(crate) fn all_from(from: FromPosition) -> ReadOptions {
    options(options::StreamOption::All(AllOptions { from: Some(from) }))
}

pub(crate) fn at(position: u64) -> FromPosition {
    let (commit_position, prepare_position) = (position, position);
    FromPosition::Position(souk_event_server::wire::Position { commit_position, prepare_position })
}

pub(crate) trait Changed {
    fn backwards(self) -> Self;
    fn count(self, count: u64) -> Self;
    fn live(self) -> Self;
    fn filtered(self, filter: read_req::FilterOptions) -> Self;
}

impl Changed for ReadOptions {
    fn backwards(mut self) -> Self {
        self.read_direction = Direction::Backwards.into();
        self
    }

    fn count(mut self, count: u64) -> Self {
        self.count_option = Some(options::CountOption::Count(count));
        self
    }

    fn live(mut self) -> Self {
        self.count_option = Some(options::CountOption::Subscription(()));
        self
    }

    fn filtered(mut self, filter: read_req::FilterOptions) -> Self {
        self.filter_option = Some(options::FilterOption::Filter(filter));
        self
    }
}

/// The next message of a subscription.
pub(crate) async fn next(subscription: &mut Streaming<ReadResp>) -> Result<Content, Status> {
    subscription.next().await.expect("a subscription never just ends").map(|message| message.content.unwrap())
}

/// The trailer by which clients tell refusals apart.
pub(crate) fn exception(status: &Status) -> &str {
    status.metadata().get("exception").map_or("", |value| value.to_str().unwrap())
}
