//! A reference implementation of the rules. It iterates over the lists, compiles nothing, and
//! shares only the tables of ranges with the code under test.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use sandgate_policy::egress::{
    Destination, DomainPattern, Entry, Name, NetworkPolicy, OperatorSettings, RuleOrder, ShownName,
    Target, VirtualMeaning, global, guardrail,
};

/// The result of a decision.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Outcome {
    Deny,
    Original(IpAddr),
    ByName(Name),
}

/// The embedded IPv4 address, and the range of all addresses that embed one in the same way.
pub(super) fn inside(address: IpAddr) -> Option<(Ipv4Addr, IpNet)> {
    let IpAddr::V6(v6) = address else { return None };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    let range = |text: &str| text.parse().expect("it is a range");
    match (a, b, c, d, e, f) {
        (0, 0, 0, 0, 0, 0xffff) => Some((of(g, h), range("::ffff:0:0/96"))),
        (0x64, 0xff9b, 0, 0, 0, 0) => Some((of(g, h), range("64:ff9b::/96"))),
        (0x2002, ..) => Some((of(b, c), range("2002::/16"))),
        _ => None,
    }
}

/// Whether a range of `deny_out` or a guardrail contains the address or its embedded address.
fn is_in(range: &IpNet, address: IpAddr) -> bool {
    let inner = inside(address).map(|(v4, _)| IpAddr::V4(v4));
    range.contains(&address) || inner.is_some_and(|inner| range.contains(&inner))
}

/// Whether a range of `allow_out` contains the address. A range that is wider than the embedding
/// does not contain the embedded address.
fn is_allowed_in(range: &IpNet, address: IpAddr) -> bool {
    match inside(address) {
        None => range.contains(&address),
        Some((v4, all)) => {
            range.contains(&IpAddr::V4(v4)) || (all.contains(range) && range.contains(&address))
        }
    }
}

fn is_global(operator: &OperatorSettings, address: IpAddr) -> bool {
    if operator.also_global.iter().any(|range| is_allowed_in(range, address)) {
        return true;
    }
    let judged = inside(address).map_or(address, |(v4, _)| IpAddr::V4(v4));
    let holding = global::TABLE.iter().filter(|(range, _)| range.contains(&judged));
    holding.max_by_key(|(range, _)| range.prefix_len()).is_some_and(|(_, global)| *global)
}

fn is_meant(pattern: &DomainPattern, name: &Name) -> bool {
    match pattern {
        DomainPattern::Exact(exact) => exact.as_str() == name.as_str(),
        DomainPattern::Below(parent) => name.as_str().ends_with(&format!(".{parent}")),
    }
}

/// The names and addresses that the agent knows.
pub(super) type Known = Vec<(Name, IpAddr)>;

/// Whether an entry applies to the port, or, for `None`, to traffic without ports.
fn is_at(entry: &Entry, port: Option<u16>) -> bool {
    let Some(ports) = entry.ports.map(|ports| ports.to_string()) else { return true };
    let (first, last) = ports.split_once('-').unwrap_or((&ports, &ports));
    let number = |text: &str| text.parse::<u16>().expect("it is a port");
    port.is_some_and(|port| number(first) <= port && port <= number(last))
}

/// Whether an entry of the list has this name, on this port.
fn has_name(list: &[Entry], name: &Name, port: Option<u16>) -> bool {
    list.iter().any(|entry| {
        matches!(&entry.target, Target::Domain(pattern) if is_meant(pattern, name))
            && is_at(entry, port)
    })
}

/// Whether an entry of the list is about names, on this port.
fn has_names(list: &[Entry], port: Option<u16>) -> bool {
    list.iter().any(|entry| matches!(entry.target, Target::Domain(_)) && is_at(entry, port))
}

/// Whether a range of the list contains the address, on this port.
fn has_address(
    list: &[Entry],
    address: IpAddr,
    port: Option<u16>,
    contains: fn(&IpNet, IpAddr) -> bool,
) -> bool {
    list.iter().any(|entry| {
        matches!(&entry.target, Target::Address(range) if contains(range, address))
            && is_at(entry, port)
    })
}

/// Whether the policy denies a name at all addresses, on this port.
fn is_denied(
    network: &NetworkPolicy,
    operator: &OperatorSettings,
    name: &Name,
    port: Option<u16>,
) -> bool {
    let allow_wins =
        operator.rule_order == RuleOrder::AllowFirst && has_name(&network.allow_out, name, port);
    has_name(&network.deny_out, name, port) && !allow_wins
}

/// Whether an address is a known address of a name that is denied on this port.
fn is_known(
    network: &NetworkPolicy,
    operator: &OperatorSettings,
    known: &Known,
    address: IpAddr,
    port: Option<u16>,
) -> bool {
    let judged = |address| inside(address).map_or(address, |(v4, _)| IpAddr::V4(v4));
    known.iter().any(|(name, has)| {
        judged(*has) == judged(address) && is_denied(network, operator, name, port)
    })
}

/// Whether a name may resolve: some port of `ports` allows a connection to it.
pub(super) fn resolves(
    network: &NetworkPolicy,
    operator: &OperatorSettings,
    name: &Name,
    ports: &[Option<u16>],
) -> bool {
    let known = Known::new();
    ports
        .iter()
        .any(|port| judge(network, operator, &known, None, *port, Some(name)) != Outcome::Deny)
}

fn judge(
    network: &NetworkPolicy,
    operator: &OperatorSettings,
    known: &Known,
    address: Option<IpAddr>,
    port: Option<u16>,
    name: Option<&Name>,
) -> Outcome {
    let guarded = |address| {
        guardrail::FIXED.iter().chain(&operator.protected).any(|range| is_in(range, address))
    };
    if address.is_some_and(guarded) {
        return Outcome::Deny;
    }
    let allowed_address = address
        .is_some_and(|address| has_address(&network.allow_out, address, port, is_allowed_in));
    let denied_address =
        address.is_some_and(|address| has_address(&network.deny_out, address, port, is_in));
    let named = |list: &[Entry]| name.is_some_and(|name| has_name(list, name, port));
    let original = |address: IpAddr| Outcome::Original(address.to_canonical());
    let allow = || match (allowed_address, address, name) {
        (true, Some(address), _) => Some(original(address)),
        (_, _, Some(name)) if named(&network.allow_out) => Some(Outcome::ByName(name.clone())),
        _ => None,
    };
    let known_address = name.is_none()
        && address.is_some_and(|address| is_known(network, operator, known, address, port));
    let deny =
        || (denied_address || named(&network.deny_out) || known_address).then_some(Outcome::Deny);
    let listed = match operator.rule_order {
        RuleOrder::AllowFirst => allow().or_else(deny),
        RuleOrder::DenyFirst => deny().or_else(allow),
    };
    listed.unwrap_or_else(|| match (network.allow_internet_access, address, name) {
        (true, Some(address), _) if is_global(operator, address) => original(address),
        (true, None, Some(name)) => Outcome::ByName(name.clone()),
        _ => Outcome::Deny,
    })
}

/// Decides about a connection or a request.
pub(super) fn decide(
    network: &NetworkPolicy,
    operator: &OperatorSettings,
    known: &Known,
    destination: &Destination,
    port: Option<u16>,
    sni: &ShownName,
    host: &ShownName,
) -> Outcome {
    let address = match destination {
        Destination::Address(address) => Some(*address),
        Destination::Virtual(_) => None,
    };
    let alone = judge(network, operator, known, address, port, None);
    let has_domains = has_names(&network.allow_out, port) || has_names(&network.deny_out, port);
    // If a list decides about the address before any name is evaluated, names don't matter.
    if let Some(address) = address {
        let settled = match operator.rule_order {
            RuleOrder::AllowFirst => has_address(&network.allow_out, address, port, is_allowed_in),
            RuleOrder::DenyFirst => has_address(&network.deny_out, address, port, is_in),
        };
        // Names don't matter either if no name could change the verdict.
        if settled || !has_domains || !could_change(network, operator, address, port, &alone) {
            return alone;
        }
    }
    let own = match destination {
        Destination::Virtual(VirtualMeaning::Name(name)) => ShownName::Name(name.clone()),
        _ => ShownName::Absent,
    };
    let mut outcomes = Vec::new();
    for fact in [&own, sni, host] {
        outcomes.push(match fact {
            ShownName::Absent => continue,
            ShownName::Unparsable => Outcome::Deny,
            ShownName::Name(name) => judge(network, operator, known, address, port, Some(name)),
            ShownName::Address(literal) => {
                match (judge(network, operator, known, Some(*literal), port, None), address) {
                    (Outcome::Deny, _) | (_, None) => Outcome::Deny,
                    (_, Some(_)) => alone.clone(),
                }
            }
        });
    }
    if outcomes.contains(&Outcome::Deny) {
        return Outcome::Deny;
    }
    let by_name = outcomes.iter().find(|outcome| matches!(outcome, Outcome::ByName(_)));
    by_name.or(outcomes.first()).cloned().unwrap_or(alone)
}

/// Whether a name could change the verdict about the address.
fn could_change(
    network: &NetworkPolicy,
    operator: &OperatorSettings,
    address: IpAddr,
    port: Option<u16>,
    alone: &Outcome,
) -> bool {
    let names = |list: &[Entry]| has_names(list, port);
    if guardrail::FIXED.iter().chain(&operator.protected).any(|range| is_in(range, address)) {
        return false;
    }
    match (operator.rule_order, alone) {
        (RuleOrder::AllowFirst, Outcome::Deny) => {
            let denied = has_address(&network.deny_out, address, port, is_in);
            names(&network.allow_out) || (!denied && names(&network.deny_out))
        }
        (RuleOrder::DenyFirst, Outcome::Original(_)) => {
            let allowed = has_address(&network.allow_out, address, port, is_allowed_in);
            names(&network.deny_out) || (!allowed && names(&network.allow_out))
        }
        _ => true,
    }
}
