//! The access logs, packet logs and metrics: each denial names its rule, the counters are exact, and the size of the
//! logs is bounded whatever a sandbox sends.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use sandgate_egress_tests::{Rig, Setup, Sidecar, site};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};

use crate::hellos::{MANNERS, hello};
use crate::support::{refused_immediately, tests, with_setup};

tests![
    a_denied_packet_is_logged_with_its_rule,
    the_logged_rule_is_of_the_current_policy,
    a_flood_of_denied_packets_causes_few_log_lines_and_an_exact_counter,
    a_flood_of_denied_connections_causes_few_log_lines_and_an_exact_counter,
    packets_are_denied_and_counted_without_a_packet_log,
    long_names_are_truncated_in_the_log,
];

/// Starts a rig whose agent writes a metrics file.
fn counted(policy: Value) -> Result<(Rig, Sidecar, String)> {
    let rig = Rig::build()?;
    let file = rig.folder().join("metrics").display().to_string();
    let setup = Setup::new(policy).with(&["--metrics-file", &file]);
    let sidecar = Sidecar::start(&rig, &setup)?;
    Ok((rig, sidecar, file))
}

/// Waits for a value, for longer than needed because the machine may be busy.
fn wait_for<T>(what: &str, found: impl Fn() -> Option<T>) -> Result<T> {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        if let Some(found) = found() {
            return Ok(found);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("timed out: {what}")
}

/// The agent's log lines about single packets.
fn lines(sidecar: &Sidecar) -> Vec<String> {
    let output = sidecar.process.output();
    output.lines().filter(|line| line.contains("packet denied")).map(str::to_owned).collect()
}

/// Waits for a log line that contains all parts.
fn has_log_line(sidecar: &Sidecar, parts: &[&str]) -> Result<()> {
    let all = |line: &String| parts.iter().all(|part| line.contains(part));
    wait_for(&format!("a line with {parts:?}"), || lines(sidecar).into_iter().find(all))
        .map(drop)
        .with_context(|| sidecar.process.output())
}

/// Waits until one of the agent's metrics has this value.
fn has_metric(file: &str, metric: &str, value: u64) -> Result<()> {
    let line = format!("{metric} {value}");
    let text = || std::fs::read_to_string(file).unwrap_or_default();
    wait_for(&line, || text().lines().any(|found| found == line).then_some(())).with_context(text)
}

fn a_denied_packet_is_logged_with_its_rule() -> Result<()> {
    let (rig, sidecar, metrics) =
        counted(json!({ "deny_out": ["203.0.113.16/28", "2001:db8:c::20", "bad.test"] }))?;
    for (address, rule) in [
        (site::OTHER, "deny_out 203.0.113.16/28"),
        (site::OTHER6, "deny_out 2001:db8:c::20"),
        (site::PRIVATE, "not globally routable"),
        (site::METADATA, "guardrail 169.254.0.0/16"),
    ] {
        refused_immediately("udp", || rig.sandbox.udp(address, site::UDP_PORT, b"hello"))?;
        let destination = SocketAddr::new(address, site::UDP_PORT).to_string();
        let client = match address {
            IpAddr::V4(_) => format!("{}:", site::SANDBOX.0),
            IpAddr::V6(_) => format!("[{}]:", site::SANDBOX.1),
        };
        let rule = format!("rule=\"{rule}\"");
        has_log_line(
            &sidecar,
            &[&format!("destination=\"{destination}\""), "protocol=udp", &rule, &client],
        )?;
    }
    for address in [site::OTHER, site::OTHER6] {
        refused_immediately("ping", || rig.sandbox.ping(address))?;
    }
    has_log_line(
        &sidecar,
        &["destination=\"203.0.113.20\"", "protocol=icmp", "deny_out 203.0.113.16/28"],
    )?;
    has_log_line(
        &sidecar,
        &["destination=\"2001:db8:c::20\"", "protocol=icmpv6", "deny_out 2001:db8:c::20"],
    )?;
    refused_immediately("quic", || rig.sandbox.udp(site::OK, site::QUIC_PORT, b"hello"))?;
    has_log_line(&sidecar, &["destination=\"203.0.113.10:443\"", "could be QUIC"])?;
    for (rule, packets) in [("deny_out", 4), ("not_global", 1), ("guardrail", 1), ("quic", 1)] {
        has_metric(
            &metrics,
            &format!("sandgate_egress_refused_packets_total{{rule=\"{rule}\"}}"),
            packets,
        )?;
    }
    // Packets that passed are not logged.
    ensure!(rig.sandbox.ping(site::OK)?.outcome.is_answered());
    std::thread::sleep(Duration::from_millis(500));
    let passed = lines(&sidecar).into_iter().filter(|line| line.contains("203.0.113.10\""));
    ensure!(passed.count() == 0, "{}", sidecar.process.output());
    Ok(())
}

/// The rule is that of the current policy, not of a previous one.
fn the_logged_rule_is_of_the_current_policy() -> Result<()> {
    let (rig, sidecar, metrics) = counted(json!({ "deny_out": ["203.0.113.20"] }))?;
    has_metric(&metrics, "sandgate_egress_ready", 1)?;
    for rule in ["deny_out 203.0.113.20", "deny_out 203.0.113.0/27", "default deny"] {
        match rule.strip_prefix("deny_out ") {
            Some(range) => sidecar.set(&json!({ "deny_out": ["192.88.99.0/24", range] }))?,
            None => sidecar.set(&json!({ "allow_internet_access": false }))?,
        }
        refused_immediately("udp", || rig.sandbox.udp(site::OTHER, site::UDP_PORT, b"hello"))?;
        has_log_line(
            &sidecar,
            &["destination=\"203.0.113.20:5000\"", &format!("rule=\"{rule}\"")],
        )?;
    }
    Ok(())
}

/// The attack: a flood of log lines that fills the disk or hides other lines.
fn a_flood_of_denied_packets_causes_few_log_lines_and_an_exact_counter() -> Result<()> {
    const FLOOD: u64 = 5_000;
    let (rig, sidecar, metrics) = counted(json!({ "deny_out": ["203.0.113.20"] }))?;
    let begun = Instant::now();
    rig.sandbox.enter(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let mut sent = 0;
        while sent < FLOOD {
            // The refusal of a datagram is an error of the next send, which sends nothing.
            sent += u64::from(socket.send_to(b"hello", (site::OTHER, site::UDP_PORT)).is_ok());
        }
        anyhow::Ok(())
    })??;
    let seconds = begun.elapsed().as_secs() + 2;
    has_metric(&metrics, "sandgate_egress_refused_packets_total{rule=\"deny_out\"}", FLOOD)?;
    let logged = u64::try_from(lines(&sidecar).len())?;
    ensure!(logged > 0 && logged <= 20 * seconds, "{logged} lines in {seconds} s");
    // The other packets are logged as a number, which may include packets that were denied for another reason.
    let unlogged = wait_for("the number of the other packets", || {
        let output = sidecar.process.output();
        let numbers = output.lines().filter(|line| line.contains("more packets denied"));
        let sum: u64 = numbers
            .filter_map(|line| line.rsplit_once("unlogged=")?.1.trim().parse::<u64>().ok())
            .sum();
        (sum + logged >= FLOOD).then_some(sum)
    })?;
    ensure!(unlogged + logged < FLOOD + 50, "{logged} logged, {unlogged} not");
    Ok(())
}

fn a_flood_of_denied_connections_causes_few_log_lines_and_an_exact_counter() -> Result<()> {
    const FLOOD: u64 = 4_000;
    let (rig, sidecar, _) = counted(json!({ "deny_out": ["203.0.113.20"] }))?;
    let begun = Instant::now();
    rig.sandbox.enter(|| {
        for _ in 0..FLOOD {
            let address = SocketAddr::new(site::OTHER, site::BANNER_PORT);
            let connected = TcpStream::connect_timeout(&address, Duration::from_secs(5));
            let mut byte = [0];
            let read = connected.and_then(|mut stream| {
                // Other protocols are reset immediately. Envoy waits for a silent client to send HTTP.
                stream.write_all(b"SSH-2.0-flood\r\n")?;
                stream.read(&mut byte)
            });
            ensure!(read.is_err(), "{read:?}");
        }
        Ok(())
    })??;
    // The burst and the rate in envoy/egress-log.yaml.
    let most = usize::try_from(1_000 + 100 * (begun.elapsed().as_secs() + 1))?;
    ensure!(most < usize::try_from(FLOOD)?, "so slow that this shows nothing");
    let decided = "sandgate_egress_decisions_total.tcp.deny.deny_out";
    let asked = format!("http://127.0.0.1:15000/stats?filter={decided}");
    wait_for("all are counted", || {
        let stats = rig.gateway.run("curl", &["-sS", &asked]).ok()?;
        stats.trim().ends_with(&format!("{decided}: {FLOOD}")).then_some(())
    })?;
    let output = sidecar.process.output();
    let told = output.lines().filter(|line| line.contains("\"decision\":\"deny\"")).count();
    ensure!(told > 0 && told <= most, "{told} lines, expected at most {most}");
    let rule = output.lines().find(|line| line.contains("\"decision\":\"deny\""));
    ensure!(
        rule.is_some_and(|line| line.contains("\"rule\":\"deny_out 203.0.113.20\"")),
        "{rule:?}"
    );
    Ok(())
}

/// Another program receives the packet log already, which looks like a kernel without NFLOG. Nothing is allowed because
/// of this, and the agent logs it.
fn packets_are_denied_and_counted_without_a_packet_log() -> Result<()> {
    let rig = Rig::build()?;
    let _holder = rig.gateway.enter(|| -> Result<Socket> {
        // `NETLINK_NETFILTER`; a request to bind group 15053 (linux/netfilter/nfnetlink_log.h).
        let socket = Socket::new(Domain::from(16), Type::RAW, Some(Protocol::from(12)))?;
        let mut request = Vec::new();
        request.extend(28_u32.to_ne_bytes());
        request.extend((4_u16 << 8 | 1).to_ne_bytes());
        request.extend(5_u16.to_ne_bytes());
        request.extend([0; 10]);
        request.extend(15_053_u16.to_be_bytes());
        request.extend(5_u16.to_ne_bytes());
        request.extend(1_u16.to_ne_bytes());
        request.extend([1, 0, 0, 0]);
        ensure!(socket.send(&request)? == 28);
        Ok(socket)
    })??;
    let file = rig.folder().join("metrics").display().to_string();
    let setup =
        Setup::new(json!({ "deny_out": ["203.0.113.20"] })).with(&["--metrics-file", &file]);
    let sidecar = Sidecar::start(&rig, &setup)?;
    let output = sidecar.process.output();
    let complaints = output.matches("denied packets are counted but not logged").count();
    ensure!(complaints == 1, "{output}");
    let capture = rig.capture()?;
    refused_immediately("udp", || rig.sandbox.udp(site::OTHER, site::UDP_PORT, b"hello"))?;
    ensure!(capture.to(site::OTHER).is_empty(), "a packet reached the destination");
    has_metric(&file, "sandgate_egress_refused_packets_total{rule=\"deny_out\"}", 1)?;
    ensure!(lines(&sidecar).is_empty(), "the agent logged packets that another program receives");
    Ok(())
}

/// The names in the log come from the sandbox, so their length is bounded.
fn long_names_are_truncated_in_the_log() -> Result<()> {
    const LONGEST: usize = 4_096;
    let (rig, sidecar) = with_setup(&Setup::new(json!({ "deny_out": ["bad.test"] })))?;
    let long = "x".repeat(60_000);
    let odd = "\u{1}\u{2}\"\\".repeat(5_000);
    let manner = &MANNERS[0];
    let messages = [
        format!("GET / HTTP/1.1\r\nHost: {long}\r\n\r\n").into_bytes(),
        format!("GET /{long} HTTP/1.1\r\nHost: bad.test\r\n\r\n").into_bytes(),
        format!("{long} / HTTP/1.1\r\nHost: bad.test\r\n\r\n").into_bytes(),
        format!("GET /{odd} HTTP/1.1\r\nHost: bad.test\r\n\r\n").into_bytes(),
        hello(&long, manner)?,
        hello(&format!("{}.test", "x.".repeat(120)), manner)?,
    ];
    for (index, message) in messages.iter().enumerate() {
        let port = if index < 4 { site::HTTP_PORT } else { site::HTTPS_PORT };
        let spent = rig.sandbox.tcp(site::OK, port, message)?;
        let passed = spent.outcome.text().is_some_and(|text| text.contains("200 OK"));
        ensure!(!passed, "message {index} was answered");
    }
    let marker = rig.sandbox.tcp(
        site::OK,
        site::HTTP_PORT,
        b"GET /last HTTP/1.1\r\nHost: bad.test\r\n\r\n",
    )?;
    ensure!(marker.outcome.text().is_some_and(|text| text.contains("EGRESS_DENIED")), "{marker:?}");
    let output = wait_for("the last line", || {
        let output = sidecar.process.output();
        output.contains("/last").then_some(output)
    })?;
    ensure!(output.contains("xxxxxxxx"), "no name was logged, so this shows nothing: {output}");
    let longest = output.lines().filter(|line| line.starts_with('{')).map(str::len).max();
    ensure!(longest.is_some_and(|longest| longest < LONGEST), "a line of {longest:?} bytes");
    Ok(())
}
