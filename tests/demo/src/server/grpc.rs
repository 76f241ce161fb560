//! The gRPC app: the echo service, health (of the server and of the echo service), and reflection
//! in both versions that clients use.

mod echo;

use std::convert::Infallible;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode, Version};
use tonic::service::Routes;
use tower::Service;

use self::echo::EchoService;
use super::Identity;
use super::answer::Answer;
use super::listener::{Connection, Listener};
use super::received::host;
use crate::proto::echo_server::EchoServer;

/// The maximum size of a message in either direction, in bytes.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

/// The facts of a call that the echo service returns and that only the HTTP layer knows.
#[derive(Clone, Debug)]
struct Caller {
    connection: Connection,
    authority: String,
}

pub(super) async fn serve(listener: Listener, routes: Routes) {
    listener
        .serve_http(move |request, connection| {
            let routes = routes.clone();
            async move { Ok::<_, Infallible>(respond(routes, request, connection).await) }
        })
        .await;
}

/// Builds the services. Fails only if the compiled-in descriptors are broken.
pub(super) async fn routes(
    identity: Arc<Identity>,
) -> Result<Routes, tonic_reflection::server::Error> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(crate::proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<EchoServer<EchoService>>().await;
    let echo = EchoServer::new(EchoService::new(identity))
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    Ok(Routes::new(echo)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .prepare())
}

async fn respond(
    mut routes: Routes,
    mut request: Request<Incoming>,
    connection: Connection,
) -> Response<tonic::body::Body> {
    if request.version() != Version::HTTP_2 {
        // The error shows a gateway that it chose the wrong protocol. A broken connection would
        // not.
        return Answer::error("HTTP2_REQUIRED", "this port speaks gRPC, which needs HTTP/2")
            .into_response(StatusCode::HTTP_VERSION_NOT_SUPPORTED)
            .map(tonic::body::Body::new);
    }
    let (mut parts, body) = request.into_parts();
    let authority = host(&parts).unwrap_or_default();
    parts.extensions.insert(Caller { connection, authority });
    request = Request::from_parts(parts, body);
    match routes.call(request).await {
        Ok(response) => response,
    }
}
