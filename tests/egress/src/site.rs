//! The addresses, names and services of the rig's internet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The sandbox's own addresses.
pub const SANDBOX: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 2, 2), Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 2));
/// The gateway's addresses on the sandbox's side.
pub const GATEWAY: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 2, 1), Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 1));
/// The gateway's addresses on the internet's side.
pub const OUTSIDE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 51, 100, 2), Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 2));
/// The internet's address on that link. Also an edge, if a test configures it.
pub const EDGE: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 51, 100, 1), Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 1));

/// `ok.test`, `a.ok.test` and `deep.a.ok.test`.
pub const OK: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
/// `ok.test` as IPv6.
pub const OK6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0x10));
/// `other.test`.
pub const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 20));
/// `other.test` as IPv6.
pub const OTHER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0x20));
/// `example.com` and `www.example.com`.
pub const EXAMPLE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66));
/// `example.com` as IPv6.
pub const EXAMPLE6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0x66));
/// `private.test`: a private address, the target of DNS rebinding.
pub const PRIVATE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
/// `meta.test`: the metadata service of most clouds.
pub const METADATA: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254));
/// The resolver that the gateway is configured with.
pub const RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 53));
/// The IPv6 address of the resolver.
pub const RESOLVER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x53, 0, 0, 0, 0, 0x53));
/// A public resolver that the contract's example allows.
pub const PUBLIC_RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(8, 8, 8, 8));

/// All addresses that the internet namespace answers on.
pub const ALL: [IpAddr; 11] = [
    OK,
    OK6,
    OTHER,
    OTHER6,
    EXAMPLE,
    EXAMPLE6,
    PRIVATE,
    METADATA,
    RESOLVER,
    RESOLVER6,
    PUBLIC_RESOLVER,
];

/// A server that sends first and then echoes, like SSH or SMTP.
pub const BANNER_PORT: u16 = 22;
/// The bytes that it sends first.
pub const BANNER: &str = "SSH-2.0-rig\r\n";
/// A server that echoes bytes until the client closes its half of the connection.
pub const ECHO_PORT: u16 = 7;
/// Plain HTTP/1.1. The response contains the address and `Host` of the request.
pub const HTTP_PORT: u16 = 80;
/// HTTP over TLS. The response also contains the SNI.
pub const HTTPS_PORT: u16 = 443;
/// A UDP echo server.
pub const UDP_PORT: u16 = 5000;
/// A UDP echo server on the port of QUIC.
pub const QUIC_PORT: u16 = 443;
