//! Handling of router advertisements: the namespace ignores those from the sandbox, and continues
//! to accept those of its own routers.

use std::io;

use super::ip::ip;
use super::sysctl::{Setting, SysctlError, path, read, write};
use crate::nftables::layout::Interface;

/// `RTF_ADDRCONF` of `linux/ipv6_route.h`: the route comes from a router advertisement.
const ADVERTISED: u32 = 0x0004_0000;

/// Makes the namespace ignore router advertisements and redirects on the sandbox's interface,
/// because the only neighbour there is the sandbox. Also removes what earlier advertisements
/// created: routes, and addresses in the sandbox's prefixes. The agent does not restore these
/// settings when it ends, because it then removes its nftables rules.
///
/// # Errors
///
/// If a setting can't be changed, or an advertised route or address can't be removed.
pub(crate) async fn ignore_advertisements(interface: &Interface) -> Result<(), SysctlError> {
    write(&format!("net/ipv4/conf/{interface}/accept_redirects"), "0")?;
    for setting in ["accept_ra", "autoconf", "accept_redirects"] {
        match write(&format!("net/ipv6/conf/{interface}/{setting}"), "0") {
            // Without IPv6, the kernel receives no router advertisements.
            Err(error) if error.is_missing() => return Ok(()),
            done => done?,
        }
    }
    remove_advertised(interface)
        .await
        .map_err(|source| SysctlError::NotRemoved { interface: interface.to_string(), source })
}

/// Removes the routes and addresses that router advertisements on an interface created.
async fn remove_advertised(interface: &Interface) -> io::Result<()> {
    let name = interface.to_string();
    // The default route and more specific routes.
    ip_v6(&["route", "flush", "dev", &name, "proto", "ra"]).await?;
    // Only addresses from advertisements have a lifetime. The addresses that an operator configures
    // on a gateway have none.
    ip_v6(&["address", "flush", "dev", &name, "dynamic"]).await?;
    // `ip` shows advertised on-link prefixes as routes of the kernel itself, so they are found by
    // their flag.
    let routes = std::fs::read_to_string("/proc/net/ipv6_route")?;
    for prefix in routes.lines().filter_map(|line| advertised(line, &name)) {
        ip_v6(&["route", "del", &prefix, "dev", &name, "proto", "kernel"]).await?;
    }
    Ok(())
}

async fn ip_v6(arguments: &[&str]) -> io::Result<()> {
    ip(&[&["-6"], arguments].concat()).await.map_err(io::Error::other)
}

/// The destination of a line of `/proc/net/ipv6_route`, if the route belongs to the interface and
/// comes from an advertisement.
fn advertised(line: &str, interface: &str) -> Option<String> {
    let mut fields = line.split_ascii_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    let length = u8::from_str_radix(fields.next()?, 16).ok()?;
    // The next fields: source, its length, next hop, metric, references, uses.
    let flags = u32::from_str_radix(fields.nth(6)?, 16).ok()?;
    let is_ours = fields.next()? == interface && flags & ADVERTISED != 0;
    is_ours.then(|| format!("{}/{length}", std::net::Ipv6Addr::from(address)))
}

/// The settings with which Linux accepts advertisements of its own routers while it forwards
/// packets. Without them, Linux accepts no default route and drops the one that it has
/// (Documentation/networking/ip-sysctl, `accept_ra`). They apply to the interfaces that accept
/// advertisements now, except the sandbox's interface. The operator configures interfaces that are
/// added later.
///
/// # Errors
///
/// If the current settings can't be read.
pub(crate) fn keep_accepting(sandbox: &Interface) -> Result<Vec<Setting>, SysctlError> {
    let folder = "net/ipv6/conf";
    let entries = match std::fs::read_dir(path(folder)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => {
            entries.map_err(|source| SysctlError::Unreadable { key: folder.to_owned(), source })?
        }
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let sandbox = sandbox.to_string();
    let interfaces = names.filter(|name| *name != sandbox && name != "all" && name != "default");
    let mut settings = Vec::new();
    for interface in interfaces {
        let is = |setting: &str, value: &str| {
            let found = read(&format!("{folder}/{interface}/{setting}"))?;
            Ok::<_, SysctlError>(found.as_deref() == Some(value))
        };
        if is("accept_ra", "1")? && is("forwarding", "0")? {
            settings.push(Setting::new(format!("{folder}/{interface}/accept_ra"), "2"));
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_advertised_routes_of_this_interface_are_removed() {
        // An advertised prefix with a lifetime; the advertised default route; a static route; a
        // route of another interface.
        let zeros = "0".repeat(32);
        let line = |destination: &str, flags: &str, interface: &str| {
            format!(
                "{destination} {zeros} 00 {zeros} 00000100 00000001 00000000 {flags} {interface:>8}"
            )
        };
        let prefix = "20010db80bad00000000000000000000 40";
        let found = |line: String| advertised(&line, "sandbox0");
        assert_eq!(
            found(line(prefix, "004c0001", "sandbox0")).as_deref(),
            Some("2001:db8:bad::/64")
        );
        assert_eq!(
            found(line(&format!("{zeros} 00"), "00450003", "sandbox0")).as_deref(),
            Some("::/0")
        );
        assert_eq!(found(line(prefix, "00000001", "sandbox0")), None);
        assert_eq!(found(line(prefix, "004c0001", "eth0")), None);
        assert_eq!(found(String::new()), None);
    }
}
