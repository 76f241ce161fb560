//! The gateway's link-local address, which every neighbour can reach.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddrV6, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sandgate_egress_tests::{Outcome, Rig, Spent};
use serde_json::json;

use crate::support::{refused_immediately, tests, with};

tests![connections_to_the_gateways_link_local_address_are_refused_immediately];

/// The gateway's address on its link to the sandbox, and the index of the sandbox's interface.
fn neighbour(rig: &Rig) -> Result<(Ipv6Addr, u32)> {
    let said =
        rig.gateway.run("ip", &["-6", "-o", "addr", "show", "dev", "sandbox0", "scope", "link"])?;
    let address = said.split_whitespace().find_map(|word| word.split_once("/64")?.0.parse().ok());
    let said = rig.sandbox.run("cat", &["/sys/class/net/eth0/ifindex"])?;
    Ok((address.with_context(|| said.clone())?, said.trim().parse()?))
}

fn spent(work: impl FnOnce() -> std::io::Result<()>) -> Spent {
    let begun = Instant::now();
    let outcome = match work() {
        Ok(()) => Outcome::Answered(Vec::new()),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Outcome::Silence,
            kind => Outcome::Refused(kind),
        },
    };
    Spent { outcome, time: begun.elapsed() }
}

fn connections_to_the_gateways_link_local_address_are_refused_immediately() -> Result<()> {
    for policy in
        [json!({ "allow_internet_access": false }), json!({ "allow_out": ["::/0", "fe80::/10"] })]
    {
        let (rig, _sidecar) = with(policy.clone())?;
        let (address, link) = neighbour(&rig)?;
        for port in [22, 80, 15_000, 15_001, 15_053] {
            let to = SocketAddrV6::new(address, port, 0, link);
            refused_immediately(&format!("{policy}: tcp {to}"), || {
                rig.sandbox.enter(|| {
                    spent(|| {
                        let mut stream =
                            TcpStream::connect_timeout(&to.into(), Duration::from_secs(5))?;
                        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                        std::io::Read::read(&mut stream, &mut [0; 16]).map(drop)
                    })
                })
            })?;
            refused_immediately(&format!("{policy}: udp {to}"), || {
                rig.sandbox.enter(|| {
                    spent(|| {
                        let socket = UdpSocket::bind("[::]:0")?;
                        socket.connect(to)?;
                        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
                        socket.send(b"hello")?;
                        socket.recv(&mut [0; 16]).map(drop)
                    })
                })
            })?;
        }
    }
    Ok(())
}
