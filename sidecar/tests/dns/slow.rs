//! Resolvers that are slow, drop queries, are unreachable, send forged responses, or fail.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use sandgate_sidecar::dns::Limits;

use crate::authority::{Authority, Behaviour};
use crate::rig::{LOCAL, OPEN, Rig, ZONE, by_tcp, question};

/// Short timeouts, so that the tests are fast.
fn quick() -> Limits {
    let (query_timeout, attempt_delay) = (Duration::from_secs(2), Duration::from_millis(100));
    Limits { query_timeout, attempt_delay, ..Limits::default() }
}

fn silent() -> Behaviour {
    Behaviour { loses: usize::MAX, ..Behaviour::default() }
}

#[tokio::test]
async fn a_lost_query_is_retransmitted() {
    let lossy = Behaviour { loses: 2, ..Behaviour::default() };
    let rig = Rig::with(OPEN, vec![lossy], quick()).await;
    assert_eq!(rig.ask("ok.test", RecordType::A).await.answers.len(), 1);
    assert_eq!(rig.seen(), 3);
}

#[tokio::test]
async fn a_response_that_arrives_after_the_next_attempt_is_accepted() {
    let slow = Behaviour { delay: Duration::from_millis(700), ..Behaviour::default() };
    let rig = Rig::with(OPEN, vec![slow], quick()).await;
    assert_eq!(rig.ask("ok.test", RecordType::A).await.answers.len(), 1);
}

#[tokio::test]
async fn a_silent_resolver_is_followed_by_the_next_one() {
    let rig = Rig::with(OPEN, vec![silent(), Behaviour::default()], quick()).await;
    assert_eq!(rig.ask("ok.test", RecordType::A).await.answers.len(), 1);
    assert_eq!(rig.resolvers[1].seen().len(), 1);
}

#[tokio::test]
async fn a_failed_or_unreachable_resolver_is_followed_by_the_next_one() {
    let fails = Behaviour { fails: Some(ResponseCode::Refused), ..Behaviour::default() };
    let rig = Rig::with(OPEN, vec![fails, Behaviour::default()], Limits::default()).await;
    assert_eq!(rig.ask("ok.test", RecordType::A).await.answers.len(), 1);

    // A port without a listener.
    let mut dead = Authority::start(LOCAL, ZONE, Behaviour::default()).await;
    dead.address = std::net::UdpSocket::bind(LOCAL).unwrap().local_addr().unwrap();
    let alive = Authority::start(LOCAL, ZONE, Behaviour::default()).await;
    let rig = Rig::on(OPEN, LOCAL, vec![dead, alive], Limits::default()).await;
    assert_eq!(rig.ask("ok.test", RecordType::A).await.answers.len(), 1);
}

#[tokio::test]
async fn without_a_response_from_any_resolver_the_client_gets_servfail_in_time() {
    let rig = Rig::with(OPEN, vec![silent(), silent()], quick()).await;
    let began = std::time::Instant::now();
    assert_eq!(rig.code("ok.test", RecordType::A).await, ResponseCode::ServFail);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "a C library has given up by now: {took:?}");
    assert!(took >= Duration::from_secs(2), "resolvers had their time: {took:?}");
    assert_eq!(rig.count("unanswered"), 1);
    assert!(rig.seen() <= 3, "and were not flooded");
}

#[tokio::test]
async fn a_failure_reported_by_all_resolvers_is_forwarded() {
    for code in [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::FormErr] {
        let fails = Behaviour { fails: Some(code), ..Behaviour::default() };
        let rig = Rig::with(OPEN, vec![fails], Limits::default()).await;
        assert_eq!(rig.code("ok.test", RecordType::A).await, code);
    }
}

#[tokio::test]
async fn forged_responses_are_ignored() {
    let forges = Behaviour { forges: true, ..Behaviour::default() };
    let rig = Rig::with(OPEN, vec![forges], Limits::default()).await;
    let answer = rig.ask("ok.test", RecordType::A).await;
    assert_eq!(answer.answers[0].data.ip_addr(), Some("203.0.113.10".parse().unwrap()));
    assert_eq!(rig.count("mismatched"), 3);
}

#[tokio::test]
async fn query_ids_and_ports_are_unpredictable() {
    let rig = Rig::new(OPEN).await;
    for _ in 0..64 {
        rig.ask("ok.test", RecordType::A).await;
    }
    let seen = rig.resolvers[0].seen();
    let ids: std::collections::BTreeSet<u16> = seen.iter().map(|seen| seen.id).collect();
    let ports: std::collections::BTreeSet<u16> = seen.iter().map(|seen| seen.from.port()).collect();
    // 64 samples out of 65,536 ids and about 28,000 ports have hardly any duplicates.
    assert!(ids.len() > 60, "{ids:?}");
    assert!(ports.len() > 60, "{ports:?}");
    let steps = |sorted: Vec<u16>| sorted.windows(2).filter(|pair| pair[1] == pair[0] + 1).count();
    assert!(steps(ids.into_iter().collect()) < 8, "ids do not count up");
    assert!(steps(ports.into_iter().collect()) < 16, "nor do ports");
    assert!(seen.iter().all(|seen| seen.id != 0x1234 || seen.name != "ok.test."));
}

#[tokio::test]
async fn an_unparseable_response_is_not_forwarded() {
    for garbage in
        [&b""[..], b"\xc0", b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x4d\x00\x03abc", &[0xff; 64]]
    {
        let behaviour = Behaviour { garbage: Some(garbage.to_vec()), ..Behaviour::default() };
        let rig = Rig::with(OPEN, vec![behaviour], Limits::default()).await;
        assert_eq!(rig.code("ok.test", RecordType::A).await, ResponseCode::ServFail);
        assert_eq!(rig.count("unreadable_answers"), 1);
    }
}

#[tokio::test]
async fn a_query_over_tcp_is_forwarded_over_tcp() {
    let rig = Rig::with(OPEN, vec![silent()], quick()).await;
    let answer = by_tcp(rig.sandbox, &question("ok.test", RecordType::A)).await;
    assert_eq!(answer.answers.len(), 1);
    assert!(rig.resolvers[0].seen()[0].by_tcp);
}
