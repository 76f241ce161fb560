//! What sandboxes may send to this machine, and the way to this machine's network by its address (`--namespaces-internet host`).

use std::io::Write as _;
use std::process::{Command, Stdio};

use ipnet::Ipv4Net;
use sandgate_netns::{NetnsError, Prefix};

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

fn table(prefix: &Prefix) -> String {
    prefix.to_string().replace('-', "_")
}

/// Refuses what sandboxes and their gateways send to this machine itself, apart from responses. With `forward`, lets this machine
/// forward packets, and gives those of the sandboxes its address. Forwarding stays on when the server ends, because others may
/// need it by then.
pub(super) fn open(prefix: &Prefix, network: Ipv4Net, forward: bool) -> Result<(), NetnsError> {
    let (table, links) = (table(prefix), prefix.of_links());
    // This needs no connection tracking, which would cost all other traffic of this machine something.
    let input = format!(
        "chain arrivals {{ type filter hook input priority filter - 10; iifname != \"{links}*\" accept; \
         tcp flags & (syn | ack) == syn drop; meta l4proto tcp accept; \
         icmp type {{ echo-reply, destination-unreachable, time-exceeded }} accept; drop; }};"
    );
    let masquerade = format!(
        "chain sources {{ type nat hook postrouting priority srcnat; \
         ip saddr {network} oifname != \"{links}*\" masquerade; }};"
    );
    let masquerade = if forward { masquerade.as_str() } else { "" };
    nft(&format!("table inet {table} {{ {input} {masquerade} }}\n"))?;
    if !forward {
        return Ok(());
    }
    std::fs::write(FORWARDING, "1").map_err(|error| NetnsError::Command {
        command: format!("echo 1 >{FORWARDING}"),
        reason: error.to_string(),
    })
}

/// Removes the rules. Succeeds if there are none.
pub(super) fn close(prefix: &Prefix) -> Result<(), NetnsError> {
    let table = table(prefix);
    // The first line makes the table if it does not exist, so that the second one succeeds.
    nft(&format!("table inet {table} {{ }}\ndelete table inet {table}\n"))
}

fn nft(rules: &str) -> Result<(), NetnsError> {
    let failed = |reason: String| NetnsError::Command { command: "nft -f -".to_owned(), reason };
    let run = || {
        let mut nft = Command::new("nft");
        nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = nft.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(rules.as_bytes())?;
        }
        child.wait_with_output()
    };
    let output = run().map_err(|error: std::io::Error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}
