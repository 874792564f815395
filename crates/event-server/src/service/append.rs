//! Appends. A conflict is an answer, not a refusal.

use std::sync::Arc;

use souk_event_log::{Appended, NewEvent, Revision, StreamName};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Status, Streaming};

use super::{MAX_APPEND, Service, missing, target, to_its_end};
use crate::{
    codec::{self, store},
    refusal::Refusal,
    streams::{Expectation, Streams},
    wire::streams::{
        AppendReq, AppendResp, ProposedMessage, Success,
        append_req::Content,
        append_resp::{Result as Outcome, WrongExpectedVersion, wrong_expected_version},
        success,
    },
};

/// Events of one append, up to the largest, and within what all appends together may hold.
pub(super) struct Proposal {
    pub(super) events: Vec<NewEvent>,
    pub(super) bytes: usize,
    room: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

impl Proposal {
    /// The room is in KiB.
    pub(super) fn new(room: &Arc<Semaphore>) -> Self {
        Self { events: Vec::new(), bytes: 0, room: Arc::clone(room), held: None }
    }

    pub(super) fn add(&mut self, message: ProposedMessage) -> Result<(), Refusal> {
        let bytes = message.data.len() + message.custom_metadata.len();
        self.bytes += bytes;
        if self.bytes > MAX_APPEND {
            return Err(Refusal::TooLarge);
        }
        let room = Arc::clone(&self.room).try_acquire_many_owned((bytes >> 10) as u32 + 1);
        let room = room.map_err(|_| Refusal::Unavailable("too much is being appended at once".into()))?;
        match &mut self.held {
            Some(held) => held.merge(room),
            None => self.held = Some(room),
        }
        self.events.push(store(message)?);
        Ok(())
    }

    pub(super) fn take(&mut self) -> Vec<NewEvent> {
        std::mem::take(&mut self.events)
    }
}

impl Service {
    pub(super) async fn append_one(
        &self,
        request: Request<Streaming<AppendReq>>,
    ) -> Result<AppendResp, Refusal> {
        let mut messages = request.into_inner();
        let Some(Content::Options(options)) = next(&mut messages).await? else {
            return Err(missing("options, the first message of an append,"));
        };
        let (stream, expectation) = target(options)?;
        let mut proposal = Proposal::new(&self.0.appends);
        while let Some(content) = next(&mut messages).await? {
            let Content::ProposedMessage(message) = content else {
                return Err(Refusal::Invalid("an append has options once, at its beginning".into()));
            };
            proposal.add(message)?;
        }
        let streams = Arc::clone(&self.0.streams);
        let appended = to_its_end(async move {
            let events = proposal.take();
            append(&streams, &stream, expectation, events).await
        });
        let result = match appended.await {
            Ok(success) => Outcome::Success(success),
            Err(Refusal::Conflict { actual, .. }) => {
                Outcome::WrongExpectedVersion(conflict(expectation, actual))
            }
            Err(refusal) => return Err(refusal),
        };
        Ok(AppendResp { result: Some(result) })
    }
}

async fn next(messages: &mut Streaming<AppendReq>) -> Result<Option<Content>, Refusal> {
    match messages.message().await.map_err(broken)? {
        Some(AppendReq { content: Some(content) }) => Ok(Some(content)),
        Some(AppendReq { content: None }) => Err(missing("the content of a message")),
        None => Ok(None),
    }
}

/// A message that did not arrive, or is larger than any may be.
pub(super) fn broken(status: Status) -> Refusal {
    if status.code() == tonic::Code::OutOfRange {
        Refusal::TooLarge
    } else {
        Refusal::Invalid(status.message().to_owned())
    }
}

async fn append(
    streams: &Streams,
    stream: &StreamName,
    expectation: Expectation,
    events: Vec<NewEvent>,
) -> Result<Success, Refusal> {
    let empty = events.is_empty();
    let admitted = streams.admit(stream, expectation, &events).await?;
    let appended = streams.append(stream, expectation, events, admitted).await?;
    if empty && streams.log.stream_head(stream).await?.is_none() {
        let (current, at) = (success::Current::NoStream(()), success::At::NoPosition(()));
        return Ok(Success { current: Some(current), at: Some(at) });
    }
    Ok(succeeded(appended))
}

pub(super) fn succeeded(appended: Appended) -> Success {
    Success {
        current: Some(success::Current::CurrentRevision(appended.last_revision)),
        at: Some(success::At::Position(codec::position(appended.position))),
    }
}

fn conflict(expectation: Expectation, actual: Option<Revision>) -> WrongExpectedVersion {
    use wrong_expected_version::{Current, Expected};
    WrongExpectedVersion {
        current: Some(actual.map_or(Current::CurrentNoStream(()), Current::CurrentRevision)),
        expected: Some(match expectation {
            Expectation::Any => Expected::ExpectedAny(()),
            Expectation::NoStream => Expected::ExpectedNoStream(()),
            Expectation::Exists => Expected::ExpectedStreamExists(()),
            Expectation::Exact(revision) => Expected::ExpectedRevision(revision),
        }),
    }
}
