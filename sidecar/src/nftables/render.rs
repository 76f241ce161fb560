//! The text of the tables `inet sandgate` and `arp sandgate`.
//!
//! What depends on the layout alone is made once, and stays as it is: chains that hang on a hook are never
//! replaced, so that no packet passes in between. What depends on the policy is in chains that they jump
//! to, and is replaced by each generation, all at once.

use std::fmt::Write as _;

use ipnet::IpNet;
use sandgate_policy::egress::{Policy, Rule};

use super::layout::{Layout, Mode, Ports};
use super::refusal::{self, Cause, PacketLog};
use super::{alive, fixed, neighbours, policy_rules};

/// Everything, for the first time, in place of whatever is there. Nothing passes until the agent renews
/// `alive`, and not before a policy is there.
#[must_use]
pub fn setup(layout: &Layout, log: PacketLog) -> String {
    let mut text = removal();
    text.push_str("table inet sandgate {\n");
    text.push_str("  set alive { typeof meta nfproto; flags timeout; }\n");
    for (name, family) in [("edges4", "ipv4_addr"), ("edges6", "ipv6_addr")] {
        let wanted = |range: &&IpNet| range.addr().is_ipv4() == (family == "ipv4_addr");
        let ranges: Vec<IpNet> = layout.edges.iter().filter(wanted).copied().collect();
        let ranges: Vec<String> =
            IpNet::aggregate(&ranges).iter().map(ToString::to_string).collect();
        let elements = match ranges.join(", ") {
            none if none.is_empty() => none,
            some => format!(" elements = {{ {some} }}"),
        };
        let _ = writeln!(text, "  set {name} {{ type {family}; flags interval;{elements} }}");
    }
    for kind in counted() {
        let _ = writeln!(text, "  counter {kind} {{ }}");
    }
    text.push_str(&refusal::chains(log));
    text.push_str(&neighbours::chains());
    text.push_str(&policy_rules::chains(&[], &layout.ports));
    text.push_str(&fixed::chains(layout));
    text.push_str("}\n");
    if let Mode::Gateway { interface } = &layout.mode {
        text.push_str(&neighbours::arp(interface));
    }
    text
}

/// The policies of a generation, all of which must allow; and the agent is alive.
///
/// Without a policy, everything is refused.
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

/// Nothing passes, at once: what is left when the agent goes and the namespace forwards for others.
#[must_use]
pub fn closed() -> String {
    "flush set inet sandgate alive\n".to_owned()
}

/// Takes all of it away.
#[must_use]
pub fn removal() -> String {
    ["inet", "arp"]
        .map(|family| format!("table {family} sandgate\ndelete table {family} sandgate\n"))
        .concat()
}

/// The counters of what was refused, by [`Rule::kind`], and for reasons that no policy has.
pub fn counted() -> impl Iterator<Item = String> {
    // What is this namespace's own counts as the policy's guardrail.
    let causes = Cause::ALL.into_iter().filter(|cause| *cause != Cause::Own);
    let causes = causes.filter_map(Cause::counter).map(str::to_owned);
    Rule::KINDS.iter().map(|kind| format!("refused_{kind}")).chain(causes)
}
