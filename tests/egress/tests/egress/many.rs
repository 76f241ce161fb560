//! Many simultaneous connections, and many connections in a short time.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sandgate_egress_tests::connection_holder::ConnectionHolder;
use sandgate_egress_tests::{Outcome, Rig, Setup, Sidecar, site};
use serde_json::json;

use crate::support::{is_answered_with, refused_immediately, tests, with};

tests![
    ten_thousand_connections_work_at_the_same_time,
    connections_beyond_envoys_limit_of_open_files_are_closed_and_the_others_continue,
    a_flood_of_denied_connections_does_not_affect_others,
];

/// Envoy's open files besides connections, with a margin.
const BESIDES: usize = 200;

/// Envoy's limit of open files.
fn files_of_envoy(sidecar: &Sidecar) -> Result<usize> {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", sidecar.envoy_pid()?))?;
    let line =
        limits.lines().find(|line| line.starts_with("Max open files")).context(limits.clone())?;
    Ok(line.split_whitespace().nth(3).context("no number")?.parse()?)
}

fn ten_thousand_connections_work_at_the_same_time() -> Result<()> {
    // All server ends of the connections are in this process.
    let most = getrlimit(Resource::RLIMIT_NOFILE)?.1;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let (rig, sidecar) = with(json!({}))?;
    let files = files_of_envoy(&sidecar)?;
    // Envoy has two sockets for each connection.
    let count = 10_000.min((files - BESIDES) / 2);
    if count < 10_000 {
        println!(
            "    only {count} connections: this machine lets no process, not even root's, open more than {files} files"
        );
        ensure!(
            sidecar.process.output().contains("limit of open files"),
            "the agent does not say so"
        );
    }
    ensure!(count >= 1_000, "{count} connections show nothing; raise the limit of open files");
    let to = SocketAddr::new(site::OK, site::ECHO_PORT);
    let half = count / 2;
    let mut holders = [
        ConnectionHolder::start(&rig.sandbox, to, half)?,
        ConnectionHolder::start(&rig.sandbox, to, count - half)?,
    ];
    holders.iter_mut().try_for_each(ConnectionHolder::wait)?;
    for _ in 0..2 {
        holders.iter_mut().try_for_each(ConnectionHolder::echo)?;
        holders.iter_mut().try_for_each(ConnectionHolder::wait)?;
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", sidecar.envoy_pid()?))?.count();
    ensure!(open > 2 * count, "Envoy has only {open} files open");
    let memory = sidecar.status().map(|status| status["envoy_resident_bytes"].clone());
    println!("    memory of Envoy with {count} connections: {memory:?} bytes");
    Ok(())
}

/// Beyond its limit, Envoy closes new connections immediately. Existing connections continue, and the policy still
/// applies to them.
fn connections_beyond_envoys_limit_of_open_files_are_closed_and_the_others_continue() -> Result<()>
{
    /// The connections that the agent permits Envoy with this limit of open files.
    const BOUND: usize = (1_000 - 200) / 2;
    let rig = Rig::build()?;
    let mut setup = Setup::new(json!({}));
    setup.files = Some(1_000);
    let sidecar = Sidecar::start(&rig, &setup)?;
    let envoy = sidecar.envoy_pid()?;
    ensure!(sidecar.status().is_some_and(|status| status["envoy_max_connections"] == BOUND));
    let mut holder =
        ConnectionHolder::start(&rig.sandbox, SocketAddr::new(site::OK, site::ECHO_PORT), 300)?;
    holder.wait()?;
    let more: Vec<_> = rig.sandbox.enter(|| {
        (0..300).map(|_| TcpStream::connect((site::OK, site::ECHO_PORT))).collect::<Vec<_>>()
    })?;
    let mut lives = 0;
    for stream in more.iter().flatten() {
        let mut stream = stream;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let got = stream.write_all(b"hello").and_then(|()| stream.read(&mut [0; 5]));
        match got {
            Ok(5) => lives += 1,
            Ok(0) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => {}
            other => bail!("one of too many got {other:?}"),
        }
    }
    ensure!((BOUND - 10..=BOUND).contains(&(300 + lives)), "{lives} of those that came later live");
    // The agent still reaches Envoy, and its changes are applied.
    sidecar.set(&json!({ "deny_out": ["203.0.113.20"] }))?;
    refused_immediately("udp", || rig.sandbox.udp(site::OTHER, site::UDP_PORT, b"hello"))?;
    holder.echo()?;
    holder.wait()?;
    sidecar.set(&json!({ "deny_out": ["203.0.113.10"] }))?;
    for stream in more.iter().flatten() {
        let mut stream = stream;
        ensure!(
            !matches!(stream.read(&mut [0; 5]), Ok(1..)),
            "a newly denied connection continues"
        );
    }
    drop(more);
    is_answered_with(
        "another",
        &rig.sandbox.tcp(site::OTHER6, site::BANNER_PORT, b"")?,
        site::BANNER.as_bytes(),
    )?;
    ensure!(sidecar.envoy_pid()? == envoy, "Envoy was restarted");
    Ok(())
}

fn a_flood_of_denied_connections_does_not_affect_others() -> Result<()> {
    /// The number of connections to a denied address, and of requests for a denied name.
    const FLOOD: usize = 5_000;
    const CLIENTS: usize = 8;
    /// The permitted growth of Envoy's memory after the flood, in bytes.
    const MORE: u64 = 48 << 20;
    let (rig, sidecar) = with(json!({ "deny_out": ["203.0.113.20", "example.com"] }))?;
    let envoy = u32::try_from(sidecar.envoy_pid()?)?;
    let mut holder =
        ConnectionHolder::start(&rig.sandbox, SocketAddr::new(site::OK, site::ECHO_PORT), 20)?;
    holder.wait()?;
    let before = resident_bytes(envoy)?;
    let capture = rig.capture()?;
    let request = b"GET / HTTP/1.1\r\nhost: example.com\r\n\r\n";
    // (The connection of a client that is not scheduled for a while closes without a response: docs/decisions/0005.)
    let flood = |address: IpAddr| -> Result<()> {
        rig.sandbox.enter(|| {
            for _ in 0..FLOOD / CLIENTS {
                let outcome = once(address, request);
                let answer = outcome.text().unwrap_or_default();
                let is_refused = answer.is_empty() || answer.starts_with("HTTP/1.1 403 ");
                ensure!(is_refused && outcome != Outcome::Silence, "{address}: {outcome:?}");
            }
            Ok(())
        })?
    };
    std::thread::scope(|scope| -> Result<()> {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(scope.spawn(|| flood(site::OTHER)));
            clients.push(scope.spawn(|| flood(site::OK)));
        }
        while clients.iter().any(|client| !client.is_finished()) {
            holder.echo()?;
            holder.wait()?;
        }
        for client in clients {
            client.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
        }
        Ok(())
    })?;
    ensure!(
        capture.to(site::OTHER).is_empty(),
        "the destination received {:?}",
        capture.to(site::OTHER).first()
    );
    let after = resident_bytes(envoy)?;
    println!(
        "    memory of Envoy before {} refusals: {before} bytes, and after: {after}",
        2 * FLOOD
    );
    ensure!(after < before + MORE, "Envoy's memory went from {before} to {after}");
    ensure!(u32::try_from(sidecar.envoy_pid()?)? == envoy, "Envoy was restarted");
    Ok(())
}

/// Makes one connection with one request from the current namespace.
fn once(address: IpAddr, request: &[u8]) -> Outcome {
    let talk = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect((address, site::HTTP_PORT))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(request)?;
        let mut answer = vec![0; 64];
        let length = stream.read(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    };
    match talk() {
        Ok(answer) => Outcome::Answered(answer),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Outcome::Silence
        }
        Err(error) => Outcome::Refused(error.kind()),
    }
}

/// The resident memory of a process in bytes (`VmRSS` of proc(5), which is in KiB).
fn resident_bytes(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1_024)
}
