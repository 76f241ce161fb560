//! The slots of one sandbox: no class of requests and no client can use all of them.

use super::host::{Attributes, Headers, Outcome, Stream};
use serde_json::json;

use super::support::{
    ASLEEP, Gateway, KEY, MY_ENV, SHOP, bearer, denial, denied, forwarded, from, is_pending, to,
    websocket, with_key,
};

/// Twenty slots. Two are reserved for management, and two more for authenticated requests.
fn gateway() -> Gateway {
    let gateway = Gateway::with_limits(json!({"requests_per_sandbox": 20}));
    gateway.fleet().change(SHOP, |sandbox| sandbox.exposed_ports = vec![3000, 8080]);
    gateway
}

const ANONYMOUS: usize = 16;
const USERS: usize = 18;
const ALL: usize = 20;

fn many(gateway: &Gateway, client: &str, number: usize) -> Vec<Stream> {
    let streams = (0..number).map(|_| from(gateway, client, to(8080, "shop")));
    streams.inspect(|stream| drop(forwarded(stream))).collect()
}

fn are_open(streams: &[Stream]) -> usize {
    streams.iter().filter(|stream| stream.is_open()).count()
}

const FULL: &str = "TOO_MANY_REQUESTS";

#[test]
fn anonymous_requests_leave_slots_for_their_owner() {
    let gateway = gateway();
    let _visitors = many(&gateway, "192.0.2.1", ANONYMOUS);
    let one_more = from(&gateway, "192.0.2.1", to(8080, "shop"));
    assert_eq!(denied(&one_more), denial(429, FULL));
    assert!(super::support::replied(&one_more).headers.contains("retry-after"));
    let owners: Vec<Stream> = (0..ALL - ANONYMOUS)
        .map(|_| from(&gateway, "192.0.2.1", with_key(9501, "shop")))
        .inspect(|stream| drop(forwarded(stream)))
        .collect();
    let one_more = from(&gateway, "192.0.2.1", with_key(9501, "shop"));
    assert_eq!(denied(&one_more), denial(429, FULL));
    // Another sandbox has its own slots.
    gateway.passes(with_key(8080, "my-env"));
    owners.iter().for_each(Stream::complete);
    gateway.passes(with_key(9501, "shop"));
}

#[test]
fn authenticated_requests_leave_slots_for_management() {
    let gateway = gateway();
    let users: Vec<Stream> = (0..USERS).map(|_| gateway.send(with_key(8080, "my-env"))).collect();
    assert_eq!(are_open(&users), USERS);
    assert_eq!(gateway.denies(with_key(8080, "my-env")), denial(429, FULL));
    for _ in 0..ALL - USERS {
        forwarded(&gateway.send(with_key(9501, "my-env")));
    }
    assert_eq!(gateway.denies(with_key(9501, MY_ENV)), denial(429, FULL));
}

#[test]
fn a_client_that_holds_all_slots_makes_room_for_others() {
    let gateway = gateway();
    let attack = many(&gateway, "192.0.2.1", ANONYMOUS);
    let honest: Vec<Stream> = (2..10)
        .map(|number| from(&gateway, &format!("192.0.2.{number}"), websocket(to(3000, "shop"))))
        .collect();
    assert_eq!(are_open(&honest), honest.len());
    assert_eq!(are_open(&attack), ANONYMOUS - honest.len());
    let closed = attack.iter().find(|stream| !stream.is_open()).expect("one was closed");
    assert_eq!(closed.outcome(), Outcome::Reset);
    assert_eq!(closed.property("sandgate_decision").as_deref(), Some("closed.MADE_ROOM"));
    // The same, however long it continues and however silent the others are. A stream's silence is
    // measured from the first time that its bytes were counted.
    for _ in 0..10 {
        gateway.advance_ms(62_000);
        many(&gateway, "192.0.2.1", 1);
    }
    assert_eq!(are_open(&honest), honest.len());
}

#[test]
fn a_response_of_a_stream_that_is_about_to_be_closed_is_still_filtered() {
    let gateway = gateway();
    let attack = many(&gateway, "192.0.2.1", ANONYMOUS);
    let client = ("source.address".to_owned(), "192.0.2.2:4000".into());
    // The host does not run, so the VM has not closed the other stream yet. The native module has.
    let honest = gateway.host.request_of("", 0, to(8080, "shop"), Attributes::from([client]));
    forwarded(&honest);
    for stream in &attack {
        let response = Headers::from([(":status", "200"), ("x-sandgate-a", "1")]);
        let response = stream.respond(response);
        assert!(response.is_none_or(|headers| !headers.contains("x-sandgate-a")));
    }
    gateway.host.run();
    assert_eq!(are_open(&attack), ANONYMOUS - 1);
}

#[test]
fn an_ipv6_network_counts_as_one_client() {
    let gateway = gateway();
    let mut attack = Vec::new();
    for host in 0..ANONYMOUS {
        attack.extend(many(&gateway, &format!("[2001:db8::{host:x}]"), 1));
    }
    let honest = from(&gateway, "[2001:db8:0:1::1]", to(8080, "shop"));
    forwarded(&honest);
    assert_eq!(are_open(&attack), ANONYMOUS - 1);
}

#[test]
fn only_silent_streams_are_closed_if_each_client_has_one_stream() {
    let gateway = gateway();
    let streams: Vec<Stream> = (1..=ANONYMOUS)
        .flat_map(|number| many(&gateway, &format!("192.0.2.{number}"), 1))
        .collect();
    let newcomer = || from(&gateway, "192.0.2.99", to(8080, "shop"));
    assert_eq!(denied(&newcomer()), denial(429, FULL));
    // All but one continue to send.
    for second in 0..70 {
        streams.iter().skip(1).for_each(|stream| stream.set_sent_bytes(second));
        gateway.advance_ms(1_000);
    }
    forwarded(&newcomer());
    let [silent, busy @ ..] = streams.as_slice() else { panic!("no streams") };
    assert_eq!(silent.outcome(), Outcome::Reset);
    assert_eq!(are_open(busy), busy.len());
    assert_eq!(denied(&from(&gateway, "192.0.2.98", to(8080, "shop"))), denial(429, FULL));
}

#[test]
fn silent_streams_of_one_address_make_room_too() {
    let gateway = gateway();
    let streams = many(&gateway, "192.0.2.1", ANONYMOUS);
    assert_eq!(denied(&from(&gateway, "192.0.2.1", to(8080, "shop"))), denial(429, FULL));
    gateway.advance_ms(70_000);
    many(&gateway, "192.0.2.1", 1);
    assert_eq!(are_open(&streams), ANONYMOUS - 1);
}

#[test]
fn silent_streams_stay_open_while_slots_are_free() {
    let gateway = gateway();
    let streams = many(&gateway, "192.0.2.1", ANONYMOUS - 1);
    gateway.advance_ms(3_500_000);
    many(&gateway, "192.0.2.2", 1);
    assert_eq!(are_open(&streams), streams.len());
}

#[test]
fn a_request_that_waited_for_the_control_plane_also_takes_a_slot() {
    let gateway = gateway();
    let attack = many(&gateway, "192.0.2.1", ANONYMOUS);
    gateway.fleet().delay = std::time::Duration::from_millis(50);
    // By its id, which is not cached.
    let honest = from(&gateway, "192.0.2.2", to(8080, SHOP));
    assert!(is_pending(&honest));
    gateway.advance_ms(1_000);
    forwarded(&honest);
    assert_eq!(are_open(&attack), ANONYMOUS - 1);
}

#[test]
fn a_stream_takes_another_kind_of_slot_when_its_port_becomes_private_or_public() {
    let gateway = gateway();
    let keyed = || bearer(to(8080, "shop"), KEY);
    let streams: Vec<Stream> =
        (0..ANONYMOUS).map(|_| from(&gateway, "192.0.2.1", keyed())).collect();
    let publish = |public: bool| {
        gateway.fleet().change(SHOP, |sandbox| sandbox.allow_unauthenticated_access = public);
        gateway.advance_ms(2_000);
    };
    publish(false);
    assert_eq!(are_open(&streams), ANONYMOUS);
    let more: Vec<Stream> =
        (0..USERS - ANONYMOUS).map(|_| from(&gateway, "192.0.2.1", keyed())).collect();
    assert_eq!(denied(&from(&gateway, "192.0.2.1", keyed())), denial(429, FULL));
    publish(true);
    assert_eq!(are_open(&streams) + are_open(&more), USERS);
    assert_eq!(denied(&from(&gateway, "192.0.2.1", keyed())), denial(429, FULL));
    forwarded(&from(&gateway, "192.0.2.2", to(8080, "shop")));
    assert_eq!(are_open(&streams) + are_open(&more), USERS - 1, "the callers were looked up");
    streams.iter().chain(&more).filter(|stream| stream.is_open()).for_each(Stream::complete);
    many(&gateway, "192.0.2.3", ANONYMOUS - 1);
}

#[test]
fn anonymous_requests_that_wait_for_a_resume_leave_slots_for_the_owner() {
    let gateway = Gateway::with_limits(json!({"resume_waiters": 10}));
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.allow_unauthenticated_access = true);
    gateway.fleet().resume_time = std::time::Duration::from_secs(20);
    let visitors: Vec<Stream> = (0..12).map(|_| gateway.send(to(8080, "asleep"))).collect();
    let (waiting, refused) = visitors.split_at(8);
    assert!(waiting.iter().all(is_pending));
    assert!(refused.iter().all(|stream| denied(stream) == denial(503, "SANDBOX_NOT_READY")));
    let owners: Vec<Stream> = (0..2).map(|_| gateway.send(with_key(9501, "asleep"))).collect();
    assert!(owners.iter().chain(waiting).all(is_pending), "two slots were free");
    let third = gateway.send(with_key(9501, "asleep"));
    assert!(is_pending(&third));
    let (displaced, waiting): (Vec<&Stream>, Vec<&Stream>) =
        waiting.iter().partition(|stream| !is_pending(stream));
    assert_eq!(displaced.len(), 1);
    assert_eq!(denied(displaced[0]), denial(503, "SANDBOX_NOT_READY"));
    gateway.advance_ms(25_000);
    owners.iter().chain([&third]).chain(waiting).for_each(|stream| drop(forwarded(stream)));
}

#[test]
fn a_resumed_sandbox_has_all_its_slots() {
    let gateway = gateway();
    gateway.fleet().change(ASLEEP, |sandbox| sandbox.allow_unauthenticated_access = true);
    let waiting: Vec<Stream> =
        (0..ANONYMOUS + 2).map(|_| from(&gateway, "192.0.2.1", to(8080, "asleep"))).collect();
    gateway.advance_ms(5_000);
    let passed = |stream: &&Stream| matches!(stream.outcome(), Outcome::Forwarded(_));
    let (first, rest): (Vec<&Stream>, Vec<&Stream>) = waiting.iter().partition(passed);
    assert_eq!(first.len(), ANONYMOUS);
    assert!(rest.iter().all(|stream| is_pending(stream)), "they wait for slots");
    first.iter().take(rest.len()).for_each(|stream| stream.complete());
    gateway.host.run();
    assert!(rest.iter().all(passed));
}
