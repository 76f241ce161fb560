//! A gRPC client (HTTP/2 with prior knowledge, or by ALPN inside TLS) that sends the URL's
//! authority as `:authority`.

use hyper_util::rt::TokioIo;
use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::Target;
use super::target::Alpn;
use crate::proto::echo_client::EchoClient;
use crate::server::MAX_GRPC_MESSAGE;

/// A channel that sends the target's headers with every call.
pub type Service = InterceptedService<Channel, SendHeaders>;

/// One HTTP/2 connection to a gRPC server. Clones share it.
#[derive(Clone, Debug)]
pub struct Connection(Service);

/// Adds the target's headers to every call.
#[derive(Clone)]
pub struct SendHeaders(MetadataMap);

impl std::fmt::Debug for SendHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Header values may be credentials.
        write!(f, "SendHeaders({} headers)", self.0.len())
    }
}

impl Interceptor for SendHeaders {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let mut headers = self.0.clone().into_headers();
        let metadata = std::mem::take(request.metadata_mut());
        headers.extend(metadata.into_headers());
        *request.metadata_mut() = MetadataMap::from_headers(headers);
        Ok(request)
    }
}

/// The HTTP/2 connection to the server failed.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct ConnectError {
    reason: String,
}

impl From<tonic::transport::Error> for ConnectError {
    /// Keeps the innermost error, which has the cause. The outer errors only say "transport error".
    fn from(error: tonic::transport::Error) -> Self {
        let mut inner: &dyn std::error::Error = &error;
        while let Some(source) = inner.source() {
            inner = source;
        }
        Self { reason: inner.to_string() }
    }
}

/// Connects to the target. The path and query of its URL are ignored.
pub async fn connect(target: &Target) -> Result<Connection, ConnectError> {
    let connector = {
        let target = target.clone();
        tower::service_fn(move |_| {
            let target = target.clone();
            async move { target.connect(Alpn::Http2).await.map(TokioIo::new) }
        })
    };
    let channel = Endpoint::from(target.uri.clone()).connect_with_connector(connector).await?;
    let headers = SendHeaders(MetadataMap::from_headers(target.headers.clone()));
    Ok(Connection(InterceptedService::new(channel, headers)))
}

impl Connection {
    /// The demo's echo service.
    #[must_use]
    pub fn echo(&self) -> EchoClient<Service> {
        EchoClient::new(self.0.clone())
            .max_decoding_message_size(MAX_GRPC_MESSAGE)
            .max_encoding_message_size(MAX_GRPC_MESSAGE)
    }

    /// The standard health service.
    #[must_use]
    pub fn health(&self) -> HealthClient<Service> {
        HealthClient::new(self.0.clone())
    }

    /// The standard reflection service, version 1.
    #[must_use]
    pub fn reflection(&self) -> ServerReflectionClient<Service> {
        ServerReflectionClient::new(self.0.clone())
    }

    /// Lists the full names of the server's services, by reflection.
    pub async fn list_services(&self) -> Result<Vec<String>, Status> {
        let question = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let questions = tokio_stream::once(question);
        let mut answers = self.reflection().server_reflection_info(questions).await?.into_inner();
        match answers.message().await?.and_then(|answer| answer.message_response) {
            Some(MessageResponse::ListServicesResponse(list)) => {
                Ok(list.service.into_iter().map(|service| service.name).collect())
            }
            Some(MessageResponse::ErrorResponse(error)) => {
                Err(Status::new(error.error_code.into(), error.error_message))
            }
            _ => Err(Status::internal("reflection did not answer with a list of services")),
        }
    }
}
