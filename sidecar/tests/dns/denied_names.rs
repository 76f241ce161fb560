//! The agent resolves the addresses of denied names. The sandbox does not control these queries.

use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use sandgate_policy::egress::DeniedAddresses;
use sandgate_sidecar::denied_names::DeniedNames;
use sandgate_sidecar::dns::Limits;
use tokio::time::timeout;

use crate::authority::Behaviour;
use crate::rig::{DENIES, PATIENCE, Rig, policy};

fn text(denied: &DeniedAddresses) -> Vec<String> {
    denied.pairs().map(|(name, address)| format!("{name} {address}")).collect()
}

/// Resolves the names that a policy denies, by the resolvers of a rig.
fn find(rig: &Rig, json: &str) -> DeniedNames {
    let (denied_names, finder) = DeniedNames::new();
    tokio::spawn(finder.run(rig.proxy.clone()));
    denied_names.follow(&policy(json));
    denied_names
}

#[tokio::test]
async fn only_denied_names_are_resolved() {
    let rig = Rig::new(DENIES).await;
    let json = r#"{"deny_out":["bad.test","alias.test","missing.test","*.denied.test","ok.test","198.51.100.1"],"allow_out":["ok.test"]}"#;
    let known = find(&rig, json).first(PATIENCE).await;
    let expected = [
        "alias.test 203.0.113.66",
        "alias.test 2001:db8:113::66",
        "bad.test 203.0.113.66",
        "bad.test 2001:db8:113::66",
    ];
    assert_eq!(text(&known), expected);
    let mut asked: Vec<String> =
        rig.resolvers[0].seen().into_iter().map(|seen| seen.name).collect();
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["alias.test.", "bad.test.", "missing.test."]);
    assert_eq!(rig.seen(), 6, "each by two questions");
}

#[tokio::test]
async fn a_new_policy_resolves_added_names_and_forgets_removed_ones() {
    let rig = Rig::new(DENIES).await;
    let mut names = find(&rig, r#"{"deny_out":["bad.test"]}"#);
    assert_eq!(names.first(PATIENCE).await.pairs().count(), 2);
    names.follow(&policy(r#"{"deny_out":["bad.test","v4.test"]}"#));
    assert_eq!(names.first(PATIENCE).await.pairs().count(), 3);
    assert_eq!(rig.seen(), 4, "what is known is not asked for again");
    names.follow(&policy(r#"{"deny_out":["v4.test"]}"#));
    assert_eq!(text(&names.first(PATIENCE).await), ["v4.test 203.0.113.11"]);
    names.follow(&policy("{}"));
    assert!(names.first(PATIENCE).await.is_empty());
}

#[tokio::test]
async fn addresses_of_names_below_a_denied_wildcard_are_learned_from_observed_responses() {
    let rig = Rig::new(DENIES).await;
    let mut names = find(&rig, r#"{"deny_out":["*.denied.test"]}"#);
    assert!(names.first(PATIENCE).await.is_empty());
    // Queries of the sandbox for a denied name are not forwarded.
    assert_eq!(rig.code("secret.denied.test", RecordType::A).await, ResponseCode::NXDomain);
    assert_eq!(rig.seen(), 0);
    assert_eq!(rig.code("x.tree.test", RecordType::A).await, ResponseCode::NXDomain);
    let known = timeout(PATIENCE, names.changed()).await.expect("it becomes known");
    assert_eq!(text(&known), ["x.denied.test 203.0.113.66"]);
    assert_eq!(rig.seen(), 1, "the sandbox's own question");
}

#[tokio::test]
async fn a_silent_resolver_does_not_delay_the_policy_and_is_queried_again() {
    // The resolver drops all attempts of the first two queries, and no more.
    let silent = Behaviour { loses: 2, ..Behaviour::default() };
    let limits = Limits { query_timeout: Duration::from_millis(300), ..Limits::default() };
    let rig = Rig::with(DENIES, vec![silent], limits).await;
    let mut names = find(&rig, r#"{"deny_out":["bad.test"]}"#);
    let begun = Instant::now();
    assert!(names.first(Duration::from_millis(50)).await.is_empty());
    assert!(names.first(PATIENCE).await.is_empty(), "both have failed");
    assert!(begun.elapsed() < Duration::from_secs(5));
    let known = timeout(PATIENCE, names.changed()).await.expect("it becomes known");
    assert!(!known.is_empty(), "with the next attempt");
}

#[tokio::test]
async fn many_queued_names_use_little_processor_time() {
    let silent = Behaviour { loses: usize::MAX, ..Behaviour::default() };
    let limits = Limits { query_timeout: Duration::from_secs(4), ..Limits::default() };
    let rig = Rig::with(DENIES, vec![silent], limits).await;
    let many: Vec<String> = (0..1_000).map(|number| format!("n{number}.test")).collect();
    let _names = find(&rig, &serde_json::json!({ "deny_out": many }).to_string());
    let mut before = Duration::ZERO;
    for _ in 0..2 {
        // The first round measures the start, and the second one the wait.
        before = spent();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let spent = spent() - before;
    assert!(spent < Duration::from_millis(500), "{spent:?} of a second");
    let mut asked: Vec<String> =
        rig.resolvers[0].seen().into_iter().map(|seen| seen.name).collect();
    asked.sort();
    asked.dedup();
    assert_eq!(asked.len(), 4, "eight questions at a time");
}

/// The processor time of this thread, which runs the whole test.
fn spent() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).expect("the system says");
    let time = usage.user_time() + usage.system_time();
    Duration::from_micros(time.num_microseconds().unsigned_abs())
}
