//! Clients in the sandbox, their results, and the time that they take.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::netns::Namespace;

/// The result of a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It received these bytes.
    Answered(Vec<u8>),
    /// It received an error: refused, reset, unreachable, or prohibited.
    Refused(ErrorKind),
    /// The connection ended without data.
    Closed,
    /// It timed out.
    Silence,
}

/// An outcome, and the time until it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spent {
    pub outcome: Outcome,
    /// The time until the outcome.
    pub time: Duration,
}

/// The timeout of a client.
const PATIENCE: Duration = Duration::from_secs(5);

impl Outcome {
    /// The received bytes as text, if any.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Answered(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Self::Refused(_) | Self::Closed | Self::Silence => None,
        }
    }

    /// Whether the client received bytes.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        matches!(self, Self::Answered(_))
    }

    /// Whether the client received an error within the time in which it must notice a denial.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl Namespace {
    /// Connects, sends `message` unless it is empty, and reads the first bytes.
    pub fn tcp(&self, address: IpAddr, port: u16, message: &[u8]) -> Result<Spent> {
        self.enter(|| {
            timed(|| {
                let mut stream =
                    TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.write_all(message)?;
                let mut buffer = vec![0; 16_384];
                let length = stream.read(&mut buffer)?;
                buffer.truncate(length);
                Ok(buffer)
            })
        })
    }

    /// Sends a datagram, and waits for a response.
    pub fn udp(&self, address: IpAddr, port: u16, message: &[u8]) -> Result<Spent> {
        self.enter(|| {
            timed(|| {
                let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.connect((address, port))?;
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.send(message)?;
                let mut buffer = vec![0; 65_535];
                let length = socket.recv(&mut buffer)?;
                buffer.truncate(length);
                Ok(buffer)
            })
        })
    }

    /// Pings an address once. The time includes the start of the program.
    pub fn ping(&self, address: IpAddr) -> Result<Spent> {
        let begun = Instant::now();
        let wait = PATIENCE.as_secs().to_string();
        let done = self
            .command("ping")
            .args(["-n", "-c", "1", "-W", &wait, &address.to_string()])
            .output()?;
        let time = begun.elapsed();
        let said = String::from_utf8_lossy(&done.stdout);
        let outcome = match done.status.success() {
            true => Outcome::Answered(done.stdout),
            // "Packet filtered" by IPv4, "Administratively prohibited" by IPv6.
            false if said.contains("filtered") || said.contains("prohibited") => {
                Outcome::Refused(ErrorKind::HostUnreachable)
            }
            false => Outcome::Silence,
        };
        Ok(Spent { outcome, time })
    }
}

fn timed(work: impl FnOnce() -> std::io::Result<Vec<u8>>) -> Spent {
    let begun = Instant::now();
    let done = work();
    let time = begun.elapsed();
    let outcome = match done {
        Ok(bytes) if bytes.is_empty() => Outcome::Closed,
        Ok(bytes) => Outcome::Answered(bytes),
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Outcome::Silence,
            kind => Outcome::Refused(kind),
        },
    };
    Spent { outcome, time }
}
