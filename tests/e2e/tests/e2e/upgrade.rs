//! Upgrades under load, as docs/operations.md describes them: no request is lost, and no live stream is closed except at the end of
//! an edge's drain.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::{SinkExt as _, StreamExt as _};
use sandgate_demo::client::grpc;
use sandgate_demo::client::websocket::{self, Message, Socket};
use sandgate_demo::proto::{EchoRequest, EchoResponse};
use sandgate_e2e::{Client, DOMAIN, Filters, Protocol, Sandbox, Setup, Stack, run};
use sandgate_stack::artifacts::{self, root};
use sandgate_stack::wait::until;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::support::{target, target_tls};

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

/// Live streams through the first edge: a WebSocket over TLS, and a gRPC call that streams in both directions.
struct Streams {
    socket: Socket,
    requests: mpsc::Sender<EchoRequest>,
    responses: tonic::Streaming<EchoResponse>,
}

impl Streams {
    async fn open(stack: &Stack, sandbox: &Sandbox) -> Result<Self> {
        let socket = websocket::open(&target_tls(stack, &sandbox.host(3000), "/socket")?).await?;
        let connection = grpc::connect(&target(stack, &sandbox.host(50051), "")?).await?;
        let (requests, mut receiver) = mpsc::channel(1);
        let messages = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let responses = connection.echo().bidi_stream(messages).await?.into_inner();
        let mut streams = Self { socket: socket.socket, requests, responses };
        streams.are_alive().await?;
        Ok(streams)
    }

    /// Sends a message over each, and expects it back.
    async fn are_alive(&mut self) -> Result<()> {
        const TEXT: &str = "still here";
        self.socket.send(Message::text(TEXT)).await?;
        let answer = timeout(SOON, self.socket.next()).await?;
        ensure!(answer.context("the WebSocket was closed")?? == Message::text(TEXT));
        self.requests.send(crate::grpc::request(TEXT)).await.context("the call has ended")?;
        let answer = timeout(SOON, self.responses.message()).await??;
        ensure!(answer.context("the call has ended")?.message == TEXT);
        Ok(())
    }

    /// Ends both from the client's side.
    async fn end(mut self) -> Result<()> {
        self.socket.close(None).await?;
        while let Some(Ok(_)) = self.socket.next().await {}
        drop(self.requests);
        ensure!(timeout(SOON, self.responses.message()).await??.is_none());
        Ok(())
    }
}

#[test]
fn an_edge_is_replaced_by_another_one_without_a_lost_request() {
    run(Setup { envoys: 2, ..Setup::default() }, async |stack| {
        let sandbox = stack.public_env().await?;
        // Streams of the edge that leaves.
        let mut streams = Streams::open(stack, &sandbox).await?;
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
        // The streams stay until their clients end them, or the time of the drain is over.
        streams.are_alive().await?;
        assert!(!draining.is_finished(), "the drain did not wait for the streams");
        streams.end().await?;
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
        let mut streams = Streams::open(stack, &sandbox).await?;
        let mut load = Load::start(&[stack.edge()], &sandbox.host(8080), stack.key());
        load.continues().await?;

        // Another configuration of the filter, and then another file of it.
        let mut state = stack.desired_state.clone().context("this stack has no desired state")?;
        state["edge"]["ingress_limits"] = json!({ "requests_per_sandbox": 777 });
        stack.control_plane.set_desired_state(&state)?;
        active = versions(stack, &active).await?;
        load.continues().await?;
        streams.are_alive().await?;
        let next = stack.certificate_folder().join("next");
        match artifacts::filters()? {
            Filters::Wasm => {
                std::fs::copy(artifacts::wasm_filter(), &next)?;
                state["edge"]["wasm"] = json!(next);
                stack.control_plane.set_desired_state(&state)?;
                versions(stack, &active).await?;
            }
            // A running Envoy can't load another build of the module. The edge refuses the new file and keeps the module that it
            // has loaded.
            Filters::Native => {
                std::fs::copy(artifacts::native_module(), &next)?;
                state["edge"]["native"] = json!(next);
                stack.control_plane.set_desired_state(&state)?;
                until("the edge refuses the other module", SOON, async || {
                    let nodes = stack.control_plane.xds_nodes()?;
                    let node = nodes.pointer("/nodes/0").context("no node is connected")?;
                    let rejected = &node["rejected"]["extension"]["sandgate.ingress.native"];
                    Ok(rejected.is_string().then_some(()))
                })
                .await?;
            }
        }
        load.continues().await?;
        streams.are_alive().await?;
        streams.end().await?;
        load.end().await
    });
}
