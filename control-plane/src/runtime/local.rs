//! Sandboxes as processes on this machine, each on a loopback address of its own: for trying
//! Sandgate out and for tests. There is no isolation; never run other people's code in it.

mod addresses;
mod process;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;
use tokio::time::Instant;

use self::addresses::Addresses;
use self::process::Process;
use super::{Exits, Runtime, RuntimeError, RuntimeFuture};
use crate::model::{Sandbox, SandboxId};

/// Addresses that are tried when a program can't listen: another program may use one of them.
const ATTEMPTS: usize = 3;

/// How sandboxes are started.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// The program; it is called as `PROGRAM serve --address A --id ID [--name N] --exit-with-parent`.
    pub program: PathBuf,
    /// Where their addresses come from. Loopback only.
    pub network: Ipv4Net,
}

/// Sandboxes as processes on this machine.
pub struct LocalRuntime {
    settings: LocalSettings,
    exits: Exits,
    addresses: Mutex<Addresses>,
    processes: Mutex<HashMap<SandboxId, Process>>,
}

/// The range is not on this machine only, or has no room.
#[derive(Debug, thiserror::Error)]
#[error(
    "--local-cidr {0} must lie in 127.0.0.0/8 and hold at least 8 addresses, as 127.64.0.0/16 does"
)]
pub struct InvalidNetwork(Ipv4Net);

impl LocalRuntime {
    /// A runtime without sandboxes.
    ///
    /// # Errors
    /// [`InvalidNetwork`] when the addresses would not be loopback addresses.
    pub fn new(settings: LocalSettings, exits: Exits) -> Result<Self, InvalidNetwork> {
        let network = settings.network;
        if !network.network().is_loopback() || !(8..=29).contains(&network.prefix_len()) {
            return Err(InvalidNetwork(network));
        }
        // A place by chance: after a restart, addresses of before are not used again at once.
        let mut seed = [0; 4];
        let seed = getrandom::fill(&mut seed).map_or(0, |()| u32::from_le_bytes(seed));
        Ok(Self {
            addresses: Mutex::new(Addresses::new(network, seed)),
            processes: Mutex::new(HashMap::new()),
            settings,
            exits,
        })
    }

    async fn run(&self, sandbox: &Sandbox) -> Result<IpAddr, RuntimeError> {
        // An earlier process of the same sandbox, if it has one, must not live on beside this one.
        self.end(&sandbox.id).await;
        let mut failure = None;
        for _ in 0..ATTEMPTS {
            let address = self.take_address()?;
            match Process::start(&self.settings.program, sandbox, address, self.exits.clone()).await
            {
                Ok(process) => {
                    lock(&self.processes).insert(sandbox.id.clone(), process);
                    return Ok(address);
                }
                Err(error) => {
                    lock(&self.addresses).release(address, Instant::now());
                    tracing::warn!(sandbox = %sandbox.id, %address, %error, "a sandbox did not start");
                    failure = Some(error);
                }
            }
        }
        Err(failure.unwrap_or_else(|| RuntimeError::failed("it was not tried")))
    }

    fn take_address(&self) -> Result<IpAddr, RuntimeError> {
        let mut addresses = lock(&self.addresses);
        let network = addresses.network();
        addresses.take(Instant::now()).ok_or(RuntimeError::NoAddress(network))
    }

    async fn end(&self, id: &SandboxId) {
        let process = lock(&self.processes).remove(id);
        if let Some(process) = process {
            let address = process.address();
            process.stop().await;
            lock(&self.addresses).release(address, Instant::now());
        }
    }
}

impl Runtime for LocalRuntime {
    fn start<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr> {
        Box::pin(self.run(sandbox))
    }

    fn suspend<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()> {
        Box::pin(async {
            self.end(&sandbox.id).await;
            Ok(())
        })
    }

    fn resume<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr> {
        Box::pin(self.run(sandbox))
    }

    fn stop<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()> {
        self.suspend(sandbox)
    }

    fn outlives_the_server(&self) -> bool {
        false
    }

    fn shut_down(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            let processes: Vec<_> = lock(&self.processes).drain().collect();
            // All at once: each may need its grace period.
            let stops: Vec<_> =
                processes.into_iter().map(|(_, process)| tokio::spawn(process.stop())).collect();
            for stop in stops {
                if let Err(error) = stop.await {
                    tracing::error!(%error, "a sandbox could not be stopped");
                }
            }
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
