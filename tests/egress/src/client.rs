//! Clients inside the sandbox: what they get, and how long that takes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::netns::Namespace;

/// How a client fared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It was answered with these bytes.
    Answered(Vec<u8>),
    /// It was told that there is no way: refused, reset, unreachable, prohibited.
    Refused(ErrorKind),
    /// The connection ended without a word.
    Closed,
    /// Nothing happened for as long as the client waits.
    Silence,
}

/// An outcome and the time until then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Spent {
    /// What happened.
    pub outcome: Outcome,
    /// After how long.
    pub time: Duration,
}

/// How long a client waits for anything.
const PATIENCE: Duration = Duration::from_secs(5);

impl Outcome {
    /// The answer as text, if there was one.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Answered(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
            Self::Refused(_) | Self::Closed | Self::Silence => None,
        }
    }

    /// Whether it was answered.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        matches!(self, Self::Answered(_))
    }

    /// Whether the client was told at once that it may not.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl Namespace {
    /// Connects, sends `message` (nothing if it is empty), and reads what comes first.
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

    /// Sends a datagram and waits for the answer.
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

    /// One ping. The time is that of the program, from its start to its end.
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
