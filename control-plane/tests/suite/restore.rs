//! The start of a server with the sandboxes of the previous one.

use std::sync::Arc;
use std::time::Duration;

use sandgate::changes::Propagation;
use sandgate::model::{SandboxId, Timestamp, Transition};
use sandgate::sandboxes::{SandboxService, ServiceSettings};
use sandgate::store::{Sandboxes as _, SqliteStore, Store};
use sandgate_policy::gateway_api::SandboxState;
use serde_json::json;

use super::runtime::TestRuntime;
use super::support::World;

/// Starts a second server on the first one's store, with its own runtime.
async fn restart(world: &World, runtime: &Arc<TestRuntime>) {
    let propagation = Propagation::new(Arc::clone(&world.store) as Arc<dyn Store>).unwrap();
    let sandboxes =
        SandboxService::new(propagation, Arc::clone(runtime) as _, ServiceSettings::default());
    sandboxes.clear_stale_addresses().await.unwrap();
    sandboxes.restore().await.unwrap();
}

fn state(world: &World, id: &str) -> Option<SandboxState> {
    let id = SandboxId::parse(id).unwrap();
    world.store.sandbox(&id.to_ref()).unwrap().map(|sandbox| sandbox.state)
}

#[tokio::test]
async fn running_sandboxes_are_resumed_in_a_new_generation_and_suspended_ones_stay_suspended() {
    let world = World::new();
    let running = world.create(json!({ "name": "awake" })).await;
    let suspended = world.create_suspended(json!({ "name": "asleep" })).await;
    let id = SandboxId::parse(&running).unwrap();
    let before = world.store.sandbox(&id.to_ref()).unwrap().unwrap();
    let runtime = Arc::new(TestRuntime::default());
    restart(&world, &runtime).await;
    let after = world.store.sandbox(&id.to_ref()).unwrap().unwrap();
    assert_eq!(after.state, SandboxState::Running);
    assert!(after.generation > before.generation);
    assert_eq!(state(&world, &suspended), Some(SandboxState::Suspended));
    assert_eq!(runtime.actions(), ["resume"]);
}

#[tokio::test]
async fn a_runtime_that_outlives_the_server_gets_no_call() {
    let world = World::new();
    let running = world.create(json!({})).await;
    let runtime = Arc::new(TestRuntime::default());
    runtime.set_outlives();
    restart(&world, &runtime).await;
    assert_eq!(state(&world, &running), Some(SandboxState::Running));
    assert!(runtime.actions().is_empty());
}

#[tokio::test]
async fn stale_addresses_are_removed_before_gateways_can_query() {
    let world = World::new();
    let running = world.create(json!({ "name": "awake" })).await;
    let propagation = Propagation::new(Arc::clone(&world.store) as Arc<dyn Store>).unwrap();
    let runtime = Arc::new(TestRuntime::default());
    let sandboxes = SandboxService::new(propagation, runtime as _, ServiceSettings::default());
    sandboxes.clear_stale_addresses().await.unwrap();
    assert_eq!(state(&world, &running), Some(SandboxState::Pending));
}

#[tokio::test]
async fn unfinished_suspensions_and_deletions_are_finished() {
    let world = World::new();
    let suspending = world.create(json!({ "name": "half-asleep" })).await;
    let id = SandboxId::parse(&suspending).unwrap();
    let to = Transition::Suspending;
    let now = Timestamp::now();
    world.store.transition(&id, &[SandboxState::Running], None, to, now).unwrap().unwrap();
    let deleted = world.create(json!({ "name": "deleted" })).await;
    let deleted = SandboxId::parse(&deleted).unwrap();
    world.store.terminate_sandbox(&deleted, "test", Timestamp::now()).unwrap().unwrap();
    let runtime = Arc::new(TestRuntime::default());
    runtime.set_outlives();
    restart(&world, &runtime).await;
    assert_eq!(state(&world, &suspending), Some(SandboxState::Suspended));
    let stopped = async {
        while !world.store.sandboxes_in(SandboxState::Terminated).unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), stopped).await.unwrap();
    let mut actions = runtime.actions();
    actions.sort_unstable();
    assert_eq!(actions, ["stop", "suspend"]);
}

#[tokio::test]
async fn a_sandbox_that_fails_to_resume_is_suspended_with_a_name_and_terminated_without() {
    let world = World::new();
    let named = world.create(json!({ "name": "my-env" })).await;
    let unnamed = world.create(json!({})).await;
    let runtime = Arc::new(TestRuntime::default());
    runtime.set_failing(true);
    restart(&world, &runtime).await;
    assert_eq!(state(&world, &named), Some(SandboxState::Suspended));
    assert_eq!(state(&world, &unnamed), None);
}

#[tokio::test]
async fn an_unconfirmed_suspension_is_retried_after_a_restart() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    world.runtime.set_failing(true);
    let path = format!("/sandboxes/{id}/suspend");
    let answer = world.call("POST", &path, serde_json::Value::Null).await;
    answer.refused(503, "SUSPENSION_NOT_CONFIRMED");
    // Each server opens the store's file again.
    let next_server = async |failing: bool| {
        let store = SqliteStore::open(&world.dir.path().join("sandgate.db")).unwrap();
        let propagation = Propagation::new(Arc::new(store) as Arc<dyn Store>).unwrap();
        let runtime = Arc::new(TestRuntime::default());
        runtime.set_outlives();
        runtime.set_failing(failing);
        let sandboxes =
            SandboxService::new(propagation, Arc::clone(&runtime) as _, ServiceSettings::default());
        sandboxes.restore().await.unwrap();
        // Waits for the round that the restart began, and runs another one.
        tokio::task::yield_now().await;
        sandboxes.retry_unfinished().await;
        runtime
    };
    // The platform still fails.
    let asked = next_server(true).await.count("suspend");
    assert!(asked >= 1, "{asked}");
    let asked = next_server(false).await;
    assert_eq!(asked.actions(), ["suspend"], "until it is confirmed");
    assert!(next_server(false).await.actions().is_empty(), "and no longer");
    assert_eq!(state(&world, &id), Some(SandboxState::Suspended));
}
