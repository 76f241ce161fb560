//! The built-in guardrails. No owner can override them, and no operator has to configure them.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The range of virtual IPv4 addresses: the benchmarking range, in which no real service has an
/// address (RFC 2544; RFC 5735, section 4).
pub const VIRTUAL_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);
/// The range of virtual IPv6 addresses: a unique local prefix (RFC 4193).
pub const VIRTUAL_V6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd53, 0x6700, 0, 0, 0, 0, 0, 0), 64);

/// The ranges that no sandbox can reach by address.
pub const FIXED: [IpNet; 17] = [
    // "This host on this network" (RFC 1122, section 3.2.1.3); Linux connects `0.0.0.0` to itself.
    v4(0, 0, 0, 0, 8),
    // Loopback (RFC 1122, section 3.2.1.3).
    v4(127, 0, 0, 0, 8),
    // Link-local (RFC 3927): contains the metadata services of most clouds.
    v4(169, 254, 0, 0, 16),
    // Multicast (RFC 5771) and limited broadcast (RFC 919, section 7).
    v4(224, 0, 0, 0, 4),
    v4(255, 255, 255, 255, 32),
    // Other metadata services: Azure's, Alibaba's, and the former one of Oracle.
    v4(168, 63, 129, 16, 32),
    v4(100, 100, 100, 200, 32),
    v4(192, 0, 0, 192, 32),
    // Virtual addresses. Only the DNS proxy's table gives them a meaning; they are never real
    // destinations.
    IpNet::V4(VIRTUAL_V4),
    IpNet::V6(VIRTUAL_V6),
    // Unspecified, loopback, and the deprecated IPv4-compatible addresses (RFC 4291, section 2.5).
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
    // Locally chosen NAT64 prefixes (RFC 8215): the position of the embedded IPv4 address is not
    // known.
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
    // Link-local, and its deprecated relative site-local (RFC 4291, section 2.5.6; RFC 3879).
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
    // Multicast (RFC 4291, section 2.7).
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),
    // Metadata services over IPv6: Amazon's and Google's.
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128),
    v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length))
}
