//! Addresses that a platform gives twice, and what it reports by itself: who can't be reached any more,
//! and who may say so.

use sandgate::model::Timestamp;
use sandgate::runtime::SigningKey;
use serde_json::{Value, json};

use super::receiver::SECRET;
use super::support::{Answer, World, send};

const SHARED: &str = "127.70.9.9";

/// What a gateway is told about a sandbox.
async fn seen(world: &World, sandbox: &str) -> (Value, Value) {
    let path = format!("/gateway/v1/sandboxes/{sandbox}");
    let found = world.gate("GET", &path, Value::Null).await;
    (found.body["state"].clone(), found.body["address"].clone())
}

async fn report_signed(world: &World, secret: &str, age: i64, body: Value) -> Answer {
    let seconds = Timestamp::now().seconds().checked_add_signed(-age).unwrap();
    let key = SigningKey::new(secret).unwrap();
    let signature = key.sign(seconds, body.to_string().as_bytes());
    let seconds = seconds.to_string();
    let headers =
        [("x-sandgate-timestamp", seconds.as_str()), ("x-sandgate-signature", signature.as_str())];
    send(&world.gateway, "POST", "/runtime/v1/reports", &headers, body).await
}

async fn report(world: &World, body: Value) -> Answer {
    report_signed(world, SECRET, 0, body).await
}

#[tokio::test]
async fn a_tenants_sandbox_is_not_reached_by_the_name_of_another_tenants_at_the_same_address() {
    let world = World::new();
    let others = world.others();
    world.runtime.set_address(Some(SHARED));
    world.create(json!({ "name": "alice-env", "exposed_ports": [8080] })).await;
    let since = world.revision().await;
    // Her sandbox ended on the platform, which nobody was told, and the address went to his.
    let made =
        world.call_as(&others.key, "POST", "/sandboxes", json!({ "name": "bob-env" })).await.ok();
    assert_eq!(made["status"], "running");
    assert_eq!(seen(&world, "bob-env").await, (json!("running"), json!(SHARED)));
    assert_eq!(seen(&world, "alice-env").await, (json!("suspended"), Value::Null));
    let changes = world.poll("edge", &since, 0).await["changes"].to_string();
    assert!(changes.contains("alice-env"), "gateways are told to forget it: {changes}");
    let shown = world.call("GET", "/sandboxes/alice-env", Value::Null).await.ok();
    assert_eq!(shown["status"], "suspended");
    // Should it run somewhere nevertheless, the platform is told what it counts as.
    assert_eq!(world.runtime.count("suspend"), 0);
    world.fleet.settle_leftovers().await;
    assert_eq!(world.runtime.count("suspend"), 1);
    // And it is resumed like any other.
    world.runtime.set_address(Some("127.70.9.10"));
    world.call("POST", "/sandboxes/alice-env/resume", Value::Null).await.ok();
    assert_eq!(seen(&world, "alice-env").await, (json!("running"), json!("127.70.9.10")));
    assert_eq!(seen(&world, "bob-env").await, (json!("running"), json!(SHARED)));
}

#[tokio::test]
async fn the_platform_reports_that_a_sandbox_was_suspended_moved_or_ended() {
    let world = World::new();
    world.runtime.set_address(Some(SHARED));
    let id = world.create(json!({ "name": "my-env" })).await;
    let moved = json!({
        "sandbox_id": id, "was_at": SHARED, "state": "running", "address": "127.70.9.10",
    });
    assert_eq!(report(&world, moved.clone()).await.ok(), json!({ "applied": true }));
    assert_eq!(seen(&world, "my-env").await, (json!("running"), json!("127.70.9.10")));
    // It is not there any more: a report that comes late, or twice, changes nothing.
    assert_eq!(report(&world, moved).await.ok(), json!({ "applied": false }));
    let late = json!({ "sandbox_id": id, "was_at": SHARED, "state": "terminated" });
    assert_eq!(report(&world, late).await.ok(), json!({ "applied": false }));
    let suspended = json!({ "sandbox_id": id, "was_at": "127.70.9.10", "state": "suspended" });
    assert_eq!(report(&world, suspended).await.ok(), json!({ "applied": true }));
    assert_eq!(seen(&world, "my-env").await, (json!("suspended"), Value::Null));
    world.call("POST", "/sandboxes/my-env/resume", Value::Null).await.ok();
    let ended = json!({ "sandbox_id": id, "was_at": SHARED, "state": "terminated" });
    assert_eq!(report(&world, ended).await.ok(), json!({ "applied": true }));
    assert_eq!(seen(&world, "my-env").await, (Value::Null, Value::Null));
    world.call("GET", "/sandboxes/my-env", Value::Null).await.refused(404, "SANDBOX_NOT_FOUND");
}

#[tokio::test]
async fn a_report_is_applied_when_it_is_answered() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    let (_, was_at) = seen(&world, "my-env").await;
    let since = world.revision().await;
    let polling = world.poll("edge", &since, 10_000);
    let reporting = async {
        let body = json!({ "sandbox_id": id, "was_at": was_at, "state": "suspended" });
        report(&world, body).await.ok()
    };
    // The gateway is told before the platform may give the address away.
    let (polled, _) = tokio::join!(polling, reporting);
    assert!(polled["changes"].to_string().contains(&id), "{polled}");
}

#[tokio::test]
async fn nobody_else_can_report() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    let (_, was_at) = seen(&world, "my-env").await;
    let body = json!({ "sandbox_id": id, "was_at": was_at, "state": "terminated" });
    let wrong = "another-secret-of-somebody";
    report_signed(&world, wrong, 0, body.clone()).await.refused(401, "UNAUTHENTICATED");
    for age in [400, -400] {
        let old = report_signed(&world, SECRET, age, body.clone()).await;
        old.refused(401, "UNAUTHENTICATED");
    }
    let unsigned = send(&world.gateway, "POST", "/runtime/v1/reports", &[], body.clone()).await;
    unsigned.refused(401, "UNAUTHENTICATED");
    // A gateway's token is for gateways, and a key for owners.
    world.gate("POST", "/runtime/v1/reports", body.clone()).await.refused(401, "UNAUTHENTICATED");
    world.call("POST", "/runtime/v1/reports", body).await.refused(404, "NOT_FOUND");
    assert_eq!(seen(&world, "my-env").await.0, "running");
}

#[tokio::test]
async fn a_report_that_is_not_as_described_is_refused_and_changes_nothing() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    let (_, was_at) = seen(&world, "my-env").await;
    for wrong in [
        json!({ "sandbox_id": id, "was_at": was_at, "state": "running" }),
        json!({ "sandbox_id": id, "was_at": was_at, "state": "running", "address": "8.8.8.8" }),
        json!({ "sandbox_id": id, "was_at": was_at, "state": "terminated", "address": was_at }),
        json!({ "sandbox_id": id, "was_at": was_at, "state": "gone" }),
        json!({ "sandbox_id": id, "state": "terminated" }),
        json!({ "sandbox_id": "my-env", "was_at": was_at, "state": "terminated" }),
        // A call of the webhook's, sent back: the same key signed it.
        json!({ "action": "stop", "idempotency_key": "x", "sandbox": { "id": id } }),
    ] {
        report(&world, wrong).await.refused(400, "INVALID_REQUEST");
    }
    let (state, address) = seen(&world, "my-env").await;
    assert_eq!((state, address), (json!("running"), was_at));
}
