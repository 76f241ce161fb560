//! Internet off, some names allowed: only these resolve, to virtual addresses.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use test_case::test_case;

use crate::rig::{ALLOWS, Rig, addresses, by_tcp, generation, question};

#[test_case("ok.test", RecordType::A, "198.18.0.10"; "exact, v4")]
#[test_case("OK.test", RecordType::AAAA, "fd53:6700::10"; "exact, v6, in upper case")]
#[test_case("z.a.ok.test", RecordType::A, "198.18.0.2"; "wildcard, v4")]
#[test_case("Z.a.ok.test", RecordType::AAAA, "fd53:6700::2"; "wildcard, v6")]
#[test_case("via.test", RecordType::A, "198.18.0.2"; "an alias to somewhere else is followed by Envoy")]
#[tokio::test]
async fn an_allowed_name_resolves_to_its_virtual_address(
    text: &str,
    kind: RecordType,
    expected: &str,
) {
    let rig = Rig::new(ALLOWS).await;
    for answer in [rig.ask(text, kind).await, by_tcp(rig.sandbox, &question(text, kind)).await] {
        assert_eq!(addresses(&answer), [expected]);
        assert_eq!(answer.answers.len(), 1, "the alias is not shown");
        assert_eq!(&answer.answers[0].name, answer.queries[0].name());
        let expected_ttl = if text == "via.test" { 50 } else { 77 };
        assert_eq!(answer.answers[0].ttl, expected_ttl);
    }
}

#[test_case("v4.test", RecordType::AAAA, ResponseCode::NoError; "no address of that family")]
#[test_case("missing.test", RecordType::A, ResponseCode::NXDomain; "not there at all")]
#[test_case("nothing.a.ok.test", RecordType::A, ResponseCode::NXDomain; "not there, below a wildcard")]
#[test_case("private.test", RecordType::A, ResponseCode::NoError; "only a private address")]
#[test_case("private.test", RecordType::AAAA, ResponseCode::NoError; "only a private v6 address")]
#[test_case("metaonly.test", RecordType::A, ResponseCode::NoError; "only a guardrail address")]
#[test_case("meta.test", RecordType::AAAA, ResponseCode::NoError; "only embedded guardrail addresses")]
#[tokio::test]
async fn a_name_without_a_real_address_gets_no_virtual_address(
    text: &str,
    kind: RecordType,
    code: ResponseCode,
) {
    let rig = Rig::new(ALLOWS).await;
    let answer = rig.ask(text, kind).await;
    assert_eq!(answer.metadata.response_code, code);
    assert!(answer.answers.is_empty());
    assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
}

#[test_case("other.test"; "not listed")]
#[test_case("bad.test"; "denied as well")]
#[test_case("a.ok.test"; "the name above a wildcard")]
#[test_case("x.ok.test"; "below an exact name")]
#[test_case("ok.test.test"; "an allowed name and more")]
#[test_case("a.ok.test.evil"; "an allowed name in front")]
#[test_case("notok.test"; "the same end, but no label of its own")]
#[test_case("test"; "above")]
#[test_case("."; "the root")]
#[test_case("10.113.0.203.in-addr.arpa"; "a reverse lookup")]
#[test_case("10.0.18.198.in-addr.arpa"; "a reverse lookup of a virtual address")]
#[test_case("*.a.ok.test.x"; "an asterisk")]
#[tokio::test]
async fn a_name_that_is_not_allowed_does_not_resolve_for_any_type(text: &str) {
    let rig = Rig::new(ALLOWS).await;
    let kinds =
        [RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::HTTPS, RecordType::PTR];
    for kind in kinds.into_iter().chain([RecordType::ANY, RecordType::NS, RecordType::MX]) {
        assert_eq!(rig.code(text, kind).await, ResponseCode::NXDomain, "{kind}");
    }
    assert_eq!(rig.seen(), 0, "a name can't carry data to a resolver either");
}

#[tokio::test]
async fn an_alias_from_an_allowed_name_to_a_denied_one_is_refused() {
    let rig = Rig::new(r#"{"allow_internet_access":false,"allow_out":["alias.test","*.tree.test"],"deny_out":["bad.test","*.denied.test"]}"#).await;
    for text in ["alias.test", "x.tree.test"] {
        for kind in [RecordType::A, RecordType::TXT, RecordType::HTTPS] {
            assert_eq!(rig.code(text, kind).await, ResponseCode::NXDomain, "{text} {kind}");
        }
    }
}

#[tokio::test]
async fn service_bindings_of_allowed_names_lose_addresses_and_ech() {
    let rig = Rig::new(ALLOWS).await;
    let answer = rig.ask("ok.test", RecordType::HTTPS).await;
    let RData::HTTPS(https) = &answer.answers[0].data else { panic!("an HTTPS record") };
    assert_eq!(https.to_string(), "1 . alpn=h2,");
    let answer = rig.ask("svc.test", RecordType::HTTPS).await;
    let [only] = answer.answers.as_slice() else { panic!("the target that is allowed: {answer}") };
    assert_eq!(only.data.to_string(), "1 ok.test. alpn=h2,");
    assert_eq!(addresses(&answer), Vec::<String>::new());
}

#[tokio::test]
async fn other_types_are_forwarded_without_real_addresses() {
    let rig = Rig::new(ALLOWS).await;
    assert_eq!(rig.ask("ok.test", RecordType::TXT).await.answers.len(), 1);
    assert_eq!(rig.ask("ok.test", RecordType::from(65280)).await.answers.len(), 1);
    let mail = rig.ask("mx.test", RecordType::MX).await;
    assert_eq!(mail.answers.len(), 2);
    assert_eq!(addresses(&mail), Vec::<String>::new());
    let any = rig.ask("ok.test", RecordType::ANY).await;
    assert!(!any.answers.is_empty());
    assert_eq!(addresses(&any), Vec::<String>::new());
}

#[tokio::test]
async fn a_truncated_response_is_fetched_over_tcp_before_it_is_evaluated() {
    let truncates = crate::authority::Behaviour { truncates: true, ..Default::default() };
    let rig = Rig::with(ALLOWS, vec![truncates], Default::default()).await;
    assert_eq!(addresses(&rig.ask("ok.test", RecordType::A).await), ["198.18.0.10"]);
    assert!(rig.resolvers[0].seen().iter().any(|seen| seen.by_tcp));
}

#[tokio::test]
async fn during_an_update_a_name_must_be_allowed_by_both_policies() {
    let rig = Rig::new("{}").await;
    rig.proxy.set(generation(2, "{}", Some(ALLOWS)));
    assert_eq!(addresses(&rig.ask("ok.test", RecordType::A).await), ["198.18.0.10"]);
    assert_eq!(rig.code("other.test", RecordType::A).await, ResponseCode::NXDomain);
}
