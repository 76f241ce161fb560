//! Runtimes: they start and stop sandboxes, on this machine or through the operator's platform.
//!
//! A runtime has no rules of its own. [`crate::sandboxes`] decides what to call, and never makes two calls for
//! one sandbox at a time.

mod addresses;
mod local;
mod namespaces;
mod program;
mod webhook;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use tokio::sync::mpsc;

pub use local::{InvalidNetwork, LocalRuntime, LocalSettings};
pub use namespaces::{
    Internet, NamespacesRuntime, NamespacesSettings, SidecarSettings, UnusableNamespaces,
    remove_remains,
};
pub use webhook::{InvalidSecret, SigningKey, WebhookRuntime, WebhookSettings};

use crate::model::{Sandbox, SandboxId};

/// The future of a call. It is boxed, because the settings choose the runtime.
pub type RuntimeFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, RuntimeError>> + Send + 'a>>;

/// Runs sandboxes.
pub trait Runtime: Send + Sync + 'static {
    /// Starts a new sandbox. Returns its address as soon as its ports can be reached.
    fn start<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr>;

    /// Stops a sandbox so that it can be resumed.
    fn suspend<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()>;

    /// Starts a suspended sandbox again. Returns its address as soon as its ports can be reached.
    fn resume<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr>;

    /// Stops a sandbox for ever. This succeeds if the sandbox does not run.
    fn stop<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()>;

    /// Whether sandboxes keep running when the server ends.
    fn outlives_the_server(&self) -> bool;

    /// Stops all sandboxes that don't outlive the server.
    fn shut_down(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// A sandbox that ended without a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exited {
    pub id: SandboxId,
    /// The address that it had. It may already run again at another one.
    pub address: IpAddr,
}

/// Receives the sandboxes that ended without a call.
pub type Exits = mpsc::UnboundedSender<Exited>;

/// Why a call failed. The text is for the operator's log only, because it may contain addresses and programs.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The address is outside the sandbox CIDRs, to which gateways may connect.
    #[error(
        "the runtime gave the address {0}, which lies in none of the sandbox CIDRs; start the server with a --sandbox-cidr that holds it, or correct the runtime"
    )]
    ForeignAddress(IpAddr),
    /// The call failed, and the state of the sandbox is unknown.
    #[error("{0}")]
    Failed(String),
    /// The runtime refused the call and has changed nothing.
    #[error("{why}")]
    Refused {
        /// The reason, for the log.
        why: String,
        /// The reason that the platform gives the owner.
        to_owner: Option<String>,
    },
    /// All addresses are in use, or were until a short time ago.
    #[error(
        "no address is free in {0}; delete sandboxes, or start the server with a larger range (--local-cidr, --namespaces-cidr)"
    )]
    NoAddress(ipnet::IpNet),
    /// The call took too long.
    #[error("the runtime did not answer within {0:?}")]
    TimedOut(std::time::Duration),
}

impl RuntimeError {
    pub(crate) fn failed(what: impl std::fmt::Display) -> Self {
        Self::Failed(what.to_string())
    }

    /// The failure as the owner of the sandbox sees it.
    #[must_use]
    pub fn for_owner(&self) -> Failure {
        let reason = match self {
            Self::ForeignAddress(_) => "the platform gave it an address that sandboxes can't have",
            Self::Failed(_) => "the platform failed, or can't be reached",
            Self::NoAddress(_) => "there is no room for another one now",
            Self::TimedOut(_) => "the platform did not finish in time",
            Self::Refused { to_owner: Some(reason), .. } => reason,
            Self::Refused { to_owner: None, .. } => "the platform refused, without saying why",
        };
        Failure { refused: matches!(self, Self::Refused { .. }), reason: reason.to_owned() }
    }
}

/// A failed call as an owner sees it, without addresses, programs and URLs of the operator.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// The runtime refused: the sandbox is unchanged, and trying again does not help.
    pub refused: bool,
    /// The reason, as the end of a sentence.
    pub reason: String,
}

impl Failure {
    /// The failure of the control plane's own store.
    pub(crate) fn of_store() -> Self {
        Self { refused: false, reason: "the control plane's store failed".to_owned() }
    }
}
