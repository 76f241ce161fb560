//! The cache, compared with a model that keeps a list.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use sandgate_policy::ingress::cache::{Cache, Lifetimes, Times};
use sandgate_policy::ingress::config::Limits;

use super::cases;

/// One step of what a filter does with a cache.
#[derive(Clone, Debug)]
enum Step {
    Insert(u8, Option<u8>),
    Fresh(u8, Option<u64>),
    Stale(u8),
    Recheck(u8),
    Remove(u8),
    RemoveWhere(u8),
    Clear,
    Pass(u64),
}

fn at(now: u64, covered_since: Option<u64>, arrived_at: u64) -> Times {
    Times { now, covered_since, arrived_at }
}

fn steps() -> impl Strategy<Value = Step> {
    let key = 0_u8..12;
    prop_oneof![
        6 => (key.clone(), option::of(0_u8..4)).prop_map(|(key, value)| Step::Insert(key, value)),
        6 => (key.clone(), option::of(0_u64..2_000_000))
            .prop_map(|(key, covered_since)| Step::Fresh(key, covered_since)),
        2 => key.clone().prop_map(Step::Stale),
        2 => key.clone().prop_map(Step::Recheck),
        1 => key.prop_map(Step::Remove),
        1 => (0_u8..4).prop_map(Step::RemoveWhere),
        1 => Just(Step::Clear),
        4 => (0_u64..700_000).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(cases(1_000))]

    /// The cache chooses which entry it removes, of those that may go; the rest is as in the list.
    #[test]
    fn the_cache_agrees_with_a_list(
        capacity in 1_usize..6,
        steps in vec(steps(), 0..80),
    ) {
        let mut cache = Cache::new(capacity, Lifetimes::of_credentials(&Limits::default()));
        let mut model: Vec<(u8, Option<u8>, u64)> = Vec::new();
        let mut now = 0_u64;
        let find = |model: &[(u8, Option<u8>, u64)], key: u8| {
            model.iter().find(|(k, ..)| *k == key).copied()
        };
        let count_negative =
            |model: &[(u8, Option<u8>, u64)]| model.iter().filter(|it| it.1.is_none()).count();
        for step in steps {
            match step {
                Step::Insert(key, value) => {
                    cache.insert(key, value, now);
                    model.retain(|(k, ..)| *k != key);
                    let (before, negative) = (model.len(), count_negative(&model));
                    let has_too_many = value.is_none() && negative == capacity.div_ceil(5);
                    let removed = usize::from(has_too_many || before == capacity);
                    // An entry is fresh for a request from before its lookup.
                    model.retain(|(k, ..)| cache.fresh(k, at(now, None, 0)).is_some());
                    prop_assert_eq!(model.len(), before - removed);
                    prop_assert_eq!(count_negative(&model), negative - removed.min(negative));
                    prop_assert!(cache.fresh(&key, at(now, None, 0)).is_some());
                    model.push((key, value, now));
                }
                Step::Fresh(key, covered_since) => {
                    let fresh = cache.fresh(&key, at(now, covered_since, u64::MAX));
                    let expected = find(&model, key).filter(|(_, value, sent_at)| {
                        let covered = covered_since.is_some_and(|since| since <= *sent_at);
                        let life = match (value, covered) {
                            (Some(_), true) => 600_000,
                            (Some(_), false) => 5_000,
                            (None, _) => 2_000,
                        };
                        now - sent_at < life
                    });
                    prop_assert_eq!(
                        fresh.map(|entry| entry.value().copied()),
                        expected.map(|(_, value, _)| value)
                    );
                }
                Step::Stale(key) => {
                    let expected = find(&model, key).filter(|(.., at)| now - at < 60_000);
                    prop_assert_eq!(cache.stale(&key, now, None).copied(), expected.and_then(|(_, v, _)| v));
                }
                Step::Recheck(key) => {
                    let known = model.iter().any(|(k, ..)| *k == key);
                    prop_assert!(!cache.take_recheck(&key, now, now) || known);
                }
                Step::Remove(key) => {
                    let known = model.iter().any(|(k, ..)| *k == key);
                    prop_assert_eq!(cache.remove(&key), known);
                    model.retain(|(k, ..)| *k != key);
                }
                Step::RemoveWhere(unwanted) => {
                    cache.remove_where(|value| *value == unwanted);
                    model.retain(|(_, value, _)| *value != Some(unwanted));
                }
                Step::Clear => {
                    cache.clear();
                    model.clear();
                }
                Step::Pass(time) => now += time,
            }
            prop_assert_eq!(cache.len(), model.len());
        }
    }
}
