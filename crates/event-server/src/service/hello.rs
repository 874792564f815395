//! What clients ask when they connect: what this server can do, and who else is in the cluster. There is one member.

use tonic::{Request, Response, Status, async_trait, transport::server::TcpConnectInfo};
use uuid::Uuid;

use super::Service;
use crate::{
    access::Wanted,
    codec,
    wire::{
        gossip::{ClusterInfo, EndPoint, MemberInfo, gossip_server::Gossip, member_info::State},
        persistent_subscriptions::{
            ListReq, ListResp, persistent_subscriptions_server::PersistentSubscriptions,
        },
        server_features::{SupportedMethod, SupportedMethods, server_features_server::ServerFeatures},
    },
};

/// The version of KurrentDB whose behaviour this is.
const VERSION: &str = "24.10.0";

const METHODS: [(&str, &str); 8] = [
    ("event_store.client.streams.streams", "read"),
    ("event_store.client.streams.streams", "append"),
    ("event_store.client.streams.streams", "batchappend"),
    ("event_store.client.streams.streams", "delete"),
    ("event_store.client.streams.streams", "tombstone"),
    ("event_store.client.gossip.gossip", "read"),
    ("event_store.client.persistent_subscriptions.persistentsubscriptions", "list"),
    ("event_store.client.server_features.serverfeatures", "getsupportedmethods"),
];

#[async_trait]
impl ServerFeatures for Service {
    async fn get_supported_methods(&self, _: Request<()>) -> Result<Response<SupportedMethods>, Status> {
        let methods = METHODS.map(|(service, method)| SupportedMethod {
            method_name: method.to_owned(),
            service_name: service.to_owned(),
            features: vec![],
        });
        Ok(Response::new(SupportedMethods {
            methods: methods.into(),
            event_store_server_version: VERSION.to_owned(),
        }))
    }
}

#[async_trait]
impl Gossip for Service {
    /// The one member is where the client got through to.
    async fn read(&self, request: Request<()>) -> Result<Response<ClusterInfo>, Status> {
        let here = request.extensions().get::<TcpConnectInfo>().and_then(|connection| connection.local_addr);
        let http_end_point = here
            .map(|here| EndPoint { address: here.ip().to_canonical().to_string(), port: here.port().into() });
        let member = MemberInfo {
            instance_id: Some(codec::structured(Uuid::from_u128(u128::from(std::process::id())))),
            time_stamp: (self.0.clock)().timestamp(),
            state: State::Leader.into(),
            is_alive: true,
            http_end_point,
        };
        Ok(Response::new(ClusterInfo { members: vec![member] }))
    }
}

#[async_trait]
impl PersistentSubscriptions for Service {
    async fn list(&self, request: Request<ListReq>) -> Result<Response<ListResp>, Status> {
        let (metadata, extensions, _) = request.into_parts();
        self.0.gate.admit(metadata.as_ref(), &extensions, Wanted::Read).await?;
        Ok(Response::new(ListResp {}))
    }
}
