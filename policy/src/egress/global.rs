//! The globally routable unicast addresses ("the internet"), by IANA's special-purpose registries.
//!
//! The registries are those of RFC 6890, as updated by RFC 8190 ("Globally Reachable"). A range
//! that the registries list as "N/A" is not globally routable here. The longest prefix that
//! contains an address decides.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Each range, and whether it is globally routable.
pub const TABLE: [(IpNet, bool); 45] = [
    // IPv4: addresses that are not listed below are globally routable.
    (v4(0, 0, 0, 0, 0), true),
    // This network (RFC 791, section 3.2).
    (v4(0, 0, 0, 0, 8), false),
    // Private use (RFC 1918).
    (v4(10, 0, 0, 0, 8), false),
    (v4(172, 16, 0, 0, 12), false),
    (v4(192, 168, 0, 0, 16), false),
    // Shared address space of carrier-grade NAT (RFC 6598).
    (v4(100, 64, 0, 0, 10), false),
    // Loopback (RFC 1122), link-local (RFC 3927).
    (v4(127, 0, 0, 0, 8), false),
    (v4(169, 254, 0, 0, 16), false),
    // IETF protocol assignments (RFC 6890), except two anycast addresses (RFC 7723, RFC 8155).
    (v4(192, 0, 0, 0, 24), false),
    (v4(192, 0, 0, 9, 32), true),
    (v4(192, 0, 0, 10, 32), true),
    // Documentation (RFC 5737).
    (v4(192, 0, 2, 0, 24), false),
    (v4(198, 51, 100, 0, 24), false),
    (v4(203, 0, 113, 0, 24), false),
    // Deprecated 6to4 relay anycast (RFC 7526).
    (v4(192, 88, 99, 0, 24), false),
    // Benchmarking (RFC 2544).
    (v4(198, 18, 0, 0, 15), false),
    // Multicast (RFC 5771), reserved (RFC 1112, section 4), limited broadcast (RFC 919).
    (v4(224, 0, 0, 0, 4), false),
    (v4(240, 0, 0, 0, 4), false),
    (v4(255, 255, 255, 255, 32), false),
    // IPv6: addresses that are not listed below are not globally routable. IANA has allocated
    // `2000::/3` for global unicast (RFC 4291, section 2.4).
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 0), false),
    (v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3), true),
    // Unspecified and loopback (RFC 4291).
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), false),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), false),
    // NAT64 with a local prefix (RFC 8215).
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), false),
    // Discard-only (RFC 6666), dummy prefix (RFC 9780).
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), false),
    (v6([0x100, 0, 0, 1, 0, 0, 0, 0], 64), false),
    // IETF protocol assignments (RFC 2928), including Teredo (RFC 4380) and benchmarking (RFC
    // 5180), except: anycast addresses of PCP, TURN and DNS-SD (RFC 7723, RFC 8155, RFC 9665), AMT
    // (RFC 7450), AS112 (RFC 7535), ORCHIDv2 (RFC 7343), remote identification of drones (RFC
    // 9374).
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), false),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), false),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), false),
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 1], 128), true),
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 2], 128), true),
    (v6([0x2001, 1, 0, 0, 0, 0, 0, 3], 128), true),
    (v6([0x2001, 3, 0, 0, 0, 0, 0, 0], 32), true),
    (v6([0x2001, 4, 0x112, 0, 0, 0, 0, 0], 48), true),
    (v6([0x2001, 0x20, 0, 0, 0, 0, 0, 0], 28), true),
    (v6([0x2001, 0x30, 0, 0, 0, 0, 0, 0], 28), true),
    // Deprecated ORCHID (RFC 4843).
    (v6([0x2001, 0x10, 0, 0, 0, 0, 0, 0], 28), false),
    // Documentation (RFC 3849, RFC 9637).
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), false),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), false),
    // Segment routing (RFC 9602).
    (v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16), false),
    // Unique local (RFC 4193), link-local and site-local (RFC 4291, RFC 3879), multicast (RFC 4291).
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), false),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), false),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), false),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), false),
    // The former 6bone range (RFC 3701).
    (v6([0x3ffe, 0, 0, 0, 0, 0, 0, 0], 16), false),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length))
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length))
}
