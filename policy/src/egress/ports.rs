//! Ports of TCP and UDP: the port or the range of an entry, and sets of ports.

use std::fmt;

/// The ports of an entry: one port, or a range. Port 0 is not in it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PortRange {
    first: u16,
    last: u16,
}

/// The text is not a port from 1 to 65535, and not a range of ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a port")]
pub(super) struct InvalidPorts;

impl PortRange {
    /// Parses `443` or `8000-8100`: decimal numbers without leading zeros, and the smaller one
    /// first.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidPorts> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (parse_port(first)?, parse_port(last)?);
        if first <= last { Ok(Self { first, last }) } else { Err(InvalidPorts) }
    }

    /// The port, if the range has only one.
    #[must_use]
    pub fn single(self) -> Option<u16> {
        (self.first == self.last).then_some(self.first)
    }

    fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    fn len(self) -> u16 {
        self.last - self.first
    }
}

/// Parses a port from 1 to 65535.
pub(super) fn parse_port(text: &str) -> Result<u16, InvalidPorts> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| canonical).ok_or(InvalidPorts)
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            self.first.fmt(f)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Whether an entry with these ports applies to traffic. `port` is the destination port, or `None`
/// if the traffic has no ports (ICMP). Only an entry without ports applies to that.
pub(super) fn covers(ports: Option<PortRange>, port: Option<u16>) -> bool {
    match (ports, port) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(ports), Some(port)) => ports.contains(port),
    }
}

/// Sorts the entries of one target by how many ports they have, the fewest first. The rule of a
/// verdict is the first entry that covers the port.
pub(super) fn specificity(ports: Option<PortRange>) -> (bool, u16) {
    (ports.is_none(), ports.map_or(0, PortRange::len))
}

/// A set of ports. It also says whether it contains traffic without ports (ICMP).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ports {
    portless: bool,
    /// Sorted. Two ranges neither overlap nor touch.
    ranges: Vec<(u16, u16)>,
}

impl Ports {
    /// All ports, and traffic without ports.
    #[must_use]
    pub fn all() -> Self {
        Self { portless: true, ranges: vec![(0, u16::MAX)] }
    }

    /// The empty set.
    #[must_use]
    pub fn none() -> Self {
        Self { portless: false, ranges: Vec::new() }
    }

    /// Whether the set contains everything.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::all()
    }

    /// Whether the set contains nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.portless && self.ranges.is_empty()
    }

    /// Whether the set contains traffic without ports.
    #[must_use]
    pub fn has_portless(&self) -> bool {
        self.portless
    }

    /// The ranges of ports, as their first and last ports, in ascending order.
    #[must_use]
    pub fn ranges(&self) -> &[(u16, u16)] {
        &self.ranges
    }

    /// Whether the set contains the port, or, for `None`, traffic without ports.
    #[must_use]
    pub fn contains(&self, port: Option<u16>) -> bool {
        let Some(port) = port else { return self.portless };
        let next = self.ranges.partition_point(|(_, last)| *last < port);
        self.ranges.get(next).is_some_and(|(first, _)| *first <= port)
    }

    /// The ports of this set and of the other one.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let ranges = self.ranges.iter().chain(&other.ranges).copied();
        Self { portless: self.portless || other.portless, ranges: merge(ranges.collect()) }
    }

    /// The ports of this set that are not in the other one.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let portless = !other.portless;
        let mut ranges = Vec::new();
        let mut next = Some(0_u16);
        for (first, last) in &other.ranges {
            let before = next.and_then(|next| Some((next, first.checked_sub(1)?)));
            ranges.extend(before.filter(|(first, last)| first <= last));
            next = last.checked_add(1);
        }
        ranges.extend(next.map(|next| (next, u16::MAX)));
        self.intersection(&Self { portless, ranges })
    }

    /// The ports that are in both sets.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let common = |(first, last): (u16, u16)| {
            let from = other.ranges.partition_point(move |(_, end)| *end < first);
            let near = other.ranges.get(from..).unwrap_or_default();
            let overlapping = near.iter().take_while(move |(start, _)| *start <= last);
            overlapping.map(move |(start, end)| (first.max(*start), last.min(*end)))
        };
        let ranges = self.ranges.iter().copied().flat_map(common).collect();
        Self { portless: self.portless && other.portless, ranges }
    }

    /// A member of the set. For the members of a set of [`Self::segments`], every decision is the
    /// same.
    pub(super) fn sample(&self) -> Option<u16> {
        self.ranges.first().map(|(first, _)| *first)
    }

    /// Divides everything into sets, so that each entry covers either all or none of a set.
    pub(super) fn segments(entries: impl IntoIterator<Item = Option<PortRange>>) -> Vec<Self> {
        let ranges: Vec<PortRange> = entries.into_iter().flatten().collect();
        if ranges.is_empty() {
            return vec![Self::all()];
        }
        let mut starts: Vec<u16> = vec![0];
        starts.extend(ranges.iter().map(|range| range.first));
        starts.extend(ranges.iter().filter_map(|range| range.last.checked_add(1)));
        starts.sort_unstable();
        starts.dedup();
        let ends = starts.iter().skip(1).map(|start| start - 1).chain([u16::MAX]);
        let with_ports = starts.iter().zip(ends);
        let with_ports =
            with_ports.map(|(first, last)| Self { portless: false, ranges: vec![(*first, last)] });
        [Self { portless: true, ranges: Vec::new() }].into_iter().chain(with_ports).collect()
    }
}

impl From<Option<PortRange>> for Ports {
    /// The ports that an entry covers.
    fn from(ports: Option<PortRange>) -> Self {
        ports.map_or_else(Self::all, |range| Self {
            portless: false,
            ranges: vec![(range.first, range.last)],
        })
    }
}

impl FromIterator<Option<PortRange>> for Ports {
    /// The ports that at least one of the entries covers.
    fn from_iter<I: IntoIterator<Item = Option<PortRange>>>(entries: I) -> Self {
        let mut all = Self::none();
        for Self { portless, ranges } in entries.into_iter().map(Self::from) {
            all.portless |= portless;
            all.ranges.extend(ranges);
        }
        all.ranges = merge(all.ranges);
        all
    }
}

/// Sorts ranges, and merges those that overlap or touch.
fn merge(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u16, u16)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged
}
