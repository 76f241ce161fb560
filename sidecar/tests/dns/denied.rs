//! Names in `deny_out` do not resolve, with a test for each known way to bypass this.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use sandgate_sidecar::dns::Limits;
use test_case::test_case;

use crate::authority::Behaviour;
use crate::rig::{CLOSED, DENIES, Rig, addresses, by_tcp, generation, question};

/// Addresses that no response may contain.
const SECRET: [&str; 3] = ["203.0.113.66", "2001:db8:113::66", "203.0.113.67"];

const ALL_TYPES: [RecordType; 12] = [
    RecordType::A,
    RecordType::AAAA,
    RecordType::TXT,
    RecordType::MX,
    RecordType::HTTPS,
    RecordType::SVCB,
    RecordType::NS,
    RecordType::CAA,
    RecordType::SRV,
    RecordType::PTR,
    RecordType::SOA,
    RecordType::ANY,
];

#[test_case("bad.test"; "the name")]
#[test_case("BAD.tEst"; "in upper case")]
#[test_case("x.denied.test"; "below a wildcard")]
#[test_case("a.b.c.denied.test"; "far below a wildcard")]
#[test_case("X.DENIED.TEST"; "below a wildcard in upper case")]
#[tokio::test]
async fn a_denied_name_does_not_resolve_for_any_type_over_any_transport(text: &str) {
    let rig = Rig::new(DENIES).await;
    for kind in ALL_TYPES {
        for answer in [rig.ask(text, kind).await, by_tcp(rig.sandbox, &question(text, kind)).await]
        {
            assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{kind}");
            assert!(answer.answers.is_empty(), "{kind}");
        }
    }
    assert_eq!(rig.seen(), 0, "the resolver never hears of it");
    assert_eq!(rig.count("refused_names"), 24);
}

#[tokio::test]
async fn arbitrary_bytes_in_labels_do_not_hide_a_denied_parent_name() {
    let rig = Rig::new(DENIES).await;
    for label in [&b"\x00"[..], b"\xff\xfe", b"a.b", b"*", b" ", b"\xc3\xa9"] {
        let labels = [label, b"Denied", b"test"];
        let mut asked = question("ok.test", RecordType::A);
        asked.queries[0].set_name(hickory_proto::rr::Name::from_labels(labels).unwrap());
        let answer = crate::rig::exchange(rig.sandbox, &asked).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{label:?}");
    }
    assert_eq!(rig.seen(), 0);
}

#[tokio::test]
async fn other_names_and_the_parent_of_a_wildcard_resolve() {
    let rig = Rig::new(DENIES).await;
    for text in ["ok.test", "other.test", "denied.test", "via.test"] {
        assert!(!rig.ask(text, RecordType::A).await.answers.is_empty(), "{text}");
    }
}

#[test_case("alias.test"; "a CNAME")]
#[test_case("long.test"; "two CNAMEs, in other letters")]
#[test_case("x.tree.test"; "a DNAME and what a resolver makes of it")]
#[tokio::test]
async fn an_alias_of_a_denied_name_does_not_resolve(text: &str) {
    let rig = Rig::new(DENIES).await;
    for kind in [RecordType::A, RecordType::AAAA, RecordType::TXT, RecordType::HTTPS] {
        for answer in [rig.ask(text, kind).await, by_tcp(rig.sandbox, &question(text, kind)).await]
        {
            assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{kind}");
            assert!(answer.answers.is_empty(), "{kind}");
            assert_eq!(answer.authorities[0].ttl, 5, "remembered briefly");
        }
    }
    assert_eq!(rig.count("refused_answers"), 8);
}

#[test_case("mx.test", RecordType::MX; "mx")]
#[test_case("_s._tcp.other.test", RecordType::SRV; "srv")]
#[test_case("ns.other.test", RecordType::NS; "ns")]
#[tokio::test]
async fn additional_records_do_not_contain_addresses_of_denied_names(text: &str, kind: RecordType) {
    let rig = Rig::new(DENIES).await;
    for answer in [rig.ask(text, kind).await, by_tcp(rig.sandbox, &question(text, kind)).await] {
        assert!(!answer.answers.is_empty(), "the record itself only has the name");
        for secret in SECRET {
            assert!(!addresses(&answer).contains(&secret.to_owned()), "{secret}");
        }
    }
}

#[test_case("svcalias.test"; "as an alias")]
#[test_case("svcbad.test"; "as a service, with hints")]
#[tokio::test]
async fn a_service_binding_with_a_denied_target_is_removed(text: &str) {
    let rig = Rig::new(DENIES).await;
    let answer = rig.ask(text, RecordType::HTTPS).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.answers.is_empty());
    assert_eq!(addresses(&answer), Vec::<String>::new());
}

#[tokio::test]
async fn ech_is_removed_if_a_rule_names_a_domain() {
    let rig = Rig::new(DENIES).await;
    let answer = rig.ask("ech.test", RecordType::HTTPS).await;
    let RData::HTTPS(https) = &answer.answers[0].data else { panic!("an HTTPS record") };
    assert_eq!(https.to_string(), "1 . mandatory=alpn, alpn=h2,", "and is mandatory no more");
    assert_eq!(rig.count("stripped_ech"), 1);
}

#[tokio::test]
async fn a_refusal_names_the_rule_and_can_be_cached() {
    let rig = Rig::new(DENIES).await;
    let answer = rig.ask("bad.test", RecordType::A).await;
    let RData::SOA(soa) = &answer.authorities[0].data else { panic!("an SOA record") };
    assert_eq!((answer.authorities[0].ttl, soa.minimum, soa.serial), (5, 5, 1));
    assert!(answer.authorities[0].name.zone_of(answer.queries[0].name()));
    let edns = answer.edns.expect("the client spoke EDNS");
    let told = format!("{:?}", edns.options());
    let blocked = [&[0, 15][..], b"deny_out bad.test"].concat();
    assert!(told.contains(&format!("{blocked:?}")), "{told}");
}

#[tokio::test]
async fn with_internet_off_and_nothing_allowed_every_name_is_refused_without_a_query() {
    let silent = Behaviour { loses: usize::MAX, ..Behaviour::default() };
    let rig = Rig::with(CLOSED, vec![silent], Limits::default()).await;
    for text in ["ok.test", "missing.test", "test", ".", "10.113.0.203.in-addr.arpa"] {
        for kind in ALL_TYPES {
            assert_eq!(rig.code(text, kind).await, ResponseCode::NXDomain, "{text} {kind}");
        }
    }
    assert_eq!(rig.seen(), 0);
}

#[tokio::test]
async fn before_the_first_policy_nothing_resolves() {
    let listen = sandgate_sidecar::dns::Listen {
        address: crate::rig::LOCAL,
        role: sandgate_sidecar::dns::Role::Sandbox,
        transparent: false,
    };
    let resolver = crate::authority::Authority::start(
        crate::rig::LOCAL,
        crate::rig::ZONE,
        Behaviour::default(),
    )
    .await;
    let (proxy, server) =
        sandgate_sidecar::dns::Proxy::bind(&[listen], vec![resolver.address], Limits::default())
            .unwrap();
    let address = server.addresses()[0];
    let running = tokio::spawn(server.run(tokio_util::sync::CancellationToken::new()));
    assert_eq!(proxy.generation(), None);
    let asked = question("ok.test", RecordType::A);
    let before = crate::rig::exchange(address, &asked).await;
    assert_eq!(before.metadata.response_code, ResponseCode::ServFail);
    proxy.set(generation(7, "{}", None));
    assert_eq!(proxy.generation(), Some(7));
    assert_eq!(crate::rig::exchange(address, &asked).await.answers.len(), 1);
    running.abort();
}

#[tokio::test]
async fn a_response_is_evaluated_by_the_policy_at_its_arrival() {
    let slow = Behaviour { delay: std::time::Duration::from_millis(400), ..Behaviour::default() };
    let rig = Rig::with("{}", vec![slow], Limits::default()).await;
    for (text, kind) in [("bad.test", RecordType::A), ("alias.test", RecordType::A)] {
        rig.proxy.set(generation(1, "{}", None));
        let before = rig.seen();
        let asked = rig.ask(text, kind);
        let tighten = async {
            while rig.seen() == before {
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
            rig.proxy.set(generation(2, DENIES, None));
        };
        let (answer, ()) = tokio::join!(asked, tighten);
        assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain, "{text}");
    }
}

#[tokio::test]
async fn with_two_policies_both_must_allow_a_name() {
    let rig = Rig::new("{}").await;
    for (first, second) in [("{}", DENIES), (DENIES, "{}"), (CLOSED, "{}"), ("{}", CLOSED)] {
        rig.proxy.set(generation(2, first, Some(second)));
        assert_eq!(rig.code("bad.test", RecordType::A).await, ResponseCode::NXDomain);
        assert_eq!(rig.code("alias.test", RecordType::A).await, ResponseCode::NXDomain);
    }
    rig.proxy.set(generation(3, "{}", None));
    assert_eq!(rig.code("bad.test", RecordType::A).await, ResponseCode::NoError);
}
