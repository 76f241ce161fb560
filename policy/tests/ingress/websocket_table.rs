//! The key that an upgrade over HTTP/2 gets. Other requests are unchanged.

use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::hygiene::HeaderChange;
use sandgate_policy::ingress::websocket::complete_request;
use test_case::test_case;

use crate::ingress::support::{APP, Req};

fn upgrade() -> Req {
    Req::get(APP).and("connection", "upgrade").and("upgrade", "websocket")
}

#[test_case(upgrade().and("x-request-id", "9f2c1a70-5d3e-4b8a-9c61-0e7d4f1b2a33") => "9f2c1a705d3e4b8a9c610A=="; "digits of the request's id")]
#[test_case(upgrade().and("x-request-id", "é, \"x\"=/+;") => "xAAAAAAAAAAAAAAAAAAAAA=="; "an id of the client's own, of which only digits are taken")]
#[test_case(upgrade() => "AAAAAAAAAAAAAAAAAAAAAA=="; "no id at all")]
fn an_upgrade_without_a_key_gets_one(request: Req) -> String {
    match complete_request(Head::new(&request.fields())).as_slice() {
        [HeaderChange::Set(name, value)] if *name == "sec-websocket-key" => {
            String::from_utf8(value.clone()).unwrap()
        }
        other => panic!("not one key: {other:?}"),
    }
}

#[test_case(upgrade().and("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="); "one that has a key")]
#[test_case(upgrade().and("sec-websocket-key", ""); "one whose key is the app's to refuse")]
#[test_case(Req::get(APP); "a plain request")]
#[test_case(Req::get(APP).and("upgrade", "h2c"); "another upgrade")]
#[test_case(Req::new("CONNECT", APP); "a plain CONNECT")]
fn other_requests_are_unchanged(request: Req) {
    assert_eq!(complete_request(Head::new(&request.fields())), []);
}
