//! TLS: both HTTP versions by ALPN, the rotation of certificates with open connections, and server names, which do not
//! affect routing.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use sandgate_demo::client::grpc::connect;
use sandgate_demo::client::websocket::{self, Message};
use sandgate_e2e::{Protocol, Setup, run};
use sandgate_stack::wait::until;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::{received_headers, sandbox_id, target_tls};

const BOTH: [Protocol; 2] = [Protocol::Http1, Protocol::H2c];

#[test]
fn both_http_versions_work_over_tls_and_apps_see_the_scheme_https() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        for (edge, scheme) in [(stack.edge_tls(), "https"), (stack.edge(), "http")] {
            for protocol in BOTH {
                let call = edge.get(&sandbox.host(8080), "/a%2Fb?c=d").over(protocol);
                // The client's own header has no effect.
                let lie = if scheme == "https" { "http" } else { "https" };
                let call = call.bearer(stack.key()).header("x-forwarded-proto", lie);
                let answer = call.send().await?.ok()?;
                assert_eq!(sandbox_id(&answer), Some(sandbox.id.as_str()));
                assert_eq!(answer["target"], "/a%2Fb?c=d");
                assert_eq!(answer["host"], sandbox.host(8080));
                assert_eq!(
                    received_headers(&answer, "x-forwarded-proto"),
                    [scheme],
                    "{protocol:?}"
                );
            }
        }
        let call = stack.edge_tls().get(&sandbox.host(8080), "/").over(Protocol::H2c);
        assert_eq!(call.send().await?.denial()?, "401 UNAUTHENTICATED");
        Ok(())
    });
}

/// A ClientHello of TLS 1.1 (RFC 4346) with a cipher suite that was common then.
const OLD_HELLO: [u8; 50] = {
    let mut hello = [0; 50];
    let head = [0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    let mut index = 0;
    while index < head.len() {
        hello[index] = head[index];
        index += 1;
    }
    // 32 random bytes, no session; one suite, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA; no compression.
    hello[45] = 2;
    hello[46] = 0xc0;
    hello[47] = 0x13;
    hello[48] = 1;
    hello
};

#[test]
fn the_tls_port_refuses_old_tls_versions_and_plain_text() {
    run(Setup::default(), async |stack| {
        stack.public_env().await?;
        let answer = stack.edge_tls().raw(&OLD_HELLO).await?;
        // A fatal alert, protocol_version (RFC 5246, section 7.2).
        assert!(answer.starts_with(&[0x15, 3]), "{answer:?}");
        assert!(answer.ends_with(&[2, 70]), "{answer:?}");
        let plain = b"GET /health HTTP/1.1\r\nhost: 8080-my-env.sandbox.localhost\r\n\r\n";
        let answer = stack.edge_tls().raw(plain).await?;
        assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
        Ok(())
    });
}

#[test]
fn a_new_certificate_applies_to_new_connections_and_ends_none() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let (edge, host) = (stack.edge_tls(), sandbox.host(8080));
        let before = edge.certificate().await?;
        let target = target_tls(stack, &sandbox.host(3000), "/socket")?;
        let mut socket = websocket::open(&target).await?.socket;
        let mut kept = [edge.connect(BOTH[0]).await?, edge.connect(BOTH[1]).await?];
        // A connection with a response in flight all the time.
        let events = edge.get(&host, "/events?count=8&interval_ms=500").over(Protocol::H2c);
        let mut events = events.open().await?;

        let after = sandgate_stack::pki::issue(&stack.certificate_folder())?;
        assert_ne!(before, after);
        until("the new certificate is shown", Duration::from_secs(10), async || {
            Ok((edge.certificate().await? == after).then_some(()))
        })
        .await?;
        for connection in &mut kept {
            connection.send(edge.get(&host, "/health")).await?.ok()?;
        }
        socket.send(Message::text("still here")).await?;
        assert_eq!(socket.next().await.context("closed")??, Message::text("still here"));
        let body = crate::streaming::read_all(events.body_mut()).await?;
        assert_eq!(String::from_utf8_lossy(&body).matches("data:").count(), 8);
        Ok(())
    });
}

#[test]
fn a_certificate_that_does_not_match_its_key_changes_nothing() {
    run(Setup::default(), async |stack| {
        stack.public_env().await?;
        let directory = stack.certificate_folder();
        let before = stack.edge_tls().certificate().await?;
        let (key, certificate) = (directory.join("tls.key"), directory.join("tls.crt"));
        let good_key = std::fs::read(&key)?;
        let put = |path: &std::path::Path, bytes: &[u8]| -> Result<()> {
            let next = directory.join("next");
            std::fs::write(&next, bytes)?;
            Ok(std::fs::rename(next, path)?)
        };
        let refused = async |count: u64| {
            until("the pair is refused", Duration::from_secs(10), async || {
                let failed = stack.envoy().stat("sds.edge_certificate.key_rotation_failed").await?;
                Ok((failed >= count).then_some(()))
            })
            .await
        };
        put(&key, rcgen::KeyPair::generate()?.serialize_pem().as_bytes())?;
        refused(1).await?;
        put(&certificate, b"no certificate")?;
        refused(2).await?;
        assert_eq!(stack.edge_tls().certificate().await?, before);
        put(&key, &good_key)?;
        assert_eq!(stack.edge_tls().certificate().await?, before);
        Ok(())
    });
}

#[test]
fn grpc_streams_work_over_tls_and_end_with_trailers() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let key = format!("Bearer {}", stack.key());
        let target = target_tls(stack, &sandbox.host(50051), "")?.header("authorization", &key)?;
        let connection = connect(&target).await?;
        let services = connection.list_services().await?;
        assert!(services.iter().any(|name| name == "sandgate.demo.v1.Echo"), "{services:?}");
        let messages = (0..50).map(|number| crate::grpc::request(&number.to_string()));
        let answers = connection.echo().bidi_stream(futures_util::stream::iter(messages)).await?;
        let mut answers = answers.into_inner();
        let mut count = 0;
        while let Some(answer) = answers.message().await? {
            assert_eq!(answer.message, count.to_string());
            count += 1;
        }
        assert_eq!(count, 50);
        assert!(answers.trailers().await?.is_some());

        let stranger = connect(&target_tls(stack, &sandbox.host(50051), "")?).await?;
        let status = stranger.echo().echo(crate::grpc::request("x")).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
        Ok(())
    });
}

#[test]
fn requests_are_routed_by_host_and_not_by_server_name() {
    run(Setup::default(), async |stack| {
        let private = stack.my_env().await?;
        let public = json!({
            "name": "open-env", "exposed_ports": [8080], "allow_unauthenticated_access": true,
        });
        let public = stack.sandbox(public).await?;
        // Browsers reuse a connection for another host of the same certificate (RFC 9113, section
        // 9.1.1). This is permitted, and gives no access.
        for server_name in ["8080-open-env.sandbox.localhost", "8080-my-env.sandbox.localhost"] {
            for protocol in BOTH {
                let edge = stack.edge_tls().tls(server_name);
                let mut connection = edge.connect(protocol).await?;
                for _ in 0..3 {
                    let call = edge.get(&public.host(8080), "/");
                    let answer = connection.send(call).await?.ok()?;
                    assert_eq!(sandbox_id(&answer), Some(public.id.as_str()));
                    let call = edge.get(&private.host(8080), "/");
                    let answer = connection.send(call).await?;
                    assert_eq!(answer.denial()?, "401 UNAUTHENTICATED");
                    let call = edge.get(&private.host(8080), "/").bearer(stack.key());
                    let answer = connection.send(call).await?.ok()?;
                    assert_eq!(sandbox_id(&answer), Some(private.id.as_str()));
                    // The credential of one request does not apply to the next one.
                    let call = edge.get(&private.management(), "/api/v1/info");
                    let answer = connection.send(call).await?;
                    assert_eq!(answer.denial()?, "401 UNAUTHENTICATED");
                }
            }
        }
        // A connection with an unknown server name is accepted too.
        let edge = stack.edge_tls().tls("localhost.sandbox.localhost");
        let answer = edge.get(&public.host(8080), "/").send().await?.ok()?;
        assert_eq!(sandbox_id(&answer), Some(public.id.as_str()));
        Ok(())
    });
}

#[test]
fn tcp_tunnels_work_over_tls_and_both_http_versions() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let path = "/api/v1/tunnels/tcp?port=8080";
        let key = format!("Bearer {}", stack.key());
        let stranger = target_tls(stack, &sandbox.management(), path)?;
        let target = stranger.clone().header("authorization", &key)?;
        let request = b"GET /download?bytes=1048576 HTTP/1.1\r\nhost: in.the.tunnel\r\nconnection: close\r\n\r\n";
        for over_http2 in [false, true] {
            let opened = match over_http2 {
                false => websocket::open(&target).await?,
                true => websocket::open_over_http2(&target).await?,
            };
            let (mut sink, mut stream) = opened.socket.split();
            sink.send(Message::binary(request.as_slice())).await?;
            let mut bytes = Vec::new();
            while let Some(Ok(message)) = stream.next().await {
                match message {
                    Message::Binary(more) => bytes.extend_from_slice(&more),
                    _ => break,
                }
            }
            assert!(bytes.starts_with(b"HTTP/1.1 200 "), "over HTTP/2: {over_http2}");
            assert!(bytes.len() > 1 << 20, "{} bytes over HTTP/2: {over_http2}", bytes.len());
            let refused = match over_http2 {
                false => websocket::open(&stranger).await,
                true => websocket::open_over_http2(&stranger).await,
            };
            let refused = matches!(
                refused, Err(websocket::OpenError::Refused { status, .. }) if status == 401
            );
            assert!(refused, "over HTTP/2: {over_http2}");
        }
        Ok(())
    });
}

#[test]
fn connections_without_a_tls_handshake_time_out() {
    run(Setup::default(), async |stack| {
        let mut stream = tokio::net::TcpStream::connect(stack.edge_tls().address()).await?;
        stream.write_all(&[0x16, 3, 1]).await?;
        let mut answer = Vec::new();
        let limit = Duration::from_secs(20);
        // The connection is closed or reset.
        let ended = tokio::time::timeout(limit, stream.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "still open after {limit:?}");
        Ok(())
    });
}
