//! Guardrails that are built in: no owner overrides them, and no operator has to remember them.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Where virtual IPv4 addresses come from: the benchmarking range, which no real service has
/// (RFC 2544; RFC 5735, section 4).
pub const VIRTUAL_V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 0), 15);
/// Where virtual IPv6 addresses come from: a unique local prefix (RFC 4193).
pub const VIRTUAL_V6: Ipv6Net =
    Ipv6Net::new_assert(Ipv6Addr::new(0xfd53, 0x6700, 0, 0, 0, 0, 0, 0), 64);

/// The ranges that no sandbox reaches by address.
pub const FIXED: [IpNet; 17] = [
    // "This host on this network" (RFC 1122, section 3.2.1.3); Linux connects `0.0.0.0` to itself.
    v4(0, 0, 0, 0, 8),
    // Loopback (RFC 1122, section 3.2.1.3).
    v4(127, 0, 0, 0, 8),
    // Link-local (RFC 3927): the metadata services of most clouds.
    v4(169, 254, 0, 0, 16),
    // Multicast (RFC 5771) and limited broadcast (RFC 919, section 7).
    v4(224, 0, 0, 0, 4),
    v4(255, 255, 255, 255, 32),
    // Metadata services elsewhere: Azure's, Alibaba's, Oracle's older one.
    v4(168, 63, 129, 16, 32),
    v4(100, 100, 100, 200, 32),
    v4(192, 0, 0, 192, 32),
    // Virtual addresses: as addresses they mean nothing.
    IpNet::V4(VIRTUAL_V4),
    IpNet::V6(VIRTUAL_V6),
    // Unspecified, loopback, and the deprecated IPv4-compatible addresses (RFC 4291, section 2.5).
    v6([0, 0, 0, 0, 0, 0, 0, 0], 96),
    // Locally chosen NAT64 prefixes (RFC 8215): what IPv4 address is inside can't be known.
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
    // Link-local, and site-local that it grew out of (RFC 4291, section 2.5.6; RFC 3879).
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
