//! The fixed chains of gateway mode: the sandbox is behind an interface, and everything passes here.

use sandgate_policy::egress::guardrail::{VIRTUAL_V4, VIRTUAL_V6};

use super::layout::{DNS_MARK, Interface, Layout, Ports};
use super::render::{from_envoy, to_dns_proxy, to_from_envoy};

/// The chains, indented as members of the table.
pub(super) fn chains(layout: &Layout, interface: &Interface) -> String {
    let ports = &layout.ports;
    let from_envoy = from_envoy(ports);
    let to_from_envoy = to_from_envoy(layout.envoy_uid);
    let dns = to_dns_proxy(ports);
    let Ports { admin, plain, inspected, probe, reset, refused, dns: dns_port, resolver } = ports;
    let masquerade = if layout.masquerade {
        format!("    iifname \"{interface}\" masquerade\n")
    } else {
        String::new()
    };
    format!(
        r#"  # First of all: who is it, is the agent there, and what is DNS. After defragmentation (conntrack).
  chain arrival {{
    type filter hook prerouting priority mangle; policy accept;
    iifname != "{interface}" accept
    # Who has no address yet asks whether it is another's.
    ip6 saddr :: icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit }} ip6 hoplimit 255 accept
    # Another's source address: an answer to it would not come back here.
    fib saddr . iif oif missing goto drop_protocol
    jump sender
    meta l4proto icmpv6 icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
    # What edges began is none of the policy's business.
    meta l4proto tcp ct direction reply ip daddr @edges4 accept
    meta l4proto tcp ct direction reply ip6 daddr @edges6 accept
    meta nfproto != @alive goto unready
    # Whatever resolver it is for: the DNS proxy answers in its name.
    meta l4proto {{ tcp, udp }} th dport 53 {dns}
    # Envoy accepts before it dials, and who was accepted tries no other address: where there is no route, it is
    # refused here. What stands for a name needs none. A reset, since ICMP is not heard during connect(); link-local
    # addresses the kernel has no reset for, but Envoy has.
    ip daddr != {VIRTUAL_V4} meta l4proto tcp ct state new fib daddr oif missing goto no_way
    ip6 daddr != {{ {VIRTUAL_V6}, fe80::/10 }} meta l4proto tcp ct state new fib daddr oif missing goto no_way
  }}
  chain no_way {{
    # What is denied stays denied by its rule, so that nobody learns which ways there are.
    jump outward
    goto refuse_no_route
  }}
  # All other TCP goes to Envoy, whose filter decides.
  chain to_envoy {{
    type nat hook prerouting priority dstnat; policy accept;
    iifname "{interface}" meta l4proto tcp meta mark != {DNS_MARK} jump inspect
  }}
  # What is for this namespace itself.
  chain here {{
    type filter hook input priority filter; policy accept;
    iifname "lo" accept
    iifname "{interface}" goto here_from_sandbox
    # Nobody on the other side is a sandbox.
    meta l4proto {{ tcp, udp }} th dport {{ {admin}, {plain}, {inspected}, {probe}, {reset}, {refused}, {dns_port}, {resolver} }} goto refuse_inbound
  }}
  chain here_from_sandbox {{
    meta l4proto icmpv6 icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
    meta mark {DNS_MARK} accept
    # Redirected to Envoy, and to nothing else: the redirect takes all.
    ct status dnat meta l4proto tcp accept
    # A redirect of what went there anyway is none. Envoy resets it, as for any address of this namespace; the
    # kernel can't, for such an address.
    ip6 daddr fe80::/10 tcp dport {{ {plain}, {inspected}, {refused} }} accept
    # Answers to what was begun here.
    ct direction reply ct state established,related accept
    goto refuse_protocol
  }}
  # What passes through: UDP and ICMP, each packet judged, so that nothing lives longer than its rule.
  chain through {{
    type filter hook forward priority filter; policy drop;
    iifname "{interface}" goto through_outward
    oifname "{interface}" goto through_inward
  }}
  chain through_outward {{
    meta l4proto tcp ct direction reply ip daddr @edges4 accept
    meta l4proto tcp ct direction reply ip6 daddr @edges6 accept
    # Cut short, or about no connection: the rules below could not judge all of it.
    ct state invalid goto drop_protocol
    # What routers and neighbours tell each other ends at this one.
    meta l4proto icmpv6 icmpv6 type {{ nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert, nd-redirect }} goto drop_protocol
    meta l4proto icmp icmp type redirect goto drop_protocol
    meta nfproto != @alive goto unready
    meta l4proto != {{ udp, icmp, icmpv6 }} goto refuse_protocol
    # The DNS proxy was not there to take it.
    udp dport 53 goto refuse_unready
    jump outward
    meta l4proto udp jump quic
    ct state new jump next_hop
    # Said once more, and last: what has no protocol that can be read matches neither rule, and is dropped.
    meta l4proto {{ udp, icmp, icmpv6 }} accept
  }}
  chain through_inward {{
    meta l4proto tcp ip saddr @edges4 accept
    meta l4proto tcp ip6 saddr @edges6 accept
    meta nfproto != @alive goto unready
    jump receiver
    # Only answers. An error on the way comes from anyone on it, and tells nothing but that.
    meta l4proto {{ icmp, icmpv6 }} ct state related accept
    meta l4proto != {{ udp, icmp, icmpv6 }} goto refuse_inbound
    ct state != established goto refuse_inbound
    jump inward
    accept
  }}
  chain leaving {{
    type nat hook postrouting priority srcnat; policy accept;
{masquerade}  }}
  # What Envoy sends: answers, questions to its resolver, and dials, which are judged once more.
  chain from_here {{
    type filter hook output priority filter; policy accept;
    oifname "{interface}" meta l4proto {{ tcp, udp }} jump receiver
{to_from_envoy}  }}
{from_envoy}"#
    )
}
