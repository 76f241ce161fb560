//! What sandboxes in network namespaces reach if their policy permits: a namespace with two sites and a resolver, which is
//! connected to nothing else. It needs root.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use ipnet::Ipv4Net;
use sandgate_netns::{Namespace, Prefix};
use serde_json::json;

use crate::artifacts::{program, root};
use crate::certificate::Certificates;
use crate::control_plane::Namespaces;
use crate::files::{create_private_folder, write_private};
use crate::process::Process;

/// A host on the internet of the sandboxes.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    pub name: &'static str,
    pub address: Ipv4Addr,
}

/// The site that the policies of the printed commands allow at first.
pub const PACKAGES: Site = Site { name: "packages.test", address: Ipv4Addr::new(203, 0, 113, 10) };
/// The other site.
pub const ELSEWHERE: Site =
    Site { name: "elsewhere.test", address: Ipv4Addr::new(203, 0, 113, 20) };
pub const RESOLVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);

const PATIENCE: Duration = Duration::from_secs(10);

/// The running internet. It is removed when this value is dropped, in the order of the fields.
pub struct FarSide {
    servers: Process,
    network: Process,
    namespace: Namespace,
    certificates: Certificates,
}

impl FarSide {
    /// Starts the internet. The logs are in the folder `state`.
    pub async fn start(state: &Path) -> Result<Self> {
        let folder = state.join("internet");
        create_private_folder(&folder)?;
        // The authority is limited to the last name and the names below it.
        let certificates = Certificates::ensure(&folder, &[PACKAGES.name, ELSEWHERE.name, "test"])?;
        let namespace = namespace(state);
        let command = network_command(&namespace);
        let network =
            launch(state, "the network of the internet", "network", "built", &command).await?;
        let mut command = namespace.command("setpriv");
        // `ip netns exec` becomes the program.
        command.args(["--pdeathsig", "TERM", "--"]).arg(program("sandgate-stack")?);
        command.args(["internet", &RESOLVER.to_string()]).arg(certificates.directory());
        command.args([PACKAGES, ELSEWHERE].map(|site| format!("{}={}", site.name, site.address)));
        let servers = launch(state, "the internet", "internet", "ready", &command).await?;
        Ok(Self { servers, network, namespace, certificates })
    }

    /// Fails if a part has ended.
    pub fn require_running(&mut self) -> Result<()> {
        self.network.require_running()?;
        self.servers.require_running()
    }

    /// The settings of sandboxes that can reach this internet, and nothing else. `state` is the folder of [`Self::start`].
    pub fn runtime(&self, state: &Path, range: Ipv4Net, envoy: &Path) -> Result<Namespaces> {
        Ok(Namespaces {
            cidr: range.to_string(),
            internet: format!("namespace:{}", self.namespace.name()),
            resolvers: vec![RESOLVER.into()],
            operator_file: Some(write_operator_file(state)?),
            envoy: envoy.to_owned(),
            program: None,
        })
    }

    /// The certificate authority of the sites.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.certificates.authority()
    }
}

/// The settings of sidecars by which they treat the sites, whose addresses are reserved for documentation, as a part of the
/// internet.
fn write_operator_file(state: &Path) -> Result<PathBuf> {
    let path = state.join("operator.json");
    let also_global = [format!("{}/32", PACKAGES.address), format!("{}/32", ELSEWHERE.address)];
    write_private(&path, &format!("{}\n", json!({ "also_global": also_global })))?;
    Ok(path)
}

/// Starts a program, and waits until it prints a line that contains `ready` as a word.
async fn launch(
    state: &Path,
    name: &str,
    log: &str,
    ready: &str,
    command: &Command,
) -> Result<Process> {
    let log = state.join(format!("far-side-{log}.log"));
    let mut process = Process::start(name, command, &log)?.with_patience(PATIENCE);
    process
        .until("was not ready", Duration::from_secs(30), async |process| {
            Ok(process.output().split_whitespace().any(|word| word == ready).then_some(()))
        })
        .await?;
    Ok(process)
}

/// A program that creates the namespace, and removes it when it ends.
#[must_use]
pub fn network_command(namespace: &Namespace) -> Command {
    let mut command = Command::new(root().join("tests/stack/internet.sh"));
    command.arg(namespace.name());
    command.args([RESOLVER, PACKAGES.address, ELSEWHERE.address].map(|a| a.to_string()));
    command
}

/// The namespace of a run. Its name depends on the state folder, so runs don't share namespaces.
#[must_use]
pub fn namespace(state: &Path) -> Namespace {
    Namespace::named(format!("{}-internet", Prefix::of(state)))
}
