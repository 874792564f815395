//! The calls. Each says who may make it, does its part, and is counted.

mod append;
mod batch;
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

use metrics::{Gauge, counter, gauge};
use souk_event_log::{Clock, EventLog, StreamName};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming, async_trait};
use uuid::Uuid;

use crate::{
    Options,
    access::{Gate, Wanted},
    codec::{self, Ids},
    outbox::{Answers, Terms, deliver},
    refusal::Refusal,
    streams::{Expectation, Streams},
    wire::streams::{
        AppendReq, AppendResp, BatchAppendReq, DeleteReq, DeleteResp, ReadReq, Target, delete_resp,
        read_req::{Options as ReadOptions, options::CountOption, uuid_option},
        streams_server, target,
    },
};

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
    subscriptions: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    appends: Arc<Semaphore>,
    patience: Duration,
    stop: CancellationToken,
    /// Subscriptions so far, for their ids.
    subscribed: AtomicU64,
}

impl Service {
    pub(crate) fn new(log: Arc<dyn EventLog>, options: Options, stop: CancellationToken) -> Self {
        let gate = Gate::new(options.access, options.allow_append);
        let streams = Streams::new(log, options.protected, Arc::clone(&options.clock));
        Self(Arc::new(Inner {
            gate,
            streams: Arc::new(streams),
            clock: options.clock,
            subscriptions: Arc::new(Semaphore::new(options.subscriptions)),
            reads: Arc::new(Semaphore::new(options.reads)),
            appends: Arc::new(Semaphore::new(ALL_APPENDS)),
            patience: options.patience,
            stop,
            subscribed: AtomicU64::new(0),
        }))
    }

    /// What is asked for, if whoever asks may.
    async fn admit<T>(&self, request: Request<T>, wanted: Wanted) -> Result<T, Refusal> {
        let (headers, extensions, message) = request.into_parts();
        self.0.gate.admit(&headers, &extensions, wanted).await?;
        Ok(message)
    }

    async fn answers(&self, request: Request<ReadReq>) -> Result<Answers, Refusal> {
        let options = self.admit(request, Wanted::Read).await?.options.ok_or_else(|| missing("options"))?;
        let ids = match options.uuid_option.and_then(|option| option.content) {
            Some(uuid_option::Content::String(())) => Ids::Text,
            Some(uuid_option::Content::Structured(())) | None => Ids::Structured,
        };
        match options.count_option {
            Some(CountOption::Count(count)) => self.read(options, count, ids).await,
            Some(CountOption::Subscription(())) => self.subscribe(options, ids).await,
            None => Err(missing("count_option")),
        }
    }

    async fn read(&self, options: ReadOptions, count: u64, ids: Ids) -> Result<Answers, Refusal> {
        let permit = timeout(READ_PATIENCE, Arc::clone(&self.0.reads).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(Refusal::Unavailable("too many reads are under way: try again".into()));
        };
        let terms = |held: OwnedSemaphorePermit| self.terms(None, Box::new(held));
        let source = read::read(Arc::clone(&self.0.streams), options, count, ids).await?;
        Ok(deliver(source, terms(permit)))
    }

    async fn subscribe(&self, options: ReadOptions, ids: Ids) -> Result<Answers, Refusal> {
        let permit = Arc::clone(&self.0.subscriptions).try_acquire_owned();
        let permit = permit
            .map_err(|_| Refusal::Busy("too many subscriptions are open on this event server".to_owned()))?;
        let number = self.0.subscribed.fetch_add(1, Ordering::Relaxed);
        let id = Uuid::from_u64_pair(u64::from(std::process::id()), number);
        let held = Box::new((permit, Open::count()));
        let clock = Arc::clone(&self.0.clock);
        let source = subscribe::subscribe(Arc::clone(&self.0.streams), options, ids, id, clock).await?;
        Ok(deliver(source, self.terms(Some(self.0.stop.clone()), held)))
    }

    fn terms(&self, stop: Option<CancellationToken>, held: Box<dyn Send>) -> Terms {
        Terms {
            patience: self.0.patience,
            stop,
            sent: counter!("souk_event_server_events_total"),
            dropped: counter!("souk_event_server_dropped_readers_total"),
            held,
        }
    }

    async fn remove(&self, request: Request<DeleteReq>, for_good: bool) -> Result<DeleteResp, Refusal> {
        let options = self.admit(request, Wanted::Append).await?.options.ok_or_else(|| missing("options"))?;
        let (stream, expectation) = target(options)?;
        let streams = &self.0.streams;
        let removed = if for_good {
            streams.tombstone(&stream, expectation).await?
        } else {
            streams.delete(&stream, expectation).await?
        };
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
        counted("BatchAppend", self.append_many(request).await)
    }
}

/// Makes the answer, and counts the call by how it was answered.
fn counted<T>(call: &'static str, result: Result<T, Refusal>) -> Result<Response<T>, Status> {
    if let Err(refusal) = &result {
        refusal.note(call);
    }
    let result = result.map(Response::new).map_err(Status::from);
    let code = result.as_ref().map_or_else(Status::code, |_| tonic::Code::Ok);
    counter!("souk_event_server_calls_total", "call" => call, "code" => format!("{code:?}")).increment(1);
    result
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
