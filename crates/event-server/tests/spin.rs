//! The event log's adapter against a server that ends subscriptions without an error, at which the client would go round
//! in circles.

#![allow(clippy::unwrap_used, reason = "tests say what they rely on by panicking")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use souk_event_log::{EventLog, Filter, KurrentLog};
use souk_event_server::wire::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq, ReadResp,
    read_req::options::CountOption,
    read_resp::{Confirmation, Content},
    streams_server::{Streams, StreamsServer},
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

/// Confirms a subscription and ends it.
struct Curt(Arc<AtomicUsize>);

type Answers<T> = stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

#[tonic::async_trait]
impl Streams for Curt {
    type ReadStream = Answers<ReadResp>;
    type BatchAppendStream = Answers<BatchAppendResp>;

    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        let options = request.into_inner().options.unwrap();
        let mut answers = Vec::new();
        if matches!(options.count_option, Some(CountOption::Subscription(()))) {
            self.0.fetch_add(1, Ordering::Relaxed);
            let confirmation = Confirmation { subscription_id: "1".into() };
            answers.push(Ok(ReadResp { content: Some(Content::Confirmation(confirmation)) }));
        }
        Ok(Response::new(stream::iter(answers)))
    }

    async fn append(&self, _: Request<Streaming<AppendReq>>) -> Result<Response<AppendResp>, Status> {
        Err(Status::unimplemented("append"))
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

/// Threads of this process that follow a server.
fn followers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter(|task| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == "kurrentdb")
        })
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_ends_without_an_error_is_taken_up_again_and_leaves_no_thread_spinning() {
    let subscribed = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = StreamsServer::new(Curt(Arc::clone(&subscribed)));
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener)));
    let log = KurrentLog::connect(format!("kurrentdb://{address}?tls=false").parse().unwrap()).await.unwrap();
    let mut messages = log.subscribe(None, Filter::all());
    let following = async { while messages.next().await.is_some() {} };
    let again = async {
        while subscribed.load(Ordering::Relaxed) < 5 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let patience = Duration::from_secs(30);
    tokio::select! {
        () = following => panic!("the subscription ended"),
        done = tokio::time::timeout(patience, again) => done.unwrap(),
    }
    drop(messages);
    let gone = async {
        while followers() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(patience, gone).await.unwrap();
}
