//! Addresses that a platform assigns twice, and the platform's reports.

use std::time::Duration;

use sandgate::model::Timestamp;
use sandgate::runtime::SigningKey;
use sandgate::sandboxes::ServiceSettings;
use serde_json::{Value, json};

use super::receiver::SECRET;
use super::support::{Answer, World, send};

const SHARED: &str = "127.70.9.9";

/// The state and address of a sandbox as gateways see them.
async fn gateway_view(world: &World, sandbox: &str) -> (Value, Value) {
    let path = format!("/gateway/v1/sandboxes/{sandbox}");
    let found = world.call_gateway("GET", &path, Value::Null).await;
    (found.body["state"].clone(), found.body["address"].clone())
}

/// A report with its signature, which an attacker may capture and send again.
#[derive(Clone)]
struct Signed {
    seconds: String,
    signature: String,
    body: Value,
}

impl Signed {
    fn new(secret: &str, age: i64, body: Value) -> Self {
        let seconds = Timestamp::now().seconds().checked_add_signed(-age).unwrap();
        let key = SigningKey::new(secret).unwrap();
        let signature = key.sign(seconds, body.to_string().as_bytes());
        Self { seconds: seconds.to_string(), signature, body }
    }

    async fn send(self, world: &World) -> Answer {
        let headers = [
            ("x-sandgate-timestamp", self.seconds.as_str()),
            ("x-sandgate-signature", self.signature.as_str()),
        ];
        send(&world.gateway, "POST", "/runtime/v1/reports", &headers, self.body).await
    }
}

async fn report_signed(world: &World, secret: &str, age: i64, body: Value) -> Answer {
    Signed::new(secret, age, body).send(world).await
}

async fn report(world: &World, body: Value) -> Answer {
    report_signed(world, SECRET, 0, body).await
}

#[tokio::test]
async fn after_an_address_is_reassigned_the_former_sandboxs_name_does_not_reach_it() {
    let world = World::new();
    let others = world.others();
    world.runtime.set_address(Some(SHARED));
    world.create(json!({ "name": "alice-env", "exposed_ports": [8080] })).await;
    let since = world.revision().await;
    // Alice's sandbox ended on the platform without a report, and Bob's sandbox got its address.
    let made =
        world.call_as(&others.key, "POST", "/sandboxes", json!({ "name": "bob-env" })).await.ok();
    assert_eq!(made["status"], "running");
    assert_eq!(gateway_view(&world, "bob-env").await, (json!("running"), json!(SHARED)));
    assert_eq!(gateway_view(&world, "alice-env").await, (json!("suspended"), Value::Null));
    let changes = world.poll("edge", &since, 0).await["changes"].to_string();
    assert!(changes.contains("alice-env"), "the change feed invalidates the sandbox: {changes}");
    let shown = world.call("GET", "/sandboxes/alice-env", Value::Null).await.ok();
    assert_eq!(shown["status"], "suspended");
    // In case it still runs elsewhere, the control plane asks the platform to suspend it.
    assert_eq!(world.runtime.count("suspend"), 0);
    world.sandboxes.retry_unfinished().await;
    assert_eq!(world.runtime.count("suspend"), 1);
    // It can be resumed like any other sandbox.
    world.runtime.set_address(Some("127.70.9.10"));
    world.call("POST", "/sandboxes/alice-env/resume", Value::Null).await.ok();
    assert_eq!(gateway_view(&world, "alice-env").await, (json!("running"), json!("127.70.9.10")));
    assert_eq!(gateway_view(&world, "bob-env").await, (json!("running"), json!(SHARED)));
}

#[tokio::test]
async fn reports_of_suspended_moved_and_terminated_sandboxes_are_applied() {
    let world = World::new();
    world.runtime.set_address(Some(SHARED));
    let id = world.create(json!({ "name": "my-env" })).await;
    let first = world.runtime.placement();
    let moved = json!({
        "sandbox_id": id, "placement": first, "was_at": SHARED, "state": "running",
        "address": "127.70.9.10",
    });
    let answer = report(&world, moved.clone()).await.ok();
    let second = answer["placement"].as_u64().unwrap();
    assert_eq!(answer, json!({ "applied": true, "placement": second }));
    assert!(second > first);
    assert_eq!(gateway_view(&world, "my-env").await, (json!("running"), json!("127.70.9.10")));
    // A platform that did not get the answer reports again and learns the new placement.
    let again = report(&world, moved).await.ok();
    assert_eq!((&again["applied"], &again["placement"]), (&json!(false), &json!(second)));
    let why = again["reason"].as_str().unwrap();
    assert!(why.contains(&first.to_string()) && why.contains(&second.to_string()), "{why}");
    let elsewhere = json!({
        "sandbox_id": id, "placement": second, "was_at": SHARED, "state": "terminated",
    });
    let answer = report(&world, elsewhere).await.ok();
    assert_eq!((&answer["applied"], &answer["placement"]), (&json!(false), &json!(second)));
    assert!(answer["reason"].as_str().unwrap().contains("`was_at`"), "{answer}");
    let suspended = json!({
        "sandbox_id": id, "placement": second, "was_at": "127.70.9.10", "state": "suspended",
    });
    assert_eq!(report(&world, suspended.clone()).await.ok(), json!({ "applied": true }));
    assert_eq!(gateway_view(&world, "my-env").await, (json!("suspended"), Value::Null));
    let answer = report(&world, suspended).await.ok();
    assert_eq!((&answer["applied"], &answer["placement"]), (&json!(false), &Value::Null));
    world.call("POST", "/sandboxes/my-env/resume", Value::Null).await.ok();
    let third = world.runtime.placement();
    let ended = json!({
        "sandbox_id": id, "placement": third, "was_at": SHARED, "state": "terminated",
    });
    assert_eq!(report(&world, ended).await.ok(), json!({ "applied": true }));
    assert_eq!(gateway_view(&world, "my-env").await, (Value::Null, Value::Null));
    world.call("GET", "/sandboxes/my-env", Value::Null).await.refused(404, "SANDBOX_NOT_FOUND");
}

#[tokio::test]
async fn a_replayed_report_does_not_affect_a_later_placement() {
    let world = World::new();
    // The sandbox gets the same address each time.
    world.runtime.set_address(Some(SHARED));
    let id = world.create(json!({ "name": "my-env" })).await;
    let placement = world.runtime.placement();
    let captured = ["suspended", "terminated"].map(|state| {
        let body =
            json!({ "sandbox_id": id, "placement": placement, "was_at": SHARED, "state": state });
        Signed::new(SECRET, 0, body)
    });
    assert_eq!(captured[0].clone().send(&world).await.ok(), json!({ "applied": true }));
    world.call("POST", "/sandboxes/my-env/resume", Value::Null).await.ok();
    // The first report was delivered before, the second one was not.
    for captured in captured {
        let answer = captured.send(&world).await.ok();
        assert_eq!(answer["applied"], false, "{answer}");
        assert_eq!(gateway_view(&world, "my-env").await, (json!("running"), json!(SHARED)));
    }
}

#[tokio::test]
async fn a_report_about_a_failed_resume_does_not_affect_the_next_one() {
    let world = World::with(ServiceSettings {
        failed_resume_pause: Duration::ZERO,
        ..ServiceSettings::default()
    });
    world.runtime.set_address(Some(SHARED));
    let id = world.create_suspended(json!({ "name": "my-env" })).await;
    world.runtime.set_failing(true);
    let resume = async || world.call("POST", "/sandboxes/my-env/resume", Value::Null).await;
    resume().await.refused(503, "SANDBOX_NOT_STARTED");
    let failed = world.runtime.placement();
    world.runtime.set_failing(false);
    resume().await.ok();
    let body =
        json!({ "sandbox_id": id, "placement": failed, "was_at": SHARED, "state": "suspended" });
    assert_eq!(report(&world, body).await.ok()["applied"], false);
    assert_eq!(gateway_view(&world, "my-env").await.0, "running");
}

#[tokio::test]
async fn a_refused_suspension_leaves_the_placement_that_the_platform_knows() {
    let world = World::new();
    world.runtime.set_address(Some(SHARED));
    let id = world.create(json!({ "name": "my-env" })).await;
    world.runtime.set_refusing(true);
    let suspended = world.call("POST", "/sandboxes/my-env/suspend", Value::Null).await;
    suspended.refused(422, "SANDBOX_REFUSED");
    let placement = world.runtime.placement();
    let body =
        json!({ "sandbox_id": id, "placement": placement, "was_at": SHARED, "state": "suspended" });
    assert_eq!(report(&world, body).await.ok(), json!({ "applied": true }));
}

#[tokio::test]
async fn a_report_is_answered_when_all_gateways_have_applied_it() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    let (_, was_at) = gateway_view(&world, "my-env").await;
    let since = world.revision().await;
    let polling = world.poll("edge", &since, 10_000);
    let reporting = async {
        let body = json!({
            "sandbox_id": id, "placement": world.runtime.placement(), "was_at": was_at,
            "state": "suspended",
        });
        report(&world, body).await.ok()
    };
    // The gateway applies the change before the platform may reassign the address.
    let (polled, _) = tokio::join!(polling, reporting);
    assert!(polled["changes"].to_string().contains(&id), "{polled}");
}

#[tokio::test]
async fn a_report_requires_a_recent_signature_of_the_platform() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    let (_, was_at) = gateway_view(&world, "my-env").await;
    let placement = world.runtime.placement();
    let body = json!({
        "sandbox_id": id, "placement": placement, "was_at": was_at, "state": "terminated",
    });
    let wrong = "another-secret-of-somebody";
    report_signed(&world, wrong, 0, body.clone()).await.refused(401, "UNAUTHENTICATED");
    for age in [400, -400] {
        let old = report_signed(&world, SECRET, age, body.clone()).await;
        old.refused(401, "UNAUTHENTICATED");
    }
    let unsigned = send(&world.gateway, "POST", "/runtime/v1/reports", &[], body.clone()).await;
    unsigned.refused(401, "UNAUTHENTICATED");
    // Neither a gateway token nor an API key permits a report.
    world
        .call_gateway("POST", "/runtime/v1/reports", body.clone())
        .await
        .refused(401, "UNAUTHENTICATED");
    world.call("POST", "/runtime/v1/reports", body).await.refused(404, "NOT_FOUND");
    assert_eq!(gateway_view(&world, "my-env").await.0, "running");
}

#[tokio::test]
async fn an_invalid_report_is_refused_and_changes_nothing() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    let (_, was_at) = gateway_view(&world, "my-env").await;
    let placement = world.runtime.placement();
    let with = |more: Value| {
        let mut body = json!({ "sandbox_id": id, "placement": placement, "was_at": was_at });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for wrong in [
        with(json!({ "state": "running" })),
        with(json!({ "state": "running", "address": "8.8.8.8" })),
        with(json!({ "state": "terminated", "address": was_at })),
        with(json!({ "state": "gone" })),
        with(json!({ "state": "terminated", "placement": "1" })),
        with(json!({ "state": "terminated", "placement": null })),
        with(json!({ "state": "terminated", "was_at": null })),
        with(json!({ "state": "terminated", "sandbox_id": "my-env" })),
        json!({ "sandbox_id": id, "was_at": was_at, "state": "terminated" }),
        // A call of the webhook, sent back with a signature of the same key.
        json!({ "action": "stop", "idempotency_key": "x", "sandbox": { "id": id } }),
    ] {
        report(&world, wrong).await.refused(400, "INVALID_REQUEST");
    }
    let (state, address) = gateway_view(&world, "my-env").await;
    assert_eq!((state, address), (json!("running"), was_at));
}
