//! What one sandbox has on this machine: namespaces, links, addresses, cgroups, a folder. All names contain the prefix of the
//! server and the id of the sandbox, and never its name, which its owner chooses.

use std::fs::{OpenOptions, Permissions};
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sandgate_netns::{Namespace, ip_batch, ip_batch_in, remove_link};
use tokio::time::Instant;

use super::block::Block;
use super::cgroups::Cgroup;
use super::remains::{ETC, remove_folder};
use super::{Internet, Shared, folder, lock, relay};
use crate::model::SandboxId;
use crate::runtime::RuntimeError;

/// The interface of the gateway that leads to the sandbox.
pub(super) const SANDBOX_LINK: &str = "sandbox0";
/// A namespace and its interfaces inherit these from the machine. A gateway forwards nothing until its sidecar lets it.
const FORWARDING: &str = "/proc/sys/net/ipv4/conf";
const FORWARDING_IPV6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) id: SandboxId,
    pub(super) block: Block,
    pub(super) sandbox: Namespace,
    pub(super) gateway: Namespace,
    pub(super) folder: PathBuf,
    /// The name of the link on this machine, and in the internet.
    link: String,
}

impl Place {
    pub(super) fn new(shared: &Shared, id: &SandboxId, block: Block) -> Self {
        let prefix = &shared.prefix;
        Self {
            id: id.clone(),
            block,
            sandbox: Namespace::named(format!("{prefix}-{id}-sandbox")),
            gateway: Namespace::named(format!("{prefix}-{id}-gateway")),
            folder: folder(prefix).join(id.as_str()),
            link: format!("{}{:05x}", prefix.of_links(), block.index),
        }
    }

    /// The user of the program. Other sandboxes have others, because the kernel counts processes, and what programs watch, for
    /// each user: with one user for all Envoys, some 40 of them reach the usual limit of inotify instances.
    pub(super) fn program_uid(&self, shared: &Shared) -> u32 {
        shared.settings.first_uid.saturating_add(self.block.index.saturating_mul(2))
    }

    /// The user of the sidecar's Envoy.
    pub(super) fn envoy_uid(&self, shared: &Shared) -> u32 {
        self.program_uid(shared).saturating_add(1)
    }

    fn cgroup_names(&self) -> [String; 2] {
        ["sandbox", "sidecar"].map(|part| format!("{}-{part}", self.id))
    }

    /// The cgroups of the sandbox and of its sidecar.
    pub(super) fn cgroups(&self, shared: &Shared) -> [Option<Cgroup>; 2] {
        self.cgroup_names().map(|name| shared.cgroups.named(&name))
    }

    /// The files that `ip netns exec` mounts over those of `/etc` for programs in the sandbox.
    fn etc(&self) -> PathBuf {
        Path::new(ETC).join(self.sandbox.name())
    }

    pub(super) fn token_file(&self) -> PathBuf {
        self.folder.join("token")
    }

    pub(super) fn ready_file(&self) -> PathBuf {
        self.folder.join("ready")
    }

    /// Makes everything, and returns the listener for the sidecar's calls of the control plane.
    pub(super) async fn build(&self, shared: &Arc<Shared>) -> Result<TcpListener, RuntimeError> {
        let (this, shared) = (self.clone(), Arc::clone(shared));
        let built = tokio::task::spawn_blocking(move || {
            this.make_folder(&shared)?;
            let [sandbox, sidecar] = this.cgroup_names().map(|name| shared.cgroups.make(&name));
            sidecar?;
            if let Some(cgroup) = sandbox? {
                cgroup.limit()?;
            }
            this.connect(&shared.settings.internet)
        });
        built.await.map_err(RuntimeError::failed)?
    }

    fn make_folder(&self, shared: &Shared) -> Result<(), RuntimeError> {
        let failed = |path: &Path, error: std::io::Error| {
            RuntimeError::failed(format!("`{}` can't be made: {error}", path.display()))
        };
        // Only the sidecar's Envoy passes through it, and reaches its files.
        std::fs::create_dir(&self.folder)
            .and_then(|()| chown(&self.folder, None, Some(self.envoy_uid(shared))))
            .and_then(|()| std::fs::set_permissions(&self.folder, Permissions::from_mode(0o710)))
            .map_err(|error| failed(&self.folder, error))?;
        let names =
            shared.settings.resolvers.iter().map(|address| format!("nameserver {address}\n"));
        let resolv = names.chain(["options timeout:2 attempts:1\n".to_owned()]).collect::<String>();
        let etc = self.etc();
        // Another server may remove the empty parent at the same moment.
        std::fs::create_dir_all(&etc)
            .or_else(|_| std::fs::create_dir_all(&etc))
            .map_err(|error| failed(&etc, error))?;
        // Names are resolved by DNS, and not by services of this machine.
        for (name, text) in
            [("resolv.conf", resolv.as_str()), ("nsswitch.conf", "hosts: files dns\n")]
        {
            if Path::new("/etc").join(name).exists() {
                let path = etc.join(name);
                std::fs::write(&path, text)
                    // The sandbox's user must read it, whatever the server's umask is.
                    .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(0o644)))
                    .map_err(|error| failed(&path, error))?;
            }
        }
        self.write_tokens(shared).map_err(|error| failed(&self.token_file(), error))
    }

    /// Writes the tokens of the sidecar, if they differ from those in the file.
    pub(super) fn write_tokens(&self, shared: &Shared) -> std::io::Result<()> {
        let tokens = shared.tokens.for_sidecar(&self.id).join("\n") + "\n";
        let path = self.token_file();
        if std::fs::read_to_string(&path).is_ok_and(|text| text == tokens) {
            return Ok(());
        }
        let new = self.folder.join("token.new");
        let mut file = OpenOptions::new();
        let file = file.write(true).create(true).truncate(true).mode(0o600);
        file.open(&new)?.write_all(tokens.as_bytes())?;
        std::fs::rename(new, path)
    }

    fn connect(&self, internet: &Internet) -> Result<TcpListener, RuntimeError> {
        let Self { block, link, .. } = self;
        let (sandbox, gateway) = (self.sandbox.name(), self.gateway.name());
        let mut commands = format!(
            "netns add {sandbox}\nnetns add {gateway}\n\
             link add {link} type veth peer name host0 netns {gateway}\n\
             link add eth0 netns {sandbox} type veth peer name {SANDBOX_LINK} netns {gateway}\n"
        );
        if let Internet::Namespace(name) = internet {
            commands +=
                &format!("link add {link} netns {name} type veth peer name eth0 netns {gateway}\n");
        }
        ip_batch(&commands).map_err(RuntimeError::failed)?;
        // No link of the gateway is up yet.
        let listener = self
            .gateway
            .enter(|| {
                forbid_forwarding()?;
                ip_batch("link set lo up\n").map_err(std::io::Error::other)?;
                relay::listen()
            })
            .map_err(RuntimeError::failed)?
            .map_err(RuntimeError::failed)?;
        self.set_addresses(internet).map_err(RuntimeError::failed)?;
        tracing::debug!(id = %self.id, address = %block.sandbox(), "the network of a sandbox is built");
        Ok(listener)
    }

    fn set_addresses(&self, internet: &Internet) -> Result<(), sandgate_netns::NetnsError> {
        let Self { block, link, .. } = self;
        let network = block.sandbox_network();
        let (edge, inside) = (block.edge(), block.gateway_to_host());
        let (router, sandbox) = (block.gateway_to_sandbox(), block.sandbox());
        let mut commands = format!(
            "address add {inside}/31 dev host0\nlink set host0 up\n\
             address add {router}/30 dev {SANDBOX_LINK}\nlink set {SANDBOX_LINK} up\n"
        );
        match internet {
            Internet::Nothing => {}
            Internet::Host => commands += &format!("route add default via {edge}\n"),
            Internet::Namespace(name) => {
                let (far, near) = (block.internet(), block.gateway_to_internet());
                commands += &format!(
                    "address add {near}/31 dev eth0\nlink set eth0 up\nroute add default via {far}\n"
                );
                ip_batch_in(
                    name,
                    &format!("address add {far}/31 dev {link}\nlink set {link} up\n"),
                )?;
            }
        }
        ip_batch_in(self.gateway.name(), &commands)?;
        // The route tells edges on this machine which address to use, and that is the one that the sidecar lets in.
        ip_batch(&format!(
            "address add {edge}/31 dev {link}\nlink set {link} up\n\
             route add {network}/30 via {inside} dev {link} src {edge}\n"
        ))?;
        ip_batch_in(
            self.sandbox.name(),
            &format!(
                "link set lo up\naddress add {sandbox}/30 dev eth0\nlink set eth0 up\nroute add default via {router}\n"
            ),
        )
    }

    /// Kills all processes, removes everything, and releases the addresses. What can't be removed is logged.
    pub(super) async fn remove(&self, shared: &Arc<Shared>) {
        let (this, all) = (self.clone(), Arc::clone(shared));
        let removed = tokio::task::spawn_blocking(move || this.remove_now(&all)).await;
        let errors = removed.unwrap_or_else(|error| vec![error.to_string()]);
        for error in &errors {
            tracing::error!(sandbox = %self.id, %error, "something of a sandbox is left");
        }
        // Addresses that may still be in use are not given to another sandbox.
        if errors.is_empty() {
            lock(&shared.blocks).release(self.block.edge().into(), Instant::now());
        }
    }

    /// Returns an error for each part that stays.
    fn remove_now(&self, shared: &Shared) -> Vec<String> {
        let mut errors = Vec::new();
        for cgroup in self.cgroups(shared).into_iter().flatten() {
            errors.extend(cgroup.remove().err());
        }
        let removed = [remove_link(&self.link), self.sandbox.remove(), self.gateway.remove()];
        errors.extend(removed.into_iter().filter_map(Result::err).map(|error| error.to_string()));
        errors.extend(
            [&self.folder, &self.etc()].into_iter().filter_map(|path| remove_folder(path).err()),
        );
        errors
    }
}

/// Forbids all forwarding in the namespace of this thread.
fn forbid_forwarding() -> std::io::Result<()> {
    // The kernel changes the interfaces only if the value for all of them changes.
    for entry in std::fs::read_dir(FORWARDING)? {
        std::fs::write(entry?.path().join("forwarding"), "0")?;
    }
    match std::fs::write(FORWARDING_IPV6, "0") {
        // Without IPv6, there is no such file.
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
