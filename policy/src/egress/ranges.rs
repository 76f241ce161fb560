//! A map from ranges of addresses to values. The longest prefix wins.
//!
//! A range may have several values. A lookup chooses among them by a condition, for example a port.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::embedded::{EMBEDDINGS, embedding};

/// Ranges, each with values. An IPv4 range also covers the IPv6 addresses that embed its
/// addresses.
#[derive(Clone, Debug)]
pub(super) struct Ranges<T> {
    map: BTreeMap<IpNet, Vec<T>>,
    /// The prefix lengths that occur, longest first. A lookup probes the map once per length.
    v4: Vec<u8>,
    v6: Vec<u8>,
}

impl<T: Clone> Ranges<T> {
    /// Builds the map. The values of a range keep their order.
    pub(super) fn new(entries: impl IntoIterator<Item = (IpNet, T)>) -> Self {
        let mut map: BTreeMap<IpNet, Vec<T>> = BTreeMap::new();
        for (range, value) in entries {
            let range = range.trunc();
            if let IpNet::V4(v4) = range {
                for embedding in EMBEDDINGS {
                    map.entry(embedding.project(v4)).or_default().push(value.clone());
                }
            }
            map.entry(range).or_default().push(value);
        }
        let lengths = |is_v4: bool| {
            let of_family = map.keys().filter(|range| range.addr().is_ipv4() == is_v4);
            let mut lengths: Vec<u8> = of_family.map(IpNet::prefix_len).collect();
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
            lengths
        };
        Self { v4: lengths(true), v6: lengths(false), map }
    }

    /// The first value of the longest range that contains the address.
    pub(super) fn get(&self, address: IpAddr) -> Option<&T> {
        self.find(address, |_| true)
    }

    /// Like [`Self::get`], but only considers values for which `is_match` returns true.
    pub(super) fn find(&self, address: IpAddr, is_match: impl Fn(&T) -> bool) -> Option<&T> {
        self.containing(address).map(|(_, value)| value).find(|value| is_match(value))
    }

    /// Like [`Self::find`], but for an IPv6 address that embeds an IPv4 address, ranges wider than
    /// the embedding's prefix don't count. For example, allowing `::/0` does not allow IPv4
    /// addresses through NAT64.
    pub(super) fn find_within_embedding(
        &self,
        address: IpAddr,
        is_match: impl Fn(&T) -> bool,
    ) -> Option<&T> {
        let (range, value) = self.containing(address).find(|(_, value)| is_match(value))?;
        let min_length = embedding(address).map_or(0, |embedding| embedding.range().prefix_len());
        (range.prefix_len() >= min_length).then_some(value)
    }

    /// The values of all ranges that contain the address, the longest prefixes first.
    pub(super) fn containing(&self, address: IpAddr) -> impl Iterator<Item = (IpNet, &T)> {
        let lengths = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        lengths.iter().flat_map(move |length| {
            let range = IpNet::new(address, *length).ok().map(|range| range.trunc());
            let found = range.and_then(|range| Some((range, self.map.get(&range)?)));
            found.into_iter().flat_map(|(range, values)| values.iter().map(move |v| (range, v)))
        })
    }

    /// All values with their ranges, the longest prefixes first.
    pub(super) fn longest_first(&self) -> Vec<(IpNet, &T)> {
        let values =
            self.map.iter().flat_map(|(range, values)| values.iter().map(|value| (*range, value)));
        let mut all: Vec<(IpNet, &T)> = values.collect();
        all.sort_by_key(|(range, _)| std::cmp::Reverse(range.prefix_len()));
        all
    }
}
