//! The gateway's kernel: missing routes, router advertisements, and the memory of connections.

use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv6Addr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sandgate_egress_tests::netns::{Namespace, output};
use sandgate_egress_tests::sidecar::RESOLVER;
use sandgate_egress_tests::{Rig, Setup, Sidecar, site};
use serde_json::json;

use crate::support::{curl, dig, is_answered_with, refused_immediately, tests, with};

tests![
    a_name_with_addresses_of_both_families_works_if_one_family_has_no_route,
    a_client_in_a_shared_namespace_falls_back_to_the_family_with_a_route,
    a_gateway_continues_to_accept_advertisements_of_its_own_router,
    a_gateway_ignores_router_advertisements_of_the_sandbox,
    connections_that_nobody_reads_use_little_kernel_memory,
    kernel_settings_are_restored,
];

/// The count of packets that nftables refused for a reason.
pub(crate) fn refused(rig: &Rig, reason: &str) -> Result<u64> {
    let said = rig
        .gateway
        .run("nft", &["list", "counter", "inet", "sandgate", &format!("refused_{reason}")])?;
    let mut words = said.split_whitespace().skip_while(|word| *word != "packets").skip(1);
    words.next().and_then(|word| word.parse().ok()).with_context(|| said.clone())
}

/// Waits until a condition is true.
fn wait_until(what: &str, holds: impl Fn() -> Result<bool>) -> Result<()> {
    let begun = Instant::now();
    while !holds()? {
        ensure!(begun.elapsed() < Duration::from_secs(30), "timed out: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Ensures that an address sends its banner over TCP.
pub(crate) fn banner(rig: &Rig, address: IpAddr) -> Result<()> {
    let spent = rig.sandbox.tcp(address, site::BANNER_PORT, b"")?;
    is_answered_with(&format!("{address}"), &spent, site::BANNER.as_bytes())
}

/// Programs that try both families use the first that accepts. Envoy accepts all connections, so those without a route
/// must be refused before they reach Envoy. For allowed names, Envoy chooses the address itself.
fn a_name_with_addresses_of_both_families_works_if_one_family_has_no_route() -> Result<()> {
    /// Connects to any address of a name, and prints the banner.
    const BY_NAME: &str = "import socket\n\
        print(socket.create_connection(('ok.test', 22), 20).recv(99).decode())";
    let (rig, sidecar) = with(json!({ "deny_out": ["2001:db8:c::20"] }))?;
    rig.gateway.run("ip", &["-6", "route", "del", "default"])?;
    // With the second policy, all connections are inspected.
    for deny in ["203.0.113.20", "example.com"] {
        sidecar.set(&json!({ "deny_out": ["2001:db8:c::20", deny] }))?;
        let found = rig.client(RESOLVER, "getent")?.args(["ahosts", "ok.test"]).output()?;
        let found = String::from_utf8(found.stdout)?;
        ensure!(found.starts_with("2001:db8:c::10"), "IPv6 is not tried first: {found}");
        let said = output(rig.client(RESOLVER, "python3")?.args(["-c", BY_NAME]))?;
        ensure!(said.contains(site::BANNER.trim()), "{said}");
        for url in ["http://ok.test/", "https://ok.test/"] {
            let got = curl(&rig, &[url])?;
            ensure!(got.contains("203.0.113.10"), "{url}: {got}");
        }
        refused_immediately("no way", || rig.sandbox.tcp(site::OK6, site::BANNER_PORT, b""))?;
        ensure!(refused(&rig, "no_route")? > 0, "not refused for the missing route");
    }
    // Denied connections are refused by their rule.
    let before = (refused(&rig, "no_route")?, refused(&rig, "deny_out")?);
    refused_immediately("denied", || rig.sandbox.tcp(site::OTHER6, site::BANNER_PORT, b""))?;
    ensure!(refused(&rig, "no_route")? == before.0 && refused(&rig, "deny_out")? > before.1);
    // The virtual address of a name without a route in this family works by the name's other address.
    sidecar.set(&json!({ "allow_internet_access": false, "allow_out": ["ok.test"] }))?;
    let said = dig(&rig, site::RESOLVER, &["ok.test", "AAAA", "+short"])?;
    let address: Ipv6Addr = said.trim().parse().with_context(|| said.clone())?;
    banner(&rig, address.into())?;
    // The same for the other family.
    sidecar.set(&json!({}))?;
    rig.gateway.run("ip", &["-6", "route", "add", "default", "via", &site::EDGE.1.to_string()])?;
    rig.gateway.run("ip", &["-4", "route", "del", "default"])?;
    refused_immediately("no way", || rig.sandbox.tcp(site::OK, site::BANNER_PORT, b""))?;
    banner(&rig, site::OK6)
}

/// In a shared namespace, the kernel looks up the route before it redirects.
fn a_client_in_a_shared_namespace_falls_back_to_the_family_with_a_route() -> Result<()> {
    let rig = Rig::build()?;
    rig.gateway.run("sysctl", &["-qw", "net.ipv4.ip_forward=1"])?;
    rig.sandbox.run("ip", &["-6", "route", "del", "default"])?;
    let mut setup = Setup::new(json!({ "deny_out": ["example.com"] }));
    setup.operator["protected"] = json!([]);
    setup.shared = true;
    let _sidecar = Sidecar::start(&rig, &setup)?;
    let user = ["--reuid", "4242", "--regid", "4242", "--clear-groups", "--"];
    let mut client = rig.client(RESOLVER, "setpriv")?;
    let said = output(client.args(user).args(["curl", "-sS", "-m", "20", "http://ok.test/"]))?;
    ensure!(said.contains("203.0.113.10"), "{said}");
    Ok(())
}

/// Advertises a default route and an on-link prefix, as a router on `eth0`.
const ADVERTISE: &str = "\
import socket, struct, sys
prefix = socket.inet_pton(socket.AF_INET6, sys.argv[1])
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex('eth0'))
router = struct.pack('!BBHBBHII', 134, 0, 0, 64, 0, 1800, 0, 0)
prefix = struct.pack('!BBBBIII', 3, 4, 64, 0xc0, 86400, 14400, 0) + prefix
raw.sendto(router + prefix, ('ff02::1', 0))
";
/// The start of the advertised addresses.
const PREFIX: &str = "2001:db8:bad:";

/// Sends a router advertisement, and waits until the receiver has processed it.
fn advertise(from: &Namespace, to: Ipv6Addr) -> Result<()> {
    from.run("python3", &["-c", ADVERTISE, &format!("{PREFIX}:")])?;
    // A packet sent after it on the same link arrives after it, and is answered or refused.
    from.command("ping").args(["-n", "-c", "1", "-W", "5", &to.to_string()]).output()?;
    Ok(())
}

/// The routes and addresses that the gateway has learned on an interface.
fn learned(rig: &Rig, interface: &str) -> Result<String> {
    let routes = rig.gateway.run("ip", &["-6", "route", "show", "dev", interface])?;
    let addresses = rig.gateway.run("ip", &["-6", "address", "show", "dev", interface])?;
    let is_learned = |line: &&str| line.contains(PREFIX) || line.contains("proto ra");
    let lines: Vec<&str> = routes.lines().chain(addresses.lines()).filter(is_learned).collect();
    Ok(lines.join("\n"))
}

/// When forwarding is enabled, Linux stops accepting router advertisements, and removes the learned routes.
fn a_gateway_continues_to_accept_advertisements_of_its_own_router() -> Result<()> {
    let rig = Rig::build()?;
    let told = |rig: &Rig| Ok(learned(rig, "eth0")?.contains("default via fe80::"));
    rig.gateway.run("ip", &["-6", "route", "del", "default"])?;
    // The gateway also assigns itself an address of the prefix, to which responses must return.
    rig.internet.run("ip", &["addr", "add", &format!("{PREFIX}:1/64"), "dev", "eth0", "nodad"])?;
    // A neighbour that advertises that it is not a router is no longer used as one (RFC 4861, section 7.2.5).
    rig.internet.run("sysctl", &["-qw", "net.ipv6.conf.eth0.forwarding=1"])?;
    advertise(&rig.internet, site::OUTSIDE.1)?;
    wait_until("a default route by advertisement", || told(&rig))?;
    let mut sidecar = Sidecar::start(&rig, &Setup::new(json!({})))?;
    ensure!(told(&rig)?, "the route is gone: {}", rig.gateway.run("ip", &["-6", "route"])?);
    banner(&rig, site::OK6)?;
    is_answered_with("udp", &rig.sandbox.udp(site::OK6, site::UDP_PORT, b"hello")?, b"hello")?;
    // An advertisement that arrives while the agent runs is accepted as well.
    rig.gateway.run("ip", &["-6", "route", "flush", "dev", "eth0", "proto", "ra"])?;
    refused_immediately("no way", || rig.sandbox.tcp(site::OK6, site::BANNER_PORT, b""))?;
    advertise(&rig.internet, site::OUTSIDE.1)?;
    wait_until("another default route", || told(&rig))?;
    banner(&rig, site::OK6)?;
    sidecar.terminate()?;
    ensure!(told(&rig)?, "gone at the end: {}", rig.gateway.run("ip", &["-6", "route"])?);
    let accepts = rig.gateway.run("sysctl", &["-n", "net.ipv6.conf.eth0.accept_ra"])?;
    ensure!(accepts.trim() == "1", "accept_ra is {accepts}");
    Ok(())
}

/// Root in the sandbox advertises a default route: before the agent starts, while it runs, and after its exit.
fn a_gateway_ignores_router_advertisements_of_the_sandbox() -> Result<()> {
    let rig = Rig::build()?;
    let believes = |rig: &Rig| learned(rig, "sandbox0");
    advertise(&rig.sandbox, site::GATEWAY.1)?;
    wait_until("a gateway that believes its sandbox, so this would show nothing", || {
        let said = believes(&rig)?;
        Ok(said.contains("default via") && said.contains("inet6") && said.contains("/64 proto"))
    })?;
    let mut sidecar = Sidecar::start(&rig, &Setup::new(json!({})))?;
    ensure!(believes(&rig)?.is_empty(), "still there: {}", believes(&rig)?);
    advertise(&rig.sandbox, site::GATEWAY.1)?;
    ensure!(believes(&rig)?.is_empty(), "with an agent: {}", believes(&rig)?);
    banner(&rig, site::OK6)?;
    sidecar.terminate()?;
    advertise(&rig.sandbox, site::GATEWAY.1)?;
    ensure!(believes(&rig)?.is_empty(), "without an agent: {}", believes(&rig)?);
    Ok(())
}

/// The unread received bytes, and the unsent bytes, of each TCP socket of the gateway.
fn held(rig: &Rig) -> Result<Vec<(u64, u64)>> {
    let said = rig.gateway.run("ss", &["-tmnH", "state", "established"])?;
    let held = said.lines().filter_map(|line| {
        let memory = line.split_once("skmem:(")?.1.split_once(')')?.0;
        let of = |kind: char| {
            memory.split(',').find_map(|part| part.strip_prefix(kind)?.parse::<u64>().ok())
        };
        // Only in this field do digits follow `r`. The limit is `rb`.
        Some((of('r')?, of('w')?))
    });
    Ok(held.collect())
}

/// A sandbox that sends to an echo service and does not read fills the buffers of both directions.
fn connections_that_nobody_reads_use_little_kernel_memory() -> Result<()> {
    const BUFFER: u64 = 256 << 10;
    const COUNT: usize = 50;
    let rig = Rig::build()?;
    let setup = Setup::new(json!({})).with(&["--tcp-buffer", &BUFFER.to_string()]);
    let _sidecar = Sidecar::start(&rig, &setup)?;
    let streams = rig.sandbox.enter(|| -> Result<Vec<TcpStream>> {
        (0..COUNT)
            .map(|_| {
                let stream = TcpStream::connect((site::OK, site::ECHO_PORT))?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            })
            .collect()
    })??;
    let block = vec![0x5a; 64 << 10];
    // Sends until no data is accepted for a second.
    let mut last = Instant::now();
    while last.elapsed() < Duration::from_secs(1) {
        for mut stream in &streams {
            match stream.write(&block) {
                Ok(length) if length > 0 => last = Instant::now(),
                Ok(_) => anyhow::bail!("nothing was written"),
                Err(error) => ensure!(error.kind() == ErrorKind::WouldBlock, "{error}"),
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let held = held(&rig)?;
    ensure!(held.len() >= 2 * COUNT, "{} sockets", held.len());
    let most = held.iter().flat_map(|(received, unsent)| [*received, *unsent]).max().unwrap_or(0);
    let all: u64 = held.iter().map(|(received, unsent)| received + unsent).sum();
    println!(
        "    {COUNT} connections hold {all} bytes of the gateway's kernel, no socket over {most} one way"
    );
    // The last accepted packet may be larger than the remaining space.
    ensure!(most <= BUFFER + (128 << 10), "a socket holds {most} bytes one way");
    ensure!(most >= BUFFER / 2, "they were never full, so this shows nothing: {most}");
    Ok(())
}

/// Settings that the agent, or the kernel because of the agent, changes, with values that are not the kernel's
/// defaults.
fn kernel_settings_are_restored() -> Result<()> {
    const SETTINGS: [&str; 7] = [
        "net.ipv4.tcp_rmem=4096 131071 5000001",
        "net.ipv4.tcp_wmem=4096 16385 4000001",
        "net.ipv4.conf.all.accept_redirects=0",
        "net.ipv6.conf.eth0.accept_ra=1",
        "net.ipv6.conf.default.accept_ra=1",
        "net.ipv6.conf.all.accept_ra=1",
        "net.ipv6.conf.lo.accept_ra=0",
    ];
    let rig = Rig::build()?;
    rig.gateway.run("sysctl", &[["-qw"].as_slice(), &SETTINGS].concat())?;
    let names: Vec<&str> =
        SETTINGS.iter().filter_map(|setting| Some(setting.split_once('=')?.0)).collect();
    let state = || rig.gateway.run("sysctl", &names);
    let before = state()?;
    let mut sidecar = Sidecar::start(&rig, &Setup::new(json!({})))?;
    let during = state()?;
    for expected in [
        "net.ipv4.tcp_rmem = 4096\t131071\t1048576",
        "net.ipv4.tcp_wmem = 4096\t16385\t1048576",
        "net.ipv6.conf.eth0.accept_ra = 2",
        "net.ipv6.conf.default.accept_ra = 1",
        "net.ipv6.conf.all.accept_ra = 1",
        "net.ipv6.conf.lo.accept_ra = 0",
    ] {
        ensure!(during.lines().any(|line| line == expected), "no `{expected}` in {during}");
    }
    sidecar.terminate()?;
    ensure!(state()? == before, "before: {before}\nafter: {}", state()?);
    Ok(())
}
