//! `allow_out` or `deny_out`, compiled for lookups.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::entry::{Entry, Target};
use super::name::{DomainPattern, Name};
use super::ports::{PortRange, Ports, covers, specificity};
use super::ranges::Ranges;

/// Names, each with the ports of its entries.
type Names = BTreeMap<Name, Vec<Option<PortRange>>>;

/// One list of a policy, compiled for lookups. Of several entries with the same target, the one with
/// the fewest ports comes first.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    pub(super) ranges: Ranges<Entry>,
    pub(super) exact: Names,
    /// The names that follow the `*.` of wildcard entries.
    below: Names,
    /// The ports to which at least one entry with a name applies.
    name_ports: Ports,
}

impl Entries {
    pub(super) fn new(entries: &[Entry]) -> Self {
        let mut sorted: Vec<&Entry> = entries.iter().collect();
        sorted.sort_by_key(|entry| specificity(entry.ports));
        let (mut ranges, mut exact, mut below) = (Vec::new(), Names::new(), Names::new());
        for entry in sorted {
            match &entry.target {
                Target::Address(range) => ranges.push((*range, entry.clone())),
                Target::Domain(DomainPattern::Exact(name)) => {
                    exact.entry(name.clone()).or_default().push(entry.ports);
                }
                Target::Domain(DomainPattern::Below(parent)) => {
                    below.entry(parent.clone()).or_default().push(entry.ports);
                }
            }
        }
        let name_ports = exact.values().chain(below.values()).flatten().copied().collect();
        Self { ranges: Ranges::new(ranges), exact, below, name_ports }
    }

    /// The entry that contains the address and the port, if this list is `allow_out`. For an IPv6
    /// address that embeds an IPv4 address, a range that is wider than the embedding's prefix does
    /// not match.
    pub(super) fn match_as_allow(&self, address: IpAddr, port: Option<u16>) -> Option<&Entry> {
        self.ranges.find_within_embedding(address, |entry| covers(entry.ports, port))
    }

    /// The entry that contains the address and the port, if this list is `deny_out`. A range matches
    /// however wide it is.
    pub(super) fn match_as_deny(&self, address: IpAddr, port: Option<u16>) -> Option<&Entry> {
        self.ranges.find(address, |entry| covers(entry.ports, port))
    }

    /// The entry that matches the name and the port: the name itself, or the wildcard with the
    /// longest suffix.
    pub(super) fn match_name(&self, name: &Name, port: Option<u16>) -> Option<Entry> {
        let covering =
            |all: &Vec<Option<PortRange>>| all.iter().copied().find(|ports| covers(*ports, port));
        let entry = |pattern, ports| Entry { target: Target::Domain(pattern), ports };
        if let Some(ports) = self.exact.get(name).and_then(covering) {
            return Some(entry(DomainPattern::Exact(name.clone()), ports));
        }
        name.ancestors().find_map(|ancestor| {
            let (parent, all) = self.below.get_key_value(ancestor)?;
            Some(entry(DomainPattern::Below(parent.clone()), covering(all)?))
        })
    }

    /// The ports of each entry that matches the name on any port.
    pub(super) fn ports_of_name<'a>(
        &'a self,
        name: &'a Name,
    ) -> impl Iterator<Item = Option<PortRange>> + 'a {
        let below = name.ancestors().filter_map(|ancestor| self.below.get(ancestor));
        self.exact.get(name).into_iter().chain(below).flatten().copied()
    }

    /// The ports of each entry that contains the address on any port.
    pub(super) fn ports_of_address(
        &self,
        address: IpAddr,
    ) -> impl Iterator<Item = Option<PortRange>> + '_ {
        self.ranges.containing(address).map(|(_, entry)| entry.ports)
    }

    /// The ports of each entry.
    pub(super) fn all_ports(&self) -> impl Iterator<Item = Option<PortRange>> {
        let of_ranges = self.ranges.longest_first().into_iter().map(|(_, entry)| entry.ports);
        let of_names = self.exact.values().chain(self.below.values()).flatten().copied();
        of_ranges.chain(of_names)
    }

    /// The ports to which at least one entry with a name applies.
    pub(super) fn name_ports(&self) -> &Ports {
        &self.name_ports
    }
}
