//! A running sandbox with its gateway, from its start to its end.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::TcpListener;
use tokio::process::Child;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

use super::cgroups::Cgroup;
use super::place::Place;
use super::sandbox::Guest;
use super::{Shared, gateway, relay, sandbox};
use crate::model::Sandbox;
use crate::runtime::{Exited, RuntimeError};

/// A sandbox, and the task that waits for its end and then removes it.
pub(super) struct Running {
    place: Place,
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    watched: JoinHandle<()>,
    has_ended: Arc<AtomicBool>,
}

/// The processes of a sandbox.
struct Processes {
    guest: Guest,
    sidecar: Child,
    /// Ends when this is dropped.
    _relay: JoinSet<()>,
}

impl Running {
    /// Builds the network, starts the sidecar and the program, and waits for both. After a failure, the caller removes the
    /// place.
    pub(super) async fn start(
        shared: &Arc<Shared>,
        place: &Place,
        sandbox: &Sandbox,
    ) -> Result<Self, RuntimeError> {
        let listener = place.build(shared).await?;
        let listener = TcpListener::from_std(listener).map_err(RuntimeError::failed)?;
        let mut relay = JoinSet::new();
        relay.spawn(relay::serve(listener, shared.control_plane));
        let (sidecar, guest) = tokio::try_join!(
            gateway::start(shared, place),
            sandbox::start(shared, place, sandbox)
        )?;
        let (stop, stopped) = oneshot::channel();
        let has_ended = Arc::new(AtomicBool::new(false));
        let processes = Processes { guest, sidecar, _relay: relay };
        let watch =
            watch(processes, place.clone(), Arc::clone(shared), stopped, Arc::clone(&has_ended));
        Ok(Self {
            place: place.clone(),
            shared: Arc::clone(shared),
            stop,
            watched: tokio::spawn(watch),
            has_ended,
        })
    }

    pub(super) fn address(&self) -> IpAddr {
        self.place.block.sandbox().into()
    }

    /// Whether the sandbox has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// The cgroup by which the sandbox can be frozen, if this machine has one.
    pub(super) fn cgroup(&self) -> Option<Cgroup> {
        let [cgroup, _] = self.place.cgroups(&self.shared);
        cgroup
    }

    pub(super) fn write_tokens(&self, shared: &Shared) {
        if let Err(error) = self.place.write_tokens(shared) {
            tracing::error!(sandbox = %self.place.id, %error, "the token of a sidecar can't be written");
        }
    }

    /// Removes the sandbox. Returns when nothing of it is left.
    pub(super) async fn stop(self) {
        // It may have ended by itself.
        let _ = self.stop.send(());
        if let Err(error) = self.watched.await {
            tracing::error!(%error, "the task that watched a sandbox failed");
        }
    }
}

/// Waits for a stop, or for the end of the program or of the sidecar. Then removes the sandbox.
async fn watch(
    mut processes: Processes,
    place: Place,
    shared: Arc<Shared>,
    stopped: oneshot::Receiver<()>,
    has_ended: Arc<AtomicBool>,
) {
    let ended = tokio::select! {
        status = processes.guest.child.wait() => Some(("program", status)),
        status = processes.sidecar.wait() => Some(("sidecar", status)),
        _ = stopped => None,
    };
    has_ended.store(true, Ordering::Release);
    drop(processes.guest.stdin.take());
    if let Some((part, status)) = ended {
        let (id, address) = (place.id.clone(), place.block.sandbox().into());
        tracing::warn!(sandbox = %id, %address, ?status, "the {part} of a sandbox ended by itself");
        // Edges get to know it before the sandbox has no link any more. Sending fails if the server is stopping.
        let _ = shared.exits.send(Exited { id, address });
    }
    place.remove(&shared).await;
    // They are dead now.
    for child in [&mut processes.guest.child, &mut processes.sidecar] {
        if let Err(error) = child.kill().await {
            tracing::error!(sandbox = %place.id, %error, "a process can't be killed");
        }
    }
}
