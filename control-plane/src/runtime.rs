//! Where sandboxes live, behind one trait.
//!
//! A runtime does what it is told and keeps no rules: who may be started when is
//! [`crate::sandboxes`]'s business, which calls a runtime for one sandbox at a time.

mod local;
mod webhook;

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;

use tokio::sync::mpsc;

pub use local::{InvalidNetwork, LocalRuntime, LocalSettings};
pub use webhook::{InvalidSecret, SigningKey, WebhookRuntime, WebhookSettings};

use crate::model::{Sandbox, SandboxId};

/// What a call to a runtime returns; boxed, so that the runtime can be chosen when the server
/// starts.
pub type RuntimeFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, RuntimeError>> + Send + 'a>>;

/// Where sandboxes live.
pub trait Runtime: Send + Sync + 'static {
    /// Starts a new sandbox; returns when its ports can be reached, and where.
    fn start<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr>;

    /// Stops a sandbox so that it can be resumed.
    fn suspend<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()>;

    /// Starts a suspended sandbox again.
    fn resume<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, IpAddr>;

    /// Stops a sandbox for ever. Stopping one that does not run is no error.
    fn stop<'a>(&'a self, sandbox: &'a Sandbox) -> RuntimeFuture<'a, ()>;

    /// Whether sandboxes go on running while the control plane does not.
    fn outlives_the_server(&self) -> bool;

    /// Stops everything that would not outlive the server.
    fn shut_down(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// A sandbox ended without having been asked to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exited {
    /// Which.
    pub id: SandboxId,
    /// Where it was: it may be running elsewhere again.
    pub address: IpAddr,
}

/// Where a runtime reports sandboxes that ended.
pub type Exits = mpsc::UnboundedSender<Exited>;

/// Why a runtime could not do what it was told. For the operator's log, not for callers: it may
/// name addresses and programs.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The address lies outside what gateways may send traffic to.
    #[error(
        "the runtime gave the address {0}, which lies in none of the sandbox CIDRs; start the server with a --sandbox-cidr that holds it, or correct the runtime"
    )]
    ForeignAddress(IpAddr),
    /// It failed, and nobody knows how far it got.
    #[error("{0}")]
    Failed(String),
    /// It will not do it, and has changed nothing.
    #[error("{why}")]
    Refused {
        /// For the log.
        why: String,
        /// What it says to the owner, if it does.
        to_owner: Option<String>,
    },
    /// Every address is in use, or was until a moment ago.
    #[error(
        "no address is free in {0}; delete sandboxes, or start the server with a larger --local-cidr"
    )]
    NoAddress(ipnet::IpNet),
    /// It took too long.
    #[error("the runtime did not answer within {0:?}")]
    TimedOut(std::time::Duration),
}

impl RuntimeError {
    pub(crate) fn failed(what: impl std::fmt::Display) -> Self {
        Self::Failed(what.to_string())
    }

    /// What the owner of the sandbox is told.
    #[must_use]
    pub fn for_owner(&self) -> Failure {
        let reason = match self {
            Self::ForeignAddress(_) => "the platform gave it an address that sandboxes can't have",
            Self::Failed(_) => "the platform failed, or can't be reached",
            Self::NoAddress(_) => "there is no room for another one now",
            Self::TimedOut(_) => "the platform did not finish in time",
            Self::Refused { to_owner: Some(words), .. } => words,
            Self::Refused { to_owner: None, .. } => "the platform refused, without saying why",
        };
        Failure { refused: matches!(self, Self::Refused { .. }), reason: reason.to_owned() }
    }
}

/// A runtime's failure in words for owners: no addresses, programs or URLs of the operator's.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Failure {
    /// It was refused: trying again will not help, and the sandbox is as it was.
    pub refused: bool,
    /// Why, as the end of a sentence.
    pub reason: String,
}

impl Failure {
    /// Our own store failed.
    pub(crate) fn of_store() -> Self {
        Self { refused: false, reason: "the control plane's store failed".to_owned() }
    }
}
