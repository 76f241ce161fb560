//! The addresses that denied names have, as far as the agent knows: what a connection without a name
//! may be for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::embedded::innermost;
use super::entry::Entry;
use super::name::Name;
use super::operator::RuleOrder;
use super::policy::Policy;
use super::ranges::Ranges;
use super::rule::Rule;

/// Names and addresses that go together, at most [`Self::MAX`] pairs.
///
/// Addresses are held as they are judged: one that carries an IPv4 address is the address inside.
/// What a policy does not deny by name is of no account in it.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<Name, BTreeSet<IpAddr>>", into = "BTreeMap<Name, BTreeSet<IpAddr>>")]
pub struct DeniedAddresses(BTreeMap<Name, BTreeSet<IpAddr>>);

/// There are more pairs than one sidecar takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("there are {0} addresses of denied names; at most {max} are allowed", max = DeniedAddresses::MAX)]
pub struct TooMany(usize);

impl DeniedAddresses {
    /// How many pairs there may be.
    pub const MAX: usize = 2_048;

    /// From pairs, in any order.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn new(pairs: impl IntoIterator<Item = (Name, IpAddr)>) -> Result<Self, TooMany> {
        let mut names: BTreeMap<Name, BTreeSet<IpAddr>> = BTreeMap::new();
        for (name, address) in pairs {
            names.entry(name).or_default().insert(innermost(address));
        }
        match names.values().map(BTreeSet::len).sum() {
            count if count > Self::MAX => Err(TooMany(count)),
            _ => Ok(Self(names)),
        }
    }

    /// Each name with each of its addresses, in the order of names.
    pub fn pairs(&self) -> impl Iterator<Item = (&Name, IpAddr)> {
        self.0.iter().flat_map(|(name, addresses)| addresses.iter().map(move |ip| (name, *ip)))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs().next().is_none()
    }
}

impl Policy {
    /// The same policy, knowing which addresses some names have. Those of names that are denied count
    /// for what shows no name.
    #[must_use]
    pub fn knowing(mut self, addresses: &DeniedAddresses) -> Self {
        let rules = addresses.pairs().filter_map(|(name, address)| {
            let entry = self.denies_name(name)?;
            Some((address.into(), Rule::DenyOutAt(entry, address)))
        });
        self.unnamed = Ranges::new(rules);
        self
    }

    /// The names that are denied by themselves, and whose addresses could change a verdict: without
    /// internet, those alone are reached that `allow_out` has, which comes first.
    pub fn denied_names(&self) -> impl Iterator<Item = &Name> {
        let counts = self.internet || self.order == RuleOrder::DenyFirst;
        self.deny.exact.iter().filter(move |name| counts && self.denies_name(name).is_some())
    }

    /// The entry by which a name may not be reached, whatever address it has.
    fn denies_name(&self, name: &Name) -> Option<Entry> {
        match self.judge_dial(name).rule() {
            Rule::DenyOut(entry) => Some(entry.clone()),
            _ => None,
        }
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
