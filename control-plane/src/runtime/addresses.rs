//! Assignment of addresses, or of blocks of them, from the range of a runtime.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use tokio::time::{Duration, Instant};

/// How long a released address is not assigned again. After that, no connection to it is left, and no gateway has
/// it cached.
const QUARANTINE: Duration = Duration::from_secs(60);

/// A range of addresses, which are assigned in ascending order.
pub(super) struct Addresses {
    first: u32,
    /// The distance between two assigned addresses.
    size: u32,
    count: u32,
    next: u32,
    used: HashSet<Ipv4Addr>,
    quarantined: VecDeque<(Instant, Ipv4Addr)>,
    network: Ipv4Net,
}

impl Addresses {
    /// Assigns single addresses of `network`. `seed` determines the first one.
    pub(super) fn single(network: Ipv4Net, seed: u32) -> Self {
        // Tools treat the first two addresses and the last one of a network specially.
        let first = u32::from(network.network()).saturating_add(2);
        let last = u32::from(network.broadcast()).saturating_sub(1);
        let count = (last.saturating_add(1)).saturating_sub(first);
        Self::starting_at(seed, Self::empty(network, first, 1, count))
    }

    /// Assigns blocks of `size` addresses of `network`, by their first address. `seed` determines the first block.
    pub(super) fn blocks(network: Ipv4Net, size: u32, seed: u32) -> Self {
        let all = u32::from(network.broadcast()) - u32::from(network.network());
        let count = all.saturating_add(1).checked_div(size).unwrap_or(0);
        Self::starting_at(seed, Self::empty(network, network.network().into(), size, count))
    }

    fn empty(network: Ipv4Net, first: u32, size: u32, count: u32) -> Self {
        let (used, quarantined) = (HashSet::new(), VecDeque::new());
        Self { first, size, count, next: 0, used, quarantined, network }
    }

    fn starting_at(seed: u32, addresses: Self) -> Self {
        Self { next: seed.checked_rem(addresses.count).unwrap_or(0), ..addresses }
    }

    pub(super) fn network(&self) -> IpNet {
        IpNet::V4(self.network)
    }

    /// Assigns the next free address. Returns `None` if all are used or quarantined.
    pub(super) fn take(&mut self, now: Instant) -> Option<IpAddr> {
        while self
            .quarantined
            .front()
            .is_some_and(|(since, _)| now.duration_since(*since) >= QUARANTINE)
        {
            if let Some((_, address)) = self.quarantined.pop_front() {
                self.used.remove(&address);
            }
        }
        for _ in 0..self.count {
            let candidate =
                Ipv4Addr::from(self.first.saturating_add(self.next.saturating_mul(self.size)));
            self.next = self.next.saturating_add(1).checked_rem(self.count).unwrap_or(0);
            if !self.used.contains(&candidate) {
                self.used.insert(candidate);
                return Some(IpAddr::V4(candidate));
            }
        }
        None
    }

    /// Puts an address into quarantine.
    pub(super) fn release(&mut self, address: IpAddr, now: Instant) {
        if let IpAddr::V4(address) = address {
            self.quarantined.push_back((now, address));
        }
    }
}

/// A seed by which a restart does not assign the former addresses again at once.
pub(super) fn random_seed() -> u32 {
    let mut seed = [0; 4];
    getrandom::fill(&mut seed).map_or(0, |()| u32::from_le_bytes(seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(network: &str) -> Addresses {
        Addresses::single(network.parse().unwrap(), 0)
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_address_is_not_assigned_before_the_end_of_its_quarantine() {
        let mut pool = addresses("127.64.0.0/29");
        let now = Instant::now();
        let all: Vec<_> = std::iter::from_fn(|| pool.take(now)).map(|a| a.to_string()).collect();
        assert_eq!(all, ["127.64.0.2", "127.64.0.3", "127.64.0.4", "127.64.0.5", "127.64.0.6"]);
        let freed: IpAddr = "127.64.0.4".parse().unwrap();
        pool.release(freed, now);
        assert_eq!(pool.take(now + QUARANTINE / 2), None);
        assert_eq!(pool.take(now + QUARANTINE), Some(freed));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_are_assigned_in_order_rather_than_reused() {
        let mut pool = addresses("127.64.0.0/24");
        let now = Instant::now();
        let first = pool.take(now).unwrap();
        pool.release(first, now);
        assert_ne!(pool.take(now + QUARANTINE * 2).unwrap(), first);
    }

    #[tokio::test(start_paused = true)]
    async fn blocks_do_not_overlap_and_fill_the_network() {
        let mut pool = Addresses::blocks("10.203.0.0/27".parse().unwrap(), 8, 3);
        let now = Instant::now();
        let all: Vec<_> = std::iter::from_fn(|| pool.take(now)).map(|a| a.to_string()).collect();
        assert_eq!(all, ["10.203.0.24", "10.203.0.0", "10.203.0.8", "10.203.0.16"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_that_is_too_small_has_no_addresses() {
        for network in ["127.0.0.1/32", "127.0.0.0/31"] {
            assert_eq!(addresses(network).take(Instant::now()), None);
        }
    }
}
