//! Ambiguous and invalid bodies and parameters: each is refused with an explanation, and changes nothing.

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::support::{Answer, World};

/// Sends a body of raw bytes.
async fn raw(router: &Router, key: &str, method: &str, path: &str, body: Vec<u8>) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {key}"))
        .header("content-type", "application/json")
        .body(Body::from(body))
        .unwrap();
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: serde_json::from_slice(&bytes).unwrap(),
    }
}

#[tokio::test]
async fn ambiguous_json_is_refused_and_changes_nothing() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env", "exposed_ports": [8080] })).await;
    let before = world.call("GET", "/sandboxes/my-env", Value::Null).await.ok();
    let deep =
        format!(r#"{{"exposed_ports": [22], "metadata": {}{}}}"#, "[".repeat(200), "]".repeat(200));
    let cases: [(&[u8], &str); 13] = [
        (br#"{"exposed_ports": [], "exposed_ports": [22]}"#, "`exposed_ports` twice"),
        (br#"{"exposed_ports": [22], "metadata": {"a": 1, "a": 2}}"#, "`a` twice"),
        (br#"{"allow_unauthenticated_access": false, "allow_unauthenticated\u005faccess": true}"#,
            "`allow_unauthenticated_access` twice"),
        (deep.as_bytes(), "32 levels"),
        (b"{\"exposed_ports\": [22], \"metadata\": {\"x\": \"\xff\"}}", "UTF-8"),
        (b"\xff\xfe{\x00}\x00", "UTF-8"),
        (br#"{"exposed_ports": [22], "metadata": {"x": "\ud800"}}"#, "line 1"),
        (br#"{"exposed_ports": [22]} {"exposed_ports": [23]}"#, "not JSON"),
        (br#"{"exposed_ports": [22],}"#, "not JSON"),
        (br#"{exposed_ports: [22]}"#, "not JSON"),
        (br#"{"exposed_ports": [1e400]}"#, "not JSON"),
        (br#"[{"exposed_ports": [22]}]"#, "JSON object"),
        (b"", "empty"),
    ];
    for (body, named) in cases {
        for (method, path) in [("PATCH", "/sandboxes/my-env"), ("POST", "/sandboxes")] {
            let answer = raw(&world.api, &world.ours.key, method, path, body.to_vec()).await;
            let error = answer.refused(400, "INVALID_REQUEST");
            assert!(error.contains(named), "{}: {error}", String::from_utf8_lossy(body));
        }
    }
    let long = vec![b' '; 2 * 1024 * 1024];
    let answer = raw(&world.api, &world.ours.key, "PATCH", "/sandboxes/my-env", long).await;
    answer.refused(413, "BODY_TOO_LARGE");
    let after = world.call("GET", &format!("/sandboxes/{id}"), Value::Null).await.ok();
    assert_eq!(after, before);
    assert_eq!(world.runtime.actions(), ["start"]);
}

#[tokio::test]
async fn integers_are_accepted_in_every_json_notation() {
    let world = World::new();
    let body = br#"{"name": "my-env", "exposed_ports": [8080.0, 3e3], "timeout_secs": 600.0}"#;
    let made = raw(&world.api, &world.ours.key, "POST", "/sandboxes", body.to_vec()).await.ok();
    assert_eq!(
        (&made["exposed_ports"], &made["timeout_secs"]),
        (&json!([3000, 8080]), &json!(600))
    );
    for body in [&br#"{"exposed_ports": [8080.5]}"#[..], br#"{"exposed_ports": [1e300]}"#] {
        let answer = raw(&world.api, &world.ours.key, "PATCH", "/sandboxes/my-env", body.to_vec());
        let error = answer.await.refused(400, "INVALID_REQUEST");
        assert!(error.contains("`exposed_ports[0]`"), "{error}");
    }
}

#[tokio::test]
async fn unknown_duplicate_and_invalid_query_parameters_are_refused_by_name() {
    let world = World::new();
    world.create(json!({ "name": "my-env" })).await;
    for (method, path, named) in [
        ("GET", "/sandboxes?stauts=running", "`stauts`"),
        ("GET", "/sandboxes?limit=1&limit=2", "`limit` is in the query more than once"),
        ("GET", "/sandboxes?limit=%2B5", "`limit`"),
        ("GET", "/sandboxes?status=", "`status`"),
        ("GET", "/sandboxes?cursor=-1", "`cursor`"),
        ("GET", "/sandboxes/my-env?fields=name", "`fields`"),
        ("DELETE", "/sandboxes/my-env?dry_run=true", "`dry_run`"),
        ("POST", "/sandboxes/my-env/suspend?wait=1", "`wait`"),
        ("POST", "/sandboxes/my-env/suspend?wait_ms=-1", "`wait_ms`"),
        ("POST", "/sandboxes/my-env/suspend?wait_ms=1&wait_ms=2", "`wait_ms`"),
        ("POST", "/sandboxes/my-env/resume?wait_ms=9007199254740992", "`wait_ms`"),
        ("POST", "/platform/v1/keys/introspect?key=x", "`key`"),
    ] {
        let error = world.call(method, path, Value::Null).await.refused(400, "INVALID_REQUEST");
        assert!(error.contains(named), "{path}: {error}");
    }
    let body = json!({ "wait_ms": 5 });
    let answer = world.call("POST", "/sandboxes/my-env/suspend", body).await;
    assert!(answer.refused(400, "INVALID_REQUEST").contains("body"));
    let info = world.call("GET", "/sandboxes/my-env", Value::Null).await.ok();
    assert_eq!(info["status"], "running");
    // Some clients send an empty object with every call.
    world.call("POST", "/sandboxes/my-env/suspend", json!({})).await.ok();
}

#[tokio::test]
async fn an_unsupported_method_gets_the_list_of_supported_ones() {
    let world = World::new();
    let answer = world.call("PUT", "/sandboxes/my-env", Value::Null).await;
    let allowed = answer.headers["allow"].to_str().unwrap().to_owned();
    let mut allowed: Vec<_> = allowed.split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "PATCH"]);
    answer.refused(405, "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn a_deleted_sandbox_is_not_archived_and_the_error_explains_this() {
    let world = World::new();
    let id = world.create(json!({})).await;
    world.call("DELETE", &format!("/sandboxes/{id}"), Value::Null).await.ok();
    for path in ["", "/v1/namespaces/default"] {
        let path = format!("{path}/archived-sandboxes/{id}");
        let error = world.call("GET", &path, Value::Null).await.refused(404, "SANDBOX_NOT_FOUND");
        assert!(error.contains("deleted ones are not kept"), "{error}");
        world.call_as("tl_x", "GET", &path, Value::Null).await.refused(401, "INVALID_CREDENTIALS");
    }
}
