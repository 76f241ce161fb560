//! Sandboxes in network namespaces of this machine, each behind a gateway with a sidecar of its own. For trying Sandgate out
//! and for tests, as root. The sidecar enforces each sandbox's network policy, as in production. But a sandbox is a process of
//! an unprivileged user that shares the machine's kernel and files: never run other people's code in it.
//!
//! ```text
//! edge ─ this machine ── host0  GATEWAY: sandgate-sidecar  sandbox0 ── eth0  SANDBOX: the program
//!                                  │ eth0
//!                               internet
//! ```
//!
//! Nothing that the sandbox sends can leave before its policy is enforced: a gateway forwards nothing until its sidecar has
//! its rules in place, so the program and the sidecar start at the same time.
//!
//! A server that is killed leaves its sandboxes without processes, and the next one with the same data directory removes
//! the rest ([`remove_remains`]) and starts those that ran again.

mod block;
mod cgroups;
mod gateway;
mod launch;
mod place;
mod range;
mod relay;
mod remains;
mod running;
mod sandbox;
mod settings;
mod uplink;

use std::collections::HashMap;
use std::fs::Permissions;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandgate_netns::{Namespace, Prefix};
use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::block::Block;
use self::cgroups::Cgroups;
use self::place::Place;
use self::remains::remove_all;
pub use self::remains::remove_remains;
use self::running::Running;
pub use self::settings::{Internet, NamespacesSettings, SidecarSettings, UnusableNamespaces};
use super::addresses::{Addresses, random_seed};
use super::{Exits, Runtime, RuntimeError, RuntimeFuture};
use crate::gateway_tokens::Tokens;
use crate::model::{Sandbox, SandboxId};

/// The interval at which the token files of sidecars are compared with the gateway tokens.
const TOKENS_INTERVAL: Duration = Duration::from_secs(5);

/// What all sandboxes of a runtime share.
struct Shared {
    settings: NamespacesSettings,
    prefix: Prefix,
    cgroups: Cgroups,
    tokens: Tokens,
    /// The gateway API.
    control_plane: SocketAddr,
    exits: Exits,
    blocks: Mutex<Addresses>,
}

/// Sandboxes in network namespaces.
pub struct NamespacesRuntime {
    shared: Arc<Shared>,
    running: Mutex<HashMap<SandboxId, Running>>,
    /// Held for reading while a sandbox starts.
    starts: RwLock<()>,
    ending: CancellationToken,
}

/// The folder of the files of a server's sandboxes. Users of sandboxes and Envoy must be able to reach parts of it.
fn folder(prefix: &Prefix) -> PathBuf {
    Path::new("/run").join(prefix.to_string())
}

impl NamespacesRuntime {
    /// A runtime without sandboxes. Removes what a killed server with the same data directory has left. `control_plane` is
    /// the address of the gateway API.
    ///
    /// # Errors
    /// [`UnusableNamespaces`]
    pub fn new(
        settings: NamespacesSettings,
        data_dir: &Path,
        control_plane: SocketAddr,
        tokens: Tokens,
        exits: Exits,
    ) -> Result<Self, UnusableNamespaces> {
        let network = settings.network;
        if !(12..=26).contains(&network.prefix_len()) {
            return Err(UnusableNamespaces::Network(network));
        }
        if let Some(obstacle) = sandgate_netns::obstacle() {
            return Err(UnusableNamespaces::Obstacle(obstacle));
        }
        let prefix = Prefix::of(data_dir);
        remove_all(&prefix)?;
        if let Internet::Namespace(name) = &settings.internet
            && !Namespace::named(name.clone()).exists()
        {
            return Err(UnusableNamespaces::NoInternet(name.clone()));
        }
        if let Err(error) = prepare_machine(&settings, &prefix) {
            remove_all(&prefix)?;
            return Err(error);
        }
        let cgroups = Cgroups::create(&prefix);
        if !cgroups.are_available() {
            tracing::info!(
                "no cgroup v2 is writable, so the memory of sandboxes has no limit, and a suspended sandbox ends, and starts anew when it is resumed"
            );
        }
        let blocks = Mutex::new(Addresses::blocks(network, block::SIZE, random_seed()));
        let shared = Shared { settings, prefix, cgroups, tokens, control_plane, exits, blocks };
        Ok(Self {
            shared: Arc::new(shared),
            running: Mutex::default(),
            starts: RwLock::default(),
            ending: CancellationToken::new(),
        })
    }

    async fn run(&self, sandbox: &Sandbox) -> Result<IpAddr, RuntimeError> {
        // A former process of the sandbox must not run beside the new one.
        self.end(&sandbox.id).await;
        let _starting = self.starts.read().await;
        let place = Place::new(&self.shared, &sandbox.id, self.take_block()?);
        let started =
            self.ending.run_until_cancelled(Running::start(&self.shared, &place, sandbox));
        match started.await {
            Some(Ok(running)) => {
                let address = running.address();
                lock(&self.running).insert(sandbox.id.clone(), running);
                Ok(address)
            }
            failed => {
                place.remove(&self.shared).await;
                Err(failed
                    .and_then(Result::err)
                    .unwrap_or_else(|| RuntimeError::failed("the server is stopping")))
            }
        }
    }

    fn take_block(&self) -> Result<Block, RuntimeError> {
        let mut blocks = lock(&self.shared.blocks);
        let network = blocks.network();
        match blocks.take(Instant::now()) {
            Some(IpAddr::V4(first)) => Ok(Block::new(first, self.shared.settings.network)),
            _ => Err(RuntimeError::NoAddress(network)),
        }
    }

    async fn end(&self, id: &SandboxId) {
        let running = lock(&self.running).remove(id);
        if let Some(running) = running {
            running.stop().await;
        }
    }

    /// The sandbox, unless it has ended by itself.
    fn take_running(&self, id: &SandboxId) -> Option<Running> {
        let mut all = lock(&self.running);
        // The next start waits for the removal of one that has ended.
        if all.get(id)?.has_ended() {
            return None;
        }
        all.remove(id)
    }

    async fn freeze(&self, id: &SandboxId) -> Result<(), RuntimeError> {
        let Some(running) = self.take_running(id) else { return Ok(()) };
        // Signals stop no sandbox that has timers which continue it.
        let Some(cgroup) = running.cgroup() else {
            running.stop().await;
            return Ok(());
        };
        let frozen = cgroup.freeze().await;
        lock(&self.running).insert(id.clone(), running);
        frozen
    }

    async fn thaw_or_run(&self, sandbox: &Sandbox) -> Result<IpAddr, RuntimeError> {
        if let Some(running) = self.take_running(&sandbox.id) {
            let thawed = match running.cgroup() {
                Some(cgroup) => cgroup.thaw().await,
                // It was not suspended.
                None => Ok(()),
            };
            let address = running.address();
            lock(&self.running).insert(sandbox.id.clone(), running);
            match thawed {
                Ok(()) => return Ok(address),
                Err(error) => {
                    tracing::warn!(sandbox = %sandbox.id, %error, "a suspended sandbox starts anew");
                }
            }
        }
        self.run(sandbox).await
    }

    /// Writes the tokens of sidecars again when the gateway tokens change. Runs until the runtime stops.
    pub async fn follow_tokens(&self) {
        loop {
            let pause = tokio::time::sleep(TOKENS_INTERVAL);
            if self.ending.run_until_cancelled(pause).await.is_none() {
                return;
            }
            for running in lock(&self.running).values() {
                running.write_tokens(&self.shared);
            }
        }
    }
}

/// Makes what all sandboxes share on this machine. After a failure, the caller removes it.
fn prepare_machine(
    settings: &NamespacesSettings,
    prefix: &Prefix,
) -> Result<(), UnusableNamespaces> {
    make_folder(prefix)?;
    range::reserve(prefix, settings.network)?;
    Ok(uplink::open(prefix, settings.network, settings.internet == Internet::Host)?)
}

fn make_folder(prefix: &Prefix) -> Result<(), UnusableNamespaces> {
    let path = folder(prefix);
    let failed = |source| UnusableNamespaces::Folder { path: path.clone(), source };
    std::fs::create_dir(&path).map_err(failed)?;
    // Others may pass through it, and not list it.
    std::fs::set_permissions(&path, Permissions::from_mode(0o711)).map_err(failed)?;
    std::fs::create_dir(path.join(sandbox::RUN)).map_err(failed)?;
    for mount_point in [gateway::ENVOY, gateway::FILTER] {
        std::fs::write(path.join(mount_point), "").map_err(failed)?;
    }
    Ok(())
}

impl Runtime for NamespacesRuntime {
    fn start<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr> {
        Box::pin(self.run(sandbox))
    }

    fn suspend<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()> {
        Box::pin(self.freeze(&sandbox.id))
    }

    fn resume<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr> {
        Box::pin(self.thaw_or_run(sandbox))
    }

    fn stop<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()> {
        Box::pin(async {
            self.end(&sandbox.id).await;
            Ok(())
        })
    }

    fn outlives_the_server(&self) -> bool {
        false
    }

    fn shut_down(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.ending.cancel();
            // Waits for the starts in progress, whose sandboxes are then in the list of running ones.
            let _no_starts = self.starts.write().await;
            let running: Vec<_> = lock(&self.running).drain().collect();
            let mut stops: JoinSet<()> =
                running.into_iter().map(|(_, running)| running.stop()).collect();
            while stops.join_next().await.is_some() {}
            let prefix = self.shared.prefix.clone();
            let removed = tokio::task::spawn_blocking(move || remove_all(&prefix)).await;
            if let Ok(Err(error)) = removed {
                tracing::error!(%error, "something of the sandboxes is left");
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
