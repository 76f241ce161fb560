//! Upgrades under load, as docs/operations.md describes them: no request is lost, and no live stream is closed except at the end of
//! an edge's drain.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use sandgate_demo::client::websocket::{self, Message, Socket};
use sandgate_e2e::{Client, DOMAIN, Filters, Protocol, Setup, Stack, run};
use sandgate_stack::artifacts::{self, root};
use sandgate_stack::wait::until;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::target_tls;

const SOON: Duration = Duration::from_secs(60);
/// The least number of requests after a step of an upgrade.
const MORE: u64 = 100;

/// Clients that send requests one after the other, with both versions of HTTP. Each request must succeed.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    /// Whether the first edge has left the load balancer.
    has_left: Arc<AtomicBool>,
    clients: JoinSet<Result<()>>,
}

impl Load {
    /// As behind a load balancer: clients connect to the first edge until it has left, and then to the other one. Half of the requests are for a sandbox
    /// of which the edge has no cache entry, so they need a lookup.
    fn start(edges: &[Client], known: &str, key: &str) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let has_left = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for (client, protocol) in [Protocol::Http1, Protocol::H2c].repeat(2).into_iter().enumerate()
        {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let has_left = Arc::clone(&has_left);
            let (edges, known, key) = (edges.to_vec(), known.to_owned(), key.to_owned());
            clients.spawn(async move {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    number += 1;
                    let edge = edges.get(usize::from(has_left.load(Ordering::Relaxed)));
                    let edge = edge.context("no edge is left")?;
                    let mut connection = edge.connect(protocol).await?;
                    let lost =
                        || format!("request {number} of client {client}, {protocol:?}, is lost");
                    if client % 2 == 0 {
                        let call = edge.get(&known, "/health").over(protocol);
                        let answer = connection.send(call).await.with_context(lost)?;
                        ensure!(
                            answer.status == 200,
                            "{}: {} {}",
                            lost(),
                            answer.status,
                            answer.text()
                        );
                    } else {
                        let host = format!("8080-nobody-{client}-{number}.{DOMAIN}");
                        let call = edge.get(&host, "/").bearer(&key).over(protocol);
                        let answer = connection.send(call).await.with_context(lost)?;
                        let denial = answer.denial().with_context(lost)?;
                        ensure!(denial == "404 SANDBOX_NOT_FOUND", "{}: {denial}", lost());
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Ok(())
            });
        }
        Self { stop, answered, has_left, clients }
    }

    /// Waits until more requests were answered. Fails if one was lost.
    async fn continues(&mut self) -> Result<()> {
        let before = self.answered.load(Ordering::Relaxed);
        let answered = Arc::clone(&self.answered);
        tokio::select! {
            ended = self.clients.join_next() => ended.context("no client")??,
            more = until("requests go on", SOON, async || {
                Ok((answered.load(Ordering::Relaxed) >= before + MORE).then_some(()))
            }) => more,
        }
    }

    async fn end(mut self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended??;
        }
        Ok(())
    }
}

/// Sends a message over a live stream, and expects it back.
async fn is_alive(socket: &mut Socket) -> Result<()> {
    socket.send(Message::text("still here")).await?;
    let answer =
        tokio::time::timeout(SOON, socket.next()).await?.context("the stream was closed")?;
    ensure!(answer? == Message::text("still here"));
    Ok(())
}

async fn open(stack: &Stack, host: &str) -> Result<Socket> {
    Ok(websocket::open(&target_tls(stack, host, "/socket")?).await?.socket)
}

#[test]
fn an_edge_is_replaced_by_another_one_without_a_lost_request() {
    run(Setup { envoys: 2, ..Setup::default() }, async |stack| {
        let sandbox = stack.public_env().await?;
        // A stream of the edge that leaves.
        let mut socket = open(stack, &sandbox.host(3000)).await?;
        let edges: Vec<Client> = stack.envoys.iter().map(sandgate_e2e::Envoy::edge).collect();
        let mut load = Load::start(&edges, &sandbox.host(8080), stack.key());
        load.continues().await?;

        let port = stack.envoy().admin_address().port().to_string();
        let draining = tokio::task::spawn_blocking(move || {
            let mut command = Command::new("bash");
            command.arg(root().join("envoy/drain.sh")).args(["60", &port, "5"]).output()
        });
        // The health check of the draining edge fails, and the load balancer notices before the edge closes its ports. Until then,
        // the edge serves new connections.
        let admin = stack.envoy().admin();
        until("the health check fails", SOON, async || {
            Ok((admin.get("admin", "/ready").send().await?.status == 503).then_some(()))
        })
        .await?;
        load.continues().await?;
        load.has_left.store(true, Ordering::Relaxed);
        let leaving = stack.edge();
        until("the edge listens no more", SOON, async || {
            Ok(leaving.connect(Protocol::Http1).await.is_err().then_some(()))
        })
        .await?;
        load.continues().await?;
        // The stream stays until its client ends it, or the time of the drain is over.
        is_alive(&mut socket).await?;
        assert!(!draining.is_finished(), "the drain did not wait for the stream");
        socket.close(None).await?;
        while let Some(Ok(_)) = socket.next().await {}
        drop(socket);
        let output = tokio::time::timeout(SOON, draining).await???;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        load.continues().await?;
        load.end().await
    });
}

/// Waits until the edge has everything that the desired state contains, and returns the versions.
async fn versions(stack: &Stack, before: &Value) -> Result<Value> {
    until("the edge has the new configuration", SOON, async || {
        let nodes = stack.control_plane.xds_nodes()?;
        let node = nodes.pointer("/nodes/0").context("no node is connected")?;
        ensure!(node["rejected"] == json!({}), "{node:#}");
        let versions = &node["versions"];
        let is_new = node["pending"] == 0 && versions != before;
        Ok(is_new.then(|| versions.clone()))
    })
    .await
}

#[test]
fn the_filter_is_replaced_by_xds_without_a_lost_request() {
    run(Setup { by_xds: true, ..Setup::default() }, async |stack| {
        let sandbox = stack.public_env().await?;
        let mut active = versions(stack, &Value::Null).await?;
        let mut socket = open(stack, &sandbox.host(3000)).await?;
        let mut load = Load::start(&[stack.edge()], &sandbox.host(8080), stack.key());
        load.continues().await?;

        let mut state = stack.desired_state.clone().context("this stack has no desired state")?;
        match artifacts::filters()? {
            Filters::Wasm => {
                // Another configuration, and then another module.
                state["edge"]["ingress_limits"] = json!({ "requests_per_sandbox": 777 });
                stack.control_plane.set_desired_state(&state)?;
                active = versions(stack, &active).await?;
                load.continues().await?;
                is_alive(&mut socket).await?;
                let next = stack.certificate_folder().join("next.wasm");
                std::fs::copy(artifacts::wasm_filter(), &next)?;
                state["edge"]["wasm"] = json!(next);
            }
            // A running Envoy does not replace a native filter: a new module needs a new edge and a drain. The rest of the
            // configuration changes as in the other form.
            Filters::Native => state["edge"]["stream_idle_timeout_seconds"] = json!(1234),
        }
        stack.control_plane.set_desired_state(&state)?;
        versions(stack, &active).await?;
        load.continues().await?;
        is_alive(&mut socket).await?;
        load.end().await
    });
}
