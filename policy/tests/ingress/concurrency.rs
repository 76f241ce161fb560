//! The slots of one sandbox, and the shares of the classes of requests.

use proptest::prelude::*;
use sandgate_policy::ingress::concurrency::{Class, InFlight, Shares};

const CLASSES: [Class; 3] = [Class::Management, Class::Authenticated, Class::Anonymous];

/// Admits requests of a class until no more are taken.
fn fill(shares: &Shares, class: Class, in_flight: &mut InFlight) -> usize {
    let mut admitted = 0;
    while shares.admit(class, in_flight) {
        in_flight.add(class);
        admitted += 1;
    }
    admitted
}

#[test]
fn of_1000_slots_100_are_reserved_for_management_and_100_not_available_to_anonymous_requests() {
    let shares = Shares::of(1_000).expect("enough");
    let mut in_flight = InFlight::default();
    assert_eq!(fill(&shares, Class::Anonymous, &mut in_flight), 800);
    assert_eq!(fill(&shares, Class::Authenticated, &mut in_flight), 100);
    assert_eq!(fill(&shares, Class::Management, &mut in_flight), 100);
}

#[test]
fn there_are_no_shares_of_fewer_slots_than_classes() {
    assert_eq!([0, 1, 2].map(Shares::of), [None; 3]);
    assert!(Shares::of(Shares::MIN).is_some());
}

proptest! {
    #[test]
    fn each_class_keeps_its_share_in_any_order_of_requests(
        slots in Shares::MIN..3_000,
        first in 0..3_usize,
        second in 0..3_usize,
    ) {
        let shares = Shares::of(slots).expect("enough");
        let mut in_flight = InFlight::default();
        fill(&shares, Class::Anonymous, &mut in_flight);
        prop_assert!(shares.admit(Class::Authenticated, &in_flight), "anonymous requests take the slots of authenticated ones");
        fill(&shares, Class::Authenticated, &mut in_flight);
        prop_assert!(shares.admit(Class::Management, &in_flight), "other requests take the slots of management");

        let mut in_flight = InFlight::default();
        for class in [first, second, 0, 1, 2] {
            fill(&shares, CLASSES[class], &mut in_flight);
        }
        let total: usize = CLASSES.iter().map(|class| in_flight.of(*class)).sum();
        prop_assert_eq!(total, slots, "all slots are taken, and no more");
    }
}
