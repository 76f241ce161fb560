//! Which anonymous stream gives way when all places are taken.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sandgate_policy::ingress::places::{Client, Places};
use test_case::test_case;

const SILENCE_MS: u64 = 60_000;
const SILENCE: Option<u64> = Some(SILENCE_MS);

fn client(number: u8) -> Client {
    Client::of_connection(format!("192.0.2.{number}:4000").as_bytes())
}

/// Each client with the times at which the last bytes of its streams were sent. Streams are numbered
/// in that order.
fn places(clients: &[(u8, &[u64])]) -> Places {
    let mut places = Places::default();
    let mut stream = 0;
    for (number, times) in clients {
        for time in *times {
            places.take(client(*number), stream, 0);
            places.note_bytes(client(*number), stream, 1, *time);
            stream += 1;
        }
    }
    places
}

#[test_case("192.0.2.1:80", "192.0.2.1:81" => true; "ports are no clients")]
#[test_case("192.0.2.1:80", "192.0.2.2:80" => false; "addresses are")]
#[test_case("[::ffff:192.0.2.1]:80", "192.0.2.1:80" => true; "an address in both families")]
#[test_case("[2001:db8:1:2::1]:80", "[2001:db8:1:2:ffff::9]:80" => true; "one network of 64 bits")]
#[test_case("[2001:db8:1:2::1]:80", "[2001:db8:1:3::1]:80" => false; "two networks")]
#[test_case("", "@pipe" => true; "what is no address is one client")]
fn who_is_one_client(one: &str, other: &str) -> bool {
    Client::of_connection(one.as_bytes()) == Client::of_connection(other.as_bytes())
}

#[test]
fn the_client_with_the_most_places_gives_up_the_stream_that_is_silent_for_longest() {
    let places = places(&[(1, &[50, 40, 45]), (2, &[1, 2])]);
    assert_eq!(places.give_way(client(9), 50, SILENCE), Some(1));
}

#[test]
fn a_client_with_as_many_places_gives_up_only_what_is_silent() {
    let busy = places(&[(1, &[50]), (2, &[40])]);
    assert_eq!(busy.give_way(client(9), SILENCE_MS, SILENCE), None);
    assert_eq!(busy.give_way(client(9), SILENCE_MS + 40, SILENCE), Some(1));
    assert_eq!(busy.give_way(client(1), SILENCE_MS + 50, SILENCE), Some(1));
}

#[test]
fn a_client_never_takes_from_one_that_has_fewer_places() {
    let places = places(&[(1, &[900_000, 900_000, 900_000]), (2, &[0, 0])]);
    assert_eq!(places.give_way(client(1), 900_000, SILENCE), None, "its own are busy");
    let own = places.give_way(client(1), 960_000, SILENCE);
    assert!(own.is_some_and(|stream| stream < 3), "it may replace its own silent ones: {own:?}");
}

#[test]
fn where_no_silence_is_too_long_only_a_client_with_more_places_gives_way() {
    let places = places(&[(1, &[0]), (2, &[0, 0])]);
    assert_eq!(places.give_way(client(1), u64::MAX, None), None);
    assert!(places.give_way(client(9), u64::MAX, None).is_some_and(|stream| stream > 0));
}

#[test]
fn bytes_end_a_silence_and_their_absence_does_not() {
    let mut places = places(&[(1, &[0])]);
    places.note_bytes(client(1), 0, 1, 70_000);
    assert_eq!(places.give_way(client(2), 70_000, SILENCE), Some(0));
    places.note_bytes(client(1), 0, 2, 70_000);
    assert_eq!(places.give_way(client(2), 70_000, SILENCE), None);
}

/// Streams are counted only where places are few. Until then a busy stream looks like a silent one.
#[test]
fn a_stream_whose_bytes_were_never_counted_is_not_silent() {
    let mut places = Places::default();
    places.take(client(1), 0, 0);
    assert_eq!(places.give_way(client(2), 900_000, SILENCE), None);
    places.note_bytes(client(1), 0, 5, 900_000);
    assert_eq!(places.give_way(client(2), 900_000, SILENCE), None);
    assert_eq!(places.give_way(client(2), 900_000 + SILENCE_MS, SILENCE), Some(0));
}

#[test]
fn a_place_that_was_left_gives_nothing_up() {
    let mut places = places(&[(1, &[0, 0, 0])]);
    (0..3).for_each(|stream| places.leave(client(1), stream));
    places.leave(client(7), 99);
    assert!(places.is_empty());
    assert_eq!(places.give_way(client(2), SILENCE_MS, SILENCE), None);
}

const CAPACITY: usize = 20;

proptest! {
    /// One client that does whatever it likes, at any rate, among others that each have one stream.
    #[test]
    fn one_client_locks_nobody_out_and_ends_nobodys_streams(
        attacks in proptest::collection::vec(0..200_u64, 1..200),
        honest in 1..10_u8,
    ) {
        let attacker = client(200);
        let mut places = Places::default();
        let mut owners = BTreeMap::new();
        let mut now = 0;
        let mut next = 0_u32;
        let mut arrive = |places: &mut Places, who: Client, now: u64| -> bool {
            if places.len() >= CAPACITY {
                let Some(gone) = places.give_way(who, now, SILENCE) else { return false };
                let owner = owners.remove(&gone).expect("a live stream");
                // Only the attacker's streams ever give way.
                assert_eq!(owner, attacker);
                places.leave(owner, gone);
            }
            owners.insert(next, who);
            places.take(who, next, now);
            next += 1;
            true
        };
        let mut waiting: Vec<u8> = (0..honest).collect();
        for (round, pause) in attacks.into_iter().enumerate() {
            now += pause * 1_000;
            arrive(&mut places, attacker, now);
            if round % 5 == 4 && let Some(number) = waiting.pop() {
                prop_assert!(arrive(&mut places, client(number), now), "{number} is locked out");
            }
        }
        for number in waiting {
            prop_assert!(arrive(&mut places, client(number), now), "{number} is locked out");
        }
    }
}
