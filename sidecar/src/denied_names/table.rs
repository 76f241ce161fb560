//! The table of denied names' addresses. It keeps an address for as long as clients may use it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use sandgate_policy::egress::{DeniedAddresses, Name};
use tokio::time::Instant;

use super::schedule::Question;
use crate::dns::{Family, Pair};

/// The maximum number of addresses from lookups.
pub(crate) const MAX_RESOLVED: usize = 1_024;
/// The maximum number of addresses per name and family, because the owner of a denied name controls
/// their number.
pub(crate) const MAX_PER_QUESTION: usize = 64;
/// The maximum number of observed addresses, because the sandbox controls their number.
pub(crate) const MAX_OBSERVED: usize = 256;
/// How long the table keeps an address that DNS no longer returns: clients may still use it, and
/// rotating responses may return it again.
pub(crate) const KEEP_STALE: Duration = Duration::from_secs(30 * 60);
/// How long the table keeps an address if no lookup succeeds.
pub(crate) const KEEP: Duration = Duration::from_secs(24 * 3_600);

/// The addresses from lookups, and the addresses that the DNS proxy observed.
#[derive(Debug)]
pub(crate) struct Table {
    resolved: Pool,
    observed: Pool,
}

impl Default for Table {
    fn default() -> Self {
        Self { resolved: Pool::new(MAX_RESOLVED), observed: Pool::new(MAX_OBSERVED) }
    }
}

impl Table {
    /// Stores the response to a question. Earlier addresses that the response does not contain
    /// expire after [`KEEP_STALE`].
    pub(crate) fn resolved(
        &mut self,
        question: &Question,
        addresses: &BTreeSet<IpAddr>,
        now: Instant,
    ) {
        let of_family = |address: &IpAddr| address.is_ipv4() == (question.family == Family::V4);
        let current: BTreeSet<&IpAddr> =
            addresses.iter().filter(|address| of_family(address)).take(MAX_PER_QUESTION).collect();
        for ((name, address), until) in &mut self.resolved.pairs {
            if *name == question.name && of_family(address) && !current.contains(address) {
                *until = (*until).min(now + KEEP_STALE);
            }
        }
        for address in current {
            self.resolved.insert((question.name.clone(), *address), now + KEEP, now);
        }
    }

    /// Stores an address that the DNS proxy observed in a response to the sandbox.
    pub(crate) fn observe(&mut self, pair: Pair, now: Instant) {
        self.observed.insert(pair, now + KEEP_STALE, now);
    }

    /// Removes the addresses from lookups of names other than these. Observed addresses stay,
    /// because each policy ignores the names that it does not deny.
    pub(crate) fn retain_resolved(&mut self, names: &BTreeSet<Name>) {
        self.resolved.pairs.retain(|(name, _), _| names.contains(name));
    }

    /// Removes expired addresses and returns all others.
    pub(crate) fn known(&mut self, now: Instant) -> DeniedAddresses {
        let pools = [&mut self.resolved, &mut self.observed];
        for pool in pools {
            pool.pairs.retain(|_, until| *until > now);
        }
        let pairs = self.resolved.pairs.keys().chain(self.observed.pairs.keys());
        // Can't fail: the pools together hold at most `DeniedAddresses::MAX` pairs.
        DeniedAddresses::new(pairs.cloned()).unwrap_or_default()
    }
}

/// A bounded set of pairs, each with its expiry time.
#[derive(Debug)]
struct Pool {
    pairs: BTreeMap<Pair, Instant>,
    capacity: usize,
    warned: bool,
}

impl Pool {
    fn new(capacity: usize) -> Self {
        Self { pairs: BTreeMap::new(), capacity, warned: false }
    }

    /// Inserts a pair. If the pool is full, the pair replaces the oldest one that DNS no longer
    /// returns. If there is no such pair, the new pair is dropped: replacing a current pair would
    /// only alternate the two with each response.
    fn insert(&mut self, pair: Pair, until: Instant, now: Instant) {
        if self.pairs.len() >= self.capacity && !self.pairs.contains_key(&pair) {
            let oldest = self.pairs.iter().min_by_key(|(_, until)| **until);
            let stale = oldest.filter(|(_, until)| **until <= now + KEEP_STALE);
            let Some(stale) = stale.map(|(pair, _)| pair.clone()) else {
                if !std::mem::replace(&mut self.warned, true) {
                    let (name, address) = pair;
                    tracing::warn!(%name, %address, "denied names have too many addresses; an address is not stored");
                }
                return;
            };
            self.pairs.remove(&stale);
        }
        self.pairs.insert(pair, until);
    }
}

const _: () = assert!(MAX_RESOLVED + MAX_OBSERVED <= DeniedAddresses::MAX, "all pairs fit");

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn question(text: &str, family: Family) -> Question {
        Question { name: name(text), family }
    }

    fn addresses(texts: &[&str]) -> BTreeSet<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn known(table: &mut Table, now: Instant) -> Vec<String> {
        table.known(now).pairs().map(|(name, address)| format!("{name} {address}")).collect()
    }

    #[test]
    fn an_address_that_dns_no_longer_returns_is_kept_for_a_while() {
        let (mut table, start) = (Table::default(), Instant::now());
        let (a, aaaa) = (question("a.test", Family::V4), question("a.test", Family::V6));
        table.resolved(&a, &addresses(&["1.1.1.1", "2.2.2.2"]), start);
        table.resolved(&aaaa, &addresses(&["2606::1"]), start);
        let later = start + Duration::from_secs(60);
        table.resolved(&a, &addresses(&["2.2.2.2", "3.3.3.3"]), later);
        let all = ["a.test 1.1.1.1", "a.test 2.2.2.2", "a.test 3.3.3.3", "a.test 2606::1"];
        assert_eq!(known(&mut table, later + KEEP_STALE - Duration::from_secs(1)), all);
        assert_eq!(known(&mut table, later + KEEP_STALE), all[1..]);
    }

    #[test]
    fn an_address_that_dns_returns_again_is_current() {
        let (mut table, start) = (Table::default(), Instant::now());
        let a = question("a.test", Family::V4);
        table.resolved(&a, &addresses(&["1.1.1.1"]), start);
        table.resolved(&a, &addresses(&[]), start);
        table.resolved(&a, &addresses(&["1.1.1.1"]), start + KEEP_STALE / 2);
        assert_eq!(known(&mut table, start + KEEP_STALE * 2), ["a.test 1.1.1.1"]);
    }

    #[test]
    fn an_address_is_kept_for_a_day_without_a_response() {
        let (mut table, start) = (Table::default(), Instant::now());
        table.resolved(&question("a.test", Family::V4), &addresses(&["1.1.1.1"]), start);
        assert_eq!(known(&mut table, start + KEEP - Duration::from_secs(1)).len(), 1);
        assert!(known(&mut table, start + KEEP).is_empty());
    }

    #[test]
    fn addresses_of_names_that_are_no_longer_denied_are_removed() {
        let (mut table, start) = (Table::default(), Instant::now());
        for name in ["a.test", "b.test"] {
            table.resolved(&question(name, Family::V4), &addresses(&["1.1.1.1"]), start);
        }
        table.retain_resolved(&BTreeSet::from([name("b.test")]));
        assert_eq!(known(&mut table, start), ["b.test 1.1.1.1"], "one address may be of two names");
    }

    #[test]
    fn one_name_does_not_fill_the_table() {
        let (mut table, start) = (Table::default(), Instant::now());
        let many = (0..1_000).map(|bits: u32| std::net::Ipv4Addr::from(bits).into()).collect();
        table.resolved(&question("a.test", Family::V4), &many, start);
        assert_eq!(known(&mut table, start).len(), MAX_PER_QUESTION);
    }

    #[test]
    fn observed_addresses_never_replace_addresses_from_lookups() {
        let (mut table, start) = (Table::default(), Instant::now());
        table.resolved(&question("a.test", Family::V4), &addresses(&["1.1.1.1"]), start);
        for bits in 0..10_000_u32 {
            let now = start + Duration::from_millis(bits.into());
            table.observe((name("x.bad.test"), std::net::Ipv4Addr::from(bits).into()), now);
        }
        let known = known(&mut table, start + Duration::from_secs(10));
        assert_eq!(known.len(), MAX_OBSERVED + 1);
        assert!(known.contains(&"a.test 1.1.1.1".to_owned()));
        assert!(known.contains(&"x.bad.test 0.0.39.15".to_owned()), "the newest stay");
    }

    #[test]
    fn a_full_table_replaces_only_addresses_that_dns_no_longer_returns() {
        let (mut table, start) = (Table::default(), Instant::now());
        let fill = |table: &mut Table, names: std::ops::Range<usize>, now| {
            for number in names {
                let question = question(&format!("n{number}.test"), Family::V4);
                let bits = u32::try_from(number).unwrap();
                table.resolved(
                    &question,
                    &BTreeSet::from([std::net::Ipv4Addr::from(bits).into()]),
                    now,
                );
            }
        };
        fill(&mut table, 0..MAX_RESOLVED + 10, start);
        let first = known(&mut table, start);
        assert_eq!(first.len(), MAX_RESOLVED);
        let later = start + Duration::from_secs(60);
        fill(&mut table, 0..MAX_RESOLVED + 10, later);
        assert_eq!(known(&mut table, later), first);
        table.resolved(&question("n0.test", Family::V4), &addresses(&[]), later);
        fill(&mut table, MAX_RESOLVED..MAX_RESOLVED + 1, later);
        let now = known(&mut table, later);
        assert!(!now.contains(&"n0.test 0.0.0.0".to_owned()));
        assert!(now.contains(&format!("n{MAX_RESOLVED}.test 0.0.4.0")));
    }
}
