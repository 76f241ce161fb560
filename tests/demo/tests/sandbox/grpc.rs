//! The gRPC services, and the crate's client.

use anyhow::Context;
use sandgate_demo::client::Target;
use sandgate_demo::client::grpc::{self, Connection};
use sandgate_demo::proto::{EchoRequest, EchoResponse, FailRequest, ServerStreamRequest};
use tokio_stream::StreamExt;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_reflection::pb::v1alpha;

use crate::support::{ID, NAME, PATIENCE, start};

async fn connect() -> anyhow::Result<Connection> {
    let address = start().await?.grpc;
    let target = Target::new("http://50051-my-env.sandbox.test:9443")?
        .via(address.to_string())
        .header("authorization", "Bearer t")?
        .header("x-a", "1")?
        .header("x-a", "2")?;
    Ok(grpc::connect(&target).await?)
}

fn request(message: &str) -> EchoRequest {
    EchoRequest { message: message.into() }
}

#[tokio::test]
async fn echo_returns_the_message_and_the_facts_of_the_call() -> anyhow::Result<()> {
    let mut client = connect().await?.echo();
    let mut request = Request::new(request("hi"));
    request.metadata_mut().insert_bin("own-bin", MetadataValue::from_bytes(b"\0\xff"));
    let EchoResponse { message, call, .. } = client.echo(request).await?.into_inner();
    let call = call.context("call")?;
    assert_eq!((message.as_str(), call.sandbox_id.as_str()), ("hi", ID));
    assert_eq!(call.sandbox_name, NAME);
    assert_eq!(call.authority, "50051-my-env.sandbox.test:9443");
    let values = |key: &str| -> Vec<_> {
        let named = call.metadata.iter().filter(|item| item.key == key);
        named.map(|item| item.value.as_str()).collect()
    };
    assert_eq!(values("authorization"), ["Bearer t"]);
    assert_eq!(values("x-a"), ["1", "2"]);
    assert_eq!(values("own-bin"), ["AP8"]);
    Ok(())
}

#[tokio::test]
async fn messages_of_20_million_bytes_are_echoed() -> anyhow::Result<()> {
    let message = "m".repeat(20 << 20);
    let reply = connect().await?.echo().echo(request(&message)).await?.into_inner();
    assert!(reply.message == message, "the message changed");
    Ok(())
}

#[tokio::test]
async fn server_stream_sends_the_requested_number_of_responses() -> anyhow::Result<()> {
    let asked = ServerStreamRequest { message: "m".into(), count: 3, ..Default::default() };
    let stream = connect().await?.echo().server_stream(asked).await?.into_inner();
    let replies: Vec<_> = stream.collect::<Result<_, _>>().await?;
    let seen: Vec<_> = replies.iter().map(|it| (it.message.as_str(), it.sequence)).collect();
    assert_eq!(seen, [("m", 1), ("m", 2), ("m", 3)]);
    Ok(())
}

#[tokio::test]
async fn server_stream_can_fail_after_its_messages() -> anyhow::Result<()> {
    let then = Some(FailRequest { code: Code::Aborted.into(), message: "enough".into() });
    let asked = ServerStreamRequest { count: 2, then, ..Default::default() };
    let mut stream = connect().await?.echo().server_stream(asked).await?.into_inner();
    assert!(stream.message().await?.is_some());
    assert!(stream.message().await?.is_some());
    let status = stream.message().await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Aborted, "enough"));
    assert_eq!(status.metadata().get("demo-sandbox-id").context("trailer")?, ID);
    Ok(())
}

#[tokio::test]
async fn client_stream_responds_once_with_all_messages() -> anyhow::Result<()> {
    let messages = tokio_stream::iter(["a", "b", "c"].map(request));
    let reply = connect().await?.echo().client_stream(messages).await?.into_inner();
    assert_eq!(reply.messages, ["a", "b", "c"]);
    Ok(())
}

#[tokio::test]
async fn bidi_stream_responds_to_each_message_before_the_next_is_sent() -> anyhow::Result<()> {
    let (sender, messages) = tokio::sync::mpsc::channel(1);
    let messages = tokio_stream::wrappers::ReceiverStream::new(messages);
    let mut replies = connect().await?.echo().bidi_stream(messages).await?.into_inner();
    for (text, sequence) in [("a", 1), ("b", 2), ("c", 3)] {
        sender.send(request(text)).await?;
        let reply = tokio::time::timeout(PATIENCE, replies.message()).await??.context("ended")?;
        assert_eq!((reply.message.as_str(), reply.sequence), (text, sequence));
    }
    drop(sender);
    assert!(replies.message().await?.is_none());
    Ok(())
}

#[tokio::test]
async fn fail_returns_the_requested_status() -> anyhow::Result<()> {
    let mut client = connect().await?.echo();
    for code in 1..=16 {
        let asked = FailRequest { code, message: "m ü\n".into() };
        let status = client.fail(asked).await.unwrap_err();
        assert_eq!((i32::from(status.code()), status.message()), (code, "m ü\n"));
    }
    for code in [0, 17, -1] {
        let status = client.fail(FailRequest { code, message: "m".into() }).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), format!("code must be 1 to 16, got {code}"));
    }
    Ok(())
}

#[tokio::test]
async fn fail_sends_trailers() -> anyhow::Result<()> {
    let asked = FailRequest { code: 7, message: String::new() };
    let status = connect().await?.echo().fail(asked).await.unwrap_err();
    assert_eq!(status.metadata().get("demo-sandbox-id").context("trailer")?, ID);
    Ok(())
}

#[tokio::test]
async fn health_is_available_for_the_server_and_for_the_echo_service() -> anyhow::Result<()> {
    let mut health = connect().await?.health();
    for service in ["", "sandgate.demo.v1.Echo"] {
        let question = HealthCheckRequest { service: service.into() };
        assert_eq!(health.check(question).await?.into_inner().status(), ServingStatus::Serving);
    }
    let unknown = HealthCheckRequest { service: "unknown".into() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);
    Ok(())
}

#[tokio::test]
async fn reflection_lists_the_services() -> anyhow::Result<()> {
    let services = connect().await?.list_services().await?;
    for service in ["sandgate.demo.v1.Echo", "grpc.health.v1.Health"] {
        assert!(services.iter().any(|it| it == service), "{services:?}");
    }
    Ok(())
}

#[tokio::test]
async fn reflection_supports_v1alpha() -> anyhow::Result<()> {
    use v1alpha::server_reflection_request::MessageRequest;
    use v1alpha::server_reflection_response::MessageResponse;

    let address = start().await?.grpc;
    let channel = tonic::transport::Endpoint::try_from(format!("http://{address}"))?;
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(channel.connect().await?);
    let symbol = "sandgate.demo.v1.Echo".to_owned();
    let question = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol(symbol)),
    };
    let stream = client.server_reflection_info(tokio_stream::once(question)).await?;
    let answer = stream.into_inner().message().await?.context("no answer")?;
    let Some(MessageResponse::FileDescriptorResponse(files)) = answer.message_response else {
        anyhow::bail!("{answer:?}");
    };
    assert!(!files.file_descriptor_proto.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_server_that_does_not_speak_grpc_is_an_error_status() -> anyhow::Result<()> {
    let address = start().await?.management;
    let target = Target::new("http://h")?.via(address.to_string());
    let status = grpc::connect(&target).await?.echo().echo(request("x")).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(status.message().contains("404"), "{status}");
    Ok(())
}
