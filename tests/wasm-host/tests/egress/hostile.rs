//! No input of a sandbox traps the VM or is forwarded without a permit. (The host fails a test whose
//! filter traps.)

use proptest::prelude::*;
use sandgate_wasm_host::{Attributes, Connected, Headers, Outcome};

use crate::hello::{hello, message, records};
use crate::support::{Egress, HTTP, OK, TCP, allow_list, deny_list, to_name, to_nowhere};

#[test]
fn an_unparsable_original_destination_is_denied() {
    let egress = Egress::with(deny_list());
    for destination in ["", "8.8.8.8", "8.8.8.8:", "8.8.8.8:99999", "pipe", "[fe80::1%eth0]:80"] {
        assert_eq!(egress.connect(destination, "").outcome(), Connected::Closed, "{destination}");
        let Outcome::Replied(reply) = egress.get(destination, "good.test").outcome() else {
            panic!("{destination}: no reply")
        };
        assert_eq!(reply.status, 403);
    }
    let connection = egress.host.connect(TCP, Attributes::new());
    assert_eq!(connection.outcome(), Connected::Closed);
    let attributes = Attributes::from([("destination.address".into(), vec![0xff, 0xfe])]);
    assert_eq!(egress.host.connect(TCP, attributes.clone()).outcome(), Connected::Closed);
    let request = egress.host.request_of(HTTP, 0, Headers::get("a.test", "/"), attributes);
    assert!(matches!(request.outcome(), Outcome::Replied(_)));
    assert!(egress.host.metric("sandgate_egress_host_errors_total") >= 14);
}

#[test]
fn requests_with_arbitrary_bytes_are_forwarded_or_replied_to() {
    let egress = Egress::with(allow_list());
    let destination = format!("{OK}:80");
    for headers in [
        Headers::new(),
        Headers::new().with(":authority", [0xff, 0xfe]),
        // Header names are tokens, because Envoy's parsers accept nothing else.
        Headers::get("ok.test", "/").with("x", [0xff, 0x00]).with("", [0xff]),
        Headers::get("", "/"),
        Headers::get(&"a.".repeat(5_000), "/"),
        (0..1_000)
            .fold(Headers::get("ok.test", "/"), |headers, n| headers.with("h", n.to_string())),
    ] {
        let outcome = egress.request(&destination, headers.clone()).outcome();
        assert!(matches!(outcome, Outcome::Replied(_) | Outcome::Forwarded(_)), "{headers:?}");
    }
}

#[test]
fn bytes_after_a_denial_are_not_forwarded() {
    let egress = Egress::with(deny_list());
    let connection = egress.connect("8.8.8.8:443", "bad.test");
    assert_eq!(connection.outcome(), to_nowhere());
    assert_eq!(connection.send(b"anything", false), b"");
    assert_eq!(connection.send(b"", true), b"");
    connection.leave();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..Default::default() })]

    #[test]
    fn server_names_of_arbitrary_bytes_are_decided(sni in proptest::collection::vec(any::<u8>(), 0..300)) {
        let egress = Egress::with(allow_list());
        let mut attributes = crate::support::destination_of("8.8.8.8:443");
        attributes.insert("connection.requested_server_name".into(), sni.clone());
        let outcome = egress.host.connect(TCP, attributes).outcome();
        let name = String::from_utf8_lossy(&sni).to_ascii_lowercase();
        let name = name.strip_suffix('.').unwrap_or(&name);
        let allowed = name == "ok.test" || name.ends_with(".ok.test");
        prop_assert!(allowed || outcome == to_nowhere(), "{sni:?} {outcome:?}");
    }

    #[test]
    fn first_bytes_in_any_chunks_never_forward_a_denied_name(
        prefix in proptest::collection::vec(any::<u8>(), 0..6),
        record in 1..400usize,
        padding in 0..2_000usize,
        flip in proptest::option::of((any::<proptest::sample::Index>(), any::<u8>())),
        parts in proptest::collection::vec(1..700usize, 1..20),
    ) {
        let egress = Egress::with(deny_list());
        let connection = egress.connect("8.8.8.8:443", "");
        let mut bytes = [prefix.clone(), records(&message(&["bad.test"], padding), record)].concat();
        if let Some((at, value)) = flip {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let sent = bytes.clone();
        let mut passed = Vec::new();
        let mut rest = bytes.as_slice();
        for size in parts.iter().cycle() {
            if rest.is_empty() || !connection.is_open() {
                break;
            }
            let (part, more) = rest.split_at((*size).min(rest.len()));
            passed.extend(connection.send(part, false));
            rest = more;
        }
        prop_assert!(sent.starts_with(&passed), "bytes are never changed");
        if prefix.is_empty() && flip.is_none() {
            prop_assert_eq!(connection.outcome(), Connected::Closed);
            prop_assert!(passed.is_empty());
        }
    }
}

#[test]
fn a_connection_with_a_server_name_is_not_inspected_again() {
    let egress = Egress::with(allow_list());
    let connection = egress.connect(&format!("{OK}:443"), "ok.test");
    assert_eq!(connection.outcome(), to_name("ok.test:443"));
    let bytes = hello("ok.test");
    assert_eq!(connection.send(&bytes[..3], false), &bytes[..3]);
}
