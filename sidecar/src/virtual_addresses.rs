//! Assigns virtual addresses to allowed names. The DNS proxy answers them, and Envoy's filter maps
//! them back to names, so that a policy can allow any protocol by name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use sandgate_policy::egress::guardrail::{VIRTUAL_V4, VIRTUAL_V6};
use sandgate_policy::egress::{DomainPattern, Name, NetworkPolicy, Target, VirtualMeaning};

/// The first number of a name. A number is an offset in the virtual ranges, and so determines one
/// address of each family. Numbers 0 and 1 are not used (the network address, and by convention the
/// router's), number 2 belongs to the wildcards, and 3 to 9 are reserved.
const FIRST_NUMBER: u32 = 10;
/// The number that all names share which only a wildcard allows.
const WILDCARD_NUMBER: u32 = 2;
/// The last number: the virtual IPv4 range without its last address.
const LAST_NUMBER: u32 = (1 << (32 - VIRTUAL_V4.prefix_len())) - 2;

/// The number of each name. A name keeps its number for the agent's lifetime, so that the addresses
/// that programs have cached stay valid.
#[derive(Debug, Default)]
pub(crate) struct VirtualAddresses {
    numbers: BTreeMap<Name, u32>,
}

impl VirtualAddresses {
    /// The table for these policies: one address per family for each exact name of `allow_out`, and
    /// one address per family for all names that a wildcard allows.
    pub(crate) fn table(
        &mut self,
        policies: &[&NetworkPolicy],
    ) -> BTreeMap<IpAddr, VirtualMeaning> {
        let mut names = BTreeSet::new();
        let mut wildcard = false;
        for entry in policies.iter().flat_map(|policy| &policy.allow_out) {
            match &entry.target {
                Target::Address(_) => {}
                Target::Domain(DomainPattern::Exact(name)) => drop(names.insert(name.clone())),
                Target::Domain(DomainPattern::Below(_)) => wildcard = true,
            }
        }
        let mut table = BTreeMap::new();
        let mut assign = |number: u32, meaning: &VirtualMeaning| {
            for address in addresses(number) {
                table.insert(address, meaning.clone());
            }
        };
        if wildcard {
            assign(WILDCARD_NUMBER, &VirtualMeaning::Wildcard);
        }
        for name in &names {
            if let Some(number) = self.number(name, &names) {
                assign(number, &VirtualMeaning::Name(name.clone()));
            }
        }
        table
    }

    /// The number of a name. If all numbers are assigned, takes the number of a name that is not in
    /// `needed`.
    fn number(&mut self, name: &Name, needed: &BTreeSet<Name>) -> Option<u32> {
        if let Some(number) = self.numbers.get(name) {
            return Some(*number);
        }
        let next = u32::try_from(self.numbers.len()).ok()?.checked_add(FIRST_NUMBER)?;
        let number = if next <= LAST_NUMBER {
            next
        } else {
            let unused = self.numbers.keys().find(|other| !needed.contains(*other))?.clone();
            self.numbers.remove(&unused)?
        };
        self.numbers.insert(name.clone(), number);
        Some(number)
    }
}

fn addresses(number: u32) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::from_bits(VIRTUAL_V4.network().to_bits() | number);
    let v6 = Ipv6Addr::from_bits(VIRTUAL_V6.network().to_bits() | u128::from(number));
    [v4.into(), v6.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow_out: &[&str]) -> NetworkPolicy {
        serde_json::from_value(serde_json::json!({ "allow_out": allow_out })).unwrap()
    }

    fn of<'a>(table: &'a BTreeMap<IpAddr, VirtualMeaning>, name: &str) -> Vec<&'a IpAddr> {
        let meaning = VirtualMeaning::Name(Name::parse(name).unwrap());
        table.iter().filter(|(_, other)| **other == meaning).map(|(address, _)| address).collect()
    }

    #[test]
    fn a_name_has_one_address_of_each_family_and_keeps_them() {
        let mut addresses = VirtualAddresses::default();
        let first = addresses.table(&[&policy(&["b.test", "10.0.0.0/8"])]);
        assert_eq!(of(&first, "b.test").len(), 2);
        assert_eq!(first.len(), 2);
        let later = addresses
            .table(&[&policy(&["b.test"]), &policy(&["a.test:22", "b.test:443", "b.test:80"])]);
        assert_eq!(of(&first, "b.test"), of(&later, "b.test"));
        assert_ne!(of(&later, "a.test"), of(&later, "b.test"));
        drop(addresses.table(&[&policy(&["a.test"])]));
        let again = addresses.table(&[&policy(&["b.test"])]);
        assert_eq!(of(&first, "b.test"), of(&again, "b.test"));
    }

    #[test]
    fn names_below_wildcards_share_one_address_per_family() {
        let table = VirtualAddresses::default().table(&[&policy(&["*.a.test", "*.b.test"])]);
        assert_eq!(table.len(), 2);
        assert!(table.values().all(|meaning| *meaning == VirtualMeaning::Wildcard));
    }

    #[test]
    fn if_all_numbers_are_assigned_a_name_takes_the_number_of_an_unneeded_name() {
        let mut addresses = VirtualAddresses::default();
        for number in FIRST_NUMBER..=LAST_NUMBER {
            addresses.numbers.insert(Name::parse(&format!("n{number}.test")).unwrap(), number);
        }
        let table = addresses.table(&[&policy(&["new.test", "n11.test"])]);
        assert_eq!(of(&table, "new.test").len(), 2);
        assert_eq!(of(&table, "n11.test").len(), 2);
        assert_eq!(table.len(), 4);
    }
}
