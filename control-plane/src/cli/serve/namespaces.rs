//! The options of the runtime `namespaces`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use ipnet::Ipv4Net;

use crate::runtime::{Internet, NamespacesSettings, SidecarSettings};

#[derive(Args)]
pub(super) struct NamespacesArgs {
    /// Program that runs as a sandbox, for --runtime namespaces
    #[arg(long, value_name = "PATH", required_if_eq("runtime", "namespaces"))]
    namespaces_program: Option<PathBuf>,
    /// First of the users and groups of sandboxes. Each sandbox takes two; no other program may run as one of them
    #[arg(long, value_name = "UID", default_value_t = 2_100_000_000, value_parser = clap::value_parser!(u32).range(1..4_000_000_000))]
    namespaces_first_uid: u32,
    /// Range for the addresses of sandboxes and their gateways, for --runtime namespaces; nothing else on this machine may use it
    #[arg(long, value_name = "CIDR", default_value = "10.203.0.0/16")]
    namespaces_cidr: Ipv4Net,
    /// Where sandboxes get to if their policy permits: `nothing`, `namespace:NAME` (a network namespace), or `host` (this
    /// machine's network, by this machine's address)
    #[arg(long, value_name = "WHERE", default_value = "nothing", value_parser = internet)]
    namespaces_internet: Internet,
    /// Resolver of the sandboxes; can be repeated. With `host`, the default is the machine's
    #[arg(long = "namespaces-resolver", value_name = "ADDRESS")]
    namespaces_resolvers: Vec<IpAddr>,
    /// `sandgate-sidecar`, or its path
    #[arg(long, value_name = "PATH", default_value = "sandgate-sidecar")]
    namespaces_sidecar: PathBuf,
    /// Envoy 1.40 for the sidecars, or its path
    #[arg(long, value_name = "PATH", default_value = "envoy")]
    namespaces_envoy: PathBuf,
    /// Egress filter of the sidecars
    #[arg(long, value_name = "FILE", default_value = "/etc/sandgate/sandgate_egress.wasm")]
    namespaces_filter: PathBuf,
    /// Further option of each sidecar, like `--operator-file=FILE`; can be repeated
    #[arg(long = "namespaces-sidecar-option", value_name = "OPTION", allow_hyphen_values = true)]
    namespaces_sidecar_options: Vec<String>,
}

impl NamespacesArgs {
    pub(super) fn settings(self) -> anyhow::Result<NamespacesSettings> {
        let program =
            self.namespaces_program.context("--runtime namespaces needs --namespaces-program")?;
        Ok(NamespacesSettings {
            program: find("--namespaces-program", &program)?,
            first_uid: self.namespaces_first_uid,
            sidecar: SidecarSettings {
                program: find("--namespaces-sidecar", &self.namespaces_sidecar)?,
                envoy: find("--namespaces-envoy", &self.namespaces_envoy)?,
                filter: find("--namespaces-filter", &self.namespaces_filter)?,
                options: self.namespaces_sidecar_options,
            },
            network: self.namespaces_cidr.trunc(),
            resolvers: match self.namespaces_resolvers {
                none if none.is_empty() && self.namespaces_internet == Internet::Host => {
                    machine_resolvers()?
                }
                some => some,
            },
            internet: self.namespaces_internet,
        })
    }
}

/// The path of a file, which may be the name of a program on `PATH`.
fn find(option: &str, name: &Path) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_name = name.components().count() == 1;
    let found = std::env::split_paths(&path).map(|folder| folder.join(name));
    let found = found.filter(|_| is_name).find(|path| path.is_file());
    let path = found.unwrap_or_else(|| name.to_owned());
    std::fs::canonicalize(&path)
        .with_context(|| format!("{option} {} can't be used", name.display()))
}

/// The resolvers of this machine that a gateway can reach.
fn machine_resolvers() -> anyhow::Result<Vec<IpAddr>> {
    // systemd-resolved keeps the machine's resolvers in the second file, and names itself in the first one.
    let files = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
    let found = files.iter().find_map(|path| {
        let text = std::fs::read_to_string(path).ok()?;
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
        let addresses = names.filter_map(|rest| rest.trim().parse::<IpAddr>().ok());
        let usable: Vec<_> =
            addresses.filter(|address| address.is_ipv4() && !address.is_loopback()).collect();
        (!usable.is_empty()).then_some(usable)
    });
    found.context(
        "no resolver of this machine is usable in sandboxes; name one with --namespaces-resolver",
    )
}

fn internet(text: &str) -> Result<Internet, String> {
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match (text, text.strip_prefix("namespace:")) {
        ("nothing", _) => Ok(Internet::Nothing),
        ("host", _) => Ok(Internet::Host),
        (_, Some(name)) if is_name(name) => Ok(Internet::Namespace(name.to_owned())),
        _ => Err(
            "expected `nothing`, `host`, or `namespace:` and a name of letters, digits and hyphens"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_needs_a_name_that_no_command_can_misread() {
        assert_eq!(internet("namespace:a-1").unwrap(), Internet::Namespace("a-1".to_owned()));
        for wrong in [
            "",
            "Host",
            "namespace:",
            "namespace:../x",
            "namespace:a b",
            "namespace:a\nlink del eth0",
        ] {
            assert!(internet(wrong).is_err(), "{wrong:?}");
        }
    }
}
