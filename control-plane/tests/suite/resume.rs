//! Resumes that gateways request: one at a time for each sandbox, bounded, and only if they are permitted.

use std::time::{Duration, Instant};

use sandgate::changes::Propagation;
use sandgate::model::{SandboxId, Timestamp, Transition};
use sandgate::sandboxes::ServiceSettings;
use sandgate::store::Sandboxes as _;
use sandgate_policy::gateway_api::SandboxState;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::support::{Answer, World};

async fn resume(world: &World, sandbox: &str, wait_ms: u64, public: bool) -> Answer {
    let path = format!("/gateway/v1/sandboxes/{sandbox}/resume");
    world.call_gateway("POST", &path, json!({ "wait_ms": wait_ms, "public": public })).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_concurrent_resumes_make_exactly_one_runtime_call() {
    let world = std::sync::Arc::new(World::new());
    let id = world.create_suspended(json!({ "name": "my-env", "exposed_ports": [8080] })).await;
    world.runtime.set_delay(Duration::from_millis(300));
    let mut calls = JoinSet::new();
    for number in 0..200 {
        let (world, id) = (std::sync::Arc::clone(&world), id.clone());
        // Half of them are for a public port. Joining a resume in flight is not limited.
        calls.spawn(async move { resume(&world, &id, 10_000, number % 2 == 0).await });
    }
    let mut addresses = std::collections::BTreeSet::new();
    while let Some(answer) = calls.join_next().await {
        let sandbox = answer.unwrap().ok();
        assert_eq!(sandbox["state"], "running");
        addresses.insert(sandbox["address"].to_string());
    }
    assert_eq!(world.runtime.count("resume"), 1);
    assert_eq!(addresses.len(), 1);
}

#[tokio::test]
async fn two_servers_on_one_store_make_one_runtime_call_between_them() {
    let one = World::new();
    let id = one.create_suspended(json!({ "name": "my-env" })).await;
    let store = sandgate::store::SqliteStore::open(&one.dir.path().join("sandgate.db")).unwrap();
    let propagation = Propagation::new(std::sync::Arc::new(store)).unwrap();
    let runtime = std::sync::Arc::clone(&one.runtime);
    let sandboxes = sandgate::sandboxes::SandboxService::new(
        propagation.clone(),
        runtime as _,
        ServiceSettings::default(),
    );
    let followers = [one.sandboxes.propagation().clone(), propagation]
        .map(|propagation| tokio::spawn(async move { propagation.find_other_commits().await }));
    one.runtime.set_delay(Duration::from_millis(300));
    let wait = Duration::from_secs(10);
    let request = sandgate::sandboxes::ResumePolicy::Request;
    let here = sandgate::model::SandboxId::parse(&id).unwrap();
    let (first, second) =
        tokio::join!(resume(&one, &id, 10_000, false), sandboxes.resume(here, request, wait));
    assert_eq!(first.ok()["state"], "running");
    assert_eq!(second.unwrap().state, sandgate_policy::gateway_api::SandboxState::Running);
    assert_eq!(one.runtime.count("resume"), 1);
    for follower in followers {
        follower.abort();
    }
}

#[tokio::test]
async fn the_result_of_a_server_that_was_cut_off_changes_no_later_placement() {
    let world = World::new();
    let id = world.create_suspended(json!({ "name": "my-env" })).await;
    world.runtime.set_delay(Duration::from_secs(2));
    assert_eq!(resume(&world, &id, 0, false).await.ok()["state"], "suspended");
    let id = SandboxId::parse(&id).unwrap();
    let found = || world.store.sandbox(&id.to_ref()).unwrap().unwrap();
    while found().state != SandboxState::Pending {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Another server gives up the resume in flight and begins the next one.
    for (from, to) in [
        (SandboxState::Pending, Transition::SuspendedUnconfirmed),
        (SandboxState::Suspended, Transition::Pending),
    ] {
        world.store.transition(&id, &[from], None, to, Timestamp::now()).unwrap().unwrap();
    }
    let later = found();
    world.sandboxes.wait_until_idle().await;
    assert_eq!(world.runtime.count("resume"), 1);
    assert_eq!(found(), later);
}

#[tokio::test]
async fn after_the_wait_the_response_has_the_current_state() {
    let world = World::new();
    let id = world.create_suspended(json!({ "name": "slow" })).await;
    world.runtime.set_delay(Duration::from_millis(600));
    let began = Instant::now();
    // During a resume, gateways see the sandbox as suspended, so that further requests join.
    assert_eq!(resume(&world, &id, 100, false).await.ok()["state"], "suspended");
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    // The resume continues, and a longer wait sees its end.
    assert_eq!(resume(&world, &id, 10_000, false).await.ok()["state"], "running");
    assert_eq!(world.runtime.count("resume"), 1);
}

#[tokio::test]
async fn a_resume_continues_after_its_caller_disconnects() {
    let world = World::new();
    let id = world.create_suspended(json!({ "name": "my-env" })).await;
    world.runtime.set_delay(Duration::from_millis(200));
    let gone = resume(&world, &id, 10_000, false);
    assert!(tokio::time::timeout(Duration::from_millis(50), gone).await.is_err());
    assert_eq!(resume(&world, &id, 10_000, false).await.ok()["state"], "running");
    assert_eq!(world.runtime.count("resume"), 1);
}

#[tokio::test]
async fn resuming_a_running_sandbox_returns_immediately_without_a_runtime_call() {
    let world = World::new();
    let id = world.create(json!({})).await;
    assert_eq!(resume(&world, &id, 10_000, true).await.ok()["state"], "running");
    assert_eq!(world.runtime.count("resume"), 0);
}

#[tokio::test]
async fn resuming_a_sandbox_without_auto_resume_is_a_409_and_a_deleted_one_a_404() {
    let world = World::new();
    let id = world.create_suspended(json!({ "name": "manual", "auto_resume": false })).await;
    let error = resume(&world, &id, 0, false).await.refused(409, "SANDBOX_NOT_RUNNING");
    assert!(error.contains("auto_resume"), "{error}");
    world.call("DELETE", "/sandboxes/manual", Value::Null).await.ok();
    resume(&world, &id, 0, false).await.refused(404, "SANDBOX_NOT_FOUND");
    resume(&world, "manual", 0, false).await.refused(404, "SANDBOX_NOT_FOUND");
    assert_eq!(world.runtime.count("resume"), 0);
}

#[tokio::test]
async fn resumes_through_public_ports_have_a_minimum_interval() {
    let interval = Duration::from_millis(1_500);
    let settings =
        ServiceSettings { public_resume_interval: interval, ..ServiceSettings::default() };
    let world = World::with(settings);
    let id = world.create_suspended(json!({ "name": "my-env" })).await;
    let other = world.create_suspended(json!({ "name": "other" })).await;
    assert_eq!(resume(&world, &id, 5_000, true).await.ok()["state"], "running");
    world.call("POST", "/sandboxes/my-env/suspend", Value::Null).await.ok();
    let limited = resume(&world, &id, 5_000, true).await;
    let wait: u64 = limited.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=2).contains(&wait), "{wait}");
    limited.refused(429, "TOO_MANY_REQUESTS");
    // The limit is for one sandbox, and does not apply to authenticated callers.
    assert_eq!(resume(&world, &other, 5_000, true).await.ok()["state"], "running");
    assert_eq!(resume(&world, &id, 5_000, false).await.ok()["state"], "running");
    world.call("POST", "/sandboxes/my-env/suspend", Value::Null).await.ok();
    tokio::time::sleep(interval).await;
    assert_eq!(resume(&world, &id, 5_000, true).await.ok()["state"], "running");
}

#[tokio::test]
async fn requests_pause_after_a_failed_resume() {
    let world = World::new();
    let id = world.create_suspended(json!({ "name": "broken" })).await;
    world.runtime.set_failing(true);
    for _ in 0..10 {
        assert_eq!(resume(&world, &id, 5_000, false).await.ok()["state"], "suspended");
    }
    assert_eq!(world.runtime.count("resume"), 1);
}

#[tokio::test]
async fn during_a_resume_gateways_see_a_suspended_sandbox_and_owners_a_pending_one() {
    let world = World::new();
    let id = world.create_suspended(json!({ "name": "my-env" })).await;
    world.runtime.set_delay(Duration::from_millis(400));
    world.call("POST", "/sandboxes/my-env/resume?wait_ms=0", Value::Null).await;
    let info = async || world.call("GET", "/sandboxes/my-env", Value::Null).await.ok();
    let began = Instant::now();
    while info().await["status"] != "pending" {
        assert!(began.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let seen = world.call_gateway("GET", "/gateway/v1/sandboxes/my-env", Value::Null).await.ok();
    assert_eq!(seen["state"], "suspended");
    assert_eq!(resume(&world, &id, 5_000, true).await.ok()["state"], "running");
    assert_eq!(world.runtime.count("resume"), 1);
}
