//! Edge and control plane finish requests in flight before they exit, within a bounded time.

use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::{SinkExt as _, StreamExt as _};
use http::Method;
use sandgate_demo::client::websocket::{self, Message};
use sandgate_e2e::{Client, Protocol, Setup, Stack, run};
use sandgate_stack::artifacts::root;
use sandgate_stack::process::Process;
use sandgate_stack::wait::until;
use serde_json::json;

use crate::support::target_tls;

/// Runs `envoy/drain.sh`, as a preStop hook does.
async fn drain(stack: &Stack, seconds: u32) -> Result<tokio::task::JoinHandle<Result<Output>>> {
    let port = stack.envoy().admin_address().port();
    Ok(tokio::task::spawn_blocking(move || {
        let mut command = Command::new("bash");
        command.arg(root().join("envoy/drain.sh")).args([seconds.to_string(), port.to_string()]);
        Ok(command.output()?)
    }))
}

#[test]
fn a_draining_edge_accepts_no_new_connections_and_ends_none() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let (edge, host) = (stack.edge(), sandbox.host(8080));
        let target = target_tls(stack, &sandbox.host(3000), "/socket")?;
        let mut socket = websocket::open(&target).await?.socket;
        let slow = edge.get(&host, "/slow?ms=2500").over(Protocol::H2c);
        let slow = tokio::spawn(slow.send());
        let mut kept = edge.connect(Protocol::Http1).await?;
        kept.send(edge.get(&host, "/health")).await?.ok()?;

        let draining = drain(stack, 30).await?;
        until("the edge listens no more", Duration::from_secs(10), async || {
            Ok(edge.get(&host, "/health").send().await.is_err().then_some(()))
        })
        .await?;
        assert!(stack.edge_tls().certificate().await.is_err(), "the TLS port is still open");
        let ready = stack.envoy().admin().get("admin", "/ready").send().await?;
        assert_eq!(ready.status, 503, "health checks still pass");
        // Existing connections are still served, with `connection: close`.
        let answer = kept.send(edge.get(&host, "/health")).await?;
        assert_eq!((answer.status.as_u16(), answer.header("connection")), (200, Some("close")));
        slow.await??.ok()?;
        socket.send(Message::text("still here")).await?;
        assert_eq!(socket.next().await.context("closed")??, Message::text("still here"));
        assert!(!draining.is_finished(), "the drain did not wait for the stream");
        socket.close(None).await?;
        while let Some(Ok(_)) = socket.next().await {}
        drop(socket);
        let output = tokio::time::timeout(Duration::from_secs(20), draining).await???;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    });
}

#[test]
fn a_drain_times_out_and_reports_the_remaining_connections() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let target = target_tls(stack, &sandbox.host(3000), "/socket")?;
        let _socket = websocket::open_over_http2(&target).await?.socket;
        let output =
            tokio::time::timeout(Duration::from_secs(20), drain(stack, 1).await?).await???;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{complaint}");
        assert!(complaint.contains("1 requests and streams are left after 1 s"), "{complaint}");
        Ok(())
    });
}

#[test]
fn a_stopping_control_plane_finishes_the_requests_in_flight() {
    run(Setup { webhook: true, ..Setup::default() }, async |stack| {
        let known = stack.public_env().await?;
        stack.edge().get(&known.host(8080), "/health").send().await?.ok()?;
        let gateway = stack.control_plane.gateway();
        // From here on, the platform responds slowly.
        stack.platform()?.delay(Duration::from_millis(2500));
        let poll = gateway.get("gateway", "/gateway/v1/changes").bearer(token());
        let revision = poll.send().await?.ok()?;
        let since = revision["revision"].as_str().context("no revision")?.to_owned();
        let path = format!("/gateway/v1/changes?since={since}&wait_ms=60000");
        let poll = tokio::spawn(gateway.get("gateway", &path).bearer(token()).send());
        let path = format!("/sandboxes/{}/suspend", known.id);
        let suspension = stack.owner.call(stack.api(), Method::POST, &path).send();
        let suspension = tokio::spawn(suspension);
        let create = stack.owner.call(stack.api(), Method::POST, "/sandboxes");
        let create = create.json(&json!({ "name": "begun", "exposed_ports": [8080] }));
        let create = tokio::spawn(create.send());
        tokio::time::sleep(Duration::from_millis(500)).await;

        let begun = Instant::now();
        stack.control_plane.terminate()?;
        let polled = tokio::time::timeout(Duration::from_secs(10), poll).await???.ok()?;
        assert!(polled["revision"].is_string(), "{polled}");
        let suspended = suspension.await??;
        assert!(suspended.status.is_success(), "{} {}", suspended.status, suspended.text());
        assert!(create.await??.status.is_success());
        let status = until("the control plane ends", Duration::from_secs(15), async || {
            Ok(stack.control_plane.ended())
        })
        .await?;
        assert!(status.success(), "{status}");
        assert!(begun.elapsed() < Duration::from_secs(15));
        // Requests that the edge has cached are still served.
        let owner = stack.owner.clone();
        stack.platform()?.delay(Duration::ZERO);
        stack.control_plane.run().await?;
        let api = stack.api();
        let begun = owner.call(api, Method::GET, "/sandboxes/begun").send().await?.ok()?;
        assert_eq!(begun["status"], "running");
        let id = begun["id"].as_str().context("no id")?.to_owned();
        let starts = stack.platform()?.count("start", &id);
        assert_eq!(starts, 1, "the start was cut off, and made again");
        Ok(())
    });
}

#[test]
fn a_stopping_control_plane_waits_for_a_bounded_time() {
    run(Setup { webhook: true, drain_seconds: 1, ..Setup::default() }, async |stack| {
        stack.platform()?.delay(Duration::from_secs(120));
        let create = stack.owner.call(stack.api(), Method::POST, "/sandboxes");
        let create = create.json(&json!({ "name": "never" }));
        // The call may succeed or fail.
        let create = tokio::spawn(create.send());
        tokio::time::sleep(Duration::from_millis(500)).await;
        stack.control_plane.terminate()?;
        let status = until("the control plane ends", Duration::from_secs(10), async || {
            Ok(stack.control_plane.ended())
        })
        .await?;
        assert!(status.success(), "{status}");
        drop(create);
        Ok(())
    });
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[test]
fn the_image_drains_on_sigterm() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let folder = tempfile::tempdir()?;
        let ports = [free_port()?, free_port()?, free_port()?];
        let envoy = sandgate_stack::artifacts::envoy_program()?;
        let path = std::env::var("PATH")?;
        let program = sandgate_stack::artifacts::program("sandgate-edge-config")?;
        let folders = [envoy.parent(), program.parent()]
            .map(|folder| folder.unwrap_or(Path::new("/")).display());
        let path = format!("{}:{}:{path}", folders[0], folders[1]);
        let mut command = Command::new("env");
        command.arg("-i");
        for (name, value) in [
            ("PATH", path),
            ("TMPDIR", folder.path().display().to_string()),
            ("SANDGATE_FILTERS", std::env::var("SANDGATE_FILTERS").unwrap_or_default()),
            ("SANDGATE_WASM", sandgate_stack::artifacts::wasm_filter().display().to_string()),
            ("SANDGATE_NATIVE", sandgate_stack::artifacts::native_module().display().to_string()),
            ("SANDGATE_DOMAIN", sandgate_e2e::DOMAIN.to_owned()),
            ("SANDGATE_SANDBOX_NETWORK", stack.network.base().to_string()),
            ("SANDGATE_SANDBOX_PREFIX_LEN", "24".to_owned()),
            ("SANDGATE_CONTROL_PLANE_ADDRESS", "127.0.0.1".to_owned()),
            ("SANDGATE_API_PORT", stack.api().address().port().to_string()),
            ("SANDGATE_GATEWAY_PORT", stack.control_plane.gateway().address().port().to_string()),
            ("SANDGATE_GATEWAY_TOKEN", token().to_owned()),
            ("SANDGATE_EDGE_ADDRESS", "127.0.0.1".to_owned()),
            ("SANDGATE_EDGE_PORT", ports[0].to_string()),
            ("SANDGATE_EDGE_TLS_PORT", ports[1].to_string()),
            ("SANDGATE_ADMIN_PORT", ports[2].to_string()),
            ("SANDGATE_DRAIN_SECONDS", "30".to_owned()),
            ("SANDGATE_DRAIN_PAUSE", "0".to_owned()),
        ] {
            command.arg(format!("{name}={value}"));
        }
        command.arg("sh").arg(root().join("envoy/docker-entrypoint.sh"));
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]);
        let mut image = Process::start("the image", &command, &folder.path().join("log"))?;
        let edge = Client::new(([127, 0, 0, 1], ports[0]).into());
        until("the image serves", Duration::from_secs(30), async || {
            if let Some(status) = image.ended() {
                anyhow::bail!("the image exited with {status}:\n{}", image.output());
            }
            let answer = edge.get(&sandbox.host(8080), "/health").send().await;
            Ok(answer.is_ok_and(|answer| answer.status == 200).then_some(()))
        })
        .await?;
        // The edge has no certificate, so it does not listen on the TLS port, not even for plain text.
        let edge_tls = Client::new(([127, 0, 0, 1], ports[1]).into());
        assert!(edge_tls.tls("any.sandbox.localhost").certificate().await.is_err());
        assert!(edge_tls.get(&sandbox.host(8080), "/health").send().await.is_err());

        let slow = tokio::spawn(edge.get(&sandbox.host(8080), "/slow?ms=2000").send());
        tokio::time::sleep(Duration::from_millis(300)).await;
        image.terminate()?;
        slow.await??.ok()?;
        let status = until("the image ends", Duration::from_secs(20), async || Ok(image.ended()));
        let status = status.await.with_context(|| image.output())?;
        assert!(status.success(), "{status}: {}", image.output());
        Ok(())
    });
}

fn token() -> &'static str {
    sandgate_e2e::TOKEN
}
