//! The order of turns is that of a search among all who wait.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::Turns;

/// The same rule without an index.
#[derive(Default)]
struct Search {
    in_flight: BTreeMap<u8, usize>,
    waiting: BTreeSet<u8>,
    served: Option<u8>,
}

impl Search {
    fn count(&self, key: u8) -> usize {
        self.in_flight.get(&key).copied().unwrap_or(0)
    }

    fn next(&mut self) -> Option<u8> {
        let is_passed = |key: u8| Some(key) <= self.served;
        let key = *self.waiting.iter().min_by_key(|key| (self.count(**key), is_passed(**key)))?;
        self.served = Some(key);
        self.waiting.remove(&key);
        *self.in_flight.entry(key).or_default() += 1;
        Some(key)
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u8),
    StopWaiting(u8),
    Next,
    End(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..8_u8;
    prop_oneof![
        2 => key().prop_map(Step::Wait),
        1 => key().prop_map(Step::StopWaiting),
        3 => Just(Step::Next),
        2 => key().prop_map(Step::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn the_next_is_the_one_that_a_search_finds(steps in prop::collection::vec(step(), 0..200)) {
        let (mut turns, mut search) = (Turns::default(), Search::default());
        for step in steps {
            match step {
                Step::Wait(key) => {
                    turns.wait(&key);
                    search.waiting.insert(key);
                }
                Step::StopWaiting(key) => {
                    turns.stop_waiting(&key);
                    search.waiting.remove(&key);
                }
                Step::Next => prop_assert_eq!(turns.next(), search.next()),
                Step::End(key) => {
                    turns.end(&key);
                    if let Some(count) = search.in_flight.get_mut(&key) {
                        *count = count.saturating_sub(1);
                    }
                    search.in_flight.retain(|_, count| *count > 0);
                }
            }
            let fewest = search.waiting.iter().map(|key| search.count(*key)).min();
            prop_assert_eq!(turns.fewest_in_flight(), fewest);
            prop_assert_eq!(turns.is_idle(), search.waiting.is_empty() && search.in_flight.is_empty());
        }
    }
}
