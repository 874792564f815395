//! Who may do what, over the wire, and what clients ask when they connect.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use futures::StreamExt;
use souk_event_server::{
    Access, Authenticator, CannotTell, Rights,
    wire::{
        gossip::{gossip_client::GossipClient, member_info::State},
        persistent_subscriptions::{ListReq, persistent_subscriptions_client::PersistentSubscriptionsClient},
        server_features::server_features_client::ServerFeaturesClient,
        streams::{AppendReq, DeleteReq, ReadReq, ReadResp, append_req, streams_client::StreamsClient},
    },
};
use tonic::{
    Code, Request, Status, Streaming,
    client::Grpc,
    codec::ProstCodec,
    codegen::http::uri::PathAndQuery,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::support::{ANY, Changed, Server, all, event, next, stream, target};

struct Two;

#[async_trait]
impl Authenticator for Two {
    async fn rights(&self, user: &str, password: &str) -> Result<Option<Rights>, CannotTell> {
        Ok(match (user, password) {
            ("analyst" | "another", "secret") => Some(Rights { read: true, append: false }),
            ("service", "secret") => Some(Rights { read: true, append: true }),
            _ => None,
        })
    }
}

#[derive(Clone)]
struct As(Option<&'static str>);

impl Interceptor for As {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(credentials) = self.0 {
            let header = format!("Basic {}", STANDARD.encode(credentials)).parse().unwrap();
            request.metadata_mut().insert("authorization", header);
        }
        Ok(request)
    }
}

type Caller = StreamsClient<InterceptedService<Channel, As>>;

async fn channel(server: &Server) -> Channel {
    Channel::from_shared(format!("http://{}", server.address)).unwrap().connect().await.unwrap()
}

async fn read(caller: &mut Caller) -> Code {
    let result = caller.read(ReadReq { options: Some(stream("a-1")) }).await;
    result.map_or_else(|status| status.code(), |_| Code::Ok)
}

async fn append(caller: &mut Caller) -> Code {
    let messages =
        [append_req::Content::Options(target("a-1", ANY)), append_req::Content::ProposedMessage(event(1))];
    let messages = messages.map(|content| AppendReq { content: Some(content) });
    caller.append(futures::stream::iter(messages)).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

async fn delete(caller: &mut Caller) -> Code {
    let request = DeleteReq { options: Some(target("a-1", ANY)) };
    caller.delete(request).await.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[tokio::test]
async fn each_may_do_what_is_theirs() {
    use Code::{Ok, PermissionDenied, Unauthenticated};
    for (allow_append, service_appends) in [(true, Ok), (false, PermissionDenied)] {
        let server = Server::with(|options| {
            options.access = Access::Checked(Arc::new(Two));
            options.allow_append = allow_append;
        })
        .await;
        let channel = channel(&server).await;
        for (credentials, reads, appends) in [
            (None, Unauthenticated, Unauthenticated),
            (Some("analyst:wrong"), Unauthenticated, Unauthenticated),
            (Some("analyst:secret"), Ok, PermissionDenied),
            (Some("service:secret"), Ok, service_appends),
        ] {
            let mut caller = StreamsClient::with_interceptor(channel.clone(), As(credentials));
            assert_eq!(append(&mut caller).await, appends, "{credentials:?} {allow_append}");
            assert_eq!(read(&mut caller).await, reads, "{credentials:?}");
            assert_eq!(delete(&mut caller).await, appends, "{credentials:?} {allow_append}");
        }
    }
}

#[tokio::test]
async fn clients_that_connect_hear_what_there_is() {
    let server = Server::with(|options| options.access = Access::Checked(Arc::new(Two))).await;
    let channel = channel(&server).await;
    // Without a password: they ask before they have any use for one.
    let features = ServerFeaturesClient::new(channel.clone()).get_supported_methods(()).await.unwrap();
    let features = features.into_inner();
    assert!(features.event_store_server_version.starts_with("24."));
    assert!(features.methods.iter().any(|method| method.method_name == "batchappend"));
    let cluster = GossipClient::new(channel.clone()).read(()).await.unwrap().into_inner();
    let [member] = cluster.members.as_slice() else { panic!("{cluster:?}") };
    assert!(member.is_alive && member.state() == State::Leader);
    let here = member.http_end_point.as_ref().unwrap();
    assert_eq!(format!("{}:{}", here.address, here.port), server.address.to_string());
    let list =
        |credentials| PersistentSubscriptionsClient::with_interceptor(channel.clone(), As(credentials));
    assert_eq!(list(None).list(ListReq {}).await.unwrap_err().code(), Code::Unauthenticated);
    list(Some("analyst:secret")).list(ListReq {}).await.unwrap();
}

async fn follow(caller: &mut Caller) -> Result<Streaming<ReadResp>, Code> {
    let answer = caller.read(ReadReq { options: Some(all().live()) }).await;
    answer.map(tonic::Response::into_inner).map_err(|status| status.code())
}

/// What becomes of a Read whose request never ends.
async fn unended(channel: &Channel, credentials: Option<&'static str>, message: Option<ReadReq>) -> Code {
    let mut grpc = Grpc::new(InterceptedService::new(channel.clone(), As(credentials)));
    grpc.ready().await.unwrap();
    let messages = futures::stream::iter(message).chain(futures::stream::pending());
    let path = PathAndQuery::from_static("/event_store.client.streams.Streams/Read");
    let codec = ProstCodec::<ReadReq, ReadResp>::default();
    let answer = grpc.client_streaming(Request::new(messages), path, codec);
    let answer = tokio::time::timeout(Duration::from_secs(10), answer).await;
    answer.map_or(Code::Ok, |answer| answer.unwrap_err().code())
}

#[tokio::test]
async fn from_who_may_not_call_nothing_is_taken_and_from_others_little() {
    let server = Server::with(|options| {
        options.access = Access::Checked(Arc::new(Two));
        options.arrival = Duration::from_millis(100);
    })
    .await;
    let channel = channel(&server).await;
    let (small, large) = (ReadReq { options: Some(stream("a-1")) }, stream(&"a".repeat(100 << 10)));
    let large = ReadReq { options: Some(large) };
    for (credentials, message, expected) in [
        (None, None, Code::Unauthenticated),
        (None, Some(large.clone()), Code::Unauthenticated),
        (Some("analyst:wrong"), None, Code::Unauthenticated),
        (Some("analyst:secret"), None, Code::DeadlineExceeded),
        (Some("analyst:secret"), Some(small), Code::DeadlineExceeded),
        (Some("analyst:secret"), Some(large), Code::OutOfRange),
    ] {
        assert_eq!(unended(&channel, credentials, message).await, expected, "{credentials:?}");
    }
}

#[tokio::test]
async fn who_may_append_has_room_whatever_others_take() {
    let server = Server::with(|options| {
        options.access = Access::Checked(Arc::new(Two));
        options.allow_append = true;
        (options.subscriptions, options.subscriptions_of_one) = (3, 2);
    })
    .await;
    let channel = channel(&server).await;
    let mut open = Vec::new();
    for (credentials, room) in [("analyst:secret", 2), ("another:secret", 1), ("service:secret", 3)] {
        let mut caller = StreamsClient::with_interceptor(channel.clone(), As(Some(credentials)));
        for _ in 0..room {
            open.push(follow(&mut caller).await.unwrap());
        }
        assert_eq!(follow(&mut caller).await.unwrap_err(), Code::ResourceExhausted, "{credentials}");
        assert_eq!(read(&mut caller).await, Code::Ok);
    }
}

/// Whose rights change.
struct Changing(Mutex<Option<Rights>>);

#[async_trait]
impl Authenticator for Changing {
    async fn rights(&self, _: &str, _: &str) -> Result<Option<Rights>, CannotTell> {
        Ok(*self.0.lock().unwrap())
    }
}

#[tokio::test]
async fn who_may_no_longer_read_is_shut_out_of_open_subscriptions() {
    for (then, code) in
        [(None, Code::Unauthenticated), (Some(Rights { read: false, append: false }), Code::PermissionDenied)]
    {
        let accounts = Arc::new(Changing(Mutex::new(Some(Rights { read: true, append: false }))));
        let server = Server::with(|options| {
            options.access = Access::Checked(Arc::clone(&accounts) as _);
            options.remembered = Duration::from_millis(20);
        })
        .await;
        let mut caller = StreamsClient::with_interceptor(channel(&server).await, As(Some("ana:secret")));
        let mut subscription = follow(&mut caller).await.unwrap();
        *accounts.0.lock().unwrap() = then;
        let ended = async {
            loop {
                if let Err(status) = next(&mut subscription).await {
                    return status.code();
                }
            }
        };
        assert_eq!(tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap(), code);
    }
}
