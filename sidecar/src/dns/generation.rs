//! The policy generation of the DNS proxy. No other module of the proxy calls `policy`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr as dns;
use sandgate_policy::egress::{
    Entry, Name, Policy, QueryAction, Rule, Target, Verdict, VirtualMeaning,
};

/// Replaces a label that no rule can match. It can't be a label of a real name, and has the minimum length.
const PLACEHOLDER_LABEL: &str = "-";

/// A policy generation.
#[derive(Clone, Debug)]
pub struct Generation {
    number: u64,
    policies: Vec<Arc<Policy>>,
    virtual_addresses: BTreeMap<VirtualMeaning, AddressPair>,
}

/// The virtual addresses of one name.
#[derive(Clone, Copy, Debug, Default)]
struct AddressPair {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// What the policy decides about the sandbox's query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QueryDecision {
    /// Forward it, and filter the response.
    Forward,
    /// Respond with a virtual address if the name has a real one.
    Virtual,
    /// Respond that the name does not exist.
    Deny(Rule),
}

impl Generation {
    /// Creates a generation. If there are two policies, both must allow a name.
    ///
    /// `virtual_addresses` maps each virtual address to its meaning. An allowed name without a virtual address of its
    /// own gets that of the wildcard, if there is one.
    pub fn new(
        number: u64,
        policy: Arc<Policy>,
        second: Option<Arc<Policy>>,
        virtual_addresses: impl IntoIterator<Item = (IpAddr, VirtualMeaning)>,
    ) -> Self {
        let mut table: BTreeMap<VirtualMeaning, AddressPair> = BTreeMap::new();
        for (address, meaning) in virtual_addresses {
            let pair = table.entry(meaning).or_default();
            match address {
                IpAddr::V4(v4) => pair.v4 = Some(v4),
                IpAddr::V6(v6) => pair.v6 = Some(v6),
            }
        }
        let policies = std::iter::once(policy).chain(second).collect();
        Self { number, policies, virtual_addresses: table }
    }

    /// The number of the policy generation.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Evaluates a name that the sandbox queries. `allowed_resolver` states whether [`Self::allows_resolver`] is true
    /// for the resolver that it queries.
    pub(super) fn decide_query(&self, name: &dns::Name, allowed_resolver: bool) -> QueryDecision {
        let Some(name) = policy_name(name) else { return QueryDecision::Deny(Rule::Default) };
        let mut decision = QueryDecision::Forward;
        for policy in &self.policies {
            let lookup = match allowed_resolver {
                true => policy.evaluate_query_to_allowed_resolver(&name),
                false => policy.evaluate_query(&name),
            };
            match lookup {
                QueryAction::Deny(rule) => return QueryDecision::Deny(rule),
                QueryAction::Virtual | QueryAction::VirtualWildcard => {
                    decision = QueryDecision::Virtual
                }
                QueryAction::Forward => {}
            }
        }
        decision
    }

    /// The `deny_out` entry that denies the name on all ports, if any. A name that is only not allowed may still be the
    /// target of an allowed name's alias; a denied name may not.
    pub(super) fn denied(&self, name: &dns::Name) -> Option<Rule> {
        let Some(name) = policy_name(name) else { return Some(Rule::Default) };
        self.policies.iter().find_map(|policy| policy.denies_name(&name))
    }

    /// The name in the policy's form, if it is denied on at least one port.
    pub(super) fn denied_name(&self, name: &dns::Name) -> Option<Name> {
        let name = policy_name(name)?;
        self.policies.iter().any(|policy| policy.denies_name_on_any_port(&name)).then_some(name)
    }

    /// Whether Envoy may resolve the name: all policies allow it, and at least one of them by a name entry of
    /// `allow_out`. The query shows no port; Envoy's filter has evaluated the port, and nftables evaluates it again.
    pub(super) fn decide_envoy_query(&self, name: &dns::Name) -> Result<(), Rule> {
        let name = policy_name(name).ok_or(Rule::Default)?;
        let mut by_name = false;
        for policy in &self.policies {
            match policy.evaluate_name_on_any_port(&name) {
                Verdict::Deny(denial) => return Err(denial.rule().clone()),
                Verdict::Allow(permit) => {
                    let rule = permit.rule();
                    by_name |=
                        matches!(rule, Rule::AllowOut(Entry { target: Target::Domain(_), .. }));
                }
            }
        }
        if by_name { Ok(()) } else { Err(Rule::Default) }
    }

    /// The guardrail that contains the address, if any.
    pub(super) fn guardrail(&self, address: IpAddr) -> Option<Rule> {
        self.policies.iter().find_map(|policy| policy.guardrail(address))
    }

    /// Whether Envoy may connect to the address for a name that resolves to it, on at least one port.
    pub(super) fn allows_resolved(&self, name: &dns::Name, address: IpAddr) -> bool {
        let Some(name) = policy_name(name) else { return false };
        self.policies.iter().all(|policy| policy.may_resolve_to(&name, address))
    }

    /// Whether `allow_out` contains the address of a resolver. The sandbox's queries to it are then forwarded to it.
    pub(super) fn allows_resolver(&self, address: IpAddr) -> bool {
        self.policies.iter().all(|policy| policy.allowed_resolver(address).is_some())
    }

    /// Whether a rule contains a domain, so that clients must not encrypt the server name.
    pub(super) fn has_domains(&self) -> bool {
        self.policies.iter().any(|policy| policy.has_domains())
    }

    pub(super) fn virtual_v4(&self, name: &dns::Name) -> Option<Ipv4Addr> {
        self.virtual_pair(name).v4
    }

    pub(super) fn virtual_v6(&self, name: &dns::Name) -> Option<Ipv6Addr> {
        self.virtual_pair(name).v6
    }

    fn virtual_pair(&self, name: &dns::Name) -> AddressPair {
        let own = policy_name(name)
            .and_then(|name| self.virtual_addresses.get(&VirtualMeaning::Name(name)));
        own.or_else(|| self.virtual_addresses.get(&VirtualMeaning::Wildcard))
            .copied()
            .unwrap_or_default()
    }
}

/// Converts a DNS name to the policy's form: lower case, and each label that no rule can match (DNS allows any bytes)
/// is replaced. Rules still match the other labels: `\001.bad.test` is below `bad.test`.
fn policy_name(name: &dns::Name) -> Option<Name> {
    let mut labels: Vec<&str> = name.iter().map(rule_label).collect();
    if let Ok(name) = Name::parse(&labels.join(".")) {
        return Some(name);
    }
    // The root, or a name whose last label is a number, which some programs parse as an address.
    labels.pop();
    labels.push(PLACEHOLDER_LABEL);
    Name::parse(&labels.join(".")).ok()
}

fn rule_label(label: &[u8]) -> &str {
    let plain = label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    std::str::from_utf8(label).ok().filter(|_| plain).unwrap_or(PLACEHOLDER_LABEL)
}

#[cfg(test)]
mod tests;
