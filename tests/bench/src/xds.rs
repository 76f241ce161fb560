//! `make bench-xds`: many simulated nodes on one xDS server.
//!
//! The server is that of `sandgate serve`, in a process of its own, with a source of resources that changes a setting of one
//! node at a time. A node speaks the protocol as Envoy does: the same kinds, one response for each kind, a confirmation of
//! each response, and what it has when it reconnects, after a pause with jitter. It connects from a loopback address of its
//! own, without TLS.

mod node;
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sandgate_stack::artifacts;
use serde_json::json;
use tokio::task::JoinSet;

use self::node::{Nodes, Wanted};
use self::server::Running;
pub(crate) use self::server::{ServerOptions, serve};
use crate::fleet_report::{self, Part};
use crate::machine;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// The number of nodes.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    nodes: u32,
    /// The changes per second, each of a setting of one node.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// The time for which the settings change, in seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Print the result instead of changing docs/benchmarks-fleet.md.
    #[arg(long)]
    print: bool,
}

/// The longest time until all nodes are connected. The requirement is stricter.
const LIMIT: Duration = Duration::from_secs(120);

pub(crate) async fn measure(options: &Options) -> Result<()> {
    let files = server::Files::write()?;
    let wanted = Arc::new(Wanted::of(&files.snapshot()?));
    let mut server = Running::start(&files, options.nodes, None).await?;
    let empty = machine::resident_megabytes(server.process()?)?;
    let nodes = Arc::new(Nodes::new(server.address(), Arc::clone(&wanted)));
    eprintln!("==> {} nodes connect for the first time", options.nodes);
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..options.nodes {
        let token = files.token(number)?;
        tasks.spawn(node::run(Arc::clone(&nodes), number, token));
    }
    let first = until_current(&nodes, options.nodes, begun).await?;
    // What the server needs for the responses of the start is free again, as far as its allocator gives it back.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let full = machine::resident_megabytes(server.process()?)?;
    let bytes_received = nodes.bytes();

    eprintln!("==> {} changes per second for {} s", options.rate, options.seconds);
    let count = options.rate * options.seconds;
    let before = machine::processor_time(server.process()?)?;
    server.change(count, options.rate).await?;
    let deadline = Instant::now() + Duration::from_secs(10);
    while nodes.changes() < usize::try_from(count)? && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let busy = machine::processor_time(server.process()?)?.saturating_sub(before);
    let latencies = nodes.take_latencies();
    ensure!(
        latencies.len() == usize::try_from(count)?,
        "{} of {count} changes arrived",
        latencies.len()
    );

    eprintln!("==> the server is killed and starts again: all nodes reconnect");
    let port = server.address().port();
    server.kill().await?;
    nodes.until_all_lost().await;
    let begun = Instant::now();
    let server = Running::start(&files, options.nodes, Some(port)).await?;
    let again = until_current(&nodes, options.nodes, begun).await?;
    let after = machine::resident_megabytes(server.process()?)?;
    tasks.shutdown().await;
    let data = json!({
        "machine": machine::describe(&artifacts::envoy_program()?.display().to_string()),
        "nodes": options.nodes,
        "rate": options.rate,
        "resources": wanted.len(),
        "bytes_per_node": bytes_received / u64::from(options.nodes),
        "empty_mb": empty,
        "full_mb": full,
        "after_storm_mb": after,
        "first_s": first.as_secs_f64(),
        "storm_s": again.as_secs_f64(),
        "cores": busy as f64 / 1e9 / f64::from(options.seconds),
        "latencies": latencies,
    });
    fleet_report::store(Part::Xds, &data, options.print)
}

/// Waits until all nodes have what they want. Returns the time since `begun`.
async fn until_current(nodes: &Nodes, count: u32, begun: Instant) -> Result<Duration> {
    let all = usize::try_from(count)?;
    while nodes.current() < all {
        let (current, elapsed) = (nodes.current(), begun.elapsed());
        ensure!(
            elapsed < LIMIT,
            "after {elapsed:?}, {current} of {count} nodes have their resources"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(begun.elapsed())
}

/// The name of a node.
pub(crate) fn name(number: u32) -> String {
    format!("node-{number:05}")
}

/// The number in the name of a node.
pub(crate) fn number(name: &str) -> Result<usize> {
    let text = name.strip_prefix("node-").context("not a node")?;
    Ok(text.parse()?)
}
