//! A prototype of pinned addresses, without the sidecar ([decision 33](../../../../docs/decisions/0033-pinned-addresses.md)):
//! DNS answers have the real addresses of allowed names, and each address is added to an nftables set before its answer is
//! sent. TCP to these addresses goes to a listener of its own, which allows connections that show no name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use sandgate_egress_tests::process::Process;
use sandgate_egress_tests::{Outcome, Rig, sidecar, site};

use crate::support::{curl, dig, is_answered_with, refused_immediately, tests};

tests![
    an_address_is_reached_as_soon_as_dns_has_answered_it_and_no_other_is,
    a_pinned_address_carries_no_connection_that_shows_another_name,
    a_pin_ends_unless_it_is_used,
];

/// The sets, the redirection, and ping. `${timeout}` is the time by which a new connection extends a pin.
const RULES: &str = r#"
table inet pins {
  set pins4 { type ipv4_addr; flags dynamic,timeout; size 4096; }
  set pins6 { type ipv6_addr; flags dynamic,timeout; size 4096; }
  chain extend {
    type filter hook prerouting priority mangle; policy accept;
    iifname "sandbox0" ct state new ip daddr @pins4 update @pins4 { ip daddr timeout ${timeout} }
    iifname "sandbox0" ct state new ip6 daddr @pins6 update @pins6 { ip6 daddr timeout ${timeout} }
  }
  chain redirect_tcp {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "sandbox0" ip daddr @pins4 meta l4proto tcp redirect to :16001
    iifname "sandbox0" ip6 daddr @pins6 meta l4proto tcp redirect to :16001
    iifname "sandbox0" meta l4proto tcp redirect to :16002
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    iifname "sandbox0" ip daddr @pins4 icmp type echo-request accept
    iifname "sandbox0" ip6 daddr @pins6 icmpv6 type echo-request accept
    iifname "sandbox0" reject with icmpx type admin-prohibited
    oifname "sandbox0" ct state established accept
  }
}
"#;
/// The gateway's address at which the prototype answers DNS.
const ANSWERING: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

struct Prototype {
    rig: Rig,
    envoy: Process,
    timeout: Duration,
}

impl Prototype {
    fn start(timeout: Duration) -> Result<Self> {
        let rig = Rig::build()?;
        let rules = rig.folder().join("pins.nft");
        std::fs::write(&rules, RULES.replace("${timeout}", &format!("{}s", timeout.as_secs())))?;
        rig.gateway.run("nft", &["-f", &rules.display().to_string()])?;
        rig.gateway
            .run("sysctl", &["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"])?;
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/egress/pins.yaml");
        let mut command = rig.gateway.command("env");
        command.arg(sidecar::find_envoy()?).arg("-c").arg(config);
        command.args(["--concurrency", "1", "--use-dynamic-base-id", "-l", "warning"]);
        let envoy = Process::start(&command, rig.folder(), "envoy")?;
        let prototype = Self { rig, envoy, timeout };
        let begun = Instant::now();
        // The listener `others` accepts and then resets. Before Envoy listens, the connection is refused.
        let refused = Outcome::Refused(std::io::ErrorKind::ConnectionRefused);
        while prototype.rig.gateway.tcp(ANSWERING, 16_002, b"")?.outcome == refused {
            ensure!(begun.elapsed() < Duration::from_secs(60), "{}", prototype.envoy.output());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(prototype)
    }

    /// Runs `test` while a thread answers DNS.
    fn run(&self, test: impl FnOnce() -> Result<()> + Send) -> Result<()> {
        let stop = AtomicBool::new(false);
        let sockets = self.rig.gateway.enter(|| -> std::io::Result<_> {
            let clients = UdpSocket::bind((ANSWERING, 53))?;
            clients.set_read_timeout(Some(Duration::from_millis(20)))?;
            let resolver = UdpSocket::bind(("0.0.0.0", 0))?;
            resolver.set_read_timeout(Some(Duration::from_secs(5)))?;
            resolver.connect(SocketAddr::new(site::RESOLVER, 53))?;
            Ok((clients, resolver))
        })??;
        std::thread::scope(|scope| {
            let answering = scope.spawn(|| self.answer(&sockets, &stop));
            let done = test();
            stop.store(true, Ordering::Relaxed);
            match answering.join() {
                Ok(answered) => answered.and(done),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Answers queries until `stop` is set. Pins the addresses of each answer before it sends the answer.
    fn answer(&self, sockets: &(UdpSocket, UdpSocket), stop: &AtomicBool) -> Result<()> {
        let (clients, resolver) = sockets;
        let mut buffer = [0; 4096];
        while !stop.load(Ordering::Relaxed) {
            let Ok((length, client)) = clients.recv_from(&mut buffer) else { continue };
            resolver.send(&buffer[..length])?;
            let length = resolver.recv(&mut buffer)?;
            let answer = Message::from_vec(&buffer[..length])?;
            for record in &answer.answers {
                match &record.data {
                    RData::A(address) => self.pin("pins4", &address.0.to_string())?,
                    RData::AAAA(address) => self.pin("pins6", &address.0.to_string())?,
                    _ => {}
                }
            }
            clients.send_to(&buffer[..length], client)?;
        }
        Ok(())
    }

    fn pin(&self, set: &str, address: &str) -> Result<()> {
        let element = format!("{{ {address} timeout {}s }}", self.timeout.as_secs());
        self.rig.gateway.run("nft", &["add", "element", "inet", "pins", set, &element])?;
        Ok(())
    }

    fn resolve(&self, name: &str, kind: &str) -> Result<IpAddr> {
        let said = dig(&self.rig, ANSWERING, &[name, kind, "+short"])?;
        said.trim().parse().with_context(|| format!("{name} {kind}: `{said}`"))
    }

    fn is_reached(&self, address: IpAddr) -> Result<()> {
        let spent = self.rig.sandbox.tcp(address, site::BANNER_PORT, b"")?;
        is_answered_with(&format!("{address}"), &spent, site::BANNER.as_bytes())
    }

    fn is_refused(&self, address: IpAddr) -> Result<()> {
        let spent = self.rig.sandbox.tcp(address, site::BANNER_PORT, b"")?;
        // The prototype's Envoy closes some connections that the sidecar's Envoy would reset.
        let refused = matches!(spent.outcome, Outcome::Closed | Outcome::Refused(_));
        ensure!(refused, "{address}: {spent:?}");
        Ok(())
    }
}

fn an_address_is_reached_as_soon_as_dns_has_answered_it_and_no_other_is() -> Result<()> {
    let prototype = Prototype::start(Duration::from_secs(600))?;
    let capture = prototype.rig.capture()?;
    prototype.run(|| {
        prototype.is_refused(site::OK)?;
        // The client connects directly after the answer, each time to an address that was not pinned.
        for _ in 0..10 {
            for (kind, set, expected) in [("A", "pins4", site::OK), ("AAAA", "pins6", site::OK6)] {
                ensure!(prototype.resolve("ok.test", kind)? == expected, "{kind}");
                prototype.is_reached(expected)?;
                let flush = ["flush", "set", "inet", "pins", set];
                prototype.rig.gateway.run("nft", &flush)?;
            }
        }
        prototype.is_refused(site::OK)?;
        // A name below a wildcard needs no protocol that shows it, and ping works.
        ensure!(prototype.resolve("a.ok.test", "A")? == site::OK);
        prototype.is_reached(site::OK)?;
        let spent = prototype.rig.sandbox.ping(site::OK)?;
        ensure!(spent.outcome.is_answered(), "{spent:?}");
        prototype.is_refused(site::OTHER)?;
        refused_immediately("ping", || prototype.rig.sandbox.ping(site::OTHER))
    })?;
    ensure!(capture.to(site::OTHER).is_empty(), "{:?}", capture.to(site::OTHER));
    Ok(())
}

fn a_pinned_address_carries_no_connection_that_shows_another_name() -> Result<()> {
    let prototype = Prototype::start(Duration::from_secs(600))?;
    let rig = &prototype.rig;
    prototype.run(|| {
        prototype.resolve("ok.test", "A")?;
        let at = |name: &str, address: IpAddr| {
            [format!("{name}:443:{address}"), format!("{name}:80:{address}")]
        };
        let fetch = |name: &str, address: IpAddr, scheme: &str| {
            let [tls, plain] = at(name, address);
            let url = format!("{scheme}://{name}/");
            curl(rig, &["-k", "-f", "--resolve", &tls, "--resolve", &plain, &url])
        };
        for scheme in ["https", "http"] {
            let answer = fetch("ok.test", site::OK, scheme)?;
            ensure!(answer.contains(&site::OK.to_string()), "{answer}");
            let answer = fetch("other.test", site::OK, scheme);
            ensure!(answer.is_err(), "{scheme}: {answer:?}");
        }
        // An allowed name at an address that is not pinned.
        let capture = rig.capture()?;
        for scheme in ["https", "http"] {
            let answer = fetch("ok.test", site::OTHER, scheme);
            ensure!(answer.is_err(), "{scheme}: {answer:?}");
        }
        ensure!(capture.to(site::OTHER).is_empty(), "{:?}", capture.to(site::OTHER));
        Ok(())
    })
}

fn a_pin_ends_unless_it_is_used() -> Result<()> {
    const TIMEOUT: Duration = Duration::from_secs(6);
    let prototype = Prototype::start(TIMEOUT)?;
    prototype.run(|| {
        prototype.resolve("ok.test", "A")?;
        prototype.resolve("other.test", "A")?;
        // Connections extend the first pin. The second one ends meanwhile.
        let begun = Instant::now();
        while begun.elapsed() < TIMEOUT * 2 {
            prototype.is_reached(site::OK)?;
            std::thread::sleep(Duration::from_millis(200));
        }
        prototype.is_refused(site::OTHER)?;
        prototype.is_reached(site::OK)?;
        std::thread::sleep(TIMEOUT + Duration::from_secs(1));
        prototype.is_refused(site::OK)
    })
}
