//! Batch appends: many appends over one call, each answered under its own correlation id as soon as it is durable. They
//! reach the log in the order they came, and do not wait for each other.

use std::{collections::HashMap, sync::Arc};

use futures::{StreamExt, future::BoxFuture, poll, stream::BoxStream};
use souk_event_log::StreamName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};
use uuid::Uuid;

use super::{
    MAX_APPEND, Service,
    append::{Proposal, broken, succeeded},
    missing, target,
};
use crate::{
    codec::{identifier, text, uuid_of},
    refusal::Refusal,
    streams::{Expectation, Streams},
    wire::streams::{
        BatchAppendReq, BatchAppendResp, Success,
        batch_append_resp::{Expected, Result as Outcome},
    },
};

pub(crate) type Answers = BoxStream<'static, Result<BatchAppendResp, Status>>;

/// What may be under way for one call, in units of [`UNIT`] bytes: until an append's answer is taken, it takes its size
/// and one unit.
const UNIT: usize = 16 << 10;
const UNITS: usize = 2 * MAX_APPEND / UNIT;
/// Appends of one call that have begun to arrive.
const PENDING: usize = 1_024;

type Answer = (Result<BatchAppendResp, Status>, Option<OwnedSemaphorePermit>);

/// An append that arrives in pieces.
struct Pending {
    stream: StreamName,
    expectation: Expectation,
    proposal: Proposal,
}

impl Service {
    pub(super) fn append_many(&self, request: Request<Streaming<BatchAppendReq>>) -> Answers {
        let requests = request.into_inner();
        let (answers, taken) = mpsc::unbounded_channel();
        let batch = Batch {
            streams: Arc::clone(&self.0.streams),
            appends: Arc::clone(&self.0.appends),
            pending: HashMap::new(),
            room: Arc::new(Semaphore::new(UNITS)),
            answers,
        };
        tokio::spawn(batch.run(requests, self.0.stop.clone()));
        UnboundedReceiverStream::new(taken).map(|(answer, _room)| answer).boxed()
    }
}

struct Batch {
    streams: Arc<Streams>,
    /// What all appends of the server may hold.
    appends: Arc<Semaphore>,
    pending: HashMap<Uuid, Pending>,
    room: Arc<Semaphore>,
    answers: mpsc::UnboundedSender<Answer>,
}

impl Batch {
    async fn run(mut self, mut requests: Streaming<BatchAppendReq>, stop: CancellationToken) {
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = self.answers.closed() => return,
                () = stop.cancelled() => {
                    // Answers of what is under way come first.
                    let _all = self.room.acquire_many(UNITS as u32).await;
                    let stopping = Refusal::Unavailable("the event server is stopping".into());
                    let _ = self.answers.send((Err(stopping.into()), None));
                    return;
                }
            };
            let request = match request {
                Ok(Some(request)) => request,
                Ok(None) => return,
                Err(status) => {
                    let _ = self.answers.send((Err(broken(status).into()), None));
                    return;
                }
            };
            if let Err(refusal) = self.take(request).await {
                let _ = self.answers.send((Err(refusal.into()), None));
                return;
            }
        }
    }

    /// Refusals of one append are answers; what is refused here ends the call.
    async fn take(&mut self, request: BatchAppendReq) -> Result<(), Refusal> {
        let BatchAppendReq { correlation_id, options, proposed_messages, is_final } = request;
        let id = correlation_id.and_then(uuid_of).ok_or_else(|| missing("correlation_id, a UUID,"))?;
        if let Some(options) = options {
            let identifier = options.stream_identifier.clone();
            match target(options) {
                Ok((stream, expectation)) if self.pending.len() < PENDING => {
                    let proposal = Proposal::new(&self.appends);
                    self.pending.insert(id, Pending { stream, expectation, proposal });
                }
                Ok(_) => return Err(Refusal::Busy("too many appends have begun and not ended".into())),
                Err(refusal) => {
                    let result = Some(Outcome::Error(refusal.in_batch()));
                    let answer = BatchAppendResp {
                        correlation_id: Some(text(id)),
                        result,
                        stream_identifier: Some(identifier.unwrap_or_default()),
                        expected: None,
                    };
                    self.refuse(answer).await;
                }
            }
        }
        // The rest of an append that was refused is passed over.
        let Some(mut pending) = self.pending.remove(&id) else { return Ok(()) };
        for message in proposed_messages {
            if let Err(refusal) = pending.proposal.add(message) {
                self.refuse(pending.answer(id, Err(refusal))).await;
                return Ok(());
            }
        }
        let held: usize = self.pending.values().map(|pending| pending.proposal.bytes).sum();
        if held + pending.proposal.bytes > MAX_APPEND {
            self.refuse(pending.answer(id, Err(Refusal::TooLarge))).await;
        } else if is_final {
            self.append(id, pending).await;
        } else {
            self.pending.insert(id, pending);
        }
        Ok(())
    }

    async fn refuse(&self, answer: BatchAppendResp) {
        if let Ok(room) = Arc::clone(&self.room).acquire_owned().await {
            let _ = self.answers.send((Ok(answer), Some(room)));
        }
    }

    async fn append(&self, id: Uuid, mut pending: Pending) {
        let units = pending.proposal.bytes / UNIT + 1;
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(units as u32).await else { return };
        let events = pending.proposal.take();
        let admitted = self.streams.admit(&pending.stream, pending.expectation, &events).await;
        let admitted = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let _ = self.answers.send((Ok(pending.answer(id, Err(refusal))), Some(room)));
                return;
            }
        };
        let (streams, answers) = (Arc::clone(&self.streams), self.answers.clone());
        let mut appending: BoxFuture<'static, ()> = Box::pin(async move {
            let appended = streams.append(&pending.stream, pending.expectation, events, admitted).await;
            let _ = answers.send((Ok(pending.answer(id, appended.map(succeeded))), Some(room)));
        });
        // Here it enters the log's queue; what is left is waiting for it.
        if poll!(&mut appending).is_pending() {
            tokio::spawn(appending);
        }
    }
}

impl Pending {
    fn answer(&self, id: Uuid, result: Result<Success, Refusal>) -> BatchAppendResp {
        let result = match result {
            Ok(success) => Outcome::Success(success),
            Err(refusal) => {
                refusal.note("BatchAppend");
                Outcome::Error(refusal.in_batch())
            }
        };
        BatchAppendResp {
            correlation_id: Some(text(id)),
            result: Some(result),
            stream_identifier: Some(identifier(&self.stream)),
            expected: Some(match self.expectation {
                Expectation::Any => Expected::Any(()),
                Expectation::NoStream => Expected::NoStream(()),
                Expectation::Exists => Expected::StreamExists(()),
                Expectation::Exact(revision) => Expected::Revision(revision),
            }),
        }
    }
}
