//! Who may do what, over the wire, and what clients ask when they connect.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use souk_event_server::{
    Access, Authenticator, CannotTell, Rights,
    wire::{
        gossip::{gossip_client::GossipClient, member_info::State},
        persistent_subscriptions::{ListReq, persistent_subscriptions_client::PersistentSubscriptionsClient},
        server_features::server_features_client::ServerFeaturesClient,
        streams::{AppendReq, DeleteReq, ReadReq, append_req, streams_client::StreamsClient},
    },
};
use tonic::{
    Code, Request, Status,
    service::{Interceptor, interceptor::InterceptedService},
    transport::Channel,
};

use crate::support::{ANY, Server, event, stream, target};

struct Two;

#[async_trait]
impl Authenticator for Two {
    async fn rights(&self, user: &str, password: &str) -> Result<Option<Rights>, CannotTell> {
        Ok(match (user, password) {
            ("analyst", "secret") => Some(Rights { read: true, append: false }),
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
