//! Exposing and unexposing ports takes effect immediately, for new requests and for open streams.

use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use sandgate_demo::client::grpc;
use sandgate_demo::client::websocket::{self, Message, Socket};
use sandgate_e2e::{Setup, run};
use sandgate_stack::wait::until;
use serde_json::json;

use crate::support::target;

/// The time within which an open stream must be closed.
const SOON: Duration = Duration::from_secs(5);

#[test]
fn exposing_and_unexposing_a_port_take_effect_immediately() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.sandbox(json!({ "name": "my-env" })).await?;
        let (owner, api) = (stack.owner.clone(), stack.api());
        let ask = async || -> Result<u16> {
            let call = stack.edge().get(&sandbox.host(8080), "/health").bearer(stack.key());
            Ok(call.send().await?.status.as_u16())
        };
        for round in 0..10 {
            // Each worker has received the change.
            for _ in 0..6 {
                assert_eq!(ask().await?, 403, "round {round}");
            }
            owner.expose(api, &sandbox, &[8080], false).await?;
            for _ in 0..6 {
                assert_eq!(ask().await?, 200, "round {round}: exposed, and refused");
            }
            owner.expose(api, &sandbox, &[], false).await?;
            for _ in 0..6 {
                assert_eq!(ask().await?, 403, "round {round}: unexposed, and served");
            }
        }
        Ok(())
    });
}

#[test]
fn changing_a_port_to_public_or_private_takes_effect_immediately() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.sandbox(json!({ "name": "my-env", "exposed_ports": [8080] })).await?;
        let (owner, api) = (stack.owner.clone(), stack.api());
        let ask = async || -> Result<u16> {
            Ok(stack.edge().get(&sandbox.host(8080), "/health").send().await?.status.as_u16())
        };
        for round in 0..5 {
            for (public, status) in [(false, 401), (true, 200)] {
                owner.expose(api, &sandbox, &[8080], public).await?;
                for _ in 0..6 {
                    assert_eq!(ask().await?, status, "round {round}, public: {public}");
                }
            }
        }
        Ok(())
    });
}

async fn open(target: &sandgate_demo::client::Target) -> Result<Socket> {
    let mut socket = websocket::open(target).await?.socket;
    socket.send(Message::text("hello")).await?;
    socket.next().await.context("the socket was closed at once")??;
    Ok(socket)
}

/// Waits until the socket is closed; fails if it stays open.
async fn assert_closed(mut socket: Socket, why: &str) -> Result<()> {
    let closed = tokio::time::timeout(SOON, async {
        while let Some(Ok(message)) = socket.next().await {
            if message.is_close() {
                break;
            }
        }
    });
    closed.await.with_context(|| format!("still open {SOON:?} after {why}"))
}

#[test]
fn unexposing_a_port_closes_its_websockets_and_no_others() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let key = format!("Bearer {}", stack.key());
        let target =
            target(stack, &sandbox.host(3000), "/socket")?.header("authorization", &key)?;
        let other = stack.sandbox(json!({ "name": "other", "exposed_ports": [3000] })).await?;
        let other = crate::support::target(stack, &other.host(3000), "/socket")?
            .header("authorization", &key)?;
        // Several, so that every worker has some.
        let mut sockets = Vec::new();
        for _ in 0..6 {
            sockets.push(open(&target).await?);
        }
        let mut untouched = open(&other).await?;
        stack.owner.expose(stack.api(), &sandbox, &[8080], false).await?;
        for socket in sockets {
            assert_closed(socket, "its port was unexposed").await?;
        }
        untouched.send(Message::text("still here")).await?;
        assert_eq!(untouched.next().await.unwrap()?, Message::text("still here"));
        Ok(())
    });
}

#[test]
fn streams_end_when_a_sandbox_becomes_private_or_a_key_is_revoked() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let host = sandbox.host(3000);
        let anonymous = open(&target(stack, &host, "/socket")?).await?;
        stack.owner.expose(stack.api(), &sandbox, &[3000, 50051], false).await?;
        assert_closed(anonymous, "the sandbox turned private").await?;

        let made =
            stack.control_plane.manage(&["keys", "create", "--project", &stack.owner.project])?;
        let bearer = format!("Bearer {}", made["secret"].as_str().unwrap());
        let socket =
            open(&target(stack, &host, "/socket")?.header("authorization", &bearer)?).await?;
        let target = target(stack, &sandbox.host(50051), "")?.header("authorization", &bearer)?;
        let mut echo = grpc::connect(&target).await?.echo();
        let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
        let requests = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let mut answers = echo.bidi_stream(requests).await?.into_inner();
        sender.send(crate::grpc::request("hello")).await?;
        assert!(answers.message().await?.is_some());

        stack.control_plane.manage(&["keys", "revoke", made["id"].as_str().unwrap()])?;
        assert_closed(socket, "its key was revoked").await?;
        let ended = tokio::time::timeout(SOON, answers.message()).await;
        assert!(!matches!(ended.context("the gRPC stream is still open")?, Ok(Some(_))));
        Ok(())
    });
}

#[test]
fn after_a_port_becomes_private_its_streams_end_when_their_key_is_revoked() {
    let trusted_origins = json!(["https://app.example.com"]);
    run(Setup { trusted_origins, ..Setup::default() }, async |stack| {
        let sandbox = stack.public_env().await?;
        let made =
            stack.control_plane.manage(&["keys", "create", "--project", &stack.owner.project])?;
        let bearer = format!("Bearer {}", made["secret"].as_str().unwrap());
        let host = sandbox.host(3000);
        let keyed = target(stack, &host, "/socket")?.header("authorization", &bearer)?;
        // Several, so that every worker has some.
        let mut sockets = Vec::new();
        for _ in 0..6 {
            sockets.push(open(&keyed).await?);
        }
        let anonymous = open(&target(stack, &host, "/socket")?).await?;
        // The app of a public port would respond to a preflight after its body, which never ends.
        let call = stack
            .edge()
            .request(http::Method::OPTIONS, &sandbox.host(8080), "/")
            .header("origin", "https://app.example.com")
            .header("access-control-request-method", "PUT")
            .stream(futures_util::stream::pending::<bytes::Bytes>());
        let preflight = tokio::spawn(call.send());
        // The app has received the preflight: seven WebSockets and one request are in flight.
        until("the preflight is forwarded", SOON, async || {
            let active = stack.envoy().stat("cluster.sandbox_h1.upstream_rq_active$").await?;
            Ok((active >= 8).then_some(()))
        })
        .await?;

        stack.owner.expose(stack.api(), &sandbox, &[8080, 3000], false).await?;
        assert_closed(anonymous, "its port turned private").await?;
        let ended = tokio::time::timeout(SOON, preflight).await;
        let ended = ended.context("the preflight's stream is still open")??;
        assert!(!matches!(ended, Ok(answer) if answer.status == 200), "the app responded");
        for socket in &mut sockets {
            socket.send(Message::text("still here")).await?;
            assert_eq!(socket.next().await.unwrap()?, Message::text("still here"));
        }
        stack.control_plane.manage(&["keys", "revoke", made["id"].as_str().unwrap()])?;
        for socket in sockets {
            assert_closed(socket, "its key was revoked").await?;
        }
        Ok(())
    });
}

#[test]
fn streams_end_when_their_sandbox_is_suspended_or_deleted() {
    run(Setup { webhook: true, ..Setup::default() }, async |stack| {
        // The process at a pinned address keeps running, so only the gateway can close the streams.
        let address = stack.network.host(9);
        stack.platform()?.pin(address);
        let sandbox = stack.public_env().await?;
        let target = target(stack, &sandbox.host(3000), "/socket")?;
        let socket = open(&target).await?;
        stack.owner.suspend(stack.api(), &sandbox).await?;
        assert_closed(socket, "its sandbox was suspended").await?;
        let socket = open(&target).await?;
        stack.owner.delete(stack.api(), &sandbox).await?;
        assert_closed(socket, "its sandbox was deleted").await?;
        Ok(())
    });
}
