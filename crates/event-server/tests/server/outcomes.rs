//! What becomes of a call that goes wrong: seen by the event log's adapter, and left behind by a client that goes away.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::Utc;
use futures::{StreamExt, stream};
use souk_event_log::{
    AppendError, Appended, Direction, EventLog, EventStream, Expected, Filter, KurrentLog, MemoryLog,
    NewEvent, Position, ReadError, Revision, StreamName, Subscription,
};
use souk_event_server::wire::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq, ReadResp,
    append_resp::{
        Result as Outcome, WrongExpectedVersion,
        wrong_expected_version::{Current, Expected as Believed},
    },
    streams_server::{Streams, StreamsServer},
};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};
use uuid::Uuid;

use crate::support::{ANY, connect, event, serve_log, stream as whole};

const SOON: Duration = Duration::from_secs(10);

fn new_event(number: u128) -> NewEvent {
    NewEvent {
        id: Uuid::from_u128(number),
        event_type: "Happened".into(),
        data: b"{}".to_vec(),
        metadata: b"{}".to_vec().into(),
    }
}

/// A log that can be damaged, and whose appends to streams `slow-…` wait to be let through.
struct Odd {
    log: MemoryLog,
    damaged: AtomicBool,
    asked: Semaphore,
    through: Semaphore,
}

impl Odd {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            log: MemoryLog::new(Arc::new(Utc::now)),
            damaged: AtomicBool::new(false),
            asked: Semaphore::new(0),
            through: Semaphore::new(0),
        })
    }

    fn or_damage(&self, events: EventStream) -> EventStream {
        if self.damaged.load(Ordering::Relaxed) {
            return stream::iter([Err(ReadError::Corrupt("event 7 is missing".into()))]).boxed();
        }
        events
    }
}

#[async_trait]
impl EventLog for Odd {
    async fn append(
        &self,
        stream: &StreamName,
        expected: Expected,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        if stream.category() == "slow" {
            self.asked.add_permits(1);
            self.through.acquire().await.unwrap().forget();
        }
        self.log.append(stream, expected, events).await
    }

    fn read_stream(
        &self,
        name: &StreamName,
        from: Revision,
        direction: Direction,
        limit: usize,
    ) -> EventStream {
        self.or_damage(self.log.read_stream(name, from, direction, limit))
    }

    fn read_all(&self, from: Position, filter: Filter, direction: Direction, limit: usize) -> EventStream {
        self.or_damage(self.log.read_all(from, filter, direction, limit))
    }

    fn subscribe(&self, after: Option<Position>, filter: Filter) -> Subscription {
        self.log.subscribe(after, filter)
    }

    async fn head(&self) -> Result<Option<Position>, ReadError> {
        self.log.head().await
    }

    async fn stream_head(&self, stream: &StreamName) -> Result<Option<Revision>, ReadError> {
        self.log.stream_head(stream).await
    }
}

#[tokio::test]
async fn an_append_whose_client_goes_away_is_made_or_not_but_never_half() {
    let odd = Odd::new();
    let (address, _stop) = serve_log(Arc::clone(&odd) as _).await;
    let mut client = connect(address).await;
    odd.through.add_permits(1);
    client.add("slow-1", [1]).await;
    client.delete("slow-1", ANY).await.unwrap();
    odd.asked.acquire().await.unwrap().forget();
    // The stream has been made to begin again by now; the event it begins with is on its way.
    let mut other = connect(address).await;
    let appending = tokio::spawn(async move { other.append("slow-1", ANY, [event(2)]).await });
    odd.asked.acquire().await.unwrap().forget();
    appending.abort();
    assert!(appending.await.unwrap_err().is_cancelled());
    // A deletion waits for it, also when the server has heard that its client is gone.
    let mut third = connect(address).await;
    let waiting = timeout(Duration::from_millis(300), third.delete("slow-1", ANY));
    assert!(waiting.await.is_err(), "a deletion overtook an append");
    odd.through.add_permits(1);
    let name = StreamName::parse("slow-1").unwrap();
    let written = async {
        while odd.log.stream_head(&name).await.unwrap() != Some(1) {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, written).await.expect("the append was dropped half way");
}

#[tokio::test]
async fn a_damaged_log_is_told_from_a_server_that_is_away() {
    let odd = Odd::new();
    let (address, _stop) = serve_log(Arc::clone(&odd) as _).await;
    let log = KurrentLog::connect(format!("kurrentdb://{address}?tls=false").parse().unwrap()).await.unwrap();
    let name = StreamName::new("a", 1);
    log.append(&name, Expected::NoStream, vec![new_event(1)]).await.unwrap();
    odd.damaged.store(true, Ordering::Relaxed);
    for mut events in [
        log.read_stream(&name, 0, Direction::Forward, 10),
        log.read_all(0, Filter::all(), Direction::Forward, 10),
        log.read_all(7, Filter::categories(["a"]), Direction::Forward, 10),
    ] {
        // At once: there is no use in another try.
        let read = timeout(SOON / 2, events.next()).await.unwrap();
        let Some(Err(ReadError::Corrupt(what))) = read else { panic!("{read:?}") };
        assert_eq!(what, "event 7 is missing");
    }
    let refused = connect(address).await.read(whole("a-1")).await.unwrap_err();
    assert_eq!(refused.message(), "the event log is damaged: event 7 is missing");
}

/// Answers each append with the next answer.
struct Scripted(Mutex<VecDeque<Result<AppendResp, Status>>>);

type Answers<T> = stream::Empty<Result<T, Status>>;

#[tonic::async_trait]
impl Streams for Scripted {
    type ReadStream = Answers<ReadResp>;
    type BatchAppendStream = Answers<BatchAppendResp>;

    async fn read(&self, _: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        Ok(Response::new(stream::empty()))
    }

    async fn append(&self, _: Request<Streaming<AppendReq>>) -> Result<Response<AppendResp>, Status> {
        self.0.lock().unwrap().pop_front().unwrap().map(Response::new)
    }

    async fn delete(&self, _: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        Err(Status::unimplemented("delete"))
    }

    async fn tombstone(&self, _: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        Err(Status::unimplemented("tombstone"))
    }

    async fn batch_append(
        &self,
        _: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        Err(Status::unimplemented("batch append"))
    }
}

/// What the adapter makes of these answers to one append.
async fn append(answers: Vec<Result<AppendResp, Status>>) -> Result<Appended, AppendError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = StreamsServer::new(Scripted(Mutex::new(answers.into())));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    let log = KurrentLog::connect(format!("kurrentdb://{address}?tls=false").parse().unwrap()).await.unwrap();
    log.append(&StreamName::new("a", 1), Expected::NoStream, vec![new_event(1)]).await
}

#[tokio::test]
async fn what_an_earlier_try_may_have_written_is_not_forgotten() {
    let busy = || Status::resource_exhausted("too many wrong passwords");
    let perhaps = || Status::aborted("nobody knows");
    let conflict = AppendResp {
        result: Some(Outcome::WrongExpectedVersion(WrongExpectedVersion {
            current: Some(Current::CurrentRevision(3)),
            expected: Some(Believed::ExpectedNoStream(())),
        })),
    };
    let outcome = append(vec![Err(busy())]).await;
    assert!(matches!(outcome, Err(AppendError::Unavailable(_))), "{outcome:?}");
    let outcome = append(vec![Err(perhaps()), Err(busy())]).await;
    assert!(matches!(outcome, Err(AppendError::Unknown(_))), "{outcome:?}");
    // What was written would have been told of as such.
    let outcome = append(vec![Err(perhaps()), Ok(conflict)]).await;
    assert!(matches!(outcome, Err(AppendError::Conflict { actual: Some(3) })), "{outcome:?}");
}
