//! Sandboxes as processes on this machine, each with its own loopback address. This runtime is for tests and for
//! trying Sandgate out. Never run other people's code in it, because it has no isolation.

mod process;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ipnet::Ipv4Net;
use tokio::time::Instant;

use self::process::Process;
use super::addresses::{Addresses, random_seed};
use super::{Exits, Runtime, RuntimeError, RuntimeFuture};
use crate::model::{Sandbox, SandboxId};

/// The most addresses that are tried for one start. A program can't listen on an address that another program
/// uses.
const ATTEMPTS: usize = 3;

#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// The program. It is called as `PROGRAM serve --address A --id ID [--name N] --exit-with-parent`, with the
    /// sandbox's project in the variable `SANDGATE_DEMO_PROJECT`.
    pub program: PathBuf,
    /// The range of their addresses, all of which must be loopback addresses.
    pub network: Ipv4Net,
}

/// Sandboxes as processes on this machine.
pub struct LocalRuntime {
    settings: LocalSettings,
    exits: Exits,
    addresses: Mutex<Addresses>,
    processes: Mutex<HashMap<SandboxId, Process>>,
}

/// The range has other addresses than loopback addresses, or is too small.
#[derive(Debug, thiserror::Error)]
#[error(
    "--local-cidr {0} must lie in 127.0.0.0/8 and hold at least 8 addresses, as 127.64.0.0/16 does"
)]
pub struct InvalidNetwork(Ipv4Net);

impl LocalRuntime {
    /// A runtime without sandboxes.
    ///
    /// # Errors
    /// [`InvalidNetwork`]
    pub fn new(settings: LocalSettings, exits: Exits) -> Result<Self, InvalidNetwork> {
        let network = settings.network;
        if !network.network().is_loopback() || !(8..=29).contains(&network.prefix_len()) {
            return Err(InvalidNetwork(network));
        }
        Ok(Self {
            addresses: Mutex::new(Addresses::single(network, random_seed())),
            processes: Mutex::new(HashMap::new()),
            settings,
            exits,
        })
    }

    async fn run(&self, sandbox: &Sandbox) -> Result<IpAddr, RuntimeError> {
        // A former process of the sandbox must not run beside the new one.
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
        Err(failure.unwrap_or_else(|| RuntimeError::failed("no address was tried")))
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
            // They stop concurrently, because each may need its grace period.
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
