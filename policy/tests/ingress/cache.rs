//! The cache: the lifetimes of entries, the choice of the entry to evict, and the limit of repeated lookups.

use sandgate_policy::ingress::cache::{Cache, Lifetimes, Reported, Times};
use sandgate_policy::ingress::config::Limits;
use test_case::test_case;

const LIVES: Lifetimes =
    Lifetimes { positive: 30_000, negative: 2_000, no_feed: 5_000, stale: 300_000 };

fn cache(capacity: usize) -> Cache<String, u32> {
    Cache::new(capacity, LIVES)
}

/// `fresh` for a request that came just now: only the lifetimes count.
const NOW_CAME: u64 = u64::MAX;

fn at(now: u64, covered_since: Option<u64>, arrived_at: u64) -> Times {
    Times { now, covered_since, arrived_at }
}

fn key(text: &str) -> String {
    text.to_owned()
}

#[test]
fn lifetimes_are_those_of_the_design() {
    let sandboxes = Lifetimes::of_sandboxes(&Limits::default());
    let expected = (600_000, 2_000, 5_000, 300_000);
    let all = |l: Lifetimes| (l.positive, l.negative, l.no_feed, l.stale);
    assert_eq!(all(sandboxes), expected);
    let credentials = Lifetimes::of_credentials(&Limits::default());
    assert_eq!(all(credentials), (600_000, 2_000, 5_000, 60_000));
}

#[test_case(Some(1), 29_999, true => true; "what exists, for 30 seconds")]
#[test_case(Some(1), 30_000, true => false; "what exists, no longer")]
#[test_case(Some(1), 4_999, false => true; "what exists without the change feed, for 5 seconds")]
#[test_case(Some(1), 5_000, false => false; "what exists without the change feed, no longer")]
#[test_case(None, 1_999, true => true; "what does not exist, for 2 seconds")]
#[test_case(None, 2_000, true => false; "what does not exist, no longer")]
#[test_case(None, 2_000, false => false; "what does not exist without the change feed, no longer either")]
fn an_answer_is_fresh(value: Option<u32>, age: u64, feed_works: bool) -> bool {
    let mut cache = cache(4);
    cache.insert(key("a"), value, 1_000);
    let fresh = cache.fresh(&key("a"), at(1_000 + age, feed_works.then_some(0), NOW_CAME));
    fresh.inspect(|entry| assert_eq!(entry.value().copied(), value)).is_some()
}

#[test_case(Some(1), 299_999 => Some(1); "what exists, for five minutes")]
#[test_case(Some(1), 300_000 => None; "what exists, no longer")]
#[test_case(None, 1 => None; "what does not exist, never")]
fn a_positive_entry_is_usable_while_the_control_plane_is_unavailable(
    value: Option<u32>,
    age: u64,
) -> Option<u32> {
    let mut cache = cache(4);
    cache.insert(key("a"), value, 1_000);
    cache.stale(&key("a"), 1_000 + age, None).copied()
}

#[test]
fn the_age_of_an_entry_counts_from_the_sending_of_its_lookup() {
    let mut cache = cache(4);
    cache.insert(key("a"), Some(1), 500);
    assert_eq!(
        cache.fresh(&key("a"), at(600, Some(0), NOW_CAME)).map(|entry| entry.sent_at()),
        Some(500)
    );
}

#[test_case(Some(1), 999 => false; "asked before the request came, and too old")]
#[test_case(Some(1), 1_000 => true; "asked when the request came")]
#[test_case(None, 1_001 => true; "asked after the request came")]
fn a_result_is_fresh_for_a_request_that_arrived_before_the_lookup_was_sent(
    value: Option<u32>,
    sent_at: u64,
) -> bool {
    let mut cache = cache(4);
    cache.insert(key("a"), value, sent_at);
    cache.fresh(&key("a"), at(1_000_000, None, 1_000)).is_some()
}

#[test]
fn an_unknown_key_is_neither_fresh_nor_stale_nor_rechecked() {
    let mut cache = cache(4);
    assert!(cache.is_empty());
    assert!(cache.fresh(&key("a"), at(0, Some(0), NOW_CAME)).is_none());
    assert!(cache.stale(&key("a"), 0, None).is_none());
    assert!(!cache.take_recheck(&key("a"), 0, 0));
}

#[test]
fn the_cache_works_with_a_clock_that_does_not_advance_or_starts_late() {
    let mut cache = cache(4);
    cache.insert(key("a"), Some(1), u64::MAX - 1);
    assert!(cache.fresh(&key("a"), at(0, Some(0), NOW_CAME)).is_some());
    assert!(cache.stale(&key("a"), u64::MAX, None).is_some());
    assert!(cache.take_recheck(&key("a"), u64::MAX, 0));
}

/// The share of hits if the keys are requested in turn. Each miss is a lookup.
fn hits_in_turn(capacity: usize, keys: usize) -> f64 {
    let mut cache = cache(capacity);
    let mut hits = 0_u32;
    for round in 0..20 {
        for number in 0..keys {
            let name = number.to_string();
            if cache.fresh(&name, at(0, Some(0), NOW_CAME)).is_none() {
                cache.insert(name, Some(1), 0);
            } else if round >= 10 {
                hits += 1;
            }
            assert!(cache.len() <= capacity);
        }
    }
    f64::from(hits) / f64::from(u32::try_from(keys * 10).unwrap())
}

#[test_case(900, 1.0; "fewer keys than entries")]
#[test_case(1_100, 0.75; "a tenth more keys than entries")]
#[test_case(1_500, 0.35; "half as many again")]
#[test_case(2_000, 0.15; "twice as many")]
fn a_full_cache_has_hits_if_keys_are_requested_in_turn(keys: usize, least: f64) {
    let share = hits_in_turn(1_000, keys);
    assert!(share >= least, "{share} of the requests are hits");
}

#[test]
fn keys_that_are_requested_once_do_not_displace_those_that_are_requested_often() {
    let mut cache = cache(1_000);
    let mut hits = 0;
    for number in 0..20_000 {
        let often = format!("often{}", number % 200);
        if cache.fresh(&often, at(0, Some(0), NOW_CAME)).is_some() {
            hits += 1;
        } else {
            cache.insert(often, Some(1), 0);
        }
        cache.insert(format!("once{number}"), Some(1), 0);
    }
    assert!(hits >= 18_000, "{hits} of 20,000 requests are hits");
}

#[test]
fn negative_entries_take_a_fifth_of_the_capacity() {
    let mut cache = cache(10);
    (0..100_u32).for_each(|number| cache.insert(number.to_string(), None, 0));
    assert_eq!(cache.len(), 2);
}

#[test_case(1_000, Some((500, 900_000)), true; "the feed reported changes until a minute ago")]
#[test_case(1_000, Some((500, 500_000)), false; "the feed reported no change for too long")]
#[test_case(499, Some((500, 900_000)), false; "the lookup was sent before the feed began")]
#[test_case(1_000, None, false; "there was no feed")]
fn the_age_of_a_stale_entry_counts_from_the_last_report_of_the_feed(
    sent_at: u64,
    reported: Option<(u64, u64)>,
    is_usable: bool,
) {
    let mut cache = cache(4);
    cache.insert(key("a"), Some(1), sent_at);
    let reported = reported.map(|(since, until)| Reported { since, until });
    assert_eq!(cache.stale(&key("a"), 960_000, reported).is_some(), is_usable);
}

#[test]
fn negative_entries_never_displace_positive_ones() {
    let mut cache = cache(3);
    cache.insert(key("a"), Some(1), 0);
    cache.insert(key("b"), Some(1), 0);
    for number in 0..100_u32 {
        cache.insert(number.to_string(), None, 0);
    }
    assert!(cache.stale(&key("a"), 0, None).is_some());
    assert!(cache.stale(&key("b"), 0, None).is_some());
    assert_eq!(cache.len(), 3);
    // What comes to exist does.
    cache.insert(key("c"), Some(1), 0);
    assert!(cache.fresh(&key("99"), at(0, Some(0), NOW_CAME)).is_none());
    // If all other entries are positive, a negative entry is removed first.
    cache.insert(key("x"), None, 0);
    assert_eq!(cache.len(), 3);
}

#[test_case(0 => 1; "a capacity of nothing holds one")]
#[test_case(1 => 1; "one")]
#[test_case(100 => 100; "a hundred")]
fn a_flood_of_keys_stays_within_the_capacity(capacity: usize) -> usize {
    let mut cache = cache(capacity);
    for number in 0..5_000_u32 {
        let value = (number % 2 == 0).then_some(number);
        cache.insert(number.to_string(), value, number.into());
        assert!(cache.len() <= capacity.max(1));
        if number % 3 == 0 {
            cache.fresh(&(number / 2).to_string(), at(number.into(), Some(0), NOW_CAME));
        }
        if number % 7 == 0 {
            cache.remove(&(number / 3).to_string());
        }
    }
    for number in 5_000..5_200_u32 {
        cache.insert(number.to_string(), None, number.into());
    }
    cache.len()
}

#[test]
fn a_new_result_replaces_the_old_one() {
    let mut cache = cache(4);
    cache.insert(key("a"), None, 0);
    cache.insert(key("a"), Some(2), 1_000);
    assert_eq!(
        cache.fresh(&key("a"), at(30_999, Some(0), NOW_CAME)).and_then(|e| e.value().copied()),
        Some(2)
    );
    cache.insert(key("a"), None, 2_000);
    assert_eq!(cache.stale(&key("a"), 2_000, None), None, "what is gone is not believed again");
}

#[test_case(999, true; "an answer from before the request")]
#[test_case(1_000, true; "an answer to a question of the same millisecond")]
#[test_case(1_001, false; "an answer to a later question is as good as a new one")]
fn a_denial_repeats_only_lookups_that_were_sent_before_the_request(sent_at: u64, may: bool) {
    let mut cache = cache(4);
    cache.insert(key("a"), None, sent_at);
    assert_eq!(cache.take_recheck(&key("a"), 1_000, 1_010), may);
}

/// Of so many denials at one time, the number that may ask again.
fn rechecks(cache: &mut Cache<String, u32>, now: u64) -> usize {
    (0..100).filter(|_| cache.take_recheck(&key("a"), u64::MAX, now)).count()
}

#[test]
fn the_rate_of_repeated_lookups_of_one_entry_is_limited() {
    let mut cache = cache(4);
    cache.insert(key("a"), None, 0);
    assert_eq!(rechecks(&mut cache, 10), 4, "four at once");
    assert_eq!(rechecks(&mut cache, 499), 0, "none before half a second");
    assert_eq!(rechecks(&mut cache, 510), 1, "one after half a second");
    assert_eq!(rechecks(&mut cache, 1_009), 0);
    assert_eq!(rechecks(&mut cache, 1_510), 2, "two after a second");
    cache.insert(key("a"), None, 1_000_000);
    assert_eq!(rechecks(&mut cache, 1_000_001), 4, "never more than four");
}

#[test_case(None; "what does not exist")]
#[test_case(Some(1); "what exists")]
fn a_denial_never_depends_on_a_lookup_of_two_seconds_ago(value: Option<u32>) {
    let mut cache = cache(4);
    cache.insert(key("a"), value, 0);
    assert_eq!(rechecks(&mut cache, 1_999), 4);
    assert_eq!(rechecks(&mut cache, 2_000), 100, "as if nothing were known");
}

#[test]
fn a_new_result_does_not_reset_the_limit_of_repeated_lookups() {
    let mut cache = cache(4);
    cache.insert(key("a"), None, 0);
    assert_eq!(rechecks(&mut cache, 10), 4);
    cache.insert(key("a"), None, 11);
    assert_eq!(rechecks(&mut cache, 12), 0);
}

#[test]
fn changed_entries_are_removed() {
    let mut cache = cache(8);
    for (name, value) in [("a", Some(1)), ("b", Some(2)), ("c", Some(2)), ("d", None)] {
        cache.insert(key(name), value, 0);
    }
    assert!(cache.remove(&key("a")));
    assert!(!cache.remove(&key("a")));
    assert!(cache.stale(&key("a"), 0, None).is_none(), "also while the control plane is down");
    cache.remove_where(|value| *value == 2);
    assert_eq!(cache.len(), 1, "what does not exist has no value to go by");
    assert!(cache.fresh(&key("d"), at(0, Some(0), NOW_CAME)).is_some());
    cache.clear();
    assert!(cache.is_empty());
}

#[test]
fn removed_entries_free_their_capacity() {
    let mut cache = cache(3);
    for name in ["a", "b", "c"] {
        cache.insert(key(name), Some(1), 0);
    }
    cache.remove(&key("c"));
    cache.remove_where(|_| true);
    for name in ["d", "e", "f"] {
        cache.insert(key(name), Some(1), 0);
    }
    assert!(
        ["d", "e", "f"]
            .iter()
            .all(|name| cache.fresh(&key(name), at(0, Some(0), NOW_CAME)).is_some())
    );
    cache.clear();
    for name in ["g", "h", "i", "j"] {
        cache.insert(key(name), Some(1), 0);
    }
    assert_eq!(cache.len(), 3);
}

#[test_case(Some(1_000) => true; "asked when the feed began")]
#[test_case(Some(1_001) => false; "asked before the feed began")]
#[test_case(None => false; "asked while the feed does not work")]
fn an_entry_has_its_full_lifetime_only_if_the_feed_covers_it(covered_since: Option<u64>) -> bool {
    let mut cache = cache(4);
    cache.insert(key("a"), Some(1), 1_000);
    cache.fresh(&key("a"), at(10_000, covered_since, NOW_CAME)).is_some()
}
