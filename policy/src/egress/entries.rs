//! `allow_out` or `deny_out`, compiled for lookups.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::entry::Entry;
use super::name::{DomainPattern, Name};
use super::ranges::Ranges;

/// One list of a policy, compiled for lookups.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    pub(super) ranges: Ranges<IpNet>,
    pub(super) exact: BTreeSet<Name>,
    /// The names that follow the `*.` of wildcard entries.
    below: BTreeSet<Name>,
}

impl Entries {
    pub(super) fn new(entries: &[Entry]) -> Self {
        let ranges = entries.iter().filter_map(|entry| match entry {
            Entry::Address(range) => Some((*range, *range)),
            Entry::Domain(_) => None,
        });
        let patterns = || {
            entries.iter().filter_map(|entry| match entry {
                Entry::Address(_) => None,
                Entry::Domain(pattern) => Some(pattern),
            })
        };
        let exact = patterns().filter_map(|pattern| match pattern {
            DomainPattern::Below(_) => None,
            DomainPattern::Exact(name) => Some(name.clone()),
        });
        let below = patterns().filter_map(|pattern| match pattern {
            DomainPattern::Below(parent) => Some(parent.clone()),
            DomainPattern::Exact(_) => None,
        });
        Self { ranges: Ranges::new(ranges), exact: exact.collect(), below: below.collect() }
    }

    /// The entry that contains the address, if this list is `allow_out`. For an IPv6 address that
    /// embeds an IPv4 address, a range that is wider than the embedding's prefix does not match.
    pub(super) fn match_as_allow(&self, address: IpAddr) -> Option<Entry> {
        self.ranges.get_within_embedding(address).map(|range| Entry::Address(*range))
    }

    /// The entry that contains the address, if this list is `deny_out`. A range matches however
    /// wide it is.
    pub(super) fn match_as_deny(&self, address: IpAddr) -> Option<Entry> {
        self.ranges.get(address).map(|range| Entry::Address(*range))
    }

    /// The entry that matches the name: the name itself, or the wildcard with the longest suffix.
    pub(super) fn match_name(&self, name: &Name) -> Option<Entry> {
        if self.exact.contains(name) {
            return Some(Entry::Domain(DomainPattern::Exact(name.clone())));
        }
        let parent = name.ancestors().find_map(|ancestor| self.below.get(ancestor))?;
        Some(Entry::Domain(DomainPattern::Below(parent.clone())))
    }

    pub(super) fn has_names(&self) -> bool {
        !self.exact.is_empty() || !self.below.is_empty()
    }
}
