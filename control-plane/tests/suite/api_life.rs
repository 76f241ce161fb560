//! Suspend, resume and delete, as owners call them.

use std::time::Duration;

use serde_json::{Value, json};

use super::support::World;

#[tokio::test]
async fn a_named_sandbox_is_suspended_and_resumed() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    let suspended = world.call("POST", "/sandboxes/my-env/suspend", Value::Null).await.ok();
    assert_eq!(suspended["status"], "suspended");
    assert!(suspended["sandbox_url"].is_string(), "clients need it to reach, and so resume, it");
    // A repeated suspension succeeds and does nothing.
    let path = "/v1/namespaces/default/sandboxes/my-env/suspend?wait_ms=30000";
    world.call("POST", path, Value::Null).await.ok();
    let resumed = world.call("POST", &format!("/sandboxes/{id}/resume"), Value::Null).await.ok();
    assert_eq!(resumed["status"], "running");
    world.call("POST", &format!("/sandboxes/{id}/resume"), Value::Null).await.ok();
    assert_eq!(world.runtime.actions(), ["start", "suspend", "resume"]);
}

#[tokio::test]
async fn a_sandbox_without_a_name_cannot_be_suspended() {
    let world = World::new();
    let id = world.create(json!({})).await;
    let answer = world.call("POST", &format!("/sandboxes/{id}/suspend"), Value::Null).await;
    let error = answer.refused(400, "SANDBOX_NOT_SUSPENDABLE");
    assert!(error.contains("name"), "{error}");
    assert_eq!(world.runtime.count("suspend"), 0);
}

#[tokio::test]
async fn a_wait_that_is_too_short_returns_202_and_the_work_continues() {
    let world = World::new();
    world.create(json!({ "name": "slow" })).await;
    world.runtime.set_delay(Duration::from_millis(300));
    let answer = world.call("POST", "/sandboxes/slow/suspend?wait_ms=50", Value::Null).await;
    assert_eq!((answer.status.as_u16(), &answer.body["status"]), (202, &json!("suspending")));
    // A resume waits for the suspension to end, and then resumes.
    let answer = world.call("POST", "/sandboxes/slow/resume", Value::Null).await.ok();
    assert_eq!(answer["status"], "running");
    let wrong = world.call("POST", "/sandboxes/slow/suspend?wait_ms=soon", Value::Null).await;
    assert!(wrong.refused(400, "INVALID_REQUEST").contains("wait_ms"));
}

#[tokio::test]
async fn an_owner_can_resume_a_sandbox_without_auto_resume() {
    let world = World::new();
    world.create_suspended(json!({ "name": "my-env", "auto_resume": false })).await;
    let answer = world.call("POST", "/sandboxes/my-env/resume", Value::Null).await.ok();
    assert_eq!(answer["status"], "running");
}

#[tokio::test]
async fn a_failed_resume_is_reported_and_can_be_repeated() {
    let world = World::new();
    world.create_suspended(json!({ "name": "my-env" })).await;
    world.runtime.set_failing(true);
    let answer = world.call("POST", "/sandboxes/my-env/resume", Value::Null).await;
    let error = answer.refused(503, "SANDBOX_NOT_STARTED");
    assert!(error.contains("the platform failed") && !error.contains("told"), "{error}");
    let info = world.call("GET", "/sandboxes/my-env", Value::Null).await.ok();
    assert_eq!(info["status"], "suspended");
    world.runtime.set_failing(false);
    world.runtime.set_refusing(true);
    let answer = world.call("POST", "/sandboxes/my-env/resume", Value::Null).await;
    let error = answer.refused(422, "SANDBOX_REFUSED");
    assert!(error.contains("there is no such image") && !error.contains("told"), "{error}");
    world.runtime.set_refusing(false);
    let answer = world.call("POST", "/sandboxes/my-env/resume", Value::Null).await.ok();
    assert_eq!(answer["status"], "running");
}

#[tokio::test]
async fn a_deleted_sandbox_disappears_immediately_and_is_stopped() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    world.call("DELETE", "/sandboxes/my-env", Value::Null).await.ok();
    for path in ["/sandboxes/my-env".to_owned(), format!("/sandboxes/{id}")] {
        world.call("GET", &path, Value::Null).await.refused(404, "SANDBOX_NOT_FOUND");
        world.call("DELETE", &path, Value::Null).await.refused(404, "SANDBOX_NOT_FOUND");
    }
    let stopped = async {
        while world.runtime.count("stop") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), stopped).await.unwrap();
}

#[tokio::test]
async fn a_sandbox_that_is_deleted_while_it_starts_is_stopped_after_that() {
    let world = World::new();
    world.runtime.set_delay(Duration::from_millis(200));
    let body = json!({ "name": "brief", "wait": false });
    let made = world.call("POST", "/sandboxes", body).await;
    assert_eq!(made.status, 202);
    world.call("DELETE", "/sandboxes/brief", Value::Null).await.ok();
    let stopped = async {
        while world.runtime.count("stop") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), stopped).await.unwrap();
    assert_eq!(world.runtime.actions(), ["start", "stop"]);
}

#[tokio::test]
async fn a_sandbox_whose_suspension_is_refused_keeps_running_at_its_address() {
    let world = World::new();
    world.create(json!({ "name": "my-env" })).await;
    let where_is = async || {
        let found =
            world.call_gateway("GET", "/gateway/v1/sandboxes/my-env", Value::Null).await.ok();
        (found["state"].clone(), found["address"].clone())
    };
    let before = where_is().await;
    world.runtime.set_refusing(true);
    let answer = world.call("POST", "/sandboxes/my-env/suspend", Value::Null).await;
    let error = answer.refused(422, "SANDBOX_REFUSED");
    assert!(error.contains("runs on") && error.contains("no such image"), "{error}");
    assert_eq!(where_is().await, before);
    assert_eq!(before.0, "running");
    // Another request calls the runtime again.
    world.runtime.set_refusing(false);
    world.call("POST", "/sandboxes/my-env/suspend", Value::Null).await.ok();
}

#[tokio::test]
async fn an_unconfirmed_suspension_is_reported_and_retried() {
    let world = World::new();
    world.create(json!({ "name": "my-env" })).await;
    world.runtime.set_failing(true);
    let answer = world.call("POST", "/sandboxes/my-env/suspend", Value::Null).await;
    let error = answer.refused(503, "SUSPENSION_NOT_CONFIRMED");
    assert!(error.contains("not confirmed") && !error.contains("told"), "{error}");
    // Its actual state is unknown, so nothing is sent to it.
    let found = world.call_gateway("GET", "/gateway/v1/sandboxes/my-env", Value::Null).await.ok();
    assert_eq!((&found["state"], &found["address"]), (&json!("suspended"), &Value::Null));
    world.sandboxes.retry_unfinished().await;
    assert_eq!(world.runtime.count("suspend"), 2);
    world.runtime.set_failing(false);
    world.sandboxes.retry_unfinished().await;
    world.sandboxes.retry_unfinished().await;
    assert_eq!(world.runtime.count("suspend"), 3, "until it is confirmed, and no longer");
    let resumed = world.call("POST", "/sandboxes/my-env/resume", Value::Null).await.ok();
    assert_eq!(resumed["status"], "running");
}

#[tokio::test]
async fn a_suspension_is_not_retried_after_the_sandbox_runs_again() {
    let world = World::new();
    world.create(json!({ "name": "my-env" })).await;
    world.runtime.set_failing(true);
    world.call("POST", "/sandboxes/my-env/suspend", Value::Null).await;
    world.runtime.set_failing(false);
    world.call("POST", "/sandboxes/my-env/resume", Value::Null).await.ok();
    world.sandboxes.retry_unfinished().await;
    assert_eq!(world.runtime.actions(), ["start", "suspend", "resume"]);
    let info = world.call("GET", "/sandboxes/my-env", Value::Null).await.ok();
    assert_eq!(info["status"], "running");
}

#[tokio::test]
async fn a_sandbox_whose_resume_failed_is_suspended_because_it_may_run() {
    let world = World::new();
    world.create_suspended(json!({ "name": "my-env" })).await;
    let resume = async || world.call("POST", "/sandboxes/my-env/resume", Value::Null).await;
    // A runtime that refuses has changed nothing.
    world.runtime.set_refusing(true);
    resume().await.refused(422, "SANDBOX_REFUSED");
    world.sandboxes.retry_unfinished().await;
    assert_eq!(world.runtime.count("suspend"), 1);
    world.runtime.set_refusing(false);
    world.runtime.set_failing(true);
    resume().await.refused(503, "SANDBOX_NOT_STARTED");
    world.runtime.set_failing(false);
    world.sandboxes.retry_unfinished().await;
    world.sandboxes.retry_unfinished().await;
    assert_eq!(world.runtime.count("suspend"), 2, "until it is confirmed");
    assert_eq!(resume().await.ok()["status"], "running");
}

#[tokio::test]
async fn a_failed_stop_of_a_deleted_sandbox_is_retried() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    world.runtime.set_failing(true);
    world.call("DELETE", "/sandboxes/my-env", Value::Null).await.ok();
    let path = format!("/sandboxes/{id}");
    world.call("GET", &path, Value::Null).await.refused(404, "SANDBOX_NOT_FOUND");
    let tried = async {
        while world.runtime.count("stop") == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), tried).await.unwrap();
    world.sandboxes.retry_unfinished().await;
    world.runtime.set_failing(false);
    world.sandboxes.retry_unfinished().await;
    let asked = world.runtime.count("stop");
    assert!(asked >= 2, "{asked}");
    world.sandboxes.retry_unfinished().await;
    assert_eq!(world.runtime.count("stop"), asked, "until it is stopped, and no longer");
}
