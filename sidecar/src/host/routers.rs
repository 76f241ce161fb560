//! Whose router advertisements this namespace believes: not the sandbox's, and its own routers' as before.

use std::io;
use std::process::Stdio;

use tokio::process::Command;

use super::sysctl::{Setting, SysctlError, path, read, write};
use crate::nftables::layout::Interface;

/// `RTF_ADDRCONF` of linux/ipv6_route.h: a route that comes from a router advertisement.
const ADVERTISED: u32 = 0x0004_0000;

/// Has this namespace believe nothing that a neighbour on the sandbox's interface says about routes: the
/// neighbour is the sandbox. Stays so, for an agent that ends takes its rules away. What it was told before is
/// forgotten: routes, and addresses in the sandbox's prefixes.
///
/// # Errors
///
/// Where a setting can't be made, or what was learned can't be taken away.
pub async fn distrust(interface: &Interface) -> Result<(), SysctlError> {
    write(&format!("net/ipv4/conf/{interface}/accept_redirects"), "0")?;
    for setting in ["accept_ra", "autoconf", "accept_redirects"] {
        match write(&format!("net/ipv6/conf/{interface}/{setting}"), "0") {
            // A kernel without IPv6 is told nothing by it.
            Err(error) if error.is_missing() => return Ok(()),
            done => done?,
        }
    }
    forget(interface)
        .await
        .map_err(|source| SysctlError::Forgotten { interface: interface.to_string(), source })
}

/// Takes away what router advertisements on an interface have made.
async fn forget(interface: &Interface) -> io::Result<()> {
    let name = interface.to_string();
    // By its routers: the default route and more special ones.
    ip(&["route", "flush", "dev", &name, "proto", "ra"]).await?;
    // Addresses with a lifetime are the kernel's own: whoever sets up a gateway gives it others.
    ip(&["address", "flush", "dev", &name, "dynamic"]).await?;
    // Prefixes that are said to be on the link look like the kernel's own routes to `ip`.
    let routes = std::fs::read_to_string("/proc/net/ipv6_route")?;
    for prefix in routes.lines().filter_map(|line| advertised(line, &name)) {
        ip(&["route", "del", &prefix, "dev", &name, "proto", "kernel"]).await?;
    }
    Ok(())
}

/// The destination of a line of `/proc/net/ipv6_route`, if it is a route of this interface that was advertised.
fn advertised(line: &str, interface: &str) -> Option<String> {
    let mut fields = line.split_ascii_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    let length = u8::from_str_radix(fields.next()?, 16).ok()?;
    // Behind it: source, its length, next hop, metric, references, uses.
    let flags = u32::from_str_radix(fields.nth(6)?, 16).ok()?;
    let is_ours = fields.next()? == interface && flags & ADVERTISED != 0;
    is_ours.then(|| format!("{}/{length}", std::net::Ipv6Addr::from(address)))
}

async fn ip(words: &[&str]) -> io::Result<()> {
    let mut ip = Command::new("ip");
    ip.arg("-6").args(words).stdin(Stdio::null());
    let done = ip.output().await?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(io::Error::other(format!("`ip -6 {}`: {}", words.join(" "), said.trim())))
}

/// What has Linux go on listening to its own routers once it passes packets on: else it takes no default
/// route from them, and drops the one that it has (Documentation/networking/ip-sysctl, `accept_ra`). Interfaces
/// that listen now are meant, except the sandbox's. Those that come later are the operator's to set.
///
/// # Errors
///
/// Where the settings can't be read.
pub fn keep(sandbox: &Interface) -> Result<Vec<Setting>, SysctlError> {
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
    fn only_what_was_advertised_on_this_interface_is_forgotten() {
        // 2001:db8:bad::/64 by advertisement, with an end; the default route; a static one; another interface's.
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
