//! The chains that each policy generation replaces: the evaluation of addresses, the choice of Envoy's listener, and
//! the denial of QUIC.

use std::fmt::Write as _;

use ipnet::IpNet;
use sandgate_policy::egress::guardrail::{VIRTUAL_V4, VIRTUAL_V6};
use sandgate_policy::egress::{Action, AddressRules, Policy, Ports as PolicyPorts, Rule};

use super::first_match::{FirstMatch, Side};
use super::layout::Ports;
use super::refuse_chains::Cause;

/// The maximum number of policies of a generation: the old and the new one, while one replaces the other.
const MAX_POLICIES: usize = 2;
/// The kinds of chains. Each kind has one common chain (`outward`) and one chain for each policy (`outward_0`,
/// `outward_1`).
const KINDS: [&str; 4] = ["outward", "inward", "dial", "inspect"];

/// The names of all chains that [`chains`] renders.
pub(super) fn chain_names() -> impl Iterator<Item = String> {
    let of_kind = |kind: &'static str| {
        let slots = (0..MAX_POLICIES).map(move |slot| format!("{kind}_{slot}"));
        std::iter::once(kind.to_owned()).chain(slots)
    };
    KINDS.into_iter().flat_map(of_kind).chain(["quic".to_owned()])
}

/// Renders the chains, indented as members of the table. If `outward`, `inward` or `dial` returns, the policy
/// allows the packet.
pub(super) fn chains(policies: &[&Policy], ports: &Ports) -> String {
    let mut text = String::new();
    for slot in 0..MAX_POLICIES {
        let policy = policies.get(slot);
        let rules = policy.map(|policy| policy.address_rules());
        let packets = rules.as_ref().map(outcomes);
        let dials = policy.map(|policy| outcomes(&policy.upstream_address_rules()));
        let listeners = rules.as_ref().map(listeners);
        let evaluate = |list: &Option<FirstMatch<Outcome>>, side, cause| {
            list.as_ref().map_or("    return\n".to_owned(), |list| {
                list.rules(side, |outcome| vec![(PolicyPorts::all(), outcome.statement(cause))])
            })
        };
        let _ = write!(
            text,
            "  chain outward_{slot} {{\n{}  }}\n  chain inward_{slot} {{\n{}  }}\n  chain dial_{slot} {{\n{}  }}\n  \
             chain inspect_{slot} {{\n{}  }}\n",
            evaluate(&packets, Side::Destination, Cause::Outbound),
            evaluate(&packets, Side::Source, Cause::Reply),
            evaluate(&dials, Side::Destination, Cause::Dial),
            listeners.map_or("    return\n".to_owned(), |list| list
                .rules(Side::Destination, |listener| listener.statements(ports))),
        );
    }
    // Without a policy, the chains deny all traffic.
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

/// Refuses QUIC, in which names are encrypted, so that clients fall back to TCP: packets to QUIC's port, and on all
/// ports packets that may be a QUIC client's first one, which has a long header (RFC 9000, 17.2) and at least 1,200
/// bytes (14.1) after the 8 bytes of the UDP header.
const QUIC: &str = "    udp dport 443 goto refuse_quic
    @th,64,8 & 0xc0 == 0xc0 udp length >= 1208 goto refuse_quic
";

/// The outcome of the evaluation of a packet.
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

fn outcomes(rules: &AddressRules) -> FirstMatch<Outcome> {
    let rules = rules.rules().iter().map(|rule| {
        let outcome = match rule.action {
            Action::Accept => Outcome::Accept,
            Action::Reject => Outcome::Reject(rule.rule.kind()),
        };
        (rule.range, rule.ports.clone(), outcome)
    });
    FirstMatch::new(rules, Outcome::Reject(Rule::Default.kind()))
}

/// The listener of Envoy that gets a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Listener {
    /// The ports on which a name can change the decision. Envoy waits for the first bytes.
    inspected: PolicyPorts,
    /// The listener for the other ports. No name can change the decision.
    otherwise: Decided,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Decided {
    /// The address is allowed. Envoy does not wait for the first bytes.
    Plain,
    /// The address is denied.
    Refused,
}

impl Listener {
    /// The nftables statements, each with its ports; the first one that applies decides. After `return`, the other policy
    /// of the generation decides; if it returns too, the connection goes to the listener `plain`.
    fn statements(&self, ports: &Ports) -> Vec<(PolicyPorts, String)> {
        let redirect = |port| format!("meta l4proto tcp redirect to :{port}");
        let otherwise = match self.otherwise {
            Decided::Plain => "return".to_owned(),
            Decided::Refused => redirect(ports.refused),
        };
        vec![(self.inspected.clone(), redirect(ports.inspected)), (PolicyPorts::all(), otherwise)]
    }
}

/// The listener of each range. A connection to a virtual address is inspected, because its handshake must
/// show the name that the address stands for.
fn listeners(rules: &AddressRules) -> FirstMatch<Listener> {
    let virtual_addresses = [IpNet::V4(VIRTUAL_V4), IpNet::V6(VIRTUAL_V6)];
    let virtual_addresses = virtual_addresses.map(|range| {
        let inspected = PolicyPorts::all();
        (range, PolicyPorts::all(), Listener { inspected, otherwise: Decided::Refused })
    });
    let rules = rules.rules().iter().map(|rule| {
        let otherwise = match rule.action {
            Action::Accept => Decided::Plain,
            Action::Reject => Decided::Refused,
        };
        // Not limited to the ports of the rule, so that all rules of a list have the same listener and are one block.
        let inspected = rule.ports_with_names.clone();
        let otherwise = if inspected.is_all() { Decided::Refused } else { otherwise };
        (rule.range, rule.ports.clone(), Listener { inspected, otherwise })
    });
    let default = Listener { inspected: PolicyPorts::none(), otherwise: Decided::Refused };
    FirstMatch::new(virtual_addresses.into_iter().chain(rules), default)
}
