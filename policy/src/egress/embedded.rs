//! IPv6 addresses that embed an IPv4 address. The policy evaluates the embedded IPv4 address.
//!
//! A sandbox that may not reach `169.254.169.254` must not reach it as `64:ff9b::a9fe:a9fe` either.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A prefix whose IPv6 addresses embed an IPv4 address directly after the prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Embedding {
    prefix: Ipv6Addr,
    length: u8,
}

/// IPv4-mapped (RFC 4291, section 2.5.5.2), the well-known prefix of NAT64 (RFC 6052, section 2.1),
/// and 6to4 (RFC 3056, section 2).
///
/// Other prefixes are not in this list, because their embedded address is not known:
/// `64:ff9b:1::/48` (RFC 8215: each network chooses the position) and `::/96` (RFC 4291:
/// deprecated) are guardrails; Teredo (`2001::/32`, RFC 4380) is not globally routable.
pub(super) const EMBEDDINGS: [Embedding; 3] = [
    Embedding { prefix: Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), length: 96 },
    Embedding { prefix: Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), length: 96 },
    Embedding { prefix: Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), length: 16 },
];

impl Embedding {
    pub(super) fn range(self) -> IpNet {
        Ipv6Net::new(self.prefix, self.length).unwrap_or_default().into()
    }

    /// The IPv6 addresses that embed an address of the IPv4 range.
    pub(super) fn project(self, range: Ipv4Net) -> IpNet {
        let shift = u32::from(128 - self.length - 32);
        let bits = self.prefix.to_bits() | (u128::from(range.network().to_bits()) << shift);
        let length = self.length + range.prefix_len();
        Ipv6Net::new(bits.into(), length).unwrap_or_default().into()
    }

    /// The embedded IPv4 address, if the address has this prefix.
    fn extract(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let shift = u32::from(128 - self.length - 32);
        let embedded = u32::try_from((address.to_bits() >> shift) & u128::from(u32::MAX)).ok()?;
        self.range().contains(&IpAddr::V6(address)).then(|| embedded.into())
    }
}

/// The embedding that the address belongs to, if any.
pub(super) fn embedding(address: IpAddr) -> Option<Embedding> {
    EMBEDDINGS.into_iter().find(|embedding| embedding.range().contains(&address))
}

/// The embedded IPv4 address, or the address itself if it embeds none.
#[must_use]
pub fn embedded_or_self(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let embedded = EMBEDDINGS.into_iter().find_map(|embedding| embedding.extract(v6));
            embedded.map_or(address, IpAddr::V4)
        }
    }
}

/// Converts an IPv4-mapped range to the IPv4 range. Returns any other range unchanged.
pub(super) fn unmapped(range: IpNet) -> IpNet {
    let [mapped, ..] = EMBEDDINGS;
    match (embedded_or_self(range.network()), range.prefix_len().checked_sub(mapped.length)) {
        (IpAddr::V4(embedded), Some(length)) if mapped.range().contains(&range) => {
            Ipv4Net::new(embedded, length).map_or(range, IpNet::V4)
        }
        _ => range,
    }
}
