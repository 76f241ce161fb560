//! gRPC: unary and streaming calls, metadata, trailers, and error statuses.

use std::time::{Duration, Instant};

use sandgate_demo::client::grpc::connect;
use sandgate_demo::proto::{EchoRequest, FailRequest, ServerStreamRequest};
use sandgate_e2e::{Protocol, Setup, run};
use tonic::Code;

use crate::support::target;

/// A request to echo `message`.
pub(crate) fn request(message: &str) -> EchoRequest {
    EchoRequest { message: message.to_owned() }
}

#[test]
fn unary_calls_forward_metadata_and_large_messages() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let host = sandbox.host(50051);
        let target = target(stack, &host, "")?
            .header("authorization", &format!("Bearer {}", stack.key()))?
            .header("x-twice", "a")?
            .header("x-twice", "b")?
            .header("x-raw-bin", "AAECAw")?;
        let mut echo = connect(&target).await?.echo();
        let answer = echo.echo(request("hello")).await?.into_inner();
        assert_eq!(answer.message, "hello");
        let call = answer.call.unwrap();
        assert_eq!(call.sandbox_id, sandbox.id);
        assert_eq!(call.authority, host);
        let values = |key: &str| -> Vec<String> {
            let of_key = call.metadata.iter().filter(|entry| entry.key == key);
            of_key.map(|entry| entry.value.clone()).collect()
        };
        assert_eq!(values("x-twice").join(","), "a,b");
        assert_eq!(values("x-raw-bin"), ["AAECAw"]);
        assert!(values("authorization").is_empty());
        let large = "x".repeat(2 << 20);
        assert_eq!(echo.echo(request(&large)).await?.into_inner().message, large);
        Ok(())
    });
}

#[test]
fn bidirectional_streams_are_forwarded_message_by_message() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let connection = connect(&target(stack, &sandbox.host(50051), "")?).await?;
        let mut echo = connection.echo();

        // Server streaming: messages arrive when they are sent, not at the end.
        let question = ServerStreamRequest {
            message: "tick".into(),
            count: 5,
            interval_ms: 300,
            ..Default::default()
        };
        let begun = Instant::now();
        let mut ticks = echo.server_stream(question).await?.into_inner();
        let first = ticks.message().await?.unwrap();
        assert_eq!((first.message.as_str(), first.sequence), ("tick", 1));
        assert!(begun.elapsed() < Duration::from_millis(900), "the first came with the last");
        let mut count = 1;
        while ticks.message().await?.is_some() {
            count += 1;
        }
        assert_eq!(count, 5);
        assert!(ticks.trailers().await?.is_some());

        // The client streams its messages.
        let messages = (0..100).map(|number| request(&number.to_string()));
        let answer = echo.client_stream(futures_util::stream::iter(messages)).await?.into_inner();
        assert_eq!(answer.messages.len(), 100);
        assert_eq!(answer.messages[99], "99");

        // Bidirectional: each response arrives before the next request is sent.
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let requests = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let mut answers = echo.bidi_stream(requests).await?.into_inner();
        for number in 0..20 {
            sender.send(request(&number.to_string())).await?;
            let answer = tokio::time::timeout(Duration::from_secs(5), answers.message()).await??;
            assert_eq!(answer.unwrap().message, number.to_string());
        }
        drop(sender);
        assert!(answers.message().await?.is_none());
        Ok(())
    });
}

#[test]
fn error_statuses_arrive_with_their_messages() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let mut echo = connect(&target(stack, &sandbox.host(50051), "")?).await?.echo();
        for (code, expected) in
            [(7, Code::PermissionDenied), (5, Code::NotFound), (14, Code::Unavailable)]
        {
            let fail = FailRequest { code, message: "as asked: 100% ü".into() };
            let status = echo.fail(fail.clone()).await.unwrap_err();
            assert_eq!((status.code(), status.message()), (expected, "as asked: 100% ü"));
            // The status in the trailers after messages.
            let question = ServerStreamRequest {
                message: "x".into(),
                count: 2,
                interval_ms: 0,
                then: Some(fail),
            };
            let mut answers = echo.server_stream(question).await?.into_inner();
            assert!(answers.message().await?.is_some());
            assert!(answers.message().await?.is_some());
            let status = answers.message().await.unwrap_err();
            assert_eq!((status.code(), status.message()), (expected, "as asked: 100% ü"));
        }
        Ok(())
    });
}

#[test]
fn reflection_and_health_checks_work_as_grpcurl_uses_them() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let target = target(stack, &sandbox.host(50051), "")?
            .header("authorization", &format!("Bearer {}", stack.key()))?;
        let services = connect(&target).await?.list_services().await?;
        assert!(services.iter().any(|name| name == "sandgate.demo.v1.Echo"), "{services:?}");
        assert!(services.iter().any(|name| name == "grpc.health.v1.Health"), "{services:?}");
        Ok(())
    });
}

#[test]
fn denials_are_grpc_statuses() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let mut echo = connect(&target(stack, &sandbox.host(50051), "")?).await?.echo();
        let status = echo.echo(request("x")).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains("UNAUTHENTICATED"), "{status:?}");
        let key = format!("Bearer {}", stack.key());
        let closed = target(stack, &sandbox.host(50052), "")?.header("authorization", &key)?;
        let status = connect(&closed).await?.echo().echo(request("x")).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
        Ok(())
    });
}

#[test]
fn only_grpc_is_sent_as_http2() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        for (content_type, version) in [
            ("application/grpc", "HTTP/2.0"),
            ("application/grpc+proto", "HTTP/2.0"),
            ("application/grpc;charset=utf-8", "HTTP/2.0"),
            ("Application/GRPC+json ; x=1", "HTTP/2.0"),
            ("application/grpc-web", "HTTP/1.1"),
            ("application/grpc-web+proto", "HTTP/1.1"),
            ("application/grpcx", "HTTP/1.1"),
            ("application/json", "HTTP/1.1"),
        ] {
            // The demo's HTTP port supports HTTP/1.1 and HTTP/2.
            let call = stack
                .edge()
                .post(&sandbox.host(8080), "/")
                .over(Protocol::H2c)
                .bearer(stack.key())
                .header("content-type", content_type);
            let answer = call.send().await?.ok()?;
            assert_eq!(answer["version"], version, "{content_type}");
        }
        Ok(())
    });
}
