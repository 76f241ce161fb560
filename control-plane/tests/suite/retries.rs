//! The control plane retries failed calls of the platform. A platform that hangs for the sandboxes of one project does
//! not delay those of another.

use std::time::Duration;

use sandgate::model::{SandboxId, Timestamp, Transition};
use sandgate::sandboxes::ServiceSettings;
use sandgate::store::Sandboxes as _;
use sandgate_policy::gateway_api::SandboxState;
use serde_json::json;

use super::support::{Tenant, World};

/// More sandboxes than are stopped concurrently.
const MANY: usize = 40;

async fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let held = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), held).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Creates deleted sandboxes that still run.
async fn make_unfinished(world: &World, tenant: &Tenant, how_many: usize) {
    for _ in 0..how_many {
        let created = world.call_as(&tenant.key, "POST", "/sandboxes", json!({})).await.ok();
        let id = SandboxId::parse(created["sandbox_id"].as_str().unwrap()).unwrap();
        world.store.terminate_sandbox(&id, "test", Timestamp::now()).unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_platform_that_hangs_for_one_project_does_not_delay_another() {
    let world = World::new();
    let others = world.others();
    make_unfinished(&world, &world.ours, MANY).await;
    make_unfinished(&world, &others, MANY).await;
    world.runtime.hang_for(&world.ours.project);
    let sandboxes = world.sandboxes.clone();
    let round = tokio::spawn(async move { sandboxes.retry_unfinished().await });
    let unfinished = |tenant: &Tenant| {
        let unfinished = world.store.sandboxes_in(SandboxState::Terminated).unwrap();
        unfinished.iter().filter(|sandbox| sandbox.project_id == *tenant.project).count()
    };
    wait_until("the other project's sandboxes are stopped", || unfinished(&others) == 0).await;
    assert!(!round.is_finished(), "the platform still hangs");
    assert_eq!(unfinished(&world.ours), MANY);
    // At most four concurrent calls are for that project.
    let asked = world.runtime.count_of(&world.ours.project, "stop");
    assert!((1..=4).contains(&asked), "{asked}");
    round.abort();
}

#[tokio::test]
async fn a_hanging_attempt_times_out_and_the_next_round_begins_with_the_untried_sandboxes() {
    let world = World::with(ServiceSettings {
        retry_timeout: Duration::from_millis(500),
        retry_round: Duration::from_millis(100),
        ..ServiceSettings::default()
    });
    // The round tries four sandboxes concurrently, and then times out.
    make_unfinished(&world, &world.ours, 6).await;
    world.runtime.hang_for(&world.ours.project);
    let began = world.runtime.actions().len();
    world.sandboxes.retry_unfinished().await;
    let first = world.runtime.ids()[began..].to_vec();
    assert_eq!(first.len(), 4);
    world.sandboxes.retry_unfinished().await;
    let second = world.runtime.ids()[began + 4..].to_vec();
    assert_eq!(second.iter().filter(|id| !first.contains(id)).count(), 2, "{first:?} {second:?}");
    // The platform works again.
    world.runtime.hang_for("nobody");
    world.sandboxes.retry_unfinished().await;
    assert!(world.store.sandboxes_in(SandboxState::Terminated).unwrap().is_empty());
}

#[tokio::test]
async fn after_a_restart_a_platform_that_hangs_for_one_project_does_not_delay_another() {
    let world = World::new();
    let others = world.others();
    for (tenant, whose) in [(&world.ours, "ours"), (&others, "others")] {
        for number in 0..MANY {
            let body = json!({ "name": format!("{whose}-{number}") });
            let created = world.call_as(&tenant.key, "POST", "/sandboxes", body).await.ok();
            let id = SandboxId::parse(created["sandbox_id"].as_str().unwrap()).unwrap();
            let (from, to) = ([SandboxState::Running], Transition::Suspending);
            world.store.transition(&id, &from, None, to, Timestamp::now()).unwrap().unwrap();
        }
    }
    world.runtime.hang_for(&world.ours.project);
    let sandboxes = world.sandboxes.clone();
    let restoring = tokio::spawn(async move { sandboxes.restore().await });
    wait_until("the other project's sandboxes are suspended", || {
        let suspended = world.store.sandboxes_in(SandboxState::Suspended).unwrap();
        suspended.iter().filter(|sandbox| sandbox.project_id == *others.project).count() == MANY
    })
    .await;
    assert!(!restoring.is_finished());
    restoring.abort();
}
