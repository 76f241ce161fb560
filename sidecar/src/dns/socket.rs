//! Creates the proxy's sockets. A transparent socket receives datagrams and connections to other addresses (through the
//! `tproxy` statement of nftables), and responds from those addresses.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::if_indextoname;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg, setsockopt,
    sockopt,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};

/// The loopback interface, whose name is fixed in Linux.
const LOOPBACK: &str = "lo";
const BACKLOG: i32 = 128;

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    pub(super) length: usize,
    pub(super) client: SocketAddr,
    /// `None` on a socket that is not transparent.
    pub(super) arrival: Option<Arrival>,
}

/// How a datagram arrived at a transparent socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    /// The original destination.
    pub(super) destination: SocketAddr,
    /// The index of the network interface on which it arrived.
    pub(super) interface: u32,
}

/// Creates a UDP socket.
pub(super) fn udp(address: SocketAddr, transparent: bool) -> io::Result<UdpSocket> {
    let socket = socket(address, Type::DGRAM, Protocol::UDP, transparent)?;
    if transparent {
        match address {
            SocketAddr::V4(_) => {
                setsockopt(&socket, sockopt::Ipv4OrigDstAddr, &true)?;
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            }
            SocketAddr::V6(_) => {
                setsockopt(&socket, sockopt::Ipv6OrigDstAddr, &true)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
        }
    }
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Creates a TCP listener. If it is transparent, the local address of a connection is its original destination.
pub(super) fn tcp(address: SocketAddr, transparent: bool) -> io::Result<TcpListener> {
    let socket = socket(address, Type::STREAM, Protocol::TCP, transparent)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn socket(
    address: SocketAddr,
    kind: Type,
    protocol: Protocol,
    transparent: bool,
) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    match address {
        SocketAddr::V4(_) if transparent => socket.set_ip_transparent_v4(true)?,
        SocketAddr::V4(_) => {}
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            if transparent {
                socket.set_ip_transparent_v6(true)?;
            }
        }
    }
    Ok(socket)
}

/// Receives a datagram.
pub(super) async fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    socket.async_io(Interest::READABLE, || receive_now(socket, buffer)).await
}

fn receive_now(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(nix::libc::sockaddr_in6, nix::libc::in6_pktinfo);
    let flags = MsgFlags::empty();
    let message =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let client = message.address.as_ref().and_then(plain).ok_or(io::ErrorKind::InvalidData)?;
    let (mut destination, mut interface) = (None, None);
    for control in message.cmsgs()? {
        match control {
            ControlMessageOwned::Ipv4OrigDstAddr(address) => {
                destination = Some(SocketAddrV4::from(SockaddrIn::from(address)).into());
            }
            ControlMessageOwned::Ipv6OrigDstAddr(address) => {
                destination = Some(SocketAddrV6::from(SockaddrIn6::from(address)).into());
            }
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                interface = u32::try_from(info.ipi_ifindex).ok();
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => interface = Some(info.ipi6_ifindex),
            _ => {}
        }
    }
    let arrival = destination.zip(interface);
    let arrival = arrival.map(|(destination, interface)| Arrival { destination, interface });
    Ok(Received { length: message.bytes, client, arrival })
}

fn plain(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| SocketAddrV4::from(*v4).into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| SocketAddrV6::from(*v6).into()))
}

/// Sends a response from the original destination, which may be an address of another machine. The response leaves only by
/// the interface on which the query arrived (for IPv6 on loopback: the interface with the client's address), because a
/// sandbox can forge the source address of a query, and responses must not leave to other networks.
pub(super) fn send_back(arrival: Arrival, client: SocketAddr, datagram: &[u8]) -> io::Result<()> {
    let socket = socket(arrival.destination, Type::DGRAM, Protocol::UDP, true)?;
    let arrived_on = if_indextoname(arrival.interface)?.into_string().map_err(io::Error::other)?;
    let leaves_on = match client.ip() {
        // Linux routes to a local IPv6 address through the interface that has the address, also if the query arrived on
        // loopback.
        IpAddr::V6(client) if arrived_on == LOOPBACK => interface_of(client)?,
        _ => arrived_on,
    };
    socket.bind_device(Some(leaves_on.as_bytes()))?;
    // Several responses may use the same source address at the same time.
    socket.set_reuse_address(true)?;
    socket.bind(&arrival.destination.into())?;
    socket.send_to(datagram, &client.into()).map(|_| ())
}

/// The interface that has the address. Fails if no interface has it.
fn interface_of(address: Ipv6Addr) -> io::Result<String> {
    let has_it = |of: &InterfaceAddress| {
        let of = of.address.as_ref().and_then(|of| of.as_sockaddr_in6());
        of.is_some_and(|of| of.ip() == address)
    };
    let found = getifaddrs()?.find(has_it).ok_or(io::ErrorKind::AddrNotAvailable)?;
    Ok(found.interface_name)
}
