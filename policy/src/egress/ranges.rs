//! A map from ranges of addresses to values. The longest prefix wins.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::embedded::{EMBEDDINGS, embedding};

/// Ranges, each with a value. An IPv4 range also covers the IPv6 addresses that embed its
/// addresses.
#[derive(Clone, Debug)]
pub(super) struct Ranges<T> {
    map: BTreeMap<IpNet, T>,
    /// The prefix lengths that occur, longest first. A lookup probes the map once per length.
    v4: Vec<u8>,
    v6: Vec<u8>,
}

impl<T: Clone> Ranges<T> {
    /// Builds the map. If a range occurs twice, the first value is kept.
    pub(super) fn new(entries: impl IntoIterator<Item = (IpNet, T)>) -> Self {
        let mut map = BTreeMap::new();
        for (range, value) in entries {
            let range = range.trunc();
            if let IpNet::V4(v4) = range {
                for embedding in EMBEDDINGS {
                    map.entry(embedding.project(v4)).or_insert_with(|| value.clone());
                }
            }
            map.entry(range).or_insert(value);
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

    /// The value of the longest range that contains the address.
    pub(super) fn get(&self, address: IpAddr) -> Option<&T> {
        self.longest(address).map(|(_, value)| value)
    }

    /// Like [`Self::get`], but for an IPv6 address that embeds an IPv4 address, ranges wider than
    /// the embedding's prefix don't count. For example, allowing `::/0` does not allow IPv4
    /// addresses through NAT64.
    pub(super) fn get_within_embedding(&self, address: IpAddr) -> Option<&T> {
        let (range, value) = self.longest(address)?;
        let min_length = embedding(address).map_or(0, |embedding| embedding.range().prefix_len());
        (range.prefix_len() >= min_length).then_some(value)
    }

    pub(super) fn longest_first(&self) -> Vec<(IpNet, &T)> {
        let mut all: Vec<(IpNet, &T)> =
            self.map.iter().map(|(range, value)| (*range, value)).collect();
        all.sort_by_key(|(range, _)| std::cmp::Reverse(range.prefix_len()));
        all
    }

    fn longest(&self, address: IpAddr) -> Option<(IpNet, &T)> {
        let lengths = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        lengths.iter().find_map(|length| {
            let range = IpNet::new(address, *length).ok()?.trunc();
            self.map.get(&range).map(|value| (range, value))
        })
    }
}
