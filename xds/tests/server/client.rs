//! A client of the server.

use std::time::Duration;

use http::uri::PathAndQuery;
use sandgate_xds::Kind;
use sandgate_xds::wire::{DELTA_METHOD, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::support::Server;

pub(crate) struct Client {
    pub(crate) requests: mpsc::Sender<DeltaDiscoveryRequest>,
    pub(crate) responses: Streaming<DeltaDiscoveryResponse>,
}

pub(crate) async fn open(server: &Server, token: Option<&str>) -> Result<Client, Status> {
    let address = format!("http://127.0.0.1:{}", server.port);
    let endpoint = Channel::from_shared(address).unwrap();
    // A client that does not read leaves little on the way.
    let endpoint =
        endpoint.initial_stream_window_size(1 << 16).initial_connection_window_size(1 << 16);
    let channel = endpoint.connect().await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(64 << 20);
    grpc.ready().await.unwrap();
    let (requests, receiver) = mpsc::channel(8);
    let mut request = Request::new(ReceiverStream::new(receiver));
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let path = PathAndQuery::from_static(DELTA_METHOD);
    let codec: ProstCodec<DeltaDiscoveryRequest, DeltaDiscoveryResponse> = ProstCodec::default();
    let responses = grpc.streaming(request, path, codec).await?.into_inner();
    Ok(Client { requests, responses })
}

pub(crate) fn first(node: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: Some(Node { id: node.to_owned(), ..Node::default() }),
        type_url: Kind::Cluster.type_url(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// Opens a stream, sends the first request, and takes the response to it.
pub(crate) async fn open_with_first(server: &Server, node: &str) -> Client {
    let token = server.keys.token(node).unwrap();
    let mut client = open(server, Some(&token)).await.unwrap();
    client.requests.send(first(node)).await.unwrap();
    client.responses.message().await.unwrap().unwrap();
    client
}

pub(crate) async fn end_of(client: &mut Client) -> Status {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), client.responses.message());
        match next.await.unwrap() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream ended without a reason"),
            Err(status) => return status,
        }
    }
}
