//! The text of the tables `inet sandgate` and `arp sandgate`.
//!
//! What depends on the layout alone is made once, and stays as it is: chains that hang on a hook are never
//! replaced, so that no packet passes in between. What depends on the policy is in chains that they jump
//! to, and is replaced by each generation, all at once.

use std::fmt::Write as _;

use ipnet::IpNet;
use sandgate_policy::egress::guardrail::{VIRTUAL_V4, VIRTUAL_V6};
use sandgate_policy::egress::{Action, AddressRules, Policy, Rule};

use super::alive;
use super::first_match::{FirstMatch, Side};
use super::layout::{DNS_MARK, ENVOY_MARK, Layout, Mode, Ports};
use super::refusal::{self, Cause, PacketLog};
use super::{gateway, neighbours, shared};

/// How many policies can be in force at once: the old and the new one, while one replaces the other.
const SLOTS: usize = 2;
/// The chains of each policy; see [`policy_chains`].
const KINDS: [&str; 4] = ["outward", "inward", "dial", "inspect"];

/// Everything, for the first time, in place of whatever is there. Nothing passes until the agent renews
/// `alive`, and not before a policy is there.
#[must_use]
pub fn setup(layout: &Layout, log: PacketLog) -> String {
    let fixed = match &layout.mode {
        Mode::Gateway { interface } => gateway::chains(layout, interface),
        Mode::Shared => shared::chains(layout),
    };
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
    text.push_str(&policy_chains(&[], &layout.ports));
    text.push_str(&fixed);
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
    for kind in KINDS {
        let _ = writeln!(text, "flush chain inet sandgate {kind}");
        for slot in 0..SLOTS {
            let _ = writeln!(text, "flush chain inet sandgate {kind}_{slot}");
        }
    }
    text.push_str("flush chain inet sandgate quic\ntable inet sandgate {\n");
    text.push_str(&policy_chains(policies, ports));
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

/// The chains that a generation fills: in `outward`, `inward` and `dial`, what returns is allowed.
fn policy_chains(policies: &[&Policy], ports: &Ports) -> String {
    let mut text = String::new();
    for slot in 0..SLOTS {
        let policy = policies.get(slot);
        let rules = policy.map(|policy| policy.address_rules());
        let addresses = rules.as_ref().map(verdicts);
        let dials = policy.map(|policy| verdicts(&policy.upstream_address_rules()));
        let listeners = rules.as_ref().map(listeners);
        let judged = |list: &Option<FirstMatch<Outcome>>, side, cause| {
            list.as_ref().map_or("    return\n".to_owned(), |list| {
                list.rules(side, |outcome| outcome.statement(cause))
            })
        };
        let _ = write!(
            text,
            "  chain outward_{slot} {{\n{}  }}\n  chain inward_{slot} {{\n{}  }}\n  chain dial_{slot} {{\n{}  }}\n  \
             chain inspect_{slot} {{\n{}  }}\n",
            judged(&addresses, Side::Destination, Cause::Outward),
            judged(&addresses, Side::Source, Cause::Inward),
            judged(&dials, Side::Destination, Cause::Dial),
            listeners.map_or("    return\n".to_owned(), |list| list
                .rules(Side::Destination, |listener| listener.statement(ports))),
        );
    }
    // Nobody has said yet what is allowed.
    let empty = if policies.is_empty() { "    goto refuse_unready\n" } else { "" };
    for chain in ["outward", "inward", "dial"] {
        let _ = writeln!(
            text,
            "  chain {chain} {{\n{empty}    jump {chain}_0\n    jump {chain}_1\n  }}"
        );
    }
    let _ = writeln!(
        text,
        "  chain inspect {{\n    jump inspect_0\n    jump inspect_1\n    meta l4proto tcp redirect to :{}\n  }}",
        ports.plain
    );
    let quic = policies.iter().any(|policy| policy.has_domains());
    let _ = writeln!(text, "  chain quic {{\n{}  }}", if quic { QUIC } else { "" });
    text
}

/// Names in QUIC can't be seen. A client falls back to TCP, where they can: its port, and on any port what
/// looks like a first packet: a long header (RFC 9000, 17.2) in a datagram of at least 1,200 bytes
/// (14.1), and 8 for the UDP header.
const QUIC: &str = "    udp dport 443 goto refuse_quic
    @th,64,8 & 0xc0 == 0xc0 udp length >= 1208 goto refuse_quic
";

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Outcome {
    Accept,
    Reject(&'static str),
}

impl Outcome {
    fn statement(&self, cause: Cause) -> String {
        match self {
            Self::Accept => "return".to_owned(),
            Self::Reject(kind) => {
                format!("counter name refused_{kind} goto refuse_{}", cause.name())
            }
        }
    }
}

fn verdicts(rules: &AddressRules) -> FirstMatch<Outcome> {
    let rules = rules.rules().iter().map(|rule| {
        let outcome = match rule.action {
            Action::Accept => Outcome::Accept,
            Action::Reject => Outcome::Reject(rule.rule.kind()),
        };
        (rule.range, outcome)
    });
    FirstMatch::new(rules, Outcome::Reject(Rule::Default.kind()))
}

/// The listener of Envoy that gets a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Listener {
    /// The address is allowed, and no name can change that. Envoy does not wait for the first bytes.
    Plain,
    /// The connection must show a name.
    Inspected,
    /// The address is denied, and no name can allow it.
    Refused,
}

impl Listener {
    /// The nftables statement. After `return`, the other policy of the generation decides; if it returns
    /// too, the connection goes to `Plain`.
    fn statement(self, ports: &Ports) -> String {
        match self {
            Self::Plain => "return".to_owned(),
            Self::Inspected => format!("meta l4proto tcp redirect to :{}", ports.inspected),
            Self::Refused => format!("meta l4proto tcp redirect to :{}", ports.refused),
        }
    }
}

/// The listener of each range. A connection to a virtual address is inspected, because its handshake must
/// show the name that the address stands for.
fn listeners(rules: &AddressRules) -> FirstMatch<Listener> {
    let made_up = [IpNet::V4(VIRTUAL_V4), IpNet::V6(VIRTUAL_V6)];
    let made_up = made_up.map(|range| (range, Listener::Inspected));
    let rules = rules.rules().iter().map(|rule| {
        let listener = match (rule.action, rule.needs_names) {
            (_, true) => Listener::Inspected,
            (Action::Accept, false) => Listener::Plain,
            (Action::Reject, false) => Listener::Refused,
        };
        (rule.range, listener)
    });
    FirstMatch::new(made_up.into_iter().chain(rules), Listener::Refused)
}

/// How what Envoy sends comes to its chain.
pub(super) fn to_from_envoy(envoy: u32) -> String {
    format!(
        "    # What Envoy began stays Envoy's: a connection that it has closed may still have data to send, and no owner.
    meta skuid {envoy} ct direction original ct mark set {ENVOY_MARK}
    meta skuid {envoy} goto from_envoy
    ct mark {ENVOY_MARK} ct direction original goto from_envoy
"
    )
}

/// The chain of what Envoy sends: answers, questions to its resolver, and dials, which are judged once more.
pub(super) fn from_envoy(ports: &Ports) -> String {
    let Ports { reset, resolver, .. } = ports;
    format!(
        r#"  chain from_envoy {{
    ct direction reply accept
    oifname "lo" ip daddr 127.0.0.1 udp dport {resolver} accept
    oifname "lo" ip daddr 127.0.0.1 tcp dport {{ {reset}, {resolver} }} accept
    # Addresses of this namespace are guardrails, also those that it got after the agent began.
    oifname "lo" goto refuse_own
    meta nfproto != @alive goto unready
    meta l4proto != tcp goto refuse_protocol
    jump dial
    ct state new jump next_hop
    accept
  }}
"#
    )
}

/// What a packet to port 53 gets on its way to the DNS proxy.
pub(super) fn to_dns_proxy(ports: &Ports) -> String {
    format!("tproxy to :{} meta mark set {DNS_MARK} accept", ports.dns)
}
