//! One generation of the policy, as DNS needs it: the only place of the proxy that asks `policy`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::rr as dns;
use sandgate_policy::egress::{
    ConnectionFacts, Destination, Entry, Name, NameFact, Policy, QueryAction, Rule, Verdict,
    Virtual,
};

/// Stands for a label that no rule can be about, in a name that is judged: it is no label of a real
/// name, and as short as a label gets.
const ODD_LABEL: &str = "-";

/// What is enforced at one moment.
#[derive(Clone, Debug)]
pub struct Generation {
    number: u64,
    policies: Vec<Arc<Policy>>,
    virtual_addresses: BTreeMap<Virtual, Family>,
}

/// The virtual addresses of one name.
#[derive(Clone, Copy, Debug, Default)]
struct Family {
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

/// What is to be done with a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Judgement {
    /// The real answer, filtered.
    Forward,
    /// A virtual address where there is a real one.
    Virtual,
    /// The name does not resolve.
    Refuse(Rule),
}

impl Generation {
    /// A generation in which `policy` must allow, and `and` too where it is given (that is how an
    /// update tightens before it loosens).
    ///
    /// `virtual_addresses` says what each virtual address stands for. An allowed name without one of
    /// its own gets the wildcard's; without that, it has no address of that family.
    pub fn new(
        number: u64,
        policy: Arc<Policy>,
        and: Option<Arc<Policy>>,
        virtual_addresses: impl IntoIterator<Item = (IpAddr, Virtual)>,
    ) -> Self {
        let mut table: BTreeMap<Virtual, Family> = BTreeMap::new();
        for (address, means) in virtual_addresses {
            let family = table.entry(means).or_default();
            match address {
                IpAddr::V4(v4) => family.v4 = Some(v4),
                IpAddr::V6(v6) => family.v6 = Some(v6),
            }
        }
        let policies = std::iter::once(policy).chain(and).collect();
        Self { number, policies, virtual_addresses: table }
    }

    /// Which generation this is.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Judges a name that the sandbox asks for; `of_allowed` if it asks a resolver that
    /// [`Self::allows_resolver`] has.
    pub(super) fn judge(&self, name: &dns::Name, of_allowed: bool) -> Judgement {
        let Some(name) = judged(name) else { return Judgement::Refuse(Rule::Default) };
        let mut judgement = Judgement::Forward;
        for policy in &self.policies {
            let lookup = match of_allowed {
                true => policy.evaluate_query_to_allowed_resolver(&name),
                false => policy.evaluate_query(&name),
            };
            match lookup {
                QueryAction::Refuse(rule) => return Judgement::Refuse(rule),
                QueryAction::Virtual | QueryAction::VirtualWildcard => {
                    judgement = Judgement::Virtual
                }
                QueryAction::Forward => {}
            }
        }
        judgement
    }

    /// The `deny_out` entry that a name falls under, if one does: such a name may not be reached in
    /// any way, while a name that is merely not allowed may still be what an allowed one leads to.
    pub(super) fn denied(&self, name: &dns::Name) -> Option<Rule> {
        let Some(name) = judged(name) else { return Some(Rule::Default) };
        self.policies.iter().find_map(|policy| match policy.evaluate_name(&name) {
            Verdict::Deny(denial) if matches!(denial.rule(), Rule::DenyOut(_)) => {
                Some(denial.rule().clone())
            }
            _ => None,
        })
    }

    /// The same name as rules know it, if it is denied.
    pub(super) fn denied_name(&self, name: &dns::Name) -> Option<Name> {
        judged(name).filter(|_| self.denied(name).is_some())
    }

    /// If Envoy may resolve a name: no policy forbids to dial it, and one allows it as a name.
    pub(super) fn dials(&self, name: &dns::Name) -> Result<(), Rule> {
        let name = judged(name).ok_or(Rule::Default)?;
        let mut by_name = false;
        for policy in &self.policies {
            match policy.evaluate_name(&name) {
                Verdict::Deny(denial) => return Err(denial.rule().clone()),
                Verdict::Allow(permit) => {
                    by_name |= matches!(permit.rule(), Rule::AllowOut(Entry::Domain(_)));
                }
            }
        }
        if by_name { Ok(()) } else { Err(Rule::Default) }
    }

    /// The guardrail that an address falls under, if one does.
    pub(super) fn guardrail(&self, address: IpAddr) -> Option<Rule> {
        self.policies.iter().find_map(|policy| match decide(policy, address) {
            Verdict::Deny(denial) if matches!(denial.rule(), Rule::Guardrail(_)) => {
                Some(denial.rule().clone())
            }
            _ => None,
        })
    }

    /// If an address that a name was resolved to may be dialled for that name.
    pub(super) fn reaches(&self, name: &dns::Name, address: IpAddr) -> bool {
        let Some(name) = judged(name) else { return false };
        self.policies.iter().all(|policy| policy.evaluate_resolved(&name, address).is_allowed())
    }

    /// If `allow_out` has a resolver by its address: then it is asked itself.
    pub(super) fn allows_resolver(&self, address: IpAddr) -> bool {
        self.policies.iter().all(|policy| policy.allowed_resolver(address).is_some())
    }

    /// If any rule names a domain, so that names on the wire have to stay visible.
    pub(super) fn has_domains(&self) -> bool {
        self.policies.iter().any(|policy| policy.has_domains())
    }

    /// The IPv4 virtual address for a name.
    pub(super) fn virtual_v4(&self, name: &dns::Name) -> Option<Ipv4Addr> {
        self.virtual_family(name).v4
    }

    /// The IPv6 virtual address for a name.
    pub(super) fn virtual_v6(&self, name: &dns::Name) -> Option<Ipv6Addr> {
        self.virtual_family(name).v6
    }

    fn virtual_family(&self, name: &dns::Name) -> Family {
        let own = judged(name).and_then(|name| self.virtual_addresses.get(&Virtual::Name(name)));
        own.or_else(|| self.virtual_addresses.get(&Virtual::Wildcard)).copied().unwrap_or_default()
    }
}

/// Judges a connection to an address of which nothing else is known.
fn decide(policy: &Policy, address: IpAddr) -> Verdict {
    let destination = Destination::Address(address);
    policy.decide(&ConnectionFacts {
        destination: &destination,
        sni: NameFact::Absent,
        host: NameFact::Absent,
    })
}

/// A name of the wire as the name that rules are about: lower case, and every label of which no rule
/// can speak (DNS allows any bytes) replaced by one that no rule names. So the rest of the name is
/// still judged, by whole labels: `\001.bad.test` lies below `bad.test`.
fn judged(name: &dns::Name) -> Option<Name> {
    let mut labels: Vec<&str> = name.iter().map(rule_label).collect();
    if let Ok(name) = Name::parse(&labels.join(".")) {
        return Some(name);
    }
    // The root, or a last label that is a number, which some programs take for an address.
    labels.pop();
    labels.push(ODD_LABEL);
    Name::parse(&labels.join(".")).ok()
}

fn rule_label(label: &[u8]) -> &str {
    let plain = label.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    std::str::from_utf8(label).ok().filter(|_| plain).unwrap_or(ODD_LABEL)
}

#[cfg(test)]
mod tests;
