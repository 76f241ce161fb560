//! The listener that Envoy uses to resolve the names to which it connects.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use test_case::test_case;

use crate::rig::{ALLOWS, Rig, addresses, by_tcp, generation, question};

#[test_case("ok.test", RecordType::A, &["203.0.113.10"]; "the real address")]
#[test_case("ok.test", RecordType::AAAA, &["2001:db8:113::10"]; "the real v6 address")]
#[test_case("z.a.ok.test", RecordType::A, &["203.0.113.12"]; "below a wildcard")]
#[test_case("via.test", RecordType::A, &["203.0.113.10"]; "through an alias")]
#[test_case("meta.test", RecordType::A, &["203.0.113.15"]; "without the guardrail's")]
#[test_case("meta.test", RecordType::AAAA, &[]; "without embedded ones")]
#[test_case("metaonly.test", RecordType::A, &[]; "nothing left")]
#[test_case("private.test", RecordType::A, &[]; "private")]
#[test_case("private.test", RecordType::AAAA, &[]; "unique local")]
#[tokio::test]
async fn a_name_resolves_to_the_addresses_that_are_not_denied(
    text: &str,
    kind: RecordType,
    all: &[&str],
) {
    let rig = Rig::new(ALLOWS).await;
    for answer in [rig.inner(text, kind).await, by_tcp(rig.inner, &question(text, kind)).await] {
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert_eq!(addresses(&answer), all);
    }
}

#[test_case("other.test"; "not allowed")]
#[test_case("bad.test"; "denied")]
#[test_case("a.ok.test"; "above a wildcard")]
#[test_case("missing.test"; "not there")]
#[tokio::test]
async fn a_name_that_is_not_allowed_does_not_resolve(text: &str) {
    let rig = Rig::new(ALLOWS).await;
    assert_eq!(rig.inner(text, RecordType::A).await.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn only_names_in_allow_out_resolve_for_envoy_with_internet_on() {
    let rig = Rig::new(r#"{"allow_out":["ok.test"]}"#).await;
    assert_eq!(addresses(&rig.inner("ok.test", RecordType::A).await), ["203.0.113.10"]);
    let answer = rig.inner("other.test", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_name_resolves_to_a_private_address_that_allow_out_contains() {
    let rig =
        Rig::new(r#"{"allow_internet_access":false,"allow_out":["private.test","10.0.0.0/8"]}"#)
            .await;
    assert_eq!(addresses(&rig.inner("private.test", RecordType::A).await), ["10.0.0.5"]);
    assert_eq!(addresses(&rig.inner("private.test", RecordType::AAAA).await), Vec::<String>::new());
}

#[tokio::test]
async fn an_alias_to_a_denied_name_is_not_followed() {
    let rig = Rig::new(r#"{"allow_out":["alias.test"],"deny_out":["bad.test"]}"#).await;
    let answer = rig.inner("alias.test", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn both_policies_of_an_update_must_allow_the_address() {
    let rig = Rig::new(ALLOWS).await;
    let narrow = r#"{"allow_internet_access":false,"allow_out":["private.test","10.0.0.0/8"]}"#;
    rig.proxy.set(generation(2, narrow, Some(ALLOWS)));
    assert_eq!(addresses(&rig.inner("private.test", RecordType::A).await), Vec::<String>::new());
    let answer = rig.inner("ok.test", RecordType::A).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
}

#[tokio::test]
async fn queries_for_types_other_than_addresses_are_refused() {
    let rig = Rig::new(ALLOWS).await;
    for kind in [RecordType::TXT, RecordType::ANY, RecordType::HTTPS, RecordType::PTR] {
        let answer = rig.inner("ok.test", kind).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{kind}");
    }
    assert_eq!(rig.seen(), 0);
}
