//! The settings of a run.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use ipnet::Ipv4Net;
use sandgate_envoy_config::Upstream;

use crate::artifacts::root;
use crate::ports::Ports;

const LOCAL_PREFIX_LEN: u8 = 16;
/// The variable of [`Settings::namespace_network`], for errors.
pub(super) const NAMESPACE_NETWORK: &str = "SANDGATE_NAMESPACE_NETWORK";

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder of the state and the logs.
    pub state: PathBuf,
    pub ports: Ports,
    /// The /16 of loopback in which each sandbox gets an address, without root.
    pub local_network: Ipv4Net,
    /// The addresses of sandboxes in network namespaces.
    pub namespace_network: Ipv4Net,
    /// Sandboxes in network namespaces are connected to this machine's own network.
    pub joins_the_host: bool,
    pub upstream: Upstream,
}

impl Settings {
    /// Reads `SANDGATE_STATE_DIR`, `SANDGATE_SANDBOX_NETWORK`, `SANDGATE_NAMESPACE_NETWORK`, `SANDGATE_INTERNET`,
    /// `SANDGATE_UPSTREAM`, and the variables of the ports.
    pub fn from_environment() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
        let local = variable("SANDGATE_SANDBOX_NETWORK").unwrap_or_else(|| "127.64.0.0".to_owned());
        let namespaces = variable(NAMESPACE_NETWORK).unwrap_or_else(|| "10.203.0.0/16".to_owned());
        let upstream = variable("SANDGATE_UPSTREAM").map_or(Ok(Upstream::default()), |name| {
            let wrong = || format!("SANDGATE_UPSTREAM is `{name}`; it takes {}", Upstream::NAMES);
            name.parse().with_context(wrong)
        })?;
        let joins_the_host = match variable("SANDGATE_INTERNET").as_deref() {
            None | Some("demo") => false,
            Some("host") => true,
            Some(other) => bail!("SANDGATE_INTERNET is `{other}`; it takes `demo` or `host`"),
        };
        Ok(Self {
            state: state_folder()?,
            ports: Ports::from_environment(variable)?,
            upstream,
            joins_the_host,
            local_network: local
                .parse()
                .ok()
                .filter(Ipv4Addr::is_loopback)
                .and_then(|network| Ipv4Net::new(network, LOCAL_PREFIX_LEN).ok())
                .with_context(|| {
                    format!("SANDGATE_SANDBOX_NETWORK is `{local}`; it takes a network of loopback, like 127.64.0.0")
                })?,
            namespace_network: namespaces
                .parse()
                .ok()
                .filter(|network: &Ipv4Net| (12..=26).contains(&network.prefix_len()))
                .with_context(|| {
                    format!("{NAMESPACE_NETWORK} is `{namespaces}`; it takes a range of at least 64 addresses, like 10.203.0.0/16")
                })?,
        })
    }

    /// The last address that a sandbox without a namespace may get. None has it yet.
    pub(super) fn last_local_address(&self) -> Ipv4Addr {
        let last = u32::from(self.local_network.broadcast()).saturating_sub(1);
        last.into()
    }
}

/// The state folder that `SANDGATE_STATE_DIR` names, or `.sandgate`.
pub fn state_folder() -> Result<PathBuf> {
    let folder = std::env::var_os("SANDGATE_STATE_DIR").filter(|folder| !folder.is_empty());
    let folder = folder.map_or_else(|| root().join(".sandgate"), PathBuf::from);
    std::path::absolute(&folder)
        .with_context(|| format!("`{}` can't be a state folder", folder.display()))
}
