//! The kernel's neighbour tables, which all sandboxes of a machine share: no sandbox can fill them.

use std::net::Ipv6Addr;

use anyhow::{Result, ensure};
use sandgate_egress_tests::{Outcome, Rig, site};
use serde_json::json;

use crate::kernel::{banner, refused};
use crate::support::{is_answered_with, tests, with};

tests![
    a_sandbox_can_not_fill_the_neighbour_tables,
    remote_hosts_can_not_keep_many_neighbour_entries_of_a_sandbox_alive,
    one_address_of_the_sandbox_works_while_it_uses_many,
];

/// Sends frames from the sandbox with `count` source addresses of a prefix: neighbour solicitations, ARP requests, and
/// TCP of both families.
const CROWD: &str = r"
import itertools, socket, struct, sys
kind, count, prefix = sys.argv[1], int(sys.argv[2]), sys.argv[3]
v6 = ':' in prefix
family = socket.AF_INET6 if v6 else socket.AF_INET
base = int.from_bytes(socket.inet_pton(family, prefix), 'big')
gateway, target = (socket.inet_pton(family, text) for text in sys.argv[5:7])
def mac(text): return bytes.fromhex(text.strip().replace(':', ''))
ours, theirs = mac(open('/sys/class/net/eth0/address').read()), mac(sys.argv[4])
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind(('eth0', 0))
def checksum(data):
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return struct.pack('!H', ~total & 0xffff)
def packet(source, to, protocol, body, at, hops):
    pseudo = source + to + struct.pack('!II', len(body), protocol)
    body = body[:at] + checksum(pseudo + body) + body[at + 2:]
    if v6:
        return ours, b'\x86\xdd' + struct.pack('!IHBB', 6 << 28, len(body), protocol, hops) + source + to + body
    head = struct.pack('!BBHHHBBH', 0x45, 0, 20 + len(body), 1, 0, hops, protocol, 0) + source + to
    return ours, b'\x08\x00' + head[:10] + checksum(head) + head[12:] + body
for number in range(1, count + 1):
    source = (base + number).to_bytes(len(gateway), 'big')
    if kind == 'solicit':
        asked = struct.pack('!BBHI', 135, 0, 0, 0) + gateway + b'\x01\x01' + ours
        source_mac, rest = packet(source, gateway, 58, asked, 2, 255)
    elif kind == 'arp':
        rest = b'\x08\x06' + struct.pack('!HHBBH', 1, 0x800, 6, 4, 1) + ours + source + bytes(6) + gateway
    else:
        syn = struct.pack('!HHIIBBHHH', 2000, 22, number, 0, 0x50, 2, 8192, 0, 0)
        source_mac, rest = packet(source, target, 6, syn, 16, 64)
    wire.send(theirs + ours + rest)
";

/// A wider network between sandbox and gateway than the rig's, for IPv4.
const WIDE: &str = "10.9.0.1";

/// The number of neighbour entries of the gateway on an interface.
fn neighbours(rig: &Rig, family: &str, interface: &str) -> Result<usize> {
    let known = ["reachable", "stale", "delay", "probe", "incomplete", "failed"];
    let mut arguments = vec![family, "neigh", "show", "dev", interface];
    known.iter().for_each(|state| arguments.extend(["nud", state]));
    Ok(rig.gateway.run("ip", &arguments)?.lines().count())
}

fn send_from_many_addresses(rig: &Rig, kind: &str, prefix: &str) -> Result<()> {
    let (gateway, target) = match prefix.contains(':') {
        true => (site::GATEWAY.1.to_string(), site::OK6),
        false => (WIDE.to_owned(), site::OK),
    };
    let mac = rig.gateway.run("cat", &["/sys/class/net/sandbox0/address"])?;
    let target = target.to_string();
    let arguments = ["-c", CROWD, kind, "400", prefix, mac.trim(), &gateway, &target];
    rig.sandbox.run("python3", &arguments).map(drop)
}

/// The tables belong to the machine: filling them cuts off everyone on it. 400 is less than their size, and more than
/// one sandbox may use.
fn a_sandbox_can_not_fill_the_neighbour_tables() -> Result<()> {
    /// 32 senders of the sandbox, and the existing entries. ARP and IPv4 packets count separately.
    const SENDERS: usize = 40;
    /// 128 next hops, and the existing entries.
    const NEXT_HOPS: usize = 136;
    let (rig, _sidecar) = with(json!({}))?;
    // This address sends first, before the others fill the set.
    banner(&rig, site::OK6)?;
    rig.gateway.run("ip", &["addr", "add", &format!("{WIDE}/16"), "dev", "sandbox0"])?;
    for (kind, family, prefix) in [
        ("solicit", "-6", "2001:db8:a::1:0"),
        ("syn", "-6", "2001:db8:a::2:0"),
        ("arp", "-4", "10.9.1.0"),
        ("syn", "-4", "10.9.4.0"),
    ] {
        let before = refused(&rig, "neighbour")?;
        send_from_many_addresses(&rig, kind, prefix)?;
        let known = neighbours(&rig, family, "sandbox0")?;
        let bound = if family == "-6" { SENDERS } else { 2 * SENDERS };
        ensure!(known <= bound, "{kind} {family}: {known} neighbours");
        ensure!(kind == "arp" || refused(&rig, "neighbour")? >= before + 300, "{kind} {family}");
        ensure!(known >= 16, "{kind} {family}: only {known}, so this shows nothing");
    }
    // The same on the gateway's other link: missing hosts there, over UDP and through Envoy.
    rig.sandbox.enter(|| -> Result<()> {
        let socket = std::net::UdpSocket::bind("[::]:0")?;
        for number in 1..=400_u16 {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 1, number);
            // The next call reports the refusal.
            drop(socket.send_to(b"hello", (address, site::UDP_PORT)));
        }
        Ok(())
    })??;
    let known = neighbours(&rig, "-6", "eth0")?;
    ensure!((64..=NEXT_HOPS).contains(&known), "{known} neighbours by UDP");
    let before = refused(&rig, "neighbour")?;
    let nobody = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 2, 1);
    let spent = rig.sandbox.tcp(nobody.into(), site::BANNER_PORT, b"")?;
    ensure!(spent.outcome != Outcome::Silence && refused(&rig, "neighbour")? > before, "{spent:?}");
    ensure!(neighbours(&rig, "-6", "eth0")? <= NEXT_HOPS);
    Ok(())
}

/// A sender's slot is free again after a minute, and connections of the old addresses continue for as long as the
/// remote host sends.
fn remote_hosts_can_not_keep_many_neighbour_entries_of_a_sandbox_alive() -> Result<()> {
    let (rig, _sidecar) = with(json!({}))?;
    let mut answered = 0;
    for number in 1..=60_u16 {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 5, number);
        let added = format!("{address}/64");
        rig.sandbox.run("ip", &["addr", "add", &added, "dev", "eth0", "nodad"])?;
        if number % 16 == 0 {
            // Simulates the end of the minute.
            rig.gateway.run("nft", &["flush", "set", "inet", "sandgate", "senders6"])?;
        }
        let is_answered = rig.sandbox.enter(|| -> Result<bool> {
            let socket = std::net::UdpSocket::bind((address, 0))?;
            socket.set_read_timeout(Some(std::time::Duration::from_millis(300)))?;
            socket.send_to(b"hello", (site::OK6, site::UDP_PORT))?;
            Ok(socket.recv(&mut [0; 16]).is_ok())
        })??;
        answered += usize::from(is_answered);
    }
    ensure!((24..=32).contains(&answered), "{answered} of 60 addresses were answered");
    Ok(())
}

fn one_address_of_the_sandbox_works_while_it_uses_many() -> Result<()> {
    let (rig, _sidecar) = with(json!({}))?;
    for address in [site::OK, site::OK6] {
        banner(&rig, address)?;
    }
    rig.gateway.run("ip", &["addr", "add", &format!("{WIDE}/16"), "dev", "sandbox0"])?;
    for (kind, prefix) in [("solicit", "2001:db8:a::1:0"), ("syn", "10.9.4.0"), ("arp", "10.9.1.0")]
    {
        send_from_many_addresses(&rig, kind, prefix)?;
    }
    for address in [site::OK, site::OK6] {
        banner(&rig, address)?;
        is_answered_with("udp", &rig.sandbox.udp(address, site::UDP_PORT, b"hello")?, b"hello")?;
    }
    Ok(())
}
