//! An update of the policy while connections exist.

use std::io::{BufRead as _, BufReader, ErrorKind, Lines, Read as _, Write as _};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use sandgate_egress_tests::{Rig, Sidecar, site};
use serde_json::json;

use crate::support::{is_answered_with, refused_immediately, tests, with};

tests![
    connections_that_an_update_denies_are_closed_and_others_continue,
    data_in_flight_to_a_destination_that_an_update_denies_does_not_arrive,
    established_udp_that_an_update_denies_stops,
    established_icmp_that_an_update_denies_stops,
];

/// The time within which connections that a change denies are closed: measured from the write of the policy file until
/// the client sees the end.
const WITHIN: Duration = Duration::from_secs(1);

fn connected(rig: &Rig, address: IpAddr, port: u16) -> Result<TcpStream> {
    let stream = rig.sandbox.enter(|| TcpStream::connect((address, port)))??;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends numbered blocks and checks their echo, until `stop` is set.
fn transfer(mut stream: TcpStream, stop: &AtomicBool) -> Result<u64> {
    let mut count: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        let block: Vec<u8> = (0..4096_u64).flat_map(|at| (at ^ count).to_be_bytes()).collect();
        stream.write_all(&block)?;
        let mut back = vec![0; block.len()];
        stream.read_exact(&mut back)?;
        ensure!(back == block, "block {count} came back changed");
        count += 1;
    }
    // The connection ends properly.
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest)?;
    ensure!(rest.is_empty(), "{} bytes too many", rest.len());
    Ok(count)
}

fn connections_that_an_update_denies_are_closed_and_others_continue() -> Result<()> {
    let (rig, sidecar) = with(json!({}))?;
    let stop = AtomicBool::new(false);
    let goes_on = [site::OK, site::OK6].map(|address| connected(&rig, address, site::ECHO_PORT));
    std::thread::scope(|scope| {
        let transfers: Vec<_> = goes_on
            .into_iter()
            .map(|stream| stream.map(|stream| scope.spawn(|| transfer(stream, &stop))))
            .collect::<Result<_>>()?;
        let closed = (0..3).map(|_| closed_after(&rig, &sidecar)).collect::<Result<Vec<_>>>();
        stop.store(true, Ordering::Relaxed);
        for transfer in transfers {
            match transfer.join() {
                Ok(count) => ensure!(count? > 10, "the transfer hardly ran"),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        // The best of three, because a busy machine may delay one of them.
        let closed = closed?;
        ensure!(closed.iter().any(|time| *time <= WITHIN), "closed after {closed:?}");
        Ok(())
    })
}

/// Denies an active and an idle connection, and returns the time until both are closed. Allows the destinations again
/// at the end.
fn closed_after(rig: &Rig, sidecar: &Sidecar) -> Result<Duration> {
    let mut talks = connected(rig, site::OTHER, site::ECHO_PORT)?;
    let mut idle = connected(rig, site::OTHER6, site::BANNER_PORT)?;
    let mut buffer = [0; 64];
    let _greeting = idle.read(&mut buffer)?;
    talks.write_all(b"still here")?;
    talks.read_exact(&mut buffer[..10])?;
    // First a name that no connection shows, then the addresses.
    sidecar.set(&json!({ "deny_out": ["example.com"] }))?;
    let before = sidecar.until_ready()?;
    let begun = Instant::now();
    sidecar.write(&json!({ "deny_out": ["203.0.113.20", "2001:db8:c::20"] }).to_string())?;
    for stream in [&mut talks, &mut idle] {
        match stream.read(&mut buffer) {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => bail!("a connection that is denied now got {other:?}"),
        }
    }
    let time = begun.elapsed();
    refused_immediately("denied", || rig.sandbox.tcp(site::OTHER, site::ECHO_PORT, b"hello"))?;
    // The connections close before the policy is in force everywhere. Without this wait, `set` would take this policy
    // for its own.
    sidecar.until("at another generation", |status| {
        (status["generation"].as_u64()? > before && status["ready"] == true).then_some(())
    })?;
    sidecar.set(&json!({}))?;
    Ok(time)
}

/// A client that does not read decides when data arrives: until then, the data is in the gateway's kernel, as part of a
/// connection that no process has open.
fn data_in_flight_to_a_destination_that_an_update_denies_does_not_arrive() -> Result<()> {
    let (rig, sidecar) = with(json!({}))?;
    let listener = rig.internet.enter(|| TcpListener::bind((site::OTHER, 9_999)))??;
    let mut sender = connected(&rig, site::OTHER, 9_999)?;
    sender.set_write_timeout(Some(Duration::from_millis(500)))?;
    let (mut receiver, _) = listener.accept()?;
    let block = vec![7; 1 << 16];
    while sender.write(&block).is_ok() {}
    sidecar.set(&json!({ "allow_internet_access": false }))?;
    std::thread::sleep(Duration::from_secs(1));
    let capture = rig.capture()?;
    receiver.set_read_timeout(Some(Duration::from_secs(3)))?;
    let mut buffer = vec![0; 1 << 20];
    // Frees buffer space, which requests more data.
    while receiver.read(&mut buffer).is_ok_and(|length| length > 0) {}
    let still = capture.to(site::OTHER);
    ensure!(still.is_empty(), "{} packets still came, first {:?}", still.len(), still.first());
    Ok(())
}

fn established_udp_that_an_update_denies_stops() -> Result<()> {
    let (rig, sidecar) = with(json!({}))?;
    let socket = rig.sandbox.enter(|| -> std::io::Result<_> {
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.connect((site::OTHER, site::UDP_PORT))?;
        Ok(socket)
    })??;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut back = [0; 8];
    for _ in 0..3 {
        socket.send(b"hello")?;
        ensure!(socket.recv(&mut back)? == 5);
    }
    sidecar.set(&json!({ "deny_out": ["203.0.113.20"] }))?;
    let capture = rig.capture()?;
    drop(socket.send(b"hello"));
    ensure!(socket.recv(&mut back).is_err(), "an established flow continues");
    ensure!(
        capture.to(site::OTHER).is_empty(),
        "the destination received {:?}",
        capture.to(site::OTHER)
    );
    is_answered_with("other", &rig.sandbox.udp(site::OK, site::UDP_PORT, b"hello")?, b"hello")
}

/// One program pings continuously with one identifier, which is one established flow for the kernel.
fn established_icmp_that_an_update_denies_stops() -> Result<()> {
    let (rig, sidecar) = with(json!({}))?;
    for (address, denied) in [(site::OTHER, "203.0.113.20"), (site::OTHER6, "2001:db8:c::20")] {
        let mut pings = Pings::start(&rig, address)?;
        pings.next_answer()?;
        sidecar.set(&json!({ "deny_out": [denied] }))?;
        let capture = rig.capture()?;
        // The same program reports that further pings are refused.
        pings.next_refusal()?;
        pings.next_refusal()?;
        ensure!(
            capture.to(address).is_empty(),
            "the destination received {:?}",
            capture.to(address)
        );
        let other = rig.sandbox.ping(site::OK)?;
        ensure!(other.outcome.is_answered(), "another address: {other:?}");
        sidecar.set(&json!({}))?;
    }
    Ok(())
}

/// A continuous `ping` that prints the outcome of each.
struct Pings {
    process: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Pings {
    fn start(rig: &Rig, address: IpAddr) -> Result<Self> {
        let mut process = rig
            .sandbox
            .command("timeout")
            // (With a deadline of its own, `ping` ends at the first refusal.)
            .args(["60", "ping", "-n", "-i", "0.1", &address.to_string()])
            .stdout(Stdio::piped())
            .spawn()?;
        let said = BufReader::new(process.stdout.take().context("it has no output")?).lines();
        Ok(Self { process, said })
    }

    fn next_answer(&mut self) -> Result<()> {
        self.next(|line| line.contains("bytes from"))
    }

    /// "Packet filtered" by IPv4, "Administratively prohibited" by IPv6.
    fn next_refusal(&mut self) -> Result<()> {
        self.next(|line| line.contains("filtered") || line.contains("prohibited"))
    }

    fn next(&mut self, wanted: impl Fn(&str) -> bool) -> Result<()> {
        let mut last = String::new();
        for line in self.said.by_ref() {
            last = line?;
            if wanted(&last) {
                return Ok(());
            }
        }
        bail!("`ping` has ended with: {last}");
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
