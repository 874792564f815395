//! How answers leave. Between what makes them and the connection waits a bounded amount; a reader that takes nothing for
//! longer than is reasonable is dropped with an error after which it may go on where it was.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt, future::BoxFuture, pin_mut, stream::BoxStream};
use metrics::Counter;
use prost::Message;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use crate::{
    refusal::Refusal,
    wire::streams::{ReadResp, read_resp::Content},
};

/// Bytes that wait for one reader, in units: a message takes at least one, and the largest as many as there are.
const UNIT: usize = 256;
const UNITS: u32 = 4_096;

pub(crate) type Answers = BoxStream<'static, Result<ReadResp, Status>>;

/// What goes with a delivery.
pub(crate) struct Terms {
    pub(crate) patience: Duration,
    /// Says when the delivery has to end before its own end, and why.
    pub(crate) ended: BoxFuture<'static, Refusal>,
    pub(crate) sent: Counter,
    pub(crate) dropped: Counter,
    /// Kept until the delivery has ended.
    pub(crate) held: Box<dyn Send>,
}

/// Delivers what the source gives.
pub(crate) fn deliver(
    source: impl Stream<Item = Result<ReadResp, Refusal>> + Send + 'static,
    terms: Terms,
) -> Answers {
    let (sender, receiver) = mpsc::unbounded_channel();
    let outbox = Outbox { sender, room: Arc::new(Semaphore::new(UNITS as usize)), patience: terms.patience };
    tokio::spawn(pump(source, outbox, terms));
    // Whoever takes a message makes room for the next.
    Box::pin(UnboundedReceiverStream::new(receiver).map(|Parcel { message, room }| {
        drop(room);
        message
    }))
}

struct Outbox {
    sender: mpsc::UnboundedSender<Parcel>,
    room: Arc<Semaphore>,
    patience: Duration,
}

struct Parcel {
    message: Result<ReadResp, Status>,
    room: Option<OwnedSemaphorePermit>,
}

enum Sent {
    Taken,
    /// The reader is too slow.
    Stuck,
    /// The reader has gone.
    Gone,
}

impl Outbox {
    async fn send(&self, message: ReadResp) -> Sent {
        let units = (message.encoded_len() / UNIT + 1).min(UNITS as usize) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(units);
        let room = tokio::select! {
            room = timeout(self.patience, room) => room,
            () = self.sender.closed() => return Sent::Gone,
        };
        match room {
            Ok(Ok(room)) => match self.sender.send(Parcel { message: Ok(message), room: Some(room) }) {
                Ok(()) => Sent::Taken,
                Err(_) => Sent::Gone,
            },
            Ok(Err(_)) => Sent::Gone,
            Err(_) => Sent::Stuck,
        }
    }

    /// The last word needs no room.
    fn end(&self, refusal: Refusal) {
        let _ = self.sender.send(Parcel { message: Err(refusal.into()), room: None });
    }
}

async fn pump(source: impl Stream<Item = Result<ReadResp, Refusal>>, outbox: Outbox, terms: Terms) {
    let Terms { mut ended, sent, dropped, held, patience } = terms;
    let _held = held;
    pin_mut!(source);
    loop {
        let next = tokio::select! {
            next = source.next() => next,
            refusal = &mut ended => return outbox.end(refusal),
            () = outbox.sender.closed() => return,
        };
        let message = match next {
            Some(Ok(message)) => message,
            Some(Err(refusal)) => {
                refusal.note("Read");
                return outbox.end(refusal);
            }
            None => return,
        };
        let is_event = matches!(message.content, Some(Content::Event(_)));
        match outbox.send(message).await {
            Sent::Taken => sent.increment(u64::from(is_event)),
            Sent::Gone => return,
            Sent::Stuck => {
                dropped.increment(1);
                tracing::info!(?patience, "a reader that took nothing was dropped");
                return outbox.end(Refusal::Unavailable(
                    "the reader is too slow: read on after the last event that arrived".into(),
                ));
            }
        }
    }
}
