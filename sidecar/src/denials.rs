//! Reports what the enforcers have denied to the control plane, for the owner of the sandbox.
//!
//! The sandbox chooses how often something is denied, so what is kept is bounded: a number of different denials, and the count of
//! all others. Three sources add to it:
//!
//! - the DNS proxy, for denied names;
//! - the packet log, for packets that nftables refuses;
//! - Envoy's access log ([`envoy_log`]), for connections and requests.
//!
//! [`reporter`] sends it. Nothing waits for the control plane: while it can't be reached, the counts grow.

pub(crate) mod envoy_log;
pub(crate) mod reporter;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sandgate_policy::denials::{Counted, Denials, MAX_DENIALS, OutboundDenial, Protocol};
use sandgate_policy::egress::VirtualMeaning;

/// The denials since the last report. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct DenialReport {
    pending: Arc<Mutex<Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    counts: BTreeMap<OutboundDenial, u64>,
    more: u64,
    virtual_addresses: BTreeMap<IpAddr, VirtualMeaning>,
}

impl DenialReport {
    /// Counts a denial.
    pub fn add(&self, denial: OutboundDenial) {
        let mut pending = self.lock();
        let denial = pending.with_virtual_name(denial).cleaned();
        pending.add(denial, 1);
    }

    /// Sets the names that destinations with virtual addresses have in a report.
    pub(crate) fn set_virtual_addresses(&self, addresses: BTreeMap<IpAddr, VirtualMeaning>) {
        self.lock().virtual_addresses = addresses;
    }

    /// Counts denials about which nothing else is known.
    pub(crate) fn add_more(&self, count: u64) {
        let mut pending = self.lock();
        pending.more = pending.more.saturating_add(count);
    }

    /// Takes what is to be reported, if there is anything.
    fn take(&self) -> Option<Denials<OutboundDenial>> {
        let mut pending = self.lock();
        let (counts, more) =
            (std::mem::take(&mut pending.counts), std::mem::take(&mut pending.more));
        if counts.is_empty() && more == 0 {
            return None;
        }
        let denials = counts.into_iter().map(|(denial, count)| Counted { denial, count }).collect();
        Some(Denials { denials, more })
    }

    /// Keeps a report that could not be sent, for the next one.
    fn put_back(&self, report: Denials<OutboundDenial>) {
        let mut pending = self.lock();
        pending.more = pending.more.saturating_add(report.more);
        for Counted { denial, count } in report.denials {
            pending.add(denial, count);
        }
    }

    /// The counts are valid even if another thread panicked.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    /// Only the sidecar knows what a virtual address means.
    fn with_virtual_name(&self, denial: OutboundDenial) -> OutboundDenial {
        let address = denial.destination.parse().ok();
        match address.and_then(|address: IpAddr| self.virtual_addresses.get(&address)) {
            Some(VirtualMeaning::Name(name)) if denial.protocol != Protocol::Dns => {
                OutboundDenial { destination: name.to_string(), ..denial }
            }
            _ => denial,
        }
    }

    fn add(&mut self, denial: OutboundDenial, count: u64) {
        if let Some(counted) = self.counts.get_mut(&denial) {
            *counted = counted.saturating_add(count);
        } else if self.counts.len() < MAX_DENIALS {
            self.counts.insert(denial, count);
        } else {
            self.more = self.more.saturating_add(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use sandgate_policy::denials::Protocol;

    use super::*;

    fn name(destination: &str) -> OutboundDenial {
        let (destination, rule) = (destination.to_owned(), "default deny".to_owned());
        OutboundDenial { destination, name: None, port: None, protocol: Protocol::Dns, rule }
    }

    fn total(report: &Denials<OutboundDenial>) -> u64 {
        report.denials.iter().map(|one| one.count).sum::<u64>() + report.more
    }

    #[test]
    fn equal_denials_are_counted_and_reported_once() {
        let report = DenialReport::default();
        assert_eq!(report.take(), None);
        for destination in ["a.test", "b.test", "A.TEST"] {
            report.add(name(destination));
        }
        let taken = report.take().unwrap();
        let counts: Vec<_> =
            taken.denials.iter().map(|one| (one.denial.destination.as_str(), one.count)).collect();
        assert_eq!((counts, taken.more), (vec![("a.test", 2), ("b.test", 1)], 0));
        assert_eq!(report.take(), None);
    }

    /// The attack: a connection to the virtual address of an allowed name shows another name.
    #[test]
    fn a_virtual_address_is_reported_as_its_name_whatever_name_is_shown() {
        let report = DenialReport::default();
        let meaning = VirtualMeaning::Name("allowed.test".parse().unwrap());
        report.set_virtual_addresses(BTreeMap::from([("198.18.0.10".parse().unwrap(), meaning)]));
        let connection = |name: &str| OutboundDenial {
            name: Some(name.to_owned()),
            port: Some(443),
            protocol: Protocol::Tcp,
            ..self::name("198.18.0.10")
        };
        report.add(connection("allowed.test"));
        report.add(connection("other.test"));
        report.add(name("198.18.0.10"));
        let taken = report.take().unwrap();
        let seen: Vec<_> = taken
            .denials
            .iter()
            .map(|one| (one.denial.destination.as_str(), one.denial.name.as_deref()))
            .collect();
        let expected =
            [("198.18.0.10", None), ("allowed.test", None), ("allowed.test", Some("other.test"))];
        assert_eq!(seen, expected);
    }

    /// The attack: the sandbox asks for a million names while the control plane can't be reached.
    #[test]
    fn a_scan_takes_bounded_room_and_loses_no_count() {
        let report = DenialReport::default();
        for round in 0..1_000 {
            for number in 0..1_000 {
                report.add(name(&format!("n{number}.r{round}.test")));
            }
            if round % 100 == 0 {
                let taken = report.take().unwrap();
                assert_eq!(taken.denials.len(), MAX_DENIALS);
                report.put_back(taken);
            }
        }
        report.add_more(5);
        let taken = report.take().unwrap();
        assert_eq!((taken.denials.len(), total(&taken)), (MAX_DENIALS, 1_000_005));
    }
}
