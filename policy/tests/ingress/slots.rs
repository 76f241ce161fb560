//! The choice of the stream to evict when all slots are taken.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sandgate_policy::ingress::slots::{ClientAddress, SlotHolders};
use test_case::test_case;

const SILENCE_MS: u64 = 60_000;
const SILENCE: Option<u64> = Some(SILENCE_MS);

fn client(number: u8) -> ClientAddress {
    ClientAddress::of_connection(format!("192.0.2.{number}:4000").as_bytes())
}

/// Each client with the times at which the last bytes of its streams were sent. Streams are numbered
/// in that order.
fn slots(clients: &[(u8, &[u64])]) -> SlotHolders {
    let mut slots = SlotHolders::default();
    let mut stream = 0;
    for (number, times) in clients {
        for time in *times {
            slots.acquire(client(*number), stream, 0);
            slots.record_bytes(client(*number), stream, 1, *time);
            stream += 1;
        }
    }
    slots
}

#[test_case("192.0.2.1:80", "192.0.2.1:81" => true; "the port is ignored")]
#[test_case("192.0.2.1:80", "192.0.2.2:80" => false; "two addresses")]
#[test_case("[::ffff:192.0.2.1]:80", "192.0.2.1:80" => true; "an address in both families")]
#[test_case("[2001:db8:1:2::1]:80", "[2001:db8:1:2:ffff::9]:80" => true; "one network of 64 bits")]
#[test_case("[2001:db8:1:2::1]:80", "[2001:db8:1:3::1]:80" => false; "two networks")]
#[test_case("", "@pipe" => true; "texts that are not addresses count as one client")]
fn addresses_that_count_as_one_client(one: &str, other: &str) -> bool {
    ClientAddress::of_connection(one.as_bytes()) == ClientAddress::of_connection(other.as_bytes())
}

#[test]
fn the_stream_that_is_silent_for_longest_of_the_client_with_the_most_slots_is_evicted() {
    let slots = slots(&[(1, &[50, 40, 45]), (2, &[1, 2])]);
    assert_eq!(slots.stream_to_evict(client(9), 50, SILENCE), Some(1));
}

#[test]
fn of_a_client_with_as_many_slots_only_silent_streams_are_evicted() {
    let busy = slots(&[(1, &[50]), (2, &[40])]);
    assert_eq!(busy.stream_to_evict(client(9), SILENCE_MS, SILENCE), None);
    assert_eq!(busy.stream_to_evict(client(9), SILENCE_MS + 40, SILENCE), Some(1));
    assert_eq!(busy.stream_to_evict(client(1), SILENCE_MS + 50, SILENCE), Some(1));
}

#[test]
fn a_client_never_evicts_a_stream_of_a_client_with_fewer_slots() {
    let slots = slots(&[(1, &[900_000, 900_000, 900_000]), (2, &[0, 0])]);
    assert_eq!(slots.stream_to_evict(client(1), 900_000, SILENCE), None, "its own are busy");
    let own = slots.stream_to_evict(client(1), 960_000, SILENCE);
    assert!(own.is_some_and(|stream| stream < 3), "it may replace its own silent ones: {own:?}");
}

#[test]
fn without_a_silence_limit_only_streams_of_clients_with_more_slots_are_evicted() {
    let slots = slots(&[(1, &[0]), (2, &[0, 0])]);
    assert_eq!(slots.stream_to_evict(client(1), u64::MAX, None), None);
    assert!(slots.stream_to_evict(client(9), u64::MAX, None).is_some_and(|stream| stream > 0));
}

#[test]
fn only_new_bytes_end_the_silence_of_a_stream() {
    let mut slots = slots(&[(1, &[0])]);
    slots.record_bytes(client(1), 0, 1, 70_000);
    assert_eq!(slots.stream_to_evict(client(2), 70_000, SILENCE), Some(0));
    slots.record_bytes(client(1), 0, 2, 70_000);
    assert_eq!(slots.stream_to_evict(client(2), 70_000, SILENCE), None);
}

/// Streams are counted only where slots are few. Until then a busy stream looks like a silent one.
#[test]
fn a_stream_whose_bytes_were_never_counted_is_not_silent() {
    let mut slots = SlotHolders::default();
    slots.acquire(client(1), 0, 0);
    assert_eq!(slots.stream_to_evict(client(2), 900_000, SILENCE), None);
    slots.record_bytes(client(1), 0, 5, 900_000);
    assert_eq!(slots.stream_to_evict(client(2), 900_000, SILENCE), None);
    assert_eq!(slots.stream_to_evict(client(2), 900_000 + SILENCE_MS, SILENCE), Some(0));
}

#[test]
fn a_released_slot_can_not_be_evicted() {
    let mut slots = slots(&[(1, &[0, 0, 0])]);
    (0..3).for_each(|stream| slots.release(client(1), stream));
    slots.release(client(7), 99);
    assert!(slots.is_empty());
    assert_eq!(slots.stream_to_evict(client(2), SILENCE_MS, SILENCE), None);
}

const CAPACITY: usize = 20;

proptest! {
    /// One client that does whatever it likes, at any rate, among others that each have one stream.
    #[test]
    fn a_client_can_not_lock_others_out_or_evict_their_streams(
        attacks in proptest::collection::vec(0..200_u64, 1..200),
        honest in 1..10_u8,
    ) {
        let attacker = client(200);
        let mut slots = SlotHolders::default();
        let mut owners = BTreeMap::new();
        let mut now = 0;
        let mut next = 0_u32;
        let mut arrive = |slots: &mut SlotHolders, who: ClientAddress, now: u64| -> bool {
            if slots.len() >= CAPACITY {
                let Some(gone) = slots.stream_to_evict(who, now, SILENCE) else { return false };
                let owner = owners.remove(&gone).expect("a live stream");
                // Only the attacker's streams ever give way.
                assert_eq!(owner, attacker);
                slots.release(owner, gone);
            }
            owners.insert(next, who);
            slots.acquire(who, next, now);
            next += 1;
            true
        };
        let mut waiting: Vec<u8> = (0..honest).collect();
        for (round, pause) in attacks.into_iter().enumerate() {
            now += pause * 1_000;
            arrive(&mut slots, attacker, now);
            if round % 5 == 4 && let Some(number) = waiting.pop() {
                prop_assert!(arrive(&mut slots, client(number), now), "{number} is locked out");
            }
        }
        for number in waiting {
            prop_assert!(arrive(&mut slots, client(number), now), "{number} is locked out");
        }
    }
}
