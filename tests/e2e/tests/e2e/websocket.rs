//! WebSocket: large messages in both directions, and a minute without data.

use std::time::Duration;

use anyhow::Result;
use futures_util::{SinkExt as _, StreamExt as _};
use sandgate_demo::client::websocket::{self, Message, OpenError, Socket};
use sandgate_e2e::{Setup, run};

use crate::support::target;

async fn echoed(socket: &mut Socket, message: Message) -> Result<()> {
    socket.send(message.clone()).await?;
    let answer = tokio::time::timeout(Duration::from_secs(30), socket.next()).await?;
    assert!(answer.unwrap()? == message, "another message came back");
    Ok(())
}

/// Bytes in which a lost or moved part is detectable.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

#[test]
fn many_messages_of_a_megabyte_are_forwarded_in_both_directions() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let opened = websocket::open(&target(stack, &sandbox.host(3000), "/socket")?).await?;
        let mut socket = opened.socket;
        for _ in 0..20 {
            echoed(&mut socket, Message::binary(pattern(1 << 20))).await?;
        }
        echoed(&mut socket, Message::text("€".repeat(400_000))).await?;
        echoed(&mut socket, Message::binary(Vec::new())).await?;
        // Both directions at the same time, with more data than all buffers hold.
        let (mut sink, mut stream) = socket.split();
        let sending = async {
            for _ in 0..16 {
                sink.send(Message::binary(pattern(1 << 20))).await?;
            }
            anyhow::Ok(())
        };
        let receiving = async {
            for _ in 0..16 {
                assert_eq!(stream.next().await.unwrap()?.into_data(), pattern(1 << 20));
            }
            anyhow::Ok(())
        };
        tokio::try_join!(sending, receiving)?;
        Ok(())
    });
}

#[test]
fn an_idle_stream_stays_open_for_a_minute() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let host = sandbox.host(3000);
        let mut socket = websocket::open(&target(stack, &host, "/socket")?).await?.socket;
        let mut events = stack
            .edge()
            .get(&sandbox.host(8080), "/events?count=2&interval_ms=61000")
            .open()
            .await?;
        let grpc = target(stack, &sandbox.host(50051), "")?;
        let mut echo = sandgate_demo::client::grpc::connect(&grpc).await?.echo();
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        let stream = tonic_stream(receiver);
        let mut answers = echo.bidi_stream(stream).await?.into_inner();

        echoed(&mut socket, Message::text("before")).await?;
        tokio::time::sleep(Duration::from_secs(61)).await;
        echoed(&mut socket, Message::text("after")).await?;
        requests.send(crate::grpc::request("after")).await?;
        let answer = answers.message().await?.unwrap();
        assert_eq!(answer.message, "after");
        let body = crate::streaming::read_all(events.body_mut()).await?;
        assert_eq!(String::from_utf8_lossy(&body).matches("data:").count(), 2);
        Ok(())
    });
}

fn tonic_stream<T: Send + 'static>(
    mut receiver: tokio::sync::mpsc::Receiver<T>,
) -> impl futures_util::Stream<Item = T> + Send {
    futures_util::stream::poll_fn(move |context| receiver.poll_recv(context))
}

#[test]
fn a_refused_upgrade_gets_the_same_response_as_any_other_request() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let refused = websocket::open(&target(stack, &sandbox.host(3000), "/socket")?).await;
        let Err(OpenError::Refused { status, headers, body }) = refused else {
            panic!("expected a refusal, got {refused:?}")
        };
        assert_eq!(status, 401);
        assert_eq!(headers["www-authenticate"], "Bearer");
        assert!(body.contains("UNAUTHENTICATED"), "{body}");
        // The app's own refusal is forwarded too.
        let wrong_path = target(stack, &sandbox.host(3000), "/elsewhere")?;
        let wrong_path = wrong_path.header("authorization", &format!("Bearer {}", stack.key()))?;
        let refused = websocket::open(&wrong_path).await;
        assert!(matches!(refused, Err(OpenError::Refused { status, .. }) if status == 404));
        Ok(())
    });
}

#[test]
fn upgrades_to_other_protocols_are_refused() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let call = stack
            .edge()
            .get(&sandbox.host(3000), "/socket")
            .header("connection", "upgrade")
            .header("upgrade", "h2c");
        assert_ne!(call.send().await?.status, 101);
        let connect = format!("CONNECT {}:80 HTTP/1.1\r\nhost: x\r\n\r\n", sandbox.host(8080));
        let answer = stack.edge().raw(connect.as_bytes()).await?;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
        Ok(())
    });
}
