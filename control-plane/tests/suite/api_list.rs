//! Listing sandboxes, in pages and by status.

use serde_json::{Value, json};

use super::support::World;

fn names(page: &Value) -> Vec<&str> {
    page["sandboxes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|info| info["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn pages_of_sandboxes_have_no_gap_and_no_repetition() {
    let world = World::new();
    for name in ["a", "b", "c", "d", "e"] {
        world.create(json!({ "name": name })).await;
    }
    let list = |query: String| world.call("GET", query.leak(), Value::Null);
    let all = list("/sandboxes".into()).await.ok();
    assert_eq!(names(&all), ["a", "b", "c", "d", "e"]);
    assert_eq!(all["next_cursor"], Value::Null);
    let first = list("/sandboxes?limit=2".into()).await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    world.call("DELETE", "/sandboxes/b", Value::Null).await.ok();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = list(format!("/v1/namespaces/x/sandboxes?limit=2&cursor={cursor}")).await.ok();
    assert_eq!(names(&second), ["c", "d"]);
    let cursor = second["next_cursor"].as_str().unwrap();
    let third = list(format!("/sandboxes?limit=2&cursor={cursor}")).await.ok();
    assert_eq!((names(&third), &third["next_cursor"]), (vec!["e"], &Value::Null));
}

#[tokio::test]
async fn the_list_can_be_filtered_by_status() {
    let world = World::new();
    world.create(json!({ "name": "awake" })).await;
    world.create_suspended(json!({ "name": "asleep" })).await;
    let list = |query| world.call("GET", query, Value::Null);
    assert_eq!(names(&list("/sandboxes?status=running").await.ok()), ["awake"]);
    assert_eq!(names(&list("/sandboxes?status=suspended").await.ok()), ["asleep"]);
    assert_eq!(names(&list("/sandboxes?status=terminated").await.ok()), [""; 0]);
}

#[tokio::test]
async fn the_error_names_each_invalid_parameter() {
    let world = World::new();
    for (query, named) in [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("status=awake", "status"),
    ] {
        let answer = world.call("GET", &format!("/sandboxes?{query}"), Value::Null).await;
        let error = answer.refused(400, "INVALID_REQUEST");
        assert!(error.contains(named), "{error}");
    }
}
