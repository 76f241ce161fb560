//! Unusual TCP: a SYN in response to a SYN, and a SYN with data.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sandgate_egress_tests::capture::Content;
use sandgate_egress_tests::{Capture, Rig, Setup, Sidecar, site};
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::{tests, with, with_setup};

tests![
    the_ports_of_an_edges_connection_do_not_let_the_sandbox_out,
    a_syn_in_response_to_an_edge_reaches_only_the_edge,
    data_in_a_denied_syn_does_not_get_out,
];

/// The source port of the edge's connections.
const EDGES_PORT: u16 = 40_000;

fn with_edge() -> Result<(Rig, Sidecar, Capture)> {
    let setup = Setup::new(json!({ "allow_internet_access": false }));
    let (rig, sidecar) = with_setup(&setup.with(&["--edge", "198.51.100.1/32"]))?;
    let capture = rig.capture()?;
    Ok((rig, sidecar, capture))
}

/// Starts a connection of an edge to a port of the sandbox, from [`EDGES_PORT`].
fn from_edge(rig: &Rig, port: u16) -> Result<Socket> {
    rig.internet.enter(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&SocketAddr::from((site::EDGE.0, EDGES_PORT)).into())?;
        let to = SocketAddr::from((site::SANDBOX.0, port));
        // The connection is in progress even if it is not accepted.
        drop(socket.connect_timeout(&to.into(), Duration::from_secs(2)));
        Ok(socket)
    })?
}

/// Sends a SYN from and to any port, as root can.
fn begin(rig: &Rig, from: u16, to: IpAddr, port: u16) -> Result<()> {
    let arguments = [&from.to_string(), &to.to_string(), &port.to_string()];
    rig.sandbox.run("python3", &[&["-c", SYN][..], &arguments.map(String::as_str)].concat())?;
    Ok(())
}

const SYN: &str = r"
import socket, struct, sys
source, to, port = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.connect((to, 0))
here, there = (socket.inet_aton(address) for address in (raw.getsockname()[0], to))
def sum16(data):
    total = sum(struct.unpack(f'!{len(data) // 2}H', data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
head = lambda check: struct.pack('!HHIIBBHHH', source, port, 7, 0, 5 << 4, 2, 65535, check, 0)
pseudo = here + there + struct.pack('!BBH', 0, 6, 20)
for _ in range(3):
    raw.send(head(sum16(pseudo + head(0))))
";

/// The destinations of the SYNs that reached the internet.
fn begun(capture: &Capture) -> Vec<(IpAddr, u16)> {
    let begun = capture.packets().into_iter().filter_map(|packet| match packet.content {
        // Not the edge's own SYN, as it leaves.
        Content::Tcp { syn: true, port } if packet.destination != IpAddr::V4(site::SANDBOX.0) => {
            Some((packet.destination, port))
        }
        _ => None,
    });
    begun.collect()
}

fn the_ports_of_an_edges_connection_do_not_let_the_sandbox_out() -> Result<()> {
    let (rig, _sidecar, capture) = with_edge()?;
    let listener = rig.sandbox.enter(|| std::net::TcpListener::bind("0.0.0.0:8080"))??;
    let edge = from_edge(&rig, 8_080)?;
    let accepted = listener.accept().context("the edge does not get in")?;
    let everywhere =
        [(IpAddr::V4(site::EDGE.0), EDGES_PORT), (site::OK, EDGES_PORT), (site::OK, 80)];
    for (to, port) in everywhere {
        begin(&rig, 8_080, to, port)?;
    }
    // The same after the connection has ended, by either side.
    drop(accepted);
    drop(edge);
    for (to, port) in everywhere {
        begin(&rig, 8_080, to, port)?;
    }
    ensure!(begun(&capture).is_empty(), "the far side saw {:?}", begun(&capture));
    Ok(())
}

/// For conntrack, the SYN of a simultaneous open (RFC 9293, section 3.5) is a reply.
fn a_syn_in_response_to_an_edge_reaches_only_the_edge() -> Result<()> {
    let (rig, _sidecar, capture) = with_edge()?;
    rig.sandbox.run(
        "nft",
        &["add table ip quiet; add chain ip quiet in { type filter hook input priority 0; }; add rule ip quiet in tcp dport 9090 drop"],
    )?;
    let edge = from_edge(&rig, 9_090)?;
    for (to, port) in
        [(IpAddr::V4(site::EDGE.0), EDGES_PORT), (site::OK, EDGES_PORT), (site::EDGE.0.into(), 80)]
    {
        begin(&rig, 9_090, to, port)?;
    }
    drop(edge);
    let elsewhere: Vec<_> =
        begun(&capture).into_iter().filter(|to| *to != (site::EDGE.0.into(), EDGES_PORT)).collect();
    ensure!(elsewhere.is_empty(), "the far side saw {elsewhere:?}");
    Ok(())
}

fn data_in_a_denied_syn_does_not_get_out() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["203.0.113.20", "2001:db8:c::20"] }))?;
    // Without a cookie: the first packet has data, whatever the destination is.
    rig.sandbox.run("sysctl", &["-qw", "net.ipv4.tcp_fastopen=5"])?;
    let capture = rig.capture()?;
    let open = |address: IpAddr| {
        rig.sandbox
            .run("python3", &["-c", FAST_OPEN, &address.to_string(), &site::ECHO_PORT.to_string()])
    };
    for address in [site::OTHER, site::OTHER6] {
        let said = open(address)?;
        ensure!(!said.contains("at once"), "{address}: {said}");
        ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    }
    for address in [site::OK, site::OK6] {
        let said = open(address)?;
        ensure!(said.contains("at once"), "{address}: {said}");
    }
    Ok(())
}

/// Connects with data in the SYN (RFC 7413), and prints the echo.
const FAST_OPEN: &str = r"
import socket, sys
to, port = sys.argv[1], int(sys.argv[2])
stream = socket.socket(socket.AF_INET6 if ':' in to else socket.AF_INET, socket.SOCK_STREAM)
stream.settimeout(5)
try:
    stream.sendto(b'at once', socket.MSG_FASTOPEN, (to, port))
    print(stream.recv(16))
except OSError as error:
    print(type(error).__name__)
";
