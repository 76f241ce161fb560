//! Sandbox and sidecar in one network namespace. Protects against users other than root, Envoy and the agent.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sandgate_egress_tests::{Outcome, Rig, Setup, Sidecar, Spent, site};
use serde_json::{Value, json};

use crate::support::{refused_immediately, tests};

tests![
    a_user_of_a_shared_namespace_gets_what_the_policy_allows,
    a_user_of_a_shared_namespace_gets_nothing_out_with_internet_off,
    a_user_of_a_shared_namespace_reaches_allowed_names_and_no_others,
];

/// Runs a program as an unprivileged user. Returns its success and its output.
fn as_user(rig: &Rig, arguments: &[&str]) -> Result<(bool, String)> {
    // Uses the system's programs, because root's own may be in a private folder.
    let path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    let user = ["--reuid", "4242", "--regid", "4242", "--clear-groups", "--", "env", path];
    let done = rig.sandbox.command("setpriv").args(user).args(arguments).output()?;
    let said = [done.stdout, done.stderr].concat();
    Ok((done.status.success(), String::from_utf8_lossy(&said).into_owned()))
}

/// Exchanges one message over a kind of socket as this user, and measures the time.
pub(crate) fn exchange_as_user(rig: &Rig, kind: &str, address: IpAddr, port: u16) -> Result<Spent> {
    let arguments = ["python3", "-c", EXCHANGE, kind, &address.to_string(), &port.to_string()];
    let (_, said) = as_user(rig, &arguments)?;
    let (seconds, what) = said.trim().split_once(' ').with_context(|| said.clone())?;
    let time = Duration::from_secs_f64(seconds.parse().with_context(|| said.clone())?);
    let outcome = match what {
        "TimeoutError" => Outcome::Silence,
        "closed" => Outcome::Closed,
        "PermissionError" | "ConnectionRefusedError" | "ConnectionResetError" | "OSError" => {
            Outcome::Refused(std::io::ErrorKind::PermissionDenied)
        }
        answer => Outcome::Answered(answer.as_bytes().to_vec()),
    };
    Ok(Spent { outcome, time })
}

const EXCHANGE: &str = r"
import socket, sys, time
kind, to, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
family = socket.AF_INET6 if ':' in to else socket.AF_INET
begun = time.monotonic()
try:
    if kind == 'raw':
        socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP)
    one = socket.socket(family, socket.SOCK_DGRAM if kind in ('udp', 'bound') else socket.SOCK_STREAM)
    if kind == 'bound':
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'eth0')
    one.settimeout(5 if kind != 'bound' else 0.5)
    one.connect((to, port))
    one.send(b'hello')
    answer = one.recv(64).split(b'\r')[0].decode() or 'closed'
except OSError as error:
    answer = type(error).__name__
print(time.monotonic() - begun, answer)
";

/// Starts the agent in the sandbox's namespace, which has a route for all destinations.
pub(crate) fn shared(policy: Value) -> Result<(Rig, Sidecar)> {
    let rig = Rig::build()?;
    rig.gateway
        .run("sysctl", &["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])?;
    let mut setup = Setup::new(policy);
    setup.operator["protected"] = json!([]);
    setup.shared = true;
    let sidecar = Sidecar::start(&rig, &setup)?;
    Ok((rig, sidecar))
}

fn dig(rig: &Rig, server: IpAddr, asked: &[&str]) -> Result<String> {
    let server = format!("@{server}");
    let arguments = [&["dig", &server, "+tries=1", "+time=5"], asked].concat();
    Ok(as_user(rig, &arguments)?.1)
}

fn a_user_of_a_shared_namespace_gets_what_the_policy_allows() -> Result<()> {
    let (rig, mut sidecar) =
        shared(json!({ "deny_out": ["203.0.113.20", "2001:db8:c::20", "example.com"] }))?;
    let capture = rig.capture()?;
    for (url, address) in
        [("http://203.0.113.10/", site::OK), ("http://[2001:db8:c::10]/", site::OK6)]
    {
        let (good, said) = as_user(&rig, &["curl", "-sS", "-m", "10", url])?;
        ensure!(good, "{url}: {said}");
        let answer: Value = serde_json::from_str(&said)?;
        ensure!(answer["address"] == address.to_string(), "{answer}");
    }
    for address in [site::OK, site::OK6] {
        for (kind, port, answer) in
            [("tcp", site::BANNER_PORT, site::BANNER.trim_end()), ("udp", site::UDP_PORT, "hello")]
        {
            let spent = exchange_as_user(&rig, kind, address, port)?;
            ensure!(spent.outcome.text().as_deref() == Some(answer), "{kind} {address}: {spent:?}");
        }
    }
    for address in [site::OTHER, site::OTHER6, site::METADATA, site::PRIVATE] {
        for (kind, port) in [("tcp", site::BANNER_PORT), ("udp", site::UDP_PORT), ("raw", 80)] {
            refused_immediately(&format!("{kind} {address}"), || {
                exchange_as_user(&rig, kind, address, port)
            })?;
        }
        // QUIC's port is refused for all destinations, because a name is denied.
        refused_immediately("quic", || exchange_as_user(&rig, "udp", site::OK, site::QUIC_PORT))?;
    }
    for server in [site::RESOLVER, site::RESOLVER6, site::METADATA, site::OTHER] {
        for transport in ["+notcp", "+tcp"] {
            let said = dig(&rig, server, &["ok.test", "A", transport])?;
            ensure!(said.contains("203.0.113.10"), "{said}");
            let said = dig(&rig, server, &["example.com", "A", transport])?;
            ensure!(said.contains("status: NXDOMAIN"), "{said}");
        }
    }
    // The ports of Envoy and of the agent.
    for port in [15_000, 15_003, 15_004, 15_054] {
        let local = IpAddr::from([127, 0, 0, 1]);
        refused_immediately("Envoy's own", || exchange_as_user(&rig, "tcp", local, port))?;
    }
    for address in [site::OTHER, site::OTHER6, site::METADATA, site::PRIVATE] {
        ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    }
    // After the agent's exit, nothing is allowed.
    sidecar.terminate()?;
    let capture = rig.capture()?;
    for (kind, port) in [("tcp", site::BANNER_PORT), ("udp", site::UDP_PORT), ("udp", 53)] {
        refused_immediately("no agent", || exchange_as_user(&rig, kind, site::OK, port))?;
    }
    ensure!(capture.to(site::OK).is_empty(), "the destination received {:?}", capture.to(site::OK));
    Ok(())
}

fn a_user_of_a_shared_namespace_gets_nothing_out_with_internet_off() -> Result<()> {
    let (rig, mut sidecar) = shared(json!({ "allow_internet_access": false }))?;
    let capture = rig.capture()?;
    let nothing_passes = || -> Result<()> {
        for address in [site::OK, site::OK6, site::PRIVATE, site::METADATA] {
            for (kind, port) in
                [("tcp", site::BANNER_PORT), ("tcp", 853), ("udp", site::UDP_PORT), ("udp", 123)]
            {
                refused_immediately(&format!("{kind} {address}"), || {
                    exchange_as_user(&rig, kind, address, port)
                })?;
            }
            let (answered, said) =
                as_user(&rig, &["ping", "-n", "-c", "1", "-W", "5", &address.to_string()])?;
            ensure!(!answered, "ping {address}: {said}");
        }
        Ok(())
    };
    nothing_passes()?;
    // A socket that is bound to the outer interface is not routed to the DNS proxy, but is refused.
    for address in [site::OK, site::OK6, site::RESOLVER, site::METADATA] {
        for port in [53, site::UDP_PORT] {
            let spent = exchange_as_user(&rig, "bound", address, port)?;
            ensure!(spent.outcome.text().is_none(), "{address} port {port}: {spent:?}");
        }
    }
    ensure!(capture.packets().is_empty(), "the internet saw {:?}", capture.packets());
    for kind in ["A", "AAAA", "TXT", "MX"] {
        for transport in ["+notcp", "+tcp"] {
            let said = dig(&rig, site::PUBLIC_RESOLVER, &["ok.test", kind, transport])?;
            ensure!(said.contains("status: NXDOMAIN"), "{kind} {transport}: {said}");
        }
    }
    ensure!(rig.served.questions().is_empty(), "{:?}", rig.served.questions());
    ensure!(capture.packets().is_empty(), "the internet saw {:?}", capture.packets());
    // The same after the agent is killed, as soon as its gate expires.
    sidecar.kill()?;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        let spent = exchange_as_user(&rig, "udp", site::OK, site::UDP_PORT)?;
        ensure!(spent.outcome.text().is_none(), "{spent:?}");
    }
    nothing_passes()?;
    ensure!(capture.packets().is_empty(), "the internet saw {:?}", capture.packets());
    Ok(())
}

fn a_user_of_a_shared_namespace_reaches_allowed_names_and_no_others() -> Result<()> {
    let (rig, _sidecar) =
        shared(json!({ "allow_internet_access": false, "allow_out": ["ok.test"] }))?;
    let capture = rig.capture()?;
    let said = dig(&rig, site::RESOLVER, &["ok.test", "A", "+short"])?;
    let ok: IpAddr = said.trim().parse().with_context(|| said.clone())?;
    let spent = exchange_as_user(&rig, "tcp", ok, site::BANNER_PORT)?;
    ensure!(spent.outcome.text().as_deref() == Some(site::BANNER.trim_end()), "{spent:?}");
    let said = dig(&rig, site::RESOLVER, &["other.test", "A"])?;
    ensure!(said.contains("status: NXDOMAIN"), "{said}");
    for address in [site::OK, site::OTHER, site::OTHER6, site::METADATA] {
        refused_immediately("by address", || {
            exchange_as_user(&rig, "tcp", address, site::BANNER_PORT)
        })?;
    }
    // A Host that is not allowed, on the allowed name's address.
    let url = format!("http://{ok}/");
    let (_, said) = as_user(&rig, &["curl", "-sS", "-m", "10", "-H", "Host: other.test", &url])?;
    ensure!(said.contains("EGRESS_DENIED"), "{said}");
    for address in [site::OTHER, site::OTHER6, site::METADATA] {
        ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    }
    Ok(())
}
