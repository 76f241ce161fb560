//! The xDS servers of an edge.

use std::net::IpAddr;

use sandgate_envoy_config::{ValueError, endpoints};
use serde_json::Value;

/// The servers in the order of preference. All of them listen on the same port.
pub struct Servers {
    hosts: Vec<String>,
    pub(super) endpoints: Value,
}

impl Servers {
    /// `hosts` are names or addresses, separated by commas.
    ///
    /// # Errors
    ///
    /// If one of them is neither, or the list contains one twice.
    pub fn new(hosts: &str, port: u16) -> Result<Self, ValueError> {
        let endpoints = endpoints(hosts, port)?;
        let hosts = hosts.split(',').map(|host| host.trim().to_owned()).collect();
        Ok(Self { hosts, endpoints })
    }

    /// Whether all of them are on the edge's machine.
    #[must_use]
    pub fn are_local(&self) -> bool {
        let is_loopback = |host: &str| host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        self.hosts.iter().all(|host| host == "localhost" || is_loopback(host))
    }

    /// The server, if there is only one.
    #[must_use]
    pub fn only(&self) -> Option<&str> {
        if let [host] = self.hosts.as_slice() { Some(host) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_local_if_each_of_them_is() {
        let of = |hosts| Servers::new(hosts, 8902).unwrap();
        for hosts in ["localhost", "127.0.0.1", "::1", "127.0.0.1, 127.0.0.2"] {
            assert!(of(hosts).are_local(), "{hosts}");
        }
        for hosts in ["cp.internal", "192.0.2.1", "127.0.0.1,192.0.2.1", "cp.internal,localhost"] {
            assert!(!of(hosts).are_local(), "{hosts}");
        }
        assert_eq!(of(" one ").only(), Some("one"));
        assert_eq!(of("one,two").only(), None);
    }
}
