//! Prints how long a sandbox in network namespaces takes from its creation until it is ready, and how much memory an idle one
//! uses. It needs root, and what `scripts/wasm` and `cargo build` build:
//!
//!     cargo run -p sandgate-stack --example sandbox_start
//!
//! The programs are debug builds unless this one is run with `--release`. Time includes the HTTP response of `POST /sandboxes`,
//! which waits until the sandbox is ready: its program listens, and its sidecar enforces its policy.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sandgate_netns::Prefix;
use sandgate_stack::artifacts::envoy_program;
use sandgate_stack::control_plane::DOMAIN;
use sandgate_stack::local_run::far_side::FarSide;
use sandgate_stack::network::free_range;
use sandgate_stack::{ControlPlane, ControlPlaneSetup, Runtime};
use serde_json::{Value, json};

const CREATES: usize = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    if let Some(obstacle) = sandgate_netns::obstacle() {
        anyhow::bail!("this can't be measured here: {obstacle}");
    }
    let folder = tempfile::tempdir()?;
    let far_side = FarSide::start(folder.path()).await?;
    let runtime = far_side.runtime(folder.path(), free_range()?, &envoy_program()?)?;
    let control_plane = ControlPlane::start(ControlPlaneSetup {
        folder: folder.path().to_owned(),
        api: (Ipv4Addr::LOCALHOST, 0).into(),
        gateway: (Ipv4Addr::LOCALHOST, 0).into(),
        tls: None,
        gateway_tokens: vec!["a-gateway-token-of-a-measurement".to_owned()],
        domain: DOMAIN.to_owned(),
        proxy_url: "http://localhost:9443".to_owned(),
        drain_seconds: 3,
        enforces_egress: true,
        confirms_public_ports: false,
        runtime: Runtime::Namespaces(runtime),
        patience: Duration::from_secs(30),
        desired_state: None,
        database: None,
    })
    .await?;
    let owner = control_plane.new_owner("owner")?;
    let mut times = Vec::new();
    for number in 0..CREATES {
        let request = json!({ "name": format!("measured-{number}"), "network": { "allow_internet_access": false } });
        let begun = Instant::now();
        let call = owner.call(control_plane.api(), http::Method::POST, "/sandboxes");
        let answer = call.json(&request).send().await?;
        times.push(begun.elapsed());
        let created = answer.json()?;
        ensure!(answer.status.is_success(), "{created}");
        ensure!(created.get("status") == Some(&json!("running")), "not running yet: {created}");
        if number == 0 {
            print_memory(folder.path(), &created).await?;
        }
    }
    times.sort_unstable();
    let at = |part: usize| times.get(CREATES * part / 100).copied().unwrap_or_default().as_millis();
    println!("{CREATES} creates, one after the other: p50 {} ms, p90 {} ms", at(50), at(90));
    Ok(())
}

/// Prints the memory of the sidecar of a sandbox, as its status file says it.
async fn print_memory(state: &Path, created: &Value) -> Result<()> {
    // Until it is idle.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let id = created.get("sandbox_id").or_else(|| created.get("id")).and_then(Value::as_str);
    let prefix = Prefix::of(&std::fs::canonicalize(state.join("data"))?).to_string();
    let file = Path::new("/run").join(prefix).join(id.context("no id")?).join("status.json");
    let status: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    for part in ["agent", "envoy"] {
        let bytes = status.get(format!("{part}_resident_bytes")).and_then(Value::as_u64);
        println!("{part} of an idle sandbox: {} MiB resident", bytes.context("no memory")? >> 20);
    }
    Ok(())
}
