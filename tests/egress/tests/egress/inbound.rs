//! Inbound connections: only edges reach the sandbox.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};
use sandgate_egress_tests::{Namespace, Rig, Setup, site};
use serde_json::json;
use socket2::{Domain, Socket, Type};

use crate::support::{refused_immediately, tests, with_setup};

tests![
    only_edges_can_connect_to_the_sandbox,
    connections_of_edges_do_not_let_the_sandbox_out,
    the_gateways_own_ports_are_closed_to_the_outside
];

fn rig() -> Result<(Rig, sandgate_egress_tests::Sidecar)> {
    let setup = Setup::new(json!({ "allow_internet_access": false }));
    with_setup(&setup.with(&["--edge", "198.51.100.1/32", "--edge", "2001:db8:b::1/128"]))
}

/// Starts a service in the sandbox that sends a greeting and closes.
fn serve(rig: &Rig) -> Result<()> {
    for any in ["0.0.0.0:8080", "[::]:8080"] {
        let listener = rig.sandbox.enter(|| -> std::io::Result<TcpListener> {
            let address: std::net::SocketAddr = any.parse().map_err(std::io::Error::other)?;
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            if address.is_ipv6() {
                socket.set_only_v6(true)?;
            }
            socket.bind(&address.into())?;
            socket.listen(16)?;
            Ok(socket.into())
        })??;
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                drop(stream.write_all(b"sandbox"));
            }
        });
    }
    Ok(())
}

/// The response to a client at `source`.
fn fetch(from: &Namespace, source: IpAddr, to: IpAddr) -> Result<std::io::Result<Vec<u8>>> {
    from.enter(|| {
        let socket = Socket::new(Domain::for_address((source, 0).into()), Type::STREAM, None)?;
        socket.bind(&std::net::SocketAddr::new(source, 0).into())?;
        socket
            .connect_timeout(&std::net::SocketAddr::new(to, 8080).into(), Duration::from_secs(3))?;
        let mut stream: std::net::TcpStream = socket.into();
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut got = Vec::new();
        stream.read_to_end(&mut got)?;
        Ok(got)
    })
}

fn only_edges_can_connect_to_the_sandbox() -> Result<()> {
    let (rig, _sidecar) = rig()?;
    serve(&rig)?;
    for (edge, stranger, sandbox) in [
        (IpAddr::from(site::EDGE.0), site::OK, IpAddr::from(site::SANDBOX.0)),
        (IpAddr::from(site::EDGE.1), site::OK6, IpAddr::from(site::SANDBOX.1)),
    ] {
        let got = fetch(&rig.internet, edge, sandbox)?;
        ensure!(matches!(&got, Ok(bytes) if bytes == b"sandbox"), "from an edge: {got:?}");
        let got = fetch(&rig.internet, stranger, sandbox)?;
        ensure!(got.is_err(), "from a stranger: {got:?}");
        // Not over UDP either.
        let heard = rig.sandbox.enter(|| UdpSocket::bind((sandbox, 8080)))??;
        heard.set_read_timeout(Some(Duration::from_millis(500)))?;
        for source in [edge, stranger] {
            rig.internet.enter(|| -> std::io::Result<()> {
                UdpSocket::bind((source, 0))?.send_to(b"hello", (sandbox, 8080))?;
                Ok(())
            })??;
        }
        ensure!(heard.recv(&mut [0; 16]).is_err(), "a datagram came in");
    }
    Ok(())
}

fn connections_of_edges_do_not_let_the_sandbox_out() -> Result<()> {
    let (rig, _sidecar) = rig()?;
    serve(&rig)?;
    ensure!(fetch(&rig.internet, site::EDGE.0.into(), site::SANDBOX.0.into())?.is_ok());
    // The edge itself is not reachable.
    for address in [IpAddr::from(site::EDGE.0), IpAddr::from(site::EDGE.1)] {
        refused_immediately("the edge", || rig.sandbox.tcp(address, site::HTTP_PORT, b""))?;
        refused_immediately("the edge", || rig.sandbox.udp(address, site::UDP_PORT, b"hello"))?;
    }
    Ok(())
}

fn the_gateways_own_ports_are_closed_to_the_outside() -> Result<()> {
    let (rig, _sidecar) = rig()?;
    for address in [IpAddr::from(site::OUTSIDE.0), IpAddr::from(site::OUTSIDE.1)] {
        for port in [15_000, 15_001, 15_002, 15_003, 15_004, 15_005, 15_053, 15_054] {
            refused_immediately(&format!("{address} port {port}"), || {
                rig.internet.tcp(address, port, b"GET / HTTP/1.1\r\n\r\n")
            })?;
        }
        refused_immediately("dns", || rig.internet.udp(address, 15_053, b"hello"))?;
    }
    Ok(())
}
