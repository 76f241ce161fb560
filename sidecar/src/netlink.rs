//! A netlink socket to netfilter. The agent uses it instead of running a program: it renews the
//! `alive` set ([`crate::nftables::alive`]), reads counters ([`crate::nftables::counters`]), and
//! receives refused packets ([`crate::nftables::nflog`]).
//!
//! The message format is the kernel's ABI (`linux/netfilter/nfnetlink*.h`, `nf_tables.h`).
//! Responses are parsed strictly: a truncated or unknown response is an error, never a success.

pub(crate) mod message;

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, send, socket,
};

/// The buffer size for one datagram, in bytes. The kernel's datagrams are not longer if the reader
/// provides this size (netlink(7), `NLMSG_GOODSIZE`, and 32 KiB for dumps).
pub(crate) const DATAGRAM: usize = 32 * 1024;

/// A non-blocking netlink socket to netfilter in the kernel of this network namespace.
#[derive(Debug)]
pub(crate) struct Socket(OwnedFd);

impl Socket {
    /// Opens a socket.
    ///
    /// # Errors
    ///
    /// If the kernel has no netfilter, or the process has no file descriptor left.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let netfilter = SockProtocol::NetlinkNetFilter;
        Ok(Self(socket(AddressFamily::Netlink, SockType::Raw, flags, netfilter)?))
    }

    /// Sends a request. When this returns, the kernel has processed the request, and its responses
    /// can be received.
    ///
    /// # Errors
    ///
    /// If the kernel does not take the whole request.
    pub(crate) fn send(&self, request: &[u8]) -> io::Result<()> {
        let sent = send(self.0.as_raw_fd(), request, MsgFlags::empty())?;
        if sent == request.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// Receives the next datagram from the kernel, or `None` if no datagram is queued. Ignores
    /// datagrams from other senders.
    ///
    /// # Errors
    ///
    /// `ENOBUFS` if datagrams were lost. The next datagram can still be received.
    pub(crate) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<&'a [u8]>> {
        loop {
            match recvfrom::<NetlinkAddr>(self.0.as_raw_fd(), buffer) {
                // Port 0 is the kernel.
                Ok((length, Some(from))) if from.pid() == 0 => {
                    return Ok(buffer.get(..length));
                }
                Ok(_) | Err(nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
