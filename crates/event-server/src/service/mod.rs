//! The calls. Each says who may make it, does its part, and is counted.

mod append;
mod batch;
mod door;
mod hello;
mod read;
mod subscribe;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use metrics::{Gauge, counter, gauge};
use souk_event_log::{Clock, EventLog, StreamName};
use tokio::{
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming, async_trait};
use uuid::Uuid;

use crate::{
    Options,
    access::{Caller, Gate, Wanted},
    codec::{self, Ids},
    outbox::{Answers, Terms, deliver},
    refusal::Refusal,
    shares::{Full, Room},
    streams::{Expectation, Streams},
    wire::streams::{
        AppendReq, AppendResp, BatchAppendReq, DeleteReq, DeleteResp, ReadReq, Target, delete_resp,
        read_req::{Options as ReadOptions, options::CountOption, uuid_option},
        streams_server, target,
    },
};

pub(crate) use door::{Door, InTime, TINY};

/// Bytes that one append may hold, over all its events.
pub(crate) const MAX_APPEND: usize = 16 << 20;
/// KiB that all appends under way may hold.
const ALL_APPENDS: usize = 256 << 10;
/// How long a read waits for others to end.
const READ_PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct Service(Arc<Inner>);

struct Inner {
    gate: Gate,
    streams: Arc<Streams>,
    clock: Clock,
    subscriptions: Room,
    reads: Room,
    appends: Arc<Semaphore>,
    patience: Duration,
    arrival: Duration,
    stop: CancellationToken,
    /// Subscriptions so far, for their ids.
    subscribed: AtomicU64,
}

impl Service {
    pub(crate) fn new(log: Arc<dyn EventLog>, options: Options, stop: CancellationToken) -> Self {
        let gate = Gate::new(options.access, options.allow_append, options.remembered);
        let streams = Streams::new(log, options.protected, Arc::clone(&options.clock));
        Self(Arc::new(Inner {
            gate,
            streams: Arc::new(streams),
            clock: options.clock,
            subscriptions: Room::new(options.subscriptions, options.subscriptions_of_one),
            reads: Room::new(options.reads, options.reads_of_one),
            appends: Arc::new(Semaphore::new(ALL_APPENDS)),
            patience: options.patience,
            arrival: options.arrival,
            stop,
            subscribed: AtomicU64::new(0),
        }))
    }

    async fn answers(&self, request: Request<ReadReq>) -> Result<Answers, Refusal> {
        let (caller, message) = let_in(request)?;
        let options = message.options.ok_or_else(|| missing("options"))?;
        let ids = match options.uuid_option.and_then(|option| option.content) {
            Some(uuid_option::Content::String(())) => Ids::Text,
            Some(uuid_option::Content::Structured(())) | None => Ids::Structured,
        };
        match options.count_option {
            Some(CountOption::Count(count)) => self.read(caller, options, count, ids).await,
            Some(CountOption::Subscription(())) => self.subscribe(caller, options, ids).await,
            None => Err(missing("count_option")),
        }
    }

    async fn read(
        &self,
        caller: Caller,
        options: ReadOptions,
        count: u64,
        ids: Ids,
    ) -> Result<Answers, Refusal> {
        let Ok(Ok(seat)) = timeout(READ_PATIENCE, self.0.reads.wait(&caller)).await else {
            return Err(Refusal::Unavailable("too many reads are under way: try again".into()));
        };
        let source = read::read(Arc::clone(&self.0.streams), options, count, ids).await?;
        Ok(deliver(source, self.terms(self.clone().shut_out(caller).boxed(), Box::new(seat))))
    }

    async fn subscribe(&self, caller: Caller, options: ReadOptions, ids: Ids) -> Result<Answers, Refusal> {
        let seat = self.0.subscriptions.enter(&caller).map_err(|full| {
            Refusal::Busy(match full {
                Full::ForAccount => "this account has too many subscriptions open".into(),
                Full::ForAll => "too many subscriptions are open on this event server".into(),
            })
        })?;
        let number = self.0.subscribed.fetch_add(1, Ordering::Relaxed);
        let id = Uuid::from_u64_pair(u64::from(std::process::id()), number);
        let held = Box::new((seat, Open::count()));
        let clock = Arc::clone(&self.0.clock);
        let source = subscribe::subscribe(Arc::clone(&self.0.streams), options, ids, id, clock).await?;
        let (stop, shut_out) = (self.0.stop.clone(), self.clone().shut_out(caller));
        let ended = async move {
            tokio::select! {
                () = stop.cancelled_owned() => {
                    Refusal::Unavailable("the event server is stopping: subscribe again".into())
                }
                refusal = shut_out => refusal,
            }
        };
        Ok(deliver(source, self.terms(ended.boxed(), held)))
    }

    /// Waits until a reader may no longer read. While nobody can tell, it may.
    async fn shut_out(self, caller: Caller) -> Refusal {
        let gate = &self.0.gate;
        loop {
            sleep(gate.remembered()).await;
            let admitted = gate.admit_again(&caller, Wanted::Read).await;
            if let Err(refusal @ (Refusal::Unauthenticated(_) | Refusal::Denied(_))) = admitted {
                return refusal;
            }
        }
    }

    fn terms(&self, ended: BoxFuture<'static, Refusal>, held: Box<dyn Send>) -> Terms {
        Terms {
            patience: self.0.patience,
            ended,
            sent: counter!("souk_event_server_events_total"),
            dropped: counter!("souk_event_server_dropped_readers_total"),
            held,
        }
    }

    async fn remove(&self, request: Request<DeleteReq>, for_good: bool) -> Result<DeleteResp, Refusal> {
        let options = request.into_inner().options.ok_or_else(|| missing("options"))?;
        let (stream, expectation) = target(options)?;
        let streams = Arc::clone(&self.0.streams);
        let removed = to_its_end(async move {
            if for_good {
                streams.tombstone(&stream, expectation).await
            } else {
                streams.delete(&stream, expectation).await
            }
        })
        .await?;
        Ok(DeleteResp { at: Some(delete_resp::At::Position(codec::position(removed.position))) })
    }
}

/// A subscription that is open.
struct Open(Gauge);

impl Open {
    fn count() -> Self {
        let gauge = gauge!("souk_event_server_subscriptions");
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

#[async_trait]
impl streams_server::Streams for Service {
    type ReadStream = Answers;
    type BatchAppendStream = batch::Answers;

    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Answers>, Status> {
        counted("Read", self.answers(request).await)
    }

    async fn append(&self, request: Request<Streaming<AppendReq>>) -> Result<Response<AppendResp>, Status> {
        counted("Append", self.append_one(request).await)
    }

    async fn delete(&self, request: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        counted("Delete", self.remove(request, false).await)
    }

    async fn tombstone(&self, request: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        counted("Tombstone", self.remove(request, true).await)
    }

    async fn batch_append(
        &self,
        request: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<batch::Answers>, Status> {
        counted("BatchAppend", Ok(self.append_many(request)))
    }
}

/// Makes the answer, and counts the call by how it was answered.
fn counted<T>(call: &'static str, result: Result<T, Refusal>) -> Result<Response<T>, Status> {
    match result {
        Ok(answer) => {
            count(call, Code::Ok);
            Ok(Response::new(answer))
        }
        Err(refusal) => Err(refused(call, refusal)),
    }
}

fn refused(call: &'static str, refusal: Refusal) -> Status {
    refusal.note(call);
    let status = Status::from(refusal);
    count(call, status.code());
    status
}

fn count(call: &'static str, code: Code) {
    counter!("souk_event_server_calls_total", "call" => call, "code" => format!("{code:?}")).increment(1);
}

/// What is asked for, and by whom: the door has let him in.
fn let_in<T>(request: Request<T>) -> Result<(Caller, T), Refusal> {
    let (_, mut extensions, message) = request.into_parts();
    let caller = extensions.remove::<Caller>();
    let caller = caller.ok_or_else(|| Refusal::Unauthenticated("nobody was let in".into()))?;
    Ok((caller, message))
}

/// Writes what has to be written as a whole: a call whose client goes away is dropped where it stands.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    let done = tokio::spawn(work).await;
    done.unwrap_or_else(|error| Err(Refusal::Unknown(format!("it broke off: {error}"))))
}

fn missing(what: &str) -> Refusal {
    Refusal::Invalid(format!("{what} is missing"))
}

/// The stream that is to be written to, and what is believed about it.
fn target(target: Target) -> Result<(StreamName, Expectation), Refusal> {
    let expectation = match target.expected {
        Some(target::Expected::Any(())) => Expectation::Any,
        Some(target::Expected::NoStream(())) => Expectation::NoStream,
        Some(target::Expected::StreamExists(())) => Expectation::Exists,
        Some(target::Expected::Revision(revision)) => Expectation::Exact(revision),
        None => return Err(missing("the expected revision")),
    };
    Ok((codec::stream_of(target.stream_identifier)?, expectation))
}
