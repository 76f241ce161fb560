//! The gRPC service. It has one method, so it is written by hand.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Status, Streaming};
use tonic_prost::ProstCodec;

use super::connection::Client;
use super::stream;
use super::{MAX_REQUEST, Shared};
use crate::wire::{DELTA_METHOD, DeltaDiscoveryRequest, DeltaDiscoveryResponse};

/// `envoy.service.discovery.v3.AggregatedDiscoveryService`.
#[derive(Clone)]
pub struct DeltaService(Arc<Shared>);

impl DeltaService {
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }
}

impl NamedService for DeltaService {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl tonic::codegen::Service<Request<Body>> for DeltaService {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() != DELTA_METHOD {
            let status = Status::unimplemented("this server speaks delta ADS only");
            return Box::pin(std::future::ready(Ok(status.into_http())));
        }
        let method = Delta(Arc::clone(&self.0));
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::default())
                .apply_max_message_size_config(Some(MAX_REQUEST), None);
            Ok(grpc.streaming(method, request).await)
        })
    }
}

struct Delta(Arc<Shared>);

impl StreamingService<DeltaDiscoveryRequest> for Delta {
    type Response = DeltaDiscoveryResponse;
    type ResponseStream = ReceiverStream<Result<DeltaDiscoveryResponse, Status>>;
    type Future = BoxFuture<Result<tonic::Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let shared = Arc::clone(&self.0);
        Box::pin(std::future::ready(open(shared, request)))
    }
}

/// Authenticates the call before the server reads a message of it.
fn open(
    shared: Arc<Shared>,
    request: tonic::Request<Streaming<DeltaDiscoveryRequest>>,
) -> Result<tonic::Response<ReceiverStream<Result<DeltaDiscoveryResponse, Status>>>, Status> {
    // The listener adds it to each request.
    let client = request.extensions().get::<Client>().cloned();
    let names = client.as_ref().map(|client| &client.names);
    let peer = stream::authenticate(&shared, request.metadata(), names).inspect_err(|status| {
        shared.nodes.count_denied();
        tracing::warn!(reason = status.message(), "an xDS stream was refused");
    })?;
    let slot = Arc::clone(&shared.slots)
        .try_acquire_owned()
        .map_err(|_| Status::resource_exhausted("the server has no streams left; try again"))?;
    let of_node = shared.nodes.open_stream(peer.node(), shared.limits.streams_per_node);
    let of_node = of_node
        .ok_or_else(|| Status::resource_exhausted("the node has too many streams; try again"))?;
    let of_connection = client.map(|client| client.place.begin_stream());
    let (responses, receiver) = tokio::sync::mpsc::channel(16);
    let requests = request.into_inner();
    tokio::spawn(async move {
        let _open = (slot, of_node, of_connection);
        stream::run(shared, peer, requests, responses).await;
    });
    Ok(tonic::Response::new(ReceiverStream::new(receiver)))
}
