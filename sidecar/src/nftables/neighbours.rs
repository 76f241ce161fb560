//! Limits on the neighbour entries that a sandbox can make the kernel create.
//!
//! Linux has one neighbour table for IPv4 and one for IPv6, which all network namespaces of a
//! machine share. Each has 1,024 entries by default (`gc_thresh3`; arp(7)). A sandbox that fills a
//! table blocks IPv4 or IPv6 for all programs of the machine that need a new entry. The kernel
//! creates an entry for
//! - an ARP request or neighbour solicitation that arrives: the entry is for its sender address,
//!   which may be forged;
//! - a packet that leaves: the entry is for the next hop. For a response, this is the sender of the
//!   request. For other packets, the sandbox chooses the destination, which may be on a link of the
//!   gateway.
//!
//! Therefore the rules limit the number of simultaneous senders behind the sandbox's interface, of
//! receivers (remote hosts can keep alive connections that many senders opened one after the
//! other), and of next hops of the sandbox's packets. Sets of limited size count them: if a set is
//! full, the `update` statement does not match, and the next rule refuses the packet.

use super::layout::Interface;
use super::template::fill;

/// The maximum number of addresses per family that a sandbox uses at a time. Most sandboxes need
/// one. IPv6 hosts have several (RFC 8981), and containers inside a sandbox have their own.
pub(crate) const SENDERS: u32 = 32;
/// The maximum number of next hops per family of a sandbox's packets at a time: a router, and hosts
/// on the gateway's links.
pub(crate) const NEXT_HOPS: u32 = 128;
/// The timeout of an element. The kernel keeps an unused entry for the same time (`gc_stale_time`).
const TIMEOUT: &str = "60s";

/// Renders the sets, and the chains that evaluated packets jump to, indented as members of the
/// table.
pub(super) fn chains() -> String {
    fill(
        include_str!("rules/neighbours.nft"),
        &[("max_senders", &SENDERS), ("max_next_hops", &NEXT_HOPS), ("timeout", &TIMEOUT)],
    )
}

/// Renders the limit for ARP, which needs a separate table because the chains of an `inet` table
/// don't see ARP packets.
pub(super) fn arp(interface: &Interface) -> String {
    fill(
        include_str!("rules/arp.nft"),
        &[("interface", interface), ("max_senders", &SENDERS), ("timeout", &TIMEOUT)],
    )
}
