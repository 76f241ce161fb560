//! The settings of the runtime, and why a machine can't use them.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::Ipv4Net;
use sandgate_netns::{Conflict, NetnsError};

/// Where sandboxes get to when their policy permits.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Internet {
    /// Nowhere.
    Nothing,
    /// A network namespace of this machine, by its name.
    Namespace(String),
    /// This machine's own network, with this machine's address.
    Host,
}

/// The sidecar of each sandbox.
#[derive(Clone, Debug)]
pub struct SidecarSettings {
    /// `sandgate-sidecar`.
    pub program: PathBuf,
    pub envoy: PathBuf,
    /// The egress filter.
    pub filter: PathBuf,
    /// Further options of the sidecar.
    pub options: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct NamespacesSettings {
    /// The program of a sandbox. It is called as `PROGRAM serve --address A --id ID [--name N] --exit-with-parent`.
    pub program: PathBuf,
    /// The first of the users and groups of sandboxes. Each takes two: for its program, and for the Envoy of its sidecar.
    pub first_uid: u32,
    pub sidecar: SidecarSettings,
    /// The addresses of sandboxes and gateways. Each sandbox takes 8.
    pub network: Ipv4Net,
    pub internet: Internet,
    /// What `/etc/resolv.conf` in sandboxes names.
    pub resolvers: Vec<IpAddr>,
}

/// Why this machine can't run sandboxes in namespaces.
#[derive(Debug, thiserror::Error)]
pub enum UnusableNamespaces {
    #[error("--runtime namespaces can't be used here: {0}")]
    Obstacle(String),
    #[error("--namespaces-cidr {0} must have a prefix of 12 to 26 bits, as 10.203.0.0/16 has")]
    Network(Ipv4Net),
    #[error(
        "--namespaces-cidr {0} is in use on this machine: {1}; choose another range with --namespaces-cidr"
    )]
    Conflict(Ipv4Net, Conflict),
    #[error(
        "--namespaces-internet: this machine has no network namespace `{0}`; `ip netns` lists them"
    )]
    NoInternet(String),
    #[error("the rest of an earlier server with this data directory can't be removed: {0}")]
    Remains(String),
    #[error(transparent)]
    Netns(#[from] NetnsError),
    #[error("`{path}` can't be made: {source}", path = .path.display())]
    Folder { path: PathBuf, source: io::Error },
}
