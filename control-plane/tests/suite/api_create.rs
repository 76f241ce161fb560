//! Creating sandboxes: accepted and refused fields, and the response.

use serde_json::{Value, json};

use super::support::{World, send};

/// The fields that the parsers of the clients require.
fn assert_clients_can_read(info: &Value) {
    assert!(info["namespace"].is_string() && info["status"].is_string(), "{info}");
    let resources = &info["resources"];
    assert!(resources["cpus"].is_number(), "{info}");
    assert!(resources["memory_mb"].is_u64() && resources["disk_mb"].is_u64(), "{info}");
    assert!(resources["ephemeral_disk_mb"].is_u64(), "{info}");
    assert!(info["allow_unauthenticated_access"].is_boolean(), "null is refused: {info}");
    assert!(info["exposed_ports"].is_array() && info["file_systems"].is_array(), "{info}");
    assert_eq!(info["network"], info["network_policy"]);
    assert!(info["sandbox_url"].is_string() && info["ingress_endpoint"].is_string(), "{info}");
}

#[tokio::test]
async fn an_empty_object_creates_a_private_running_ephemeral_sandbox() {
    let world = World::new();
    let made = world.call("POST", "/sandboxes", json!({})).await.ok();
    assert_clients_can_read(&made);
    assert_eq!(made["status"], "running");
    assert_eq!((&made["name"], &made["exposed_ports"]), (&Value::Null, &json!([])));
    assert_eq!(made["allow_unauthenticated_access"], false);
    let id = made["sandbox_id"].as_str().unwrap();
    assert!(id.len() == 21 && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()));
    assert!(made.get("id").is_none(), "clients take both names for one field");
}

#[tokio::test]
async fn both_path_forms_create_and_find_the_same_sandboxes() {
    let world = World::new();
    let body = json!({ "name": "my-env" });
    let made = world.call("POST", "/v1/namespaces/team/sandboxes", body).await.ok();
    assert_eq!(made["namespace"], "team");
    let flat = world.call("GET", "/sandboxes/my-env", Value::Null).await.ok();
    assert_clients_can_read(&flat);
    assert_eq!((&flat["id"], &flat["namespace"]), (&made["sandbox_id"], &json!("default")));
    assert!(flat.get("sandbox_id").is_none(), "clients take both names for one field");
    let id = flat["id"].as_str().unwrap();
    let nested =
        world.call("GET", &format!("/v1/namespaces/team/sandboxes/{id}"), Value::Null).await.ok();
    assert_eq!(nested["name"], "my-env");
}

#[tokio::test]
async fn fields_sent_by_clients_are_stored_and_returned() {
    let world = World::new();
    let body = json!({
        "resources": { "cpus": 2.5, "memory_mb": 4096, "gpus": [{ "count": 1, "model": "h100" }] },
        "image": "python:3.13", "timeout_secs": 600, "entrypoint": ["sh"], "name": "full",
        "file_systems": [{ "file_system_id": "fs", "mount_path": "/data" }],
        "exposed_ports": [8080, 3000, 8080], "allow_unauthenticated_access": true,
        "auto_resume": false, "network": null, "snapshot_id": "snap", "max_pending_secs": 5,
        "secret_names": ["token"], "template_id": "t", "pool_id": null, "metadata": { "team": "a" },
    });
    world.call("POST", "/sandboxes", body).await.ok();
    let info = world.call("GET", "/sandboxes/full", Value::Null).await.ok();
    assert_clients_can_read(&info);
    assert_eq!(info["resources"]["cpus"], 2.5);
    assert_eq!(info["resources"]["gpus"][0]["model"], "h100");
    assert_eq!(info["image"], "python:3.13");
    assert_eq!((&info["timeout_secs"], &info["entrypoint"]), (&json!(600), &json!(["sh"])));
    assert_eq!(info["file_systems"][0]["mount_path"], "/data");
    assert_eq!((&info["snapshot_id"], &info["max_pending_secs"]), (&json!("snap"), &json!(5)));
    assert_eq!((&info["secret_names"], &info["template_id"]), (&json!(["token"]), &json!("t")));
    assert_eq!((&info["pool_id"], &info["metadata"]), (&Value::Null, &json!({ "team": "a" })));
    assert_eq!(info["exposed_ports"], json!([3000, 8080]));
    assert_eq!(
        (&info["allow_unauthenticated_access"], &info["auto_resume"]),
        (&json!(true), &json!(false))
    );
}

#[tokio::test]
async fn a_caller_that_does_not_wait_gets_the_pending_sandbox() {
    let world = World::new();
    world.runtime.set_delay(std::time::Duration::from_millis(300));
    let answer = world.call("POST", "/sandboxes", json!({ "wait": false })).await;
    assert_eq!(answer.status, 202);
    assert_eq!(
        (&answer.body["status"], &answer.body["state"]),
        (&json!("pending"), &json!("pending"))
    );
}

#[tokio::test]
async fn the_error_names_each_invalid_field() {
    let world = World::new();
    let cases = [
        (json!({ "exposed_ports": [8080, 0] }), "exposed_ports[1]"),
        (json!({ "exposed_ports": [65536] }), "exposed_ports[0]"),
        (json!({ "exposed_ports": [-1] }), "exposed_ports[0]"),
        (json!({ "exposed_ports": [80.5] }), "exposed_ports[0]"),
        (json!({ "exposed_ports": ["8080"] }), "exposed_ports[0]"),
        (json!({ "exposed_ports": [9501] }), "9501"),
        (json!({ "exposed_ports": 8080 }), "exposed_ports"),
        (json!({ "allow_unauthenticated_access": "yes" }), "allow_unauthenticated_access"),
        (
            json!({ "allow_unauthenticated_access": true, "allow_unauthenticated_proxy_access": false }),
            "allow_unauthenticated_proxy_access",
        ),
        (json!({ "auto_resume": 1 }), "auto_resume"),
        (json!({ "auto_resume": false }), "auto_resume"),
        (json!({ "name": 5 }), "name"),
        (json!({ "name": "" }), "name"),
        (json!({ "name": "My-Env" }), "name"),
        (json!({ "name": "1env" }), "name"),
        (json!({ "name": "env-" }), "name"),
        (json!({ "name": "api" }), "name"),
        (json!({ "name": "www" }), "name"),
        (json!({ "name": "xn--env" }), "name"),
        (json!({ "name": "abcdefghijklmnopqrstu" }), "name"),
        (json!({ "name": "a".repeat(58) }), "name"),
        (json!({ "resources": [] }), "resources"),
        (json!({ "resources": { "cpus": 0 } }), "resources.cpus"),
        (json!({ "resources": { "memory_mb": 1.5 } }), "resources.memory_mb"),
        (json!({ "resources": { "disk_mb": "10" } }), "resources.disk_mb"),
        (json!({ "file_systems": {} }), "file_systems"),
        (json!({ "file_systems": [{}, 1] }), "file_systems[1]"),
        (json!({ "image": 5 }), "image"),
        (json!({ "timeout_secs": -1 }), "timeout_secs"),
        (json!({ "timeout_secs": "60" }), "timeout_secs"),
        (json!({ "entrypoint": "sh" }), "entrypoint"),
        (json!({ "entrypoint": ["sh", 5] }), "entrypoint[1]"),
        (json!({ "snapshot_id": {} }), "snapshot_id"),
        (json!({ "metadata": [] }), "metadata"),
        (json!({ "expose_ports": [8080] }), "expose_ports"),
        (json!({ "wait": "no" }), "wait"),
        (json!({ "image": "x".repeat(70_000) }), "bytes"),
    ];
    for (body, named) in cases {
        let shown: String = body.to_string().chars().take(200).collect();
        let error = world.call("POST", "/sandboxes", body).await.refused(400, "INVALID_REQUEST");
        assert!(error.contains(named), "{shown}: {error}");
    }
    for body in [json!([]), json!("text"), json!(5)] {
        world.call("POST", "/sandboxes", body).await.refused(400, "INVALID_REQUEST");
    }
    assert_eq!(world.runtime.count("start"), 0);
}

#[tokio::test]
async fn a_network_policy_that_is_not_enforced_is_not_accepted() {
    let world = World::new();
    for (policy, named) in [
        (json!({ "allow_internet_access": false }), "network.allow_internet_access"),
        (json!({ "allow_out": ["10.0.0.0/8"] }), "network.allow_out"),
        (json!({ "deny_out": ["example.com"] }), "network.deny_out"),
    ] {
        let body = json!({ "network": policy });
        let error =
            world.call("POST", "/sandboxes", body).await.refused(400, "NETWORK_POLICY_UNSUPPORTED");
        assert!(error.contains(named), "{error}");
    }
    for policy in [json!(false), json!({ "deny": [] }), json!({ "allow_out": "10.0.0.1" })] {
        let body = json!({ "network": policy });
        world.call("POST", "/sandboxes", body).await.refused(400, "INVALID_REQUEST");
    }
    for policy in [
        Value::Null,
        json!({}),
        json!({ "allow_internet_access": true }),
        json!({ "allow_internet_access": true, "allow_out": [], "deny_out": null }),
    ] {
        world.call("POST", "/sandboxes", json!({ "network": policy })).await.ok();
    }
}

#[tokio::test]
async fn the_error_for_a_taken_name_is_the_same_for_every_project() {
    let world = World::new();
    let others = world.others();
    world.create(json!({ "name": "my-env" })).await;
    let body = json!({ "name": "my-env" });
    let ours = world.call("POST", "/sandboxes", body.clone()).await;
    let theirs = world.call_as(&others.key, "POST", "/sandboxes", body.clone()).await;
    assert_eq!(ours.body, theirs.body);
    ours.refused(409, "NAME_TAKEN");
    // A freed name stays reserved for its project.
    world.call("DELETE", "/sandboxes/my-env", Value::Null).await.ok();
    let held = world.call_as(&others.key, "POST", "/sandboxes", body.clone()).await;
    assert_eq!(held.body, theirs.body);
    held.refused(409, "NAME_TAKEN");
    world.call("POST", "/sandboxes", body).await.ok();
}

#[tokio::test]
async fn a_failed_start_is_reported_and_leaves_no_sandbox() {
    let world = World::new();
    world.runtime.set_failing(true);
    let error = world
        .call("POST", "/sandboxes", json!({ "name": "broken" }))
        .await
        .refused(503, "SANDBOX_NOT_STARTED");
    assert!(error.contains("the platform failed"), "{error}");
    assert!(!error.contains("told to fail"), "the runtime's error is only for the log: {error}");
    world.runtime.set_failing(false);
    world.runtime.set_refusing(true);
    let error = world
        .call("POST", "/sandboxes", json!({ "name": "broken" }))
        .await
        .refused(422, "SANDBOX_REFUSED");
    assert!(error.contains("there is no such image"), "the reason for the owner: {error}");
    world.runtime.set_refusing(false);
    let seen = world.call("GET", "/sandboxes", Value::Null).await.ok();
    assert_eq!(seen["sandboxes"], json!([]));
    world.create(json!({ "name": "broken" })).await;
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let world = World::new();
    let body = json!({ "name": "x".repeat(2 * 1024 * 1024) });
    world.call("POST", "/sandboxes", body).await.refused(413, "BODY_TOO_LARGE");
}

#[tokio::test]
async fn the_management_url_names_the_sandbox_except_for_clients_that_set_the_host() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    let authorization = format!("Bearer {}", world.ours.key);
    let shown = async |method: &str, path: &str, body: Value, agent: &str| {
        let headers = [("authorization", authorization.as_str()), ("user-agent", agent)];
        let answer = send(&world.api, method, path, &headers, body).await.ok();
        let info = answer.pointer("/sandboxes/0").unwrap_or(&answer);
        info["sandbox_url"].as_str().unwrap().to_owned()
    };
    for (method, path, body) in [
        ("GET", "/sandboxes/my-env", Value::Null),
        ("GET", "/v1/namespaces/default/sandboxes", Value::Null),
        ("PATCH", "/sandboxes/my-env", json!({ "exposed_ports": [8080] })),
        ("POST", "/sandboxes/my-env/suspend", Value::Null),
    ] {
        let named = shown(method, path, body.clone(), "curl/8.14.1").await;
        assert_eq!(named, format!("http://{id}.sandbox.localhost:9443"), "{method} {path}");
        for agent in ["tensorlake-python-sdk/0.5.163", "Tensorlake CLI (rust/0.5.113)"] {
            let url = shown(method, path, body.clone(), agent).await;
            assert_eq!(url, "http://localhost:9443", "{method} {path}");
        }
    }
    let made = world.call("POST", "/sandboxes", json!({})).await.ok();
    let url = made["sandbox_url"].as_str().unwrap();
    assert!(url.contains(made["sandbox_id"].as_str().unwrap()), "{url}");
}
