//! Bounds on the neighbours that a sandbox can make the kernel remember.
//!
//! Linux has one neighbour table for IPv4 and one for IPv6, for all network namespaces of the machine, of 1,024
//! entries each unless told otherwise (`gc_thresh3`; arp(7)). Whoever fills them takes IPv4 or IPv6 from everyone
//! on the machine whose neighbours are not known yet. An entry comes into being by
//! - an ARP request or neighbour solicitation that arrives: for its sender, whoever that claims to be;
//! - a packet that leaves: for its next hop. An answer goes to the sender, anything else to where the sandbox
//!   chose, which may be on a link of the gateway.
//!
//! So there are few senders at a time behind the sandbox's interface, few receivers, since what was begun by many
//! senders one after the other can be kept alive from outside, and few next hops for what a sandbox sends.
//! Sets of bounded size count them: an element that finds no place breaks its rule, and the next one refuses.

use super::layout::Interface;

/// How many addresses of each family a sandbox has at a time. One would do for most; IPv6 hosts have a
/// handful (RFC 8981), containers inside of one have their own behind it.
pub const SENDERS: u32 = 32;
/// How many next hops of each family a sandbox's traffic has at a time: a router, and hosts on links of the
/// gateway.
pub const NEXT_HOPS: u32 = 128;
/// How long each of them counts: as long as the kernel keeps an entry that nobody uses (`gc_stale_time`).
const COUNTS: &str = "60s";

/// The sets, and the chains that what is judged jumps to; indented as members of the table.
pub(super) fn chains() -> String {
    let set = |name: &str, of: &str, size: u32| {
        format!(
            "  set {name} {{ typeof {of}; size {size}; flags dynamic,timeout; timeout {COUNTS}; }}\n"
        )
    };
    let sets = [
        set("senders4", "ip saddr", SENDERS),
        set("senders6", "ip6 saddr", SENDERS),
        set("receivers4", "ip daddr", SENDERS),
        set("receivers6", "ip6 daddr", SENDERS),
        set("next_hops4", "rt ip nexthop", NEXT_HOPS),
        set("next_hops6", "rt ip6 nexthop", NEXT_HOPS),
    ]
    .concat();
    format!(
        r"{sets}  # The kernel's tables of neighbours are the machine's: no sandbox may fill them.
  chain sender {{
    meta nfproto ipv4 update @senders4 {{ ip saddr }} return
    meta nfproto ipv6 update @senders6 {{ ip6 saddr }} return
    goto drop_neighbour
  }}
  chain receiver {{
    meta nfproto ipv4 update @receivers4 {{ ip daddr }} return
    meta nfproto ipv6 update @receivers6 {{ ip6 daddr }} return
    goto drop_neighbour
  }}
  chain next_hop {{
    # Where there is no Ethernet, there are no neighbours to look for.
    meta oiftype != ether return
    meta nfproto ipv4 update @next_hops4 {{ rt ip nexthop }} return
    meta nfproto ipv6 update @next_hops6 {{ rt ip6 nexthop }} return
    goto refuse_neighbour
  }}
"
    )
}

/// The same for ARP, which no chain of the other table sees: a table of its own.
pub(super) fn arp(interface: &Interface) -> String {
    format!(
        r#"table arp sandgate {{
  set senders {{ typeof arp saddr ip; size {SENDERS}; flags dynamic,timeout; timeout {COUNTS}; }}
  chain arrival {{
    type filter hook input priority filter; policy accept;
    iifname != "{interface}" accept
    update @senders {{ arp saddr ip }} accept
    counter drop
  }}
}}
"#
    )
}
