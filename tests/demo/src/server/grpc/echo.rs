//! The service `sandgate.demo.v1.Echo`.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use tonic::metadata::{KeyAndValueRef, MetadataMap, MetadataValue};
use tonic::{Code, Extensions, Request, Response, Status, Streaming};

use super::Caller;
use crate::proto::echo_server::Echo;
use crate::proto::{
    Call, ClientStreamResponse, EchoRequest, EchoResponse, FailRequest, FailResponse, Metadata,
    ServerStreamRequest,
};
use crate::server::Identity;

/// A trailer of every requested status.
const SANDBOX_TRAILER: &str = "demo-sandbox-id";

#[derive(Clone, Debug)]
pub(super) struct EchoService {
    identity: Arc<Identity>,
}

impl EchoService {
    pub(super) fn new(identity: Arc<Identity>) -> Self {
        Self { identity }
    }

    fn call(&self, metadata: &MetadataMap, extensions: &Extensions) -> Call {
        let caller = extensions.get::<Caller>();
        Call {
            sandbox_id: self.identity.id.clone(),
            sandbox_name: self.identity.name.clone().unwrap_or_default(),
            authority: caller.map(|caller| caller.authority.clone()).unwrap_or_default(),
            peer: caller.map(|caller| caller.connection.peer.to_string()).unwrap_or_default(),
            connection: caller.map(|caller| caller.connection.number).unwrap_or_default(),
            metadata: metadata.iter().map(|item| entry(&item)).collect(),
        }
    }

    /// The status that `asked` describes, or INVALID_ARGUMENT if its code is not valid.
    fn failure(&self, asked: FailRequest) -> Status {
        if !(1..=16).contains(&asked.code) {
            return Status::invalid_argument(format!("code must be 1 to 16, got {}", asked.code));
        }
        let mut status = Status::new(Code::from_i32(asked.code), asked.message);
        // An id that is not a valid header value is left out.
        if let Ok(id) = MetadataValue::try_from(self.identity.id.as_str()) {
            status.metadata_mut().insert(SANDBOX_TRAILER, id);
        }
        status
    }
}

fn entry(item: &KeyAndValueRef<'_>) -> Metadata {
    let (key, value) = match item {
        KeyAndValueRef::Ascii(key, value) => (key.as_str(), value.as_encoded_bytes()),
        KeyAndValueRef::Binary(key, value) => (key.as_str(), value.as_encoded_bytes()),
    };
    Metadata { key: key.to_owned(), value: String::from_utf8_lossy(value).into_owned() }
}

#[tonic::async_trait]
impl Echo for EchoService {
    type ServerStreamStream = BoxStream<'static, Result<EchoResponse, Status>>;
    type BidiStreamStream = BoxStream<'static, Result<EchoResponse, Status>>;

    async fn echo(&self, request: Request<EchoRequest>) -> Result<Response<EchoResponse>, Status> {
        let call = self.call(request.metadata(), request.extensions());
        let message = request.into_inner().message;
        Ok(Response::new(EchoResponse { message, sequence: 1, call: Some(call) }))
    }

    async fn server_stream(
        &self,
        request: Request<ServerStreamRequest>,
    ) -> Result<Response<Self::ServerStreamStream>, Status> {
        let call = self.call(request.metadata(), request.extensions());
        let ServerStreamRequest { message, count, interval_ms, then } = request.into_inner();
        let pause = Duration::from_millis(interval_ms);
        let messages = stream::iter(1..=count).then(move |sequence| {
            let response =
                EchoResponse { message: message.clone(), sequence, call: Some(call.clone()) };
            async move {
                if sequence > 1 && !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                Ok(response)
            }
        });
        let end = stream::iter(then.map(|asked| Err(self.failure(asked))));
        Ok(Response::new(messages.chain(end).boxed()))
    }

    async fn client_stream(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<ClientStreamResponse>, Status> {
        let call = self.call(request.metadata(), request.extensions());
        let mut received = request.into_inner();
        let mut messages = Vec::new();
        while let Some(request) = received.message().await? {
            messages.push(request.message);
        }
        Ok(Response::new(ClientStreamResponse { messages, call: Some(call) }))
    }

    async fn bidi_stream(
        &self,
        request: Request<Streaming<EchoRequest>>,
    ) -> Result<Response<Self::BidiStreamStream>, Status> {
        let call = self.call(request.metadata(), request.extensions());
        Ok(Response::new(answer_each(request.into_inner(), call).boxed()))
    }

    async fn fail(&self, request: Request<FailRequest>) -> Result<Response<FailResponse>, Status> {
        Err(self.failure(request.into_inner()))
    }
}

fn answer_each(
    received: Streaming<EchoRequest>,
    call: Call,
) -> impl Stream<Item = Result<EchoResponse, Status>> + Send {
    received.zip(stream::iter(1..)).map(move |(request, sequence)| {
        Ok(EchoResponse { message: request?.message, sequence, call: Some(call.clone()) })
    })
}
