//! The known addresses of denied names. A connection that shows no name may be for one of these
//! names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::embedded::embedded_or_self;
use super::entry::Entry;
use super::name::Name;
use super::operator::RuleOrder;
use super::policy::Policy;
use super::ports::Ports;
use super::ranges::Ranges;
use super::rule::Rule;

/// Pairs of a name and one of its addresses, at most [`Self::MAX`] pairs.
///
/// An IPv6 address that embeds an IPv4 address is stored as the IPv4 address, because the policy
/// evaluates it as such. A policy ignores the names that it does not deny by name.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Name, BTreeSet<IpAddr>>", into = "BTreeMap<Name, BTreeSet<IpAddr>>")]
pub struct DeniedAddresses(BTreeMap<Name, BTreeSet<IpAddr>>);

/// The rule about a known address of a denied name, and the ports on which the name is denied.
#[derive(Clone, Debug)]
pub(super) struct DeniedAddress {
    pub(super) ports: Ports,
    pub(super) rule: Rule,
}

/// The maximum number of different sets of ports of the known addresses. Each of them is a separate
/// set of addresses for nftables. A list of a policy has few different ports
/// ([`super::network_policy::PORTS_MAX`]), but names can be denied on many combinations of them.
const PORT_SETS_MAX: usize = 8;

/// There are more than [`DeniedAddresses::MAX`] pairs.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there are {0} addresses of denied names; at most {max} are allowed", max = DeniedAddresses::MAX)]
pub struct TooMany(usize);

impl DeniedAddresses {
    /// The maximum number of pairs.
    pub const MAX: usize = 2_048;

    /// Collects pairs, in any order.
    ///
    /// # Errors
    /// [`TooMany`], if there are more than [`Self::MAX`] pairs.
    pub fn new(pairs: impl IntoIterator<Item = (Name, IpAddr)>) -> Result<Self, TooMany> {
        let mut names: BTreeMap<Name, BTreeSet<IpAddr>> = BTreeMap::new();
        for (name, address) in pairs {
            names.entry(name).or_default().insert(embedded_or_self(address));
        }
        match names.values().map(BTreeSet::len).sum() {
            count if count > Self::MAX => Err(TooMany(count)),
            _ => Ok(Self(names)),
        }
    }

    /// All pairs, ordered by name.
    pub fn pairs(&self) -> impl Iterator<Item = (&Name, IpAddr)> {
        self.0.iter().flat_map(|(name, addresses)| addresses.iter().map(move |ip| (name, *ip)))
    }

    /// Whether there are no pairs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs().next().is_none()
    }
}

impl Policy {
    /// The same policy with known addresses. The policy denies connections that show no name to an
    /// address of a denied name, on the ports on which the name is denied. If there are too many
    /// different sets of such ports, the remaining addresses are denied on all ports.
    #[must_use]
    pub fn with_denied_addresses(mut self, addresses: &DeniedAddresses) -> Self {
        let (mut rules, mut port_sets) = (Vec::new(), vec![Ports::all()]);
        for (name, address) in addresses.pairs() {
            for (ports, entry) in self.denials(name) {
                let ports = match port_sets.contains(&ports) {
                    true => ports,
                    false if port_sets.len() < PORT_SETS_MAX => {
                        port_sets.push(ports.clone());
                        ports
                    }
                    false => Ports::all(),
                };
                let rule = Rule::DenyOutAt(entry, address);
                rules.push((address.into(), DeniedAddress { ports, rule }));
            }
        }
        self.denied_addresses = Ranges::new(rules);
        self
    }

    /// The names that the policy denies exactly (not by a wildcard), and whose addresses can change
    /// a verdict. With internet access off and [`RuleOrder::AllowFirst`], only destinations of
    /// `allow_out` are reachable, so no address of a denied name matters.
    pub fn denied_names(&self) -> impl Iterator<Item = &Name> {
        let addresses_matter = self.internet || self.order == RuleOrder::DenyFirst;
        self.deny
            .exact
            .keys()
            .filter(move |name| addresses_matter && !self.denials(name).is_empty())
    }

    /// Whether an entry of `deny_out` denies the name on at least one port.
    #[must_use]
    pub fn denies_name_on_any_port(&self, name: &Name) -> bool {
        !self.denials(name).is_empty()
    }

    /// The entries of `deny_out` that deny the name, whatever its address is, each with the ports on
    /// which it does.
    fn denials(&self, name: &Name) -> Vec<(Ports, Entry)> {
        let mut denials: Vec<(Ports, Entry)> = Vec::new();
        for ports in self.segments(name) {
            let verdict = self.evaluate_name(name, ports.sample());
            let Rule::DenyOut(entry) = verdict.rule() else { continue };
            match denials.iter_mut().find(|(_, known)| known == entry) {
                Some((denied, _)) => *denied = denied.union(&ports),
                None => denials.push((ports, entry.clone())),
            }
        }
        denials
    }
}

impl TryFrom<BTreeMap<Name, BTreeSet<IpAddr>>> for DeniedAddresses {
    type Error = TooMany;

    fn try_from(names: BTreeMap<Name, BTreeSet<IpAddr>>) -> Result<Self, TooMany> {
        let pairs = names.into_iter().flat_map(|(name, addresses)| {
            addresses.into_iter().map(move |address| (name.clone(), address))
        });
        Self::new(pairs)
    }
}

impl From<DeniedAddresses> for BTreeMap<Name, BTreeSet<IpAddr>> {
    fn from(denied: DeniedAddresses) -> Self {
        denied.0
    }
}
