//! A runtime for tests: it records its calls, and delays, fails or refuses them as a test requires.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use sandgate::model::{Sandbox, SandboxId};
use sandgate::runtime::{Runtime, RuntimeError, RuntimeFuture};

#[derive(Default)]
pub(crate) struct TestRuntime {
    calls: Mutex<Vec<(&'static str, Sandbox)>>,
    /// Calls for sandboxes of this project hang.
    hanging: Mutex<Option<String>>,
    delay_ms: AtomicU64,
    failing: AtomicBool,
    refusing: AtomicBool,
    outlives: AtomicBool,
    addresses: AtomicU32,
    /// The address of all sandboxes, if the test sets one.
    address: Mutex<Option<IpAddr>>,
}

impl TestRuntime {
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.delay_ms.store(u64::try_from(delay.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::SeqCst);
    }

    /// Makes later calls fail with a refusal and a reason for the owner.
    pub(crate) fn set_refusing(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::SeqCst);
    }

    /// Gives all sandboxes this address, or each its own again.
    pub(crate) fn set_address(&self, address: Option<&str>) {
        *self.address.lock().unwrap() = address.map(|text| text.parse().unwrap());
    }

    /// Makes all later calls for sandboxes of this project hang.
    pub(crate) fn hang_for(&self, project: &str) {
        *self.hanging.lock().unwrap() = Some(project.to_owned());
    }

    pub(crate) fn set_outlives(&self) {
        self.outlives.store(true, Ordering::SeqCst);
    }

    /// The number of calls for `action`.
    pub(crate) fn count(&self, action: &str) -> usize {
        self.calls.lock().unwrap().iter().filter(|(name, _)| *name == action).count()
    }

    /// The number of calls for `action` on sandboxes of `project`.
    pub(crate) fn count_of(&self, project: &str, action: &str) -> usize {
        let calls = self.calls.lock().unwrap();
        calls.iter().filter(|(name, of)| *name == action && of.project_id == project).count()
    }

    /// The sandboxes of all calls, in order.
    pub(crate) fn ids(&self) -> Vec<SandboxId> {
        self.calls.lock().unwrap().iter().map(|(_, sandbox)| sandbox.id.clone()).collect()
    }

    /// The placement in the last call.
    pub(crate) fn placement(&self) -> u64 {
        self.calls.lock().unwrap().last().unwrap().1.placement
    }

    /// The actions of all calls, in order.
    pub(crate) fn actions(&self) -> Vec<&'static str> {
        self.calls.lock().unwrap().iter().map(|(name, _)| *name).collect()
    }

    async fn act(&self, action: &'static str, sandbox: &Sandbox) -> Result<(), RuntimeError> {
        self.calls.lock().unwrap().push((action, sandbox.clone()));
        if self.hanging.lock().unwrap().as_deref() == Some(sandbox.project_id.as_str()) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(self.delay_ms.load(Ordering::SeqCst))).await;
        if self.failing.load(Ordering::SeqCst) {
            return Err(RuntimeError::Failed("told to fail".into()));
        }
        if self.refusing.load(Ordering::SeqCst) {
            let to_owner = Some("there is no such image".into());
            return Err(RuntimeError::Refused { why: "told to refuse".into(), to_owner });
        }
        Ok(())
    }

    async fn run(&self, action: &'static str, sandbox: &Sandbox) -> Result<IpAddr, RuntimeError> {
        self.act(action, sandbox).await?;
        if let Some(address) = *self.address.lock().unwrap() {
            return Ok(address);
        }
        let number = self.addresses.fetch_add(1, Ordering::SeqCst);
        Ok(Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 70, 0, 1)) + number).into())
    }
}

impl Runtime for TestRuntime {
    fn start<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr> {
        Box::pin(self.run("start", sandbox))
    }

    fn suspend<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()> {
        Box::pin(self.act("suspend", sandbox))
    }

    fn resume<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr> {
        Box::pin(self.run("resume", sandbox))
    }

    fn stop<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()> {
        Box::pin(self.act("stop", sandbox))
    }

    fn outlives_the_server(&self) -> bool {
        self.outlives.load(Ordering::SeqCst)
    }

    fn shut_down(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(std::future::ready(()))
    }
}
