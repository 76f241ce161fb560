//! Whether a range of addresses is free on this machine.

use std::fmt;

use ipnet::Ipv4Net;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::ip::{NetnsError, run};

/// What uses an address of a range.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Conflict {
    Interface { name: String, address: Ipv4Net },
    Route { interface: String, destination: Ipv4Net },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface { name, address } => {
                write!(f, "interface {name} has the address {address}")
            }
            Self::Route { interface, destination } if interface.is_empty() => {
                write!(f, "a route to {destination} leads nowhere, as that of another server does")
            }
            Self::Route { interface, destination } => {
                write!(f, "a route to {destination} leads to interface {interface}")
            }
        }
    }
}

/// The lines of `ip -json address`.
#[derive(Deserialize)]
struct Interface {
    ifname: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: std::net::Ipv4Addr,
    prefixlen: u8,
}

/// The lines of `ip -json route`.
#[derive(Deserialize)]
struct Route {
    dst: String,
    #[serde(default)]
    dev: String,
    #[serde(default, rename = "type")]
    kind: String,
}

/// What uses an address of `range` on this machine, in any routing table. The default route does not count.
///
/// # Errors
/// `ip` failed.
pub fn conflict(range: Ipv4Net) -> Result<Option<Conflict>, NetnsError> {
    let interfaces = listed(&["ip", "-4", "-json", "address"])?;
    let routes = listed(&["ip", "-4", "-json", "route", "show", "table", "all"])?;
    Ok(find(range, &interfaces, &routes))
}

/// Whether the main table has a route for exactly this range that leads nowhere.
///
/// # Errors
/// `ip` failed.
pub fn is_reserved(range: Ipv4Net) -> Result<bool, NetnsError> {
    let routes: Vec<Route> = listed(&["ip", "-4", "-details", "-json", "route", "show"])?;
    let range = range.to_string();
    Ok(routes.iter().any(|route| route.kind == "unreachable" && route.dst == range))
}

fn listed<T: DeserializeOwned>(command: &[&str]) -> Result<Vec<T>, NetnsError> {
    let output = run(command, "")?;
    // Without a line, some versions print nothing, and others an empty object.
    if output.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&output)
        .map_err(|source| NetnsError::Output { command: command.join(" "), source })
}

fn find(range: Ipv4Net, interfaces: &[Interface], routes: &[Route]) -> Option<Conflict> {
    for interface in interfaces {
        for Address { local, prefixlen } in &interface.addr_info {
            let Ok(address) = Ipv4Net::new(*local, *prefixlen) else { continue };
            if overlap(range, address) {
                return Some(Conflict::Interface { name: interface.ifname.clone(), address });
            }
        }
    }
    routes.iter().find_map(|route| {
        let destination: Ipv4Net =
            route.dst.parse().or_else(|_| format!("{}/32", route.dst).parse()).ok()?;
        // Some VPNs replace the default route by two halves.
        let is_default = destination.prefix_len() <= 1;
        (!is_default && overlap(range, destination))
            .then(|| Conflict::Route { interface: route.dev.clone(), destination })
    })
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conflict_of(range: &str) -> Option<String> {
        let interfaces: Vec<Interface> = serde_json::from_str(
            r#"[{"ifname":"ifb0"},{"ifname":"eth0","addr_info":[{"family":"inet","local":"192.0.2.2","prefixlen":24}]}]"#,
        )
        .unwrap();
        let routes: Vec<Route> = serde_json::from_str(
            r#"[{"dst":"default","gateway":"192.0.2.1","dev":"eth0"},{"dst":"0.0.0.0/1","dev":"tun0"},
                {"dst":"10.8.0.0/16","dev":"tun0"},{"type":"local","dst":"172.17.0.1","dev":"docker0"},
                {"type":"unreachable","dst":"10.9.0.0/16"}]"#,
        )
        .unwrap();
        find(range.parse().unwrap(), &interfaces, &routes).map(|conflict| conflict.to_string())
    }

    #[test]
    fn an_address_or_route_inside_or_around_the_range_is_a_conflict() {
        let address = "interface eth0 has the address 192.0.2.2/24";
        assert_eq!(conflict_of("192.0.0.0/16").as_deref(), Some(address));
        assert_eq!(conflict_of("192.0.2.128/25").as_deref(), Some(address));
        let route = "a route to 10.8.0.0/16 leads to interface tun0";
        assert_eq!(conflict_of("10.0.0.0/8").as_deref(), Some(route));
        assert_eq!(conflict_of("10.8.4.0/24").as_deref(), Some(route));
        let one = "a route to 172.17.0.1/32 leads to interface docker0";
        assert_eq!(conflict_of("172.17.0.0/16").as_deref(), Some(one));
        let nowhere = "a route to 10.9.0.0/16 leads nowhere, as that of another server does";
        assert_eq!(conflict_of("10.9.1.0/24").as_deref(), Some(nowhere));
    }

    #[test]
    fn the_default_route_is_no_conflict() {
        assert_eq!(conflict_of("10.203.0.0/16"), None);
        assert_eq!(conflict_of("192.0.3.0/24"), None);
    }
}
