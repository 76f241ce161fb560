//! Captures all IP packets that arrive in a namespace, before the namespace's own firewall.
//!
//! A test that nothing arrived is only valid if the capture works. Therefore each capture sends a marker through the link
//! before the first packet of a test and after the last one, and must receive both. A failed read, a packet that the kernel
//! dropped, and a missing marker are errors. A packet that can't be parsed counts as captured.

mod packet;

use std::collections::BTreeSet;
use std::io::{ErrorKind, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Namespace;
use crate::site;

use packet::Parsed;
pub use packet::{Content, Packet};

/// The time limit of a marker. Long, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);
/// The start of a marker's payload, before its number. No test sends it.
const MARKER: &[u8; 16] = b"sandgate-capture";

/// A running capture. Dropping it stops the capture.
pub struct Capture {
    seen: Arc<Mutex<Seen>>,
    markers: Markers,
    // The thread has the other end, and stops when this end is closed.
    _running: Arc<()>,
}

#[derive(Default)]
struct Seen {
    packets: Vec<Packet>,
    markers: BTreeSet<u64>,
    /// The number of packets that the kernel dropped before the last captured one.
    dropped: u32,
    failure: Option<std::io::Error>,
}

impl Capture {
    /// Captures what arrives in `namespace`. `across` is the namespace at the other end of its link, from which the
    /// markers come.
    pub(crate) fn start(namespace: &Namespace, across: &Namespace) -> Result<Self> {
        /// `ETH_P_ALL` of linux/if_ether.h, in network byte order.
        const EVERYTHING: i32 = 0x0003_u16.to_be() as i32;
        let socket = namespace.enter(|| {
            Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(EVERYTHING)))
        })??;
        socket.set_recv_buffer_size(16 << 20)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        // The kernel reports with each packet how many it has dropped.
        setsockopt(&socket, sockopt::RxqOvfl, &1)?;
        let running = Arc::new(());
        let seen = Arc::<Mutex<Seen>>::default();
        let markers = Markers::bind(namespace, across)?;
        let reader = Reader { socket, seen: Arc::clone(&seen) };
        let watched = Arc::downgrade(&running);
        std::thread::spawn(move || reader.read(|| watched.strong_count() > 0));
        let capture = Self { seen, markers, _running: running };
        capture.prove().context("the capture sees nothing at its start")?;
        Ok(capture)
    }

    /// All packets so far except neighbour discovery. Waits for packets in flight.
    ///
    /// # Panics
    ///
    /// If the capture may be incomplete, so that the test would prove nothing.
    #[must_use]
    #[expect(clippy::panic, reason = "a test that panics has failed")]
    pub fn packets(&self) -> Vec<Packet> {
        std::thread::sleep(Duration::from_millis(100));
        if let Err(error) = self.prove() {
            panic!("the capture shows nothing: {error:#}");
        }
        self.seen().packets.clone()
    }

    /// The packets to an address, and those whose destination can't be parsed.
    #[must_use]
    pub fn to(&self, address: IpAddr) -> Vec<Packet> {
        self.packets().into_iter().filter(|packet| packet.may_go_to(address)).collect()
    }

    /// Sends a marker, and waits until the capture has received it and therefore all earlier packets.
    fn prove(&self) -> Result<()> {
        let begun = Instant::now();
        let number = self.markers.send()?;
        loop {
            let mut seen = self.seen();
            if let Some(error) = seen.failure.take() {
                return Err(error).context("a read failed");
            }
            ensure!(seen.dropped == 0, "the kernel dropped {} packets", seen.dropped);
            if seen.markers.contains(&number) {
                return Ok(());
            }
            drop(seen);
            ensure!(begun.elapsed() < PATIENCE, "marker {number} was not seen");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sender and the receiver of markers. The receiver is a socket, so that the kernel sends no ICMP error.
struct Markers {
    sender: UdpSocket,
    _receiver: UdpSocket,
    to: SocketAddr,
}

impl Markers {
    fn bind(namespace: &Namespace, across: &Namespace) -> Result<Self> {
        let receiver = namespace.enter(|| UdpSocket::bind((site::EDGE.0, 0)))??;
        let sender = across.enter(|| UdpSocket::bind((site::OUTSIDE.0, 0)))??;
        let to = receiver.local_addr()?;
        Ok(Self { sender, _receiver: receiver, to })
    }

    fn send(&self) -> Result<u64> {
        /// Distinguishes the markers of all captures of this process.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.sender.send_to(&[&MARKER[..], &number.to_be_bytes()].concat(), self.to)?;
        Ok(number)
    }
}

struct Reader {
    socket: Socket,
    seen: Arc<Mutex<Seen>>,
}

impl Reader {
    fn read(&self, wanted: impl Fn() -> bool) {
        let mut buffer = [0; 256];
        while wanted() {
            let read = self.next(&mut buffer);
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            match read {
                Ok((length, dropped)) => {
                    seen.dropped = seen.dropped.max(dropped);
                    match packet::parse(buffer.get(..length).unwrap_or_default()) {
                        Parsed::Packet(packet) => seen.packets.push(packet),
                        Parsed::Marker(number) => drop(seen.markers.insert(number)),
                        Parsed::Neighbours => {}
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    _ => {
                        seen.failure = Some(error);
                        return;
                    }
                },
            }
        }
    }

    /// The length of the next packet, and the number of packets that the kernel has dropped so far.
    fn next(&self, buffer: &mut [u8]) -> std::io::Result<(usize, u32)> {
        let mut control = nix::cmsg_space!(u32);
        let (socket, flags) = (self.socket.as_raw_fd(), MsgFlags::empty());
        let mut parts = [IoSliceMut::new(buffer)];
        let message = recvmsg::<()>(socket, &mut parts, Some(&mut control), flags)?;
        let dropped = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::RxqOvfl(dropped) => Some(dropped),
            _ => None,
        });
        Ok((message.bytes, dropped.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests;
