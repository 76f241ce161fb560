//! The addresses of denied names, for as long as clients may hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use sandgate_policy::egress::{DeniedAddresses, Name};
use tokio::time::Instant;

use super::schedule::Question;
use crate::dns::{Family, Pair};

/// How many addresses there may be of names that are looked up.
pub const RESOLVED: usize = 1_024;
/// How many of each for a family: whoever owns a denied name decides how many it has.
pub const OF_ONE: usize = 64;
/// How many may come of names that were only seen: a sandbox decides how many it has seen.
pub const SEEN: usize = 256;
/// How long an address stays that DNS does not have any more: clients hold it, and rotating answers come
/// round again.
pub const LINGERS: Duration = Duration::from_secs(30 * 60);
/// How long an address stays while nobody answers.
pub const HELD: Duration = Duration::from_secs(24 * 3_600);

/// All of them.
#[derive(Debug)]
pub struct Table {
    resolved: Pool,
    seen: Pool,
}

impl Default for Table {
    fn default() -> Self {
        Self { resolved: Pool::new(RESOLVED), seen: Pool::new(SEEN) }
    }
}

impl Table {
    /// An answer of DNS, which says all that there is.
    pub fn resolved(&mut self, question: &Question, addresses: &BTreeSet<IpAddr>, now: Instant) {
        let of_family = |address: &IpAddr| address.is_ipv4() == (question.family == Family::V4);
        let current: BTreeSet<&IpAddr> =
            addresses.iter().filter(|address| of_family(address)).take(OF_ONE).collect();
        for ((name, address), until) in &mut self.resolved.pairs {
            if *name == question.name && of_family(address) && !current.contains(address) {
                *until = (*until).min(now + LINGERS);
            }
        }
        for address in current {
            self.resolved.hold((question.name.clone(), *address), now + HELD, now);
        }
    }

    /// An address that came by.
    pub fn saw(&mut self, pair: Pair, now: Instant) {
        self.seen.hold(pair, now + LINGERS, now);
    }

    /// Forgets what was looked up of other names than these. What was seen is judged by who denies.
    pub fn forget_resolved_but(&mut self, names: &BTreeSet<Name>) {
        self.resolved.pairs.retain(|(name, _), _| names.contains(name));
    }

    /// What is known now.
    pub fn known(&mut self, now: Instant) -> DeniedAddresses {
        let pools = [&mut self.resolved, &mut self.seen];
        for pool in pools {
            pool.pairs.retain(|_, until| *until > now);
        }
        let pairs = self.resolved.pairs.keys().chain(self.seen.pairs.keys());
        // The pools are smaller than what it takes.
        DeniedAddresses::new(pairs.cloned()).unwrap_or_default()
    }
}

/// A bounded number of pairs, each with the time at which it is forgotten.
#[derive(Debug)]
struct Pool {
    pairs: BTreeMap<Pair, Instant>,
    most: usize,
    told: bool,
}

impl Pool {
    fn new(most: usize) -> Self {
        Self { pairs: BTreeMap::new(), most, told: false }
    }

    /// Where there is no room, the oldest makes some that DNS does not have any more. Where there is none
    /// such, what was there first stays: it would come back with the next answer, and so on for ever.
    fn hold(&mut self, pair: Pair, until: Instant, now: Instant) {
        if self.pairs.len() >= self.most && !self.pairs.contains_key(&pair) {
            let oldest = self.pairs.iter().min_by_key(|(_, until)| **until);
            let gone = oldest.filter(|(_, until)| **until <= now + LINGERS);
            let Some(gone) = gone.map(|(pair, _)| pair.clone()) else {
                if !std::mem::replace(&mut self.told, true) {
                    let (name, address) = pair;
                    tracing::warn!(%name, %address, "denied names have too many addresses: some are not known");
                }
                return;
            };
            self.pairs.remove(&gone);
        }
        self.pairs.insert(pair, until);
    }
}

const _: () = assert!(RESOLVED + SEEN <= DeniedAddresses::MAX, "what is known fits");

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
    fn an_address_that_is_gone_from_dns_stays_for_a_while() {
        let (mut table, start) = (Table::default(), Instant::now());
        let (a, aaaa) = (question("a.test", Family::V4), question("a.test", Family::V6));
        table.resolved(&a, &addresses(&["1.1.1.1", "2.2.2.2"]), start);
        table.resolved(&aaaa, &addresses(&["2606::1"]), start);
        let later = start + Duration::from_secs(60);
        table.resolved(&a, &addresses(&["2.2.2.2", "3.3.3.3"]), later);
        let all = ["a.test 1.1.1.1", "a.test 2.2.2.2", "a.test 3.3.3.3", "a.test 2606::1"];
        assert_eq!(known(&mut table, later + LINGERS - Duration::from_secs(1)), all);
        assert_eq!(known(&mut table, later + LINGERS), all[1..]);
    }

    #[test]
    fn an_address_that_comes_back_is_as_new() {
        let (mut table, start) = (Table::default(), Instant::now());
        let a = question("a.test", Family::V4);
        table.resolved(&a, &addresses(&["1.1.1.1"]), start);
        table.resolved(&a, &addresses(&[]), start);
        table.resolved(&a, &addresses(&["1.1.1.1"]), start + LINGERS / 2);
        assert_eq!(known(&mut table, start + LINGERS * 2), ["a.test 1.1.1.1"]);
    }

    #[test]
    fn an_address_stays_for_a_day_without_an_answer() {
        let (mut table, start) = (Table::default(), Instant::now());
        table.resolved(&question("a.test", Family::V4), &addresses(&["1.1.1.1"]), start);
        assert_eq!(known(&mut table, start + HELD - Duration::from_secs(1)).len(), 1);
        assert!(known(&mut table, start + HELD).is_empty());
    }

    #[test]
    fn names_that_are_denied_no_more_are_forgotten() {
        let (mut table, start) = (Table::default(), Instant::now());
        for name in ["a.test", "b.test"] {
            table.resolved(&question(name, Family::V4), &addresses(&["1.1.1.1"]), start);
        }
        table.forget_resolved_but(&BTreeSet::from([name("b.test")]));
        assert_eq!(known(&mut table, start), ["b.test 1.1.1.1"], "one address may be of two names");
    }

    #[test]
    fn one_name_does_not_take_all_the_room() {
        let (mut table, start) = (Table::default(), Instant::now());
        let many = (0..1_000).map(|bits: u32| std::net::Ipv4Addr::from(bits).into()).collect();
        table.resolved(&question("a.test", Family::V4), &many, start);
        assert_eq!(known(&mut table, start).len(), OF_ONE);
    }

    #[test]
    fn what_a_sandbox_sees_pushes_nothing_out_that_was_looked_up() {
        let (mut table, start) = (Table::default(), Instant::now());
        table.resolved(&question("a.test", Family::V4), &addresses(&["1.1.1.1"]), start);
        for bits in 0..10_000_u32 {
            let now = start + Duration::from_millis(bits.into());
            table.saw((name("x.bad.test"), std::net::Ipv4Addr::from(bits).into()), now);
        }
        let known = known(&mut table, start + Duration::from_secs(10));
        assert_eq!(known.len(), SEEN + 1);
        assert!(known.contains(&"a.test 1.1.1.1".to_owned()));
        assert!(known.contains(&"x.bad.test 0.0.39.15".to_owned()), "the newest stay");
    }

    #[test]
    fn where_there_is_no_room_what_dns_has_no_more_goes_first_and_nothing_goes_in_circles() {
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
        fill(&mut table, 0..RESOLVED + 10, start);
        let first = known(&mut table, start);
        assert_eq!(first.len(), RESOLVED);
        let later = start + Duration::from_secs(60);
        fill(&mut table, 0..RESOLVED + 10, later);
        assert_eq!(known(&mut table, later), first);
        table.resolved(&question("n0.test", Family::V4), &addresses(&[]), later);
        fill(&mut table, RESOLVED..RESOLVED + 1, later);
        let now = known(&mut table, later);
        assert!(!now.contains(&"n0.test 0.0.0.0".to_owned()));
        assert!(now.contains(&format!("n{RESOLVED}.test 0.0.4.0")));
    }
}
