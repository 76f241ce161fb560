//! Internet on, no rules: everything that works without the proxy works with it.

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{RData, RecordType};
use sandgate_sidecar::dns::Limits;

use crate::authority::{Authority, Behaviour};
use crate::rig::{LOCAL_V6, OPEN, Rig, ZONE, by_tcp, exchange, question, raw};

/// Every record type of the zone, including two unassigned ones.
const TYPES: [u16; 10] = [1, 28, 16, 65, 257, 44, 29, 65280, 15, 33];

#[tokio::test]
async fn records_of_every_type_arrive_unchanged() {
    let rig = Rig::new(OPEN).await;
    let names =
        ["ok.test", "mx.test", "_s._tcp.other.test", "via.test", "missing.test", "test", "."];
    for text in names {
        for kind in TYPES.map(RecordType::from) {
            let question = question(text, kind).to_vec().unwrap();
            let through = raw(rig.sandbox, &question).await;
            let direct = raw(rig.resolvers[0].address, &question).await;
            assert_eq!(through, direct, "{text} {kind}");
        }
    }
    assert_eq!(rig.count("forwarded"), 70);
}

#[tokio::test]
async fn nodata_and_nxdomain_responses_keep_their_code_and_soa() {
    let rig = Rig::new(OPEN).await;
    let nodata = rig.ask("v4.test", RecordType::AAAA).await;
    assert_eq!(nodata.metadata.response_code, ResponseCode::NoError);
    assert!(nodata.answers.is_empty());
    let missing = rig.ask("missing.test", RecordType::A).await;
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    for answer in [nodata, missing] {
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
    }
}

#[tokio::test]
async fn times_to_live_are_those_of_the_resolver() {
    let rig = Rig::new(OPEN).await;
    assert_eq!(rig.ask("ok.test", RecordType::A).await.answers[0].ttl, 77);
}

#[tokio::test]
async fn the_response_keeps_the_case_of_the_queried_name() {
    let lowers = Behaviour { lowers_case: true, ..Behaviour::default() };
    let rig = Rig::with(OPEN, vec![lowers], Limits::default()).await;
    let answer = rig.ask("oK.TeSt", RecordType::A).await;
    assert_eq!(answer.queries[0].name().to_ascii(), "oK.TeSt.");
    assert_eq!(answer.answers.len(), 1);
}

#[tokio::test]
async fn large_responses_are_truncated_over_udp_and_complete_over_tcp() {
    let rig = Rig::new(OPEN).await;
    let mut plain = question("big.test", RecordType::A);
    plain.edns = None;
    let wire = raw(rig.sandbox, &plain.to_vec().unwrap()).await;
    assert!(wire.len() <= 512, "a client without EDNS gets at most 512 bytes, not {}", wire.len());
    let short = exchange(rig.sandbox, &plain).await;
    assert!(short.metadata.truncation);
    assert!(!short.answers.is_empty(), "what fits stays, for clients that make do with it");
    assert!(short.edns.is_none());
    let whole = by_tcp(rig.sandbox, &plain).await;
    assert!(!whole.metadata.truncation);
    assert_eq!(whole.answers.len(), 100);
    assert_eq!(
        by_tcp(rig.sandbox, &question("huge.test", RecordType::TXT)).await.answers.len(),
        20
    );
}

#[tokio::test]
async fn udp_responses_are_never_larger_than_1232_bytes() {
    let rig = Rig::new(OPEN).await;
    let mut greedy = question("huge.test", RecordType::TXT);
    greedy.edns.as_mut().unwrap().set_max_payload(4096);
    let wire = raw(rig.sandbox, &greedy.to_vec().unwrap()).await;
    assert!(wire.len() <= 1232, "{} bytes", wire.len());
    assert!(exchange(rig.sandbox, &greedy).await.metadata.truncation);
    assert!(rig.resolvers[0].seen().iter().all(|seen| seen.payload == Some(1232)));
}

#[tokio::test]
async fn ipv6_works_for_clients_and_resolvers() {
    let resolver = Authority::start(LOCAL_V6, ZONE, Behaviour::default()).await;
    let rig = Rig::on(OPEN, LOCAL_V6, vec![resolver], Limits::default()).await;
    assert_eq!(rig.ask("ok.test", RecordType::AAAA).await.answers.len(), 1);
    assert_eq!(by_tcp(rig.sandbox, &question("ok.test", RecordType::A)).await.answers.len(), 1);
}

#[tokio::test]
async fn guardrail_addresses_are_removed_from_responses() {
    let rig = Rig::new(OPEN).await;
    let one = rig.ask("meta.test", RecordType::A).await;
    assert_eq!(one.answers.len(), 1, "the other address stays");
    assert_eq!(one.answers[0].data.ip_addr(), Some("203.0.113.15".parse().unwrap()));
    for (text, kind) in [
        ("metaonly.test", RecordType::A),
        ("meta.test", RecordType::AAAA),
        // Ranges that the operator protects.
        ("edge.test", RecordType::A),
    ] {
        let answer = rig.ask(text, kind).await;
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{text} {kind}");
        assert!(answer.answers.is_empty(), "{text} {kind}");
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA, "{text} {kind}");
    }
    assert_eq!(rig.count("stripped_addresses"), 6);
}

#[tokio::test]
async fn guardrail_addresses_are_removed_from_hints() {
    let rig = Rig::new(OPEN).await;
    let answer = rig.ask("meta.test", RecordType::HTTPS).await;
    let RData::HTTPS(https) = &answer.answers[0].data else { panic!("an HTTPS record") };
    assert_eq!(https.to_string(), "1 . ipv4hint=203.0.113.15,");
}

#[tokio::test]
async fn the_discovery_of_encrypted_dns_returns_no_records() {
    let rig = Rig::new(OPEN).await;
    let answer = rig.ask("_dns.Resolver.arpa", RecordType::HTTPS).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
    assert!(answer.answers.is_empty());
    assert_eq!(rig.seen(), 0);
}

#[tokio::test]
async fn ech_in_service_bindings_is_kept_if_no_rule_names_a_domain() {
    let rig = Rig::new(OPEN).await;
    let answer = rig.ask("ech.test", RecordType::HTTPS).await;
    let RData::HTTPS(https) = &answer.answers[0].data else { panic!("an HTTPS record") };
    assert_eq!(https.0.svc_params.len(), 3);
    assert_eq!(rig.count("stripped_ech"), 0);
}
