//! WebSocket over HTTP/2 (RFC 8441): an extended CONNECT is authorized like an upgrade, and is the only CONNECT that is
//! forwarded.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use http::Method;
use sandgate_demo::client::Target;
use sandgate_demo::client::websocket::{self, Error, Message, OpenError};
use sandgate_e2e::{DOMAIN, Protocol, Setup, Stack, run};
use serde_json::Value;

use crate::support::{received_headers, target, target_tls};

/// Returns `open`, or the denial, such as `403 CROSS_ORIGIN`.
async fn outcome(target: &Target) -> Result<String> {
    match websocket::open_over_http2(target).await {
        Ok(_) => Ok("open".to_owned()),
        Err(OpenError::Refused { status, body, .. }) => {
            let body: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
            Ok(format!("{} {}", status.as_u16(), body["code"].as_str().unwrap_or("(no code)")))
        }
        Err(other) => Err(other.into()),
    }
}

#[test]
fn messages_are_forwarded_in_both_directions_with_and_without_tls() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let key = format!("Bearer {}", stack.key());
        let host = sandbox.host(3000);
        for target in [target_tls(stack, &host, "/socket")?, target(stack, &host, "/socket")?] {
            let target = target.header("authorization", &key)?;
            let mut socket = websocket::open_over_http2(&target).await?.socket;
            let large: Vec<u8> = (0..1 << 20).map(|index| (index % 251) as u8).collect();
            for message in [Message::text("hello"), Message::binary(large), Message::text("")] {
                socket.send(message.clone()).await?;
                let answer = tokio::time::timeout(Duration::from_secs(20), socket.next()).await?;
                assert!(answer.context("closed")?? == message, "another message came back");
            }
            // The app answers the close and ends its connection, so the stream may be reset while the close is flushed.
            match socket.close(None).await {
                Ok(()) | Err(Error::Io(_)) => {}
                Err(other) => return Err(other.into()),
            }
            let last = tokio::time::timeout(Duration::from_secs(20), socket.next()).await?;
            assert!(matches!(last, Some(Ok(Message::Close(_)))), "{last:?}");
        }
        Ok(())
    });
}

#[test]
fn closing_websockets_does_not_close_others_of_the_same_worker() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let target = target_tls(stack, &sandbox.host(3000), "/socket")?;
        let mut sockets = Vec::new();
        for _ in 0..20 {
            sockets.push(websocket::open_over_http2(&target).await?.socket);
        }
        sockets.truncate(10);
        for (number, socket) in sockets.iter_mut().enumerate() {
            socket.send(Message::text(number.to_string())).await?;
            let answer = socket.next().await.context("closed")??;
            assert_eq!(answer, Message::text(number.to_string()));
        }
        Ok(())
    });
}

#[test]
fn websockets_over_http2_are_authorized_like_any_other_upgrade() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let owner = stack.owner.clone();
        let at = |port: u16, query: &str| -> Result<Target> {
            target_tls(stack, &sandbox.host(port), &format!("/socket{query}"))
        };
        assert_eq!(outcome(&at(3000, "")?).await?, "401 UNAUTHENTICATED");
        let key = format!("Bearer {}", owner.api_key);
        let with_key = |port| anyhow::Ok(at(port, "")?.header("authorization", &key)?);
        assert_eq!(outcome(&with_key(3000)?).await?, "open");
        assert_eq!(outcome(&with_key(5000)?).await?, "403 PORT_NOT_EXPOSED");
        let wrong = at(3000, "")?.header("authorization", "Bearer tl_apiKey_of_nobody_at_all")?;
        assert_eq!(outcome(&wrong).await?, "401 INVALID_CREDENTIALS");

        // A browser sends the context in the query, the session in a cookie, and an origin.
        let context = format!("?organizationId={}&projectId={}", owner.organization, owner.project);
        let cookie = format!("tl.session_token={}", owner.session);
        let browser = |query: &str, origin: Option<&str>| -> Result<Target> {
            let target = at(3000, query)?.header("cookie", &cookie)?;
            Ok(match origin {
                Some(origin) => target.header("origin", origin)?,
                None => target,
            })
        };
        let own = format!("https://{}", sandbox.host(3000));
        assert_eq!(outcome(&browser(&context, Some(&own))?).await?, "open");
        assert_eq!(outcome(&browser("", Some(&own))?).await?, "400 PROJECT_CONTEXT_REQUIRED");
        for origin in ["https://evil.example", "null", &format!("https://8080-my-env.{DOMAIN}")] {
            let foreign = browser(&context, Some(origin))?;
            assert_eq!(outcome(&foreign).await?, "403 CROSS_ORIGIN", "{origin}");
        }
        let across = browser(&context, None)?.header("sec-fetch-site", "cross-site")?;
        assert_eq!(outcome(&across).await?, "403 CROSS_ORIGIN");
        // The context in the query is ignored for requests that are not upgrades, also over HTTP/2.
        let path = format!("/socket{context}");
        let call = stack.edge_tls().get(&sandbox.host(3000), &path).over(Protocol::H2c);
        let answer = call.header("cookie", &cookie).send().await?;
        assert_eq!(answer.denial()?, "400 PROJECT_CONTEXT_REQUIRED");
        Ok(())
    });
}

#[test]
fn the_management_port_of_a_public_sandbox_is_unreachable_by_websocket() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let path = "/api/v1/tunnels/tcp?port=8080";
        for host in [sandbox.management(), format!("9501-my-env.{DOMAIN}")] {
            assert_eq!(outcome(&target_tls(stack, &host, path)?).await?, "401 UNAUTHENTICATED");
            let foreign = target_tls(stack, &host, path)?
                .header("cookie", &format!("tl.session_token={}", stack.owner.session))?
                .header("x-forwarded-organization-id", &stack.owner.organization)?
                .header("x-forwarded-project-id", &stack.owner.project)?
                .header("origin", "https://evil.example")?;
            assert_eq!(outcome(&foreign).await?, "403 CROSS_ORIGIN");
        }
        Ok(())
    });
}

/// The status and the body with which an app without WebSocket support refused an upgrade.
async fn refused_by(stack: &Stack, host: &str, path: &str) -> Result<(u16, String)> {
    let key = format!("Bearer {}", stack.key());
    let target = target_tls(stack, host, path)?.header("authorization", &key)?;
    let target = target.header("x-sandgate-y", "1")?.header("x_forwarded_for", "192.0.2.9")?;
    match websocket::open_over_http2(&target).await {
        Err(OpenError::Refused { status, body, .. }) => Ok((status.as_u16(), body)),
        Err(other) => Err(other.into()),
        Ok(_) => anyhow::bail!("{host}{path} opened a WebSocket"),
    }
}

#[test]
fn the_app_receives_an_rfc_6455_upgrade_without_secrets() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        // Port 8080 responds as to a plain request, with the request that it received.
        let (status, body) = refused_by(stack, &sandbox.host(8080), "/status/409?x").await?;
        assert_eq!(status, 409, "{body}");
        let answer: Value = serde_json::from_str(&body).context(body)?;
        assert_eq!(answer["method"], "GET");
        assert_eq!(answer["target"], "/status/409?x");
        assert_eq!(received_headers(&answer, "upgrade"), ["websocket"]);
        assert_eq!(received_headers(&answer, "sec-websocket-key").len(), 1);
        assert_eq!(received_headers(&answer, "x-forwarded-proto"), ["https"]);
        for absent in ["authorization", "x-sandgate-y", "x_forwarded_for", ":protocol"] {
            assert!(received_headers(&answer, absent).is_empty(), "{absent}: {answer}");
        }
        Ok(())
    });
}

#[test]
fn only_a_101_opens_a_websocket() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        // Over HTTP/2 a 200 would open the WebSocket, and a script of another site could read the body.
        for path in ["/", "/status/201", "/download?bytes=1000"] {
            let (status, body) = refused_by(stack, &sandbox.host(8080), path).await?;
            assert_eq!(status, 502, "{path}: {body}");
        }
        Ok(())
    });
}

#[test]
fn unexposing_a_port_closes_its_websocket() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let key = format!("Bearer {}", stack.key());
        let target = target_tls(stack, &sandbox.host(3000), "/socket")?;
        let target = target.header("authorization", &key)?;
        let mut socket = websocket::open_over_http2(&target).await?.socket;
        socket.send(Message::text("x")).await?;
        assert_eq!(socket.next().await.context("closed")??, Message::text("x"));
        stack.owner.expose(stack.api(), &sandbox, &[8080], false).await?;
        let end = tokio::time::timeout(Duration::from_secs(5), socket.next()).await;
        let end = end.context("the socket is still open")?;
        assert!(!matches!(end, Some(Ok(_))), "{end:?}");
        Ok(())
    });
}

/// The status of a refusal with any body, or none if the stream was reset.
async fn refusal(target: &Target, protocol: &'static str) -> Result<Option<u16>> {
    match websocket::connect_over_http2(target, protocol).await {
        Ok(_) => anyhow::bail!("`{protocol}` was opened"),
        Err(OpenError::Refused { status, .. }) => Ok(Some(status.as_u16())),
        Err(OpenError::Connection(_)) => Ok(None),
        Err(other) => Err(other.into()),
    }
}

/// The number of requests that the HTTP port of the first sandbox has received.
async fn served(stack: &Stack) -> Result<u64> {
    stack.envoy().stat("cluster.sandbox_h(1|2c).upstream_rq_total").await
}

#[test]
fn other_protocols_and_plain_connect_are_refused() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let before = served(stack).await?;
        for protocol in ["connect-udp", "connect-ip", "connect-tcp", "h2c", "webtransport", "x"] {
            for host in [sandbox.host(3000), "127.0.0.1:22".to_owned(), format!("api.{DOMAIN}")] {
                let target = target(stack, &host, "/socket")?;
                let target = target.header("authorization", &format!("Bearer {}", stack.key()))?;
                let status = refusal(&target, protocol).await?;
                let refused = status.is_none_or(|status| (400..=503).contains(&status));
                assert!(refused, "{protocol} to {host}: {status:?}");
            }
        }
        // A tunnel to any authority, as an open proxy provides it.
        for host in [sandbox.host(8080), "127.0.0.1:22".to_owned(), DOMAIN.to_owned()] {
            for edge in [stack.edge(), stack.edge_tls()] {
                let call = edge.request(Method::CONNECT, &host, "/").over(Protocol::H2c);
                if let Ok(answer) = call.bearer(stack.key()).open().await {
                    let status = answer.status().as_u16();
                    assert!((400..=503).contains(&status), "CONNECT {host}: {status}");
                }
            }
        }
        assert_eq!(served(stack).await?, before, "something reached a sandbox");
        assert_eq!(stack.envoy().stat("sandgate_ingress_host_errors_total").await?, 0);
        assert_eq!(stack.envoy().stat("wasm.sandgate_ingress.vm_reload").await?, 0, "a VM trapped");
        // The edge still works.
        let call = stack.edge_tls().get(&sandbox.host(8080), "/health").over(Protocol::H2c);
        call.send().await?.ok()?;
        Ok(())
    });
}

#[test]
fn the_api_host_refuses_upgrades() {
    run(Setup::default(), async |stack| {
        for host in [DOMAIN.to_owned(), format!("api.{DOMAIN}")] {
            let target = target_tls(stack, &host, "/sandboxes")?;
            let status = refusal(&target, "websocket").await?;
            assert!(
                status.is_none_or(|status| (400..=503).contains(&status)),
                "{host}: {status:?}"
            );
        }
        Ok(())
    });
}
