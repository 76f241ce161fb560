//! The ports of a local run: whether they are free, and which process uses them.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The ports of each demo sandbox, which has its own address.
pub const SANDBOX_PORTS: [u16; 4] = [8080, 3000, 50051, 9501];

/// A listener of the run.
#[derive(Clone, Copy)]
struct Listener {
    /// The name in the variable that chooses the port: `EDGE` in `SANDGATE_EDGE_PORT`.
    variable: &'static str,
    default: u16,
    description: &'static str,
}

const LISTENERS: [Listener; 5] = [
    Listener { variable: "EDGE", default: 9443, description: "Envoy, where clients connect" },
    Listener {
        variable: "EDGE_TLS",
        default: 9444,
        description: "Envoy, where clients connect by TLS",
    },
    Listener { variable: "API", default: 8900, description: "the public API" },
    Listener { variable: "GATEWAY", default: 8901, description: "the API that the filter calls" },
    Listener { variable: "ADMIN", default: 9901, description: "Envoy's admin pages" },
];

/// The ports of a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports {
    /// Envoy, plain text.
    pub edge: u16,
    /// Envoy, TLS.
    pub edge_tls: u16,
    /// The public API of the control plane.
    pub api: u16,
    /// The gateway API of the control plane.
    pub gateway: u16,
    /// Envoy's admin pages.
    pub admin: u16,
}

impl Ports {
    /// The ports that variables such as `SANDGATE_EDGE_PORT` choose, or the defaults.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut chosen = Vec::new();
        for listener in LISTENERS {
            let name = format!("SANDGATE_{}_PORT", listener.variable);
            let text = variable(&name).filter(|text| !text.is_empty());
            let text = text.unwrap_or_else(|| listener.default.to_string());
            let port = Some(&text)
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse::<u16>().ok())
                .filter(|port| *port != 0)
                .with_context(|| format!("{name} is `{text}`; it takes a port from 1 to 65535"))?;
            if chosen.contains(&port) {
                bail!("port {port} is used twice; give {name} another value");
            }
            chosen.push(port);
        }
        Self::from_list(&chosen)
    }

    /// Ports that nothing listens on now.
    pub fn free() -> Result<Self> {
        // All are reserved at once, so that they differ.
        let listeners = LISTENERS.map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let mut ports = Vec::new();
        for listener in &listeners {
            match listener {
                Ok(listener) => ports.push(listener.local_addr()?.port()),
                Err(error) => bail!("no port is free: {error}"),
            }
        }
        Self::from_list(&ports)
    }

    fn from_list(ports: &[u16]) -> Result<Self> {
        let [edge, edge_tls, api, gateway, admin] = *ports else { bail!("not five ports") };
        Ok(Self { edge, edge_tls, api, gateway, admin })
    }

    /// The ports with the name in the variable that chooses each.
    #[must_use]
    pub fn by_variable(&self) -> [(&'static str, u16); 5] {
        let ports = [self.edge, self.edge_tls, self.api, self.gateway, self.admin];
        let [a, b, c, d, e] = LISTENERS.map(|listener| listener.variable);
        let [v, w, x, y, z] = ports;
        [(a, v), (b, w), (c, x), (d, y), (e, z)]
    }

    /// Fails if a port is in use. The error names the port, the process that uses it, and a remedy.
    pub fn require_free(&self) -> Result<()> {
        for (listener, (_, port)) in LISTENERS.into_iter().zip(self.by_variable()) {
            let Listener { variable, description, .. } = listener;
            match listen_error(Ipv4Addr::LOCALHOST.into(), port) {
                None => {}
                Some(ErrorKind::PermissionDenied) => bail!(
                    "port {port} ({description}) needs root; choose one above 1023: SANDGATE_{variable}_PORT={} make run",
                    u32::from(port) + 10_000
                ),
                Some(_) => bail!(
                    "port {port} ({description}) is in use{}; stop that, or choose another port: \
                     SANDGATE_{variable}_PORT={} make run",
                    holder(port),
                    Self::free()?.edge
                ),
            }
        }
        Ok(())
    }
}

/// The error of listening on a port, or `None` if the port is free.
#[must_use]
pub fn listen_error(address: IpAddr, port: u16) -> Option<ErrorKind> {
    TcpListener::bind((address, port)).err().map(|error| error.kind())
}

/// The process that uses the port, like ` by nginx (process 123)`, or an empty text if it is unknown.
fn holder(port: u16) -> String {
    let sockets = listening_sockets(port);
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_number = |name: &std::ffi::OsStr| name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    for process in processes.filter(|entry| is_number(&entry.file_name())) {
        let files = std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten();
        let mut links = files.filter_map(|file| std::fs::read_link(file.path()).ok());
        if links.any(|link| sockets.contains(&*link.to_string_lossy())) {
            let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return format!(" by {} (process {})", name.trim(), process.file_name().display());
        }
    }
    if sockets.is_empty() { String::new() } else { " by another user's process".to_owned() }
}

/// The sockets that listen on a port, as /proc shows them among a process's files.
fn listening_sockets(port: u16) -> HashSet<String> {
    // The state LISTEN in proc(5).
    const LISTEN: &str = "0A";
    let mut sockets = HashSet::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(Path::new(table)).unwrap_or_default();
        for row in text.lines().skip(1) {
            let fields: Vec<&str> = row.split_whitespace().collect();
            let (Some(local), Some(state), Some(inode)) =
                (fields.get(1), fields.get(3), fields.get(9))
            else {
                continue;
            };
            let local =
                local.rsplit_once(':').and_then(|(_, hex)| u16::from_str_radix(hex, 16).ok());
            if *state == LISTEN && local == Some(port) {
                sockets.insert(format!("socket:[{inode}]"));
            }
        }
    }
    sockets
}

/// Fails if something listens on a port of the demo sandboxes at an address of loopback that no sandbox has yet.
pub fn require_free_for_sandboxes(address: Ipv4Addr) -> Result<()> {
    for port in SANDBOX_PORTS {
        if listen_error(address.into(), port).is_some() {
            bail!(
                "port {port} is in use on all addresses{}, and the demo sandboxes listen there, each on a \
                 loopback address of its own; stop that, or make it listen on 127.0.0.1 only",
                holder(port)
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variable: &str, text: &str) -> Result<Ports> {
        Ports::from_environment(|name| (name == variable).then(|| text.to_owned()))
    }

    #[test]
    fn a_port_in_use_is_named_with_its_holder_and_a_remedy() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let ports = Ports { edge: port, ..Ports::free().unwrap() };
        let error = ports.require_free().unwrap_err().to_string();
        for part in [
            format!("port {port} (Envoy"),
            format!("(process {})", std::process::id()),
            "SANDGATE_EDGE_PORT=".to_owned(),
        ] {
            assert!(error.contains(&part), "{error}");
        }
    }

    #[test]
    fn a_port_on_all_addresses_keeps_sandboxes_from_listening() {
        let address = Ipv4Addr::new(127, 79, 255, 254);
        let _taken = TcpListener::bind((address, 50051)).unwrap();
        let error = require_free_for_sandboxes(address).unwrap_err().to_string();
        assert!(error.starts_with("port 50051 is in use on all addresses by "), "{error}");
    }

    #[test]
    fn a_port_must_be_a_number_from_1_to_65535() {
        for text in ["0", "65536", "http", "-1", "+1", "9443 "] {
            let error = read("SANDGATE_EDGE_PORT", text).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("SANDGATE_EDGE_PORT is `{text}`; it takes a port from 1 to 65535")
            );
        }
    }

    #[test]
    fn two_listeners_can_not_use_one_port() {
        let error = read("SANDGATE_EDGE_PORT", "8900").unwrap_err().to_string();
        assert!(error.contains("port 8900 is used twice"), "{error}");
    }

    #[test]
    fn variables_that_are_empty_or_not_set_have_defaults() {
        let ports = read("SANDGATE_API_PORT", "").unwrap();
        assert_eq!((ports.edge, ports.api, ports.admin), (9443, 8900, 9901));
    }
}
