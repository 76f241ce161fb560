//! Starts the sidecar of a sandbox.

use std::collections::VecDeque;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::{Instant, sleep};

use super::place::{Place, SANDBOX_LINK};
use super::{Shared, folder, launch, lock, relay};
use crate::model::SandboxId;
use crate::runtime::RuntimeError;

/// The longest time until a sidecar enforces the policy.
const READY_WITHIN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);
/// The most bytes of a line of a sidecar's log.
const MAX_LINE: u64 = 4_096;
/// The number of lines that an error shows.
const TAIL: usize = 5;

/// Paths in the folder of the server, on which Envoy and the filter are mounted for a sidecar. Envoy's user may not be able to
/// reach the originals.
pub(super) const ENVOY: &str = "envoy";
pub(super) const FILTER: &str = "filter";

/// Mounts Envoy and the filter in the mount namespace of `ip netns exec`, and becomes the sidecar.
const LAUNCH: &str = r#"
set -e
envoy=$1 mounted_envoy=$2 filter=$3 mounted_filter=$4; shift 4
mount --bind "$envoy" "$mounted_envoy"
mount --bind "$filter" "$mounted_filter"
exec "$@"
"#;

/// Starts the sidecar, and waits until the sandbox's policy is enforced.
pub(super) async fn start(shared: &Shared, place: &Place) -> Result<Child, RuntimeError> {
    let mut child = command(shared, place).spawn().map_err(|error| {
        RuntimeError::failed(format!("`setpriv` (util-linux) can't be started: {error}"))
    })?;
    let last_lines = Arc::new(Mutex::new(VecDeque::new()));
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(log(stderr, place.id.clone(), Arc::clone(&last_lines)));
    }
    let ready = place.ready_file();
    let begun = Instant::now();
    while !ready.exists() {
        let ended = child.try_wait().map_err(RuntimeError::failed)?;
        if ended.is_some() || begun.elapsed() > READY_WITHIN {
            let what = ended.map_or_else(
                || format!("is not ready after {READY_WITHIN:?}"),
                |status| format!("ended with {status}"),
            );
            let lines: Vec<String> = lock(&last_lines).drain(..).collect();
            return Err(RuntimeError::failed(format!("the sidecar {what}: {}", lines.join(" / "))));
        }
        sleep(PAUSE).await;
    }
    Ok(child)
}

fn command(shared: &Shared, place: &Place) -> Command {
    let settings = &shared.settings;
    let sidecar = &settings.sidecar;
    let all = folder(&shared.prefix);
    let (envoy, filter) = (all.join(ENVOY), all.join(FILTER));
    let [_, cgroup] = place.cgroups(shared);
    // If the sidecar is killed, the kernel kills Envoy.
    let mut command = launch::script(&place.gateway, cgroup.as_ref(), LAUNCH);
    command.args([&sidecar.envoy, &envoy, &sidecar.filter, &filter]).arg(&sidecar.program);
    command.args(["--sandbox-interface", SANDBOX_LINK]);
    command.arg("--edge").arg(format!("{}/32", place.block.edge()));
    // No sandbox reaches another one, or a gateway.
    command.arg("--protected").arg(settings.network.to_string());
    for resolver in &settings.resolvers {
        command.arg("--resolver").arg(resolver.to_string());
    }
    command.arg("--control-plane").arg(format!("http://127.0.0.1:{}", relay::PORT));
    command.args(["--sandbox", place.id.as_str()]).arg("--token-file").arg(place.token_file());
    command.arg("--envoy-uid").arg(place.envoy_uid(shared).to_string());
    command.arg("--envoy").arg(envoy).arg("--filter").arg(filter);
    command.arg("--run-dir").arg(place.folder.join("envoy"));
    command.arg("--ready-file").arg(place.ready_file());
    command.arg("--status-file").arg(place.folder.join("status.json"));
    command.args(&sidecar.options);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Logs what a sidecar logs, and keeps the last lines.
async fn log(stderr: ChildStderr, sandbox: SandboxId, last_lines: Arc<Mutex<VecDeque<String>>>) {
    let mut stderr = BufReader::new(stderr);
    loop {
        let mut line = Vec::new();
        match (&mut stderr).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        // Each Envoy says the same about its configuration when it starts.
        if line.contains("[warning][misc]") {
            tracing::debug!(target: "sandgate::sidecar", %sandbox, "{line}");
            continue;
        }
        tracing::info!(target: "sandgate::sidecar", %sandbox, "{line}");
        let mut last_lines = lock(&last_lines);
        last_lines.push_back(line);
        if last_lines.len() > TAIL {
            last_lines.pop_front();
        }
    }
}
