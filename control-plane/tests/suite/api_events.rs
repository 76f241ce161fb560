//! The events of a sandbox, as its owner gets them.

use serde_json::{Value, json};

use super::support::World;

#[tokio::test]
async fn an_owner_sees_who_changed_ports_and_the_policy_and_when_the_sandbox_was_suspended() {
    let world = World::with_sidecars();
    let sandbox = world.create_suspended(json!({ "name": "web", "exposed_ports": [80] })).await;
    world
        .call("PATCH", "/sandboxes/web", json!({ "network": { "allow_out": ["a.test"] } }))
        .await
        .ok();
    let listed = world.call("GET", "/sandboxes/web/events", Value::Null).await.ok();
    let types: Vec<_> =
        listed["events"].as_array().unwrap().iter().map(|event| &event["type"]).collect();
    assert_eq!(types, ["network_policy_changed", "suspended", "started", "ports_changed"]);
    assert_eq!(listed["next_cursor"], Value::Null);
    let event = &listed["events"][0];
    assert_eq!(event["principal"], world.ours.key_id.as_str());
    assert_eq!(event["difference"]["allow_out"]["added"], json!(["a.test"]));
    assert_eq!((&event["count"], &event["at"]), (&json!(1), &event["last_at"]));
    let by_id = format!("/v1/namespaces/x/sandboxes/{sandbox}/events");
    assert_eq!(world.call("GET", &by_id, Value::Null).await.ok(), listed);
}

#[tokio::test]
async fn the_events_of_another_project_are_not_found() {
    let world = World::new();
    let sandbox = world.create(json!({ "name": "web", "exposed_ports": [80] })).await;
    let theirs = world.others();
    for which in [sandbox.as_str(), "web", "unknown"] {
        let path = format!("/sandboxes/{which}/events");
        let answer = world.call_as(&theirs.key, "GET", &path, Value::Null).await;
        answer.refused(404, "SANDBOX_NOT_FOUND");
    }
    world
        .call_as("tl_wrong", "GET", "/sandboxes/web/events", Value::Null)
        .await
        .refused(401, "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn a_changed_cursor_is_another_place_in_the_same_list_or_an_error() {
    let world = World::new();
    world.create(json!({ "name": "theirs", "exposed_ports": [1] })).await;
    world.create(json!({ "name": "web" })).await;
    for port in 1..6 {
        world.call("PATCH", "/sandboxes/web", json!({ "exposed_ports": [port] })).await.ok();
    }
    let list = |query: String| {
        world.call("GET", format!("/sandboxes/web/events{query}").leak(), Value::Null)
    };
    let (mut cursor, mut ports) = (String::new(), Vec::new());
    loop {
        let page = list(format!("?limit=2{cursor}")).await.ok();
        let events = page["events"].as_array().unwrap();
        assert!(events.len() <= 2);
        ports.extend(events.iter().map(|event| event["after"]["exposed_ports"][0].clone()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(ports, [json!(5), json!(4), json!(3), json!(2), json!(1), Value::Null]);
    for far in ["0", "1", "999999999999999999", "9223372036854775807"] {
        let page = list(format!("?cursor={far}")).await.ok();
        for event in page["events"].as_array().unwrap() {
            assert_ne!(event["after"]["exposed_ports"], json!([80]), "of another sandbox");
        }
    }
    for wrong in
        ["", "x", "-1", "1.0", "+1", "1'--", "9223372036854775808", "99999999999999999999", "%00"]
    {
        list(format!("?cursor={wrong}")).await.refused(400, "INVALID_REQUEST");
    }
    for wrong in ["limit=0", "limit=501", "since=1", "cursor=1&cursor=2"] {
        list(format!("?{wrong}")).await.refused(400, "INVALID_REQUEST");
    }
}
