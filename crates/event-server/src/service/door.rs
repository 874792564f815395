//! Before a call: who makes it is looked at first, and nothing of what it sends is taken from one who may not make it.
//! The library below takes a whole message before it asks anybody, so a message may only be as large as the call needs,
//! and has to arrive in time. Appends come in many messages, for which their own part waits.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body as HttpBody, Frame};
use tokio::time::{Sleep, sleep};
use tonic::{
    Status,
    body::Body,
    codegen::{
        BoxFuture, Bytes, Service as Serve,
        http::{Request, Response},
    },
    server::NamedService,
};

use super::{Service, refused};
use crate::{access::Wanted, wire::streams::streams_server::StreamsServer};

/// Bytes of a message that holds events, as KurrentDB's clients take them.
const LARGE: usize = 17 << 20;
/// Bytes of a message that only says what is wanted, and of one that says next to nothing.
const SMALL: usize = 64 << 10;
pub(crate) const TINY: usize = 4 << 10;

type Answer = Result<Response<Body>, Infallible>;

/// The calls on streams, behind the gate.
#[derive(Clone)]
pub(crate) struct Door {
    service: Service,
    small: StreamsServer<Service>,
    large: StreamsServer<Service>,
}

impl Door {
    pub(crate) fn new(service: Service) -> Self {
        let server = |size| {
            let server = StreamsServer::new(service.clone());
            server.max_decoding_message_size(size).max_encoding_message_size(LARGE)
        };
        Self { small: server(SMALL), large: server(LARGE), service }
    }

    async fn pass(self, call: Call, mut request: Request<Body>) -> Answer {
        let gate = &self.service.0.gate;
        let admitted = gate.admit(request.headers(), request.extensions(), call.wanted).await;
        match admitted {
            Ok(caller) => request.extensions_mut().insert(caller),
            Err(refusal) => return Ok(refused(call.name, refusal).into_http()),
        };
        let Self { mut small, mut large, service } = self;
        if call.whole {
            small.call(in_time(request, service.0.arrival)).await
        } else {
            large.call(request).await
        }
    }
}

struct Call {
    name: &'static str,
    wanted: Wanted,
    /// One message, which has to be there before anything is done.
    whole: bool,
}

impl Call {
    fn of(path: &str) -> Option<Self> {
        let (_, name) = path.rsplit_once('/')?;
        let (name, wanted, whole) = match name {
            "Read" => ("Read", Wanted::Read, true),
            "Append" => ("Append", Wanted::Append, false),
            "BatchAppend" => ("BatchAppend", Wanted::Append, false),
            "Delete" => ("Delete", Wanted::Append, true),
            "Tombstone" => ("Tombstone", Wanted::Append, true),
            _ => return None,
        };
        Some(Self { name, wanted, whole })
    }
}

impl NamedService for Door {
    const NAME: &'static str = <StreamsServer<Service> as NamedService>::NAME;
}

impl Serve<Request<Body>> for Door {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match Call::of(request.uri().path()) {
            Some(call) => Box::pin(self.clone().pass(call, request)),
            // It answers that there is no such call.
            None => self.small.call(request),
        }
    }
}

/// Calls of one message each, which has to arrive in time.
#[derive(Clone)]
pub(crate) struct InTime<S> {
    inner: S,
    arrival: Duration,
}

impl<S> InTime<S> {
    pub(crate) fn new(inner: S, arrival: Duration) -> Self {
        Self { inner, arrival }
    }
}

impl<S: NamedService> NamedService for InTime<S> {
    const NAME: &'static str = S::NAME;
}

impl<S: Serve<Request<Body>>> Serve<Request<Body>> for InTime<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> S::Future {
        self.inner.call(in_time(request, self.arrival))
    }
}

fn in_time(request: Request<Body>, arrival: Duration) -> Request<Body> {
    request.map(|body| Body::new(Arriving { body, deadline: Box::pin(sleep(arrival)) }))
}

struct Arriving {
    body: Body,
    deadline: Pin<Box<Sleep>>,
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending() && self.deadline.as_mut().poll(context).is_ready() {
            let late = Status::deadline_exceeded("the request did not arrive in time");
            return Poll::Ready(Some(Err(late)));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
