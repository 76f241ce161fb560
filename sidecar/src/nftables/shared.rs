//! The fixed chains of shared mode: sandbox and agent are in one network namespace, told apart by user.
//!
//! Weaker than gateway mode, because what redirects is within reach: whoever may change this namespace
//! (`CAP_NET_ADMIN`), or becomes Envoy's or the agent's user, gets round it.

use super::layout::{DNS_MARK, Layout, Ports};
use super::render::{from_envoy, to_dns_proxy, to_from_envoy};

/// The chains, indented as members of the table.
pub(super) fn chains(layout: &Layout) -> String {
    let from_envoy = from_envoy(&layout.ports);
    let to_from_envoy = to_from_envoy(layout.envoy_uid);
    let dns = to_dns_proxy(&layout.ports);
    let Ports { admin, probe, reset, resolver, .. } = &layout.ports;
    let (envoy, agent) = (layout.envoy_uid, layout.agent_uid);
    format!(
        r#"  # DNS, whatever resolver it is for: marked, so that it is routed to this machine, and taken there.
  chain mark_dns {{
    type route hook output priority mangle; policy accept;
    meta skuid {{ {envoy}, {agent} }} accept
    ct direction reply accept
    meta nfproto != @alive goto unready
    meta l4proto {{ tcp, udp }} th dport 53 meta mark set {DNS_MARK}
  }}
  chain arrival {{
    type filter hook prerouting priority mangle; policy accept;
    iifname "lo" meta mark {DNS_MARK} meta l4proto {{ tcp, udp }} {dns}
  }}
  # All other TCP that leaves goes to Envoy, whose filter decides.
  chain to_envoy {{
    type nat hook output priority -100; policy accept;
    meta skuid {{ {envoy}, {agent} }} accept
    oifname "lo" accept
    meta l4proto tcp jump inspect
  }}
  chain from_here {{
    type filter hook output priority filter; policy accept;
{to_from_envoy}    meta skuid {agent} accept
    ct direction reply accept
    meta mark {DNS_MARK} accept
    # The kernel speaks to neighbours of itself, and no program beyond them.
    meta skuid 0-4294967295 ip6 daddr != {{ fe80::/10, ff02::/16 }} icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} goto refuse_protocol
    meta l4proto icmpv6 icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} accept
    meta nfproto != @alive goto unready
    meta l4proto tcp ct status dnat accept
    # What Envoy and the agent have for themselves.
    oifname "lo" meta l4proto {{ tcp, udp }} th dport {{ {admin}, {probe}, {reset}, {resolver} }} goto refuse_protocol
    oifname "lo" accept
    meta l4proto != {{ udp, icmp, icmpv6 }} goto refuse_protocol
    jump outward
    meta l4proto udp jump quic
    ct state new jump next_hop
    accept
  }}
  # Marked, and yet on its way out: a socket that is bound to an interface is not routed to this machine.
  chain leaving {{
    type filter hook postrouting priority mangle; policy accept;
    oifname != "lo" meta mark {DNS_MARK} goto drop_protocol
  }}
{from_envoy}  chain here {{
    type filter hook input priority filter; policy accept;
    iifname "lo" accept
    meta l4proto icmpv6 icmpv6 type {{ nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
    meta l4proto {{ icmp, icmpv6 }} ct state related accept
    ct direction reply ct state established accept
    meta l4proto tcp ip saddr @edges4 accept
    meta l4proto tcp ip6 saddr @edges6 accept
    goto refuse_inbound
  }}
"#
    )
}
