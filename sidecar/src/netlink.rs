//! Netlink, as far as the agent speaks it to netfilter without a program in between: it holds the way
//! open ([`crate::nftables::alive`]), reads counters ([`crate::nftables::counters`]), and hears of what
//! was refused ([`crate::nftables::nflog`]).
//!
//! The form of its messages is the kernel's ABI (`linux/netfilter/nfnetlink*.h`, `nf_tables.h`). What comes back is parsed strictly: an answer that is cut short or not understood is
//! an error, and never a success.

pub mod message;

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, send, socket,
};

/// Room for one datagram: the kernel's are at most this long where the reader has room (netlink(7),
/// `NLMSG_GOODSIZE`, and 32 KiB for dumps).
pub const DATAGRAM: usize = 32 * 1024;

/// A connection to netfilter in the kernel of this network namespace. It never blocks.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl Socket {
    /// Opens one.
    ///
    /// # Errors
    ///
    /// Where the kernel has no netfilter, or no descriptor is left.
    pub fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let netfilter = SockProtocol::NetlinkNetFilter;
        Ok(Self(socket(AddressFamily::Netlink, SockType::Raw, flags, netfilter)?))
    }

    /// Sends a request. The kernel has done what it asks for when this returns, and its answers wait.
    ///
    /// # Errors
    ///
    /// Where it is not taken whole.
    pub fn send(&self, request: &[u8]) -> io::Result<()> {
        let sent = send(self.0.as_raw_fd(), request, MsgFlags::empty())?;
        if sent == request.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// The next datagram of the kernel's, none where nothing waits. What others send is passed over.
    ///
    /// # Errors
    ///
    /// `ENOBUFS`: some were lost, and the next one can be read.
    pub fn receive<'a>(&self, room: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        loop {
            match recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), room) {
                // Port 0 is the kernel.
                Ok((length, Some(from))) if from.pid() == 0 => {
                    return Ok(room.get(..length));
                }
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
