//! The places of one sandbox, and how the classes of requests share them.

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
fn of_a_thousand_places_a_hundred_are_for_management_and_a_hundred_not_for_anonymous_requests() {
    let shares = Shares::of(1_000).expect("enough");
    let mut in_flight = InFlight::default();
    assert_eq!(fill(&shares, Class::Anonymous, &mut in_flight), 800);
    assert_eq!(fill(&shares, Class::Authenticated, &mut in_flight), 100);
    assert_eq!(fill(&shares, Class::Management, &mut in_flight), 100);
}

#[test]
fn fewer_places_than_classes_are_none() {
    assert_eq!([0, 1, 2].map(Shares::of), [None; 3]);
    assert!(Shares::of(Shares::MIN).is_some());
}

proptest! {
    #[test]
    fn whatever_order_requests_come_in_each_class_keeps_its_place(
        places in Shares::MIN..3_000,
        first in 0..3_usize,
        second in 0..3_usize,
    ) {
        let shares = Shares::of(places).expect("enough");
        let mut in_flight = InFlight::default();
        fill(&shares, Class::Anonymous, &mut in_flight);
        prop_assert!(shares.admit(Class::Authenticated, &in_flight), "visitors keep users out");
        fill(&shares, Class::Authenticated, &mut in_flight);
        prop_assert!(shares.admit(Class::Management, &in_flight), "others keep the owner out");

        let mut in_flight = InFlight::default();
        for class in [first, second, 0, 1, 2] {
            fill(&shares, CLASSES[class], &mut in_flight);
        }
        let total: usize = CLASSES.iter().map(|class| in_flight.of(*class)).sum();
        prop_assert_eq!(total, places, "all places are used, and no more");
    }
}
