//! Renders the tables `inet sandgate` and `arp sandgate`.
//!
//! Everything that depends only on the layout is created once. This includes all chains with a hook: they are never
//! replaced, so no packet can pass in between. They jump to the chains that depend on the policy, and each generation
//! replaces those in one transaction.

use std::fmt::Write as _;

use ipnet::IpNet;
use sandgate_policy::egress::{Policy, Rule};

use super::first_match::PORTED;
use super::layout::{Layout, Mode, Ports};
use super::refuse_chains::{self, Cause, PacketLog};
use super::{alive, fixed, neighbours, policy_rules};

/// Renders the initial transaction, which replaces existing tables. The rules deny all traffic until a policy is
/// applied and the agent renews the set `alive`.
#[must_use]
pub fn setup(layout: &Layout, log: PacketLog) -> String {
    let mut text = removal();
    text.push_str("table inet sandgate {\n");
    text.push_str("  set alive { typeof meta nfproto; flags timeout; }\n");
    let _ = writeln!(text, "  set {PORTED} {{ type inet_proto; elements = {{ tcp, udp }} }}");
    text.push_str(&edge_set(
        "edges4",
        "ipv4_addr",
        layout.edges.iter().filter(|range| range.addr().is_ipv4()),
    ));
    text.push_str(&edge_set(
        "edges6",
        "ipv6_addr",
        layout.edges.iter().filter(|range| range.addr().is_ipv6()),
    ));
    for counter in counter_names() {
        let _ = writeln!(text, "  counter {counter} {{ }}");
    }
    text.push_str(&refuse_chains::chains(log));
    text.push_str(&neighbours::chains());
    text.push_str(&policy_rules::chains(&[], &layout.ports));
    text.push_str(&fixed::chains(layout));
    text.push_str("}\n");
    if let Mode::Gateway { interface } = &layout.mode {
        text.push_str(&neighbours::arp(interface));
    }
    text
}

/// Renders the transaction that applies a generation and renews the set `alive`. All policies must allow a packet.
/// Without a policy, the rules deny all traffic.
#[must_use]
pub fn generation(policies: &[&Policy], ports: &Ports) -> String {
    let mut text = String::new();
    for chain in policy_rules::chain_names() {
        let _ = writeln!(text, "flush chain inet sandgate {chain}");
    }
    text.push_str("table inet sandgate {\n");
    text.push_str(&policy_rules::chains(policies, ports));
    text.push_str("}\n");
    text.push_str(&alive::renew());
    text
}

/// Renders the transaction after which the rules deny all traffic.
#[must_use]
pub fn closed() -> String {
    "flush set inet sandgate alive\n".to_owned()
}

/// Renders the transaction that removes the tables.
#[must_use]
pub fn removal() -> String {
    ["inet", "arp"]
        .map(|family| format!("table {family} sandgate\ndelete table {family} sandgate\n"))
        .concat()
}

/// The names of the counters of refused packets: one for each [`Rule::kind`], and one for each other cause.
fn counter_names() -> impl Iterator<Item = String> {
    // Addresses of this namespace share the counter of the policy's guardrails.
    let causes = Cause::ALL.into_iter().filter(|cause| *cause != Cause::Own);
    let causes = causes.filter_map(Cause::counter).map(str::to_owned);
    Rule::KINDS.iter().map(|kind| format!("refused_{kind}")).chain(causes)
}

fn edge_set<'a>(name: &str, kind: &str, ranges: impl Iterator<Item = &'a IpNet>) -> String {
    let ranges: Vec<IpNet> = ranges.copied().collect();
    let ranges: Vec<String> = IpNet::aggregate(&ranges).iter().map(ToString::to_string).collect();
    let elements = match ranges.join(", ") {
        none if none.is_empty() => none,
        some => format!(" elements = {{ {some} }}"),
    };
    format!("  set {name} {{ type {kind}; flags interval;{elements} }}\n")
}
