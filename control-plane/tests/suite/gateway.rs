//! The gateway API: its token, its marker header, resolve and introspect.

use axum::http::header;
use serde_json::{Value, json};

use super::support::{Answer, TOKEN, World, send};

#[track_caller]
fn marked(answer: &Answer) {
    assert_eq!(answer.headers["x-sandgate-control-plane"], "v1", "{answer:?}");
}

#[tokio::test]
async fn every_response_has_the_marker_including_refusals() {
    let world = World::new();
    let id = world.create(json!({})).await;
    let with = format!("Bearer {TOKEN}");
    let good = [("authorization", with.as_str())];
    for (method, path, headers, body, status) in [
        ("GET", format!("/gateway/v1/sandboxes/{id}"), &good[..], Value::Null, 200),
        ("GET", format!("/gateway/v1/sandboxes/{id}"), &[], Value::Null, 401),
        ("GET", "/gateway/v1/sandboxes/nowhere".into(), &good, Value::Null, 404),
        ("GET", "/gateway/v1/nothing".into(), &good, Value::Null, 404),
        ("GET", "/".into(), &[], Value::Null, 404),
        ("DELETE", format!("/gateway/v1/sandboxes/{id}"), &good, Value::Null, 405),
        ("POST", "/gateway/v1/credentials/introspect".into(), &good, json!("x"), 400),
        (
            "POST",
            "/gateway/v1/credentials/introspect".into(),
            &good,
            json!("x".repeat(2_000_000)),
            413,
        ),
        ("GET", "/gateway/v1/changes?wait_ms=x".into(), &good, Value::Null, 400),
        ("GET", "/healthz".into(), &[], Value::Null, 200),
        ("GET", "/readyz".into(), &[], Value::Null, 200),
    ] {
        let answer = send(&world.gateway, method, &path, headers, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        marked(&answer);
    }
}

#[tokio::test]
async fn every_call_requires_a_gateway_token() {
    let world = World::new();
    let key = format!("Bearer {}", world.ours.key);
    let twice = format!("Bearer {TOKEN}");
    for headers in [
        &[][..],
        &[("authorization", TOKEN)],
        &[("authorization", "Bearer ")],
        &[("authorization", "Bearer gateway-token-for-test")],
        &[("authorization", key.as_str())],
        &[("authorization", twice.as_str()), ("authorization", "Bearer x")],
    ] {
        for (method, path) in [
            ("GET", "/gateway/v1/sandboxes/my-env"),
            ("POST", "/gateway/v1/sandboxes/my-env/resume"),
            ("POST", "/gateway/v1/credentials/introspect"),
            ("GET", "/gateway/v1/changes"),
        ] {
            let answer = send(&world.gateway, method, path, headers, Value::Null).await;
            marked(&answer);
            assert_eq!(answer.headers[header::WWW_AUTHENTICATE], "Bearer");
            answer.refused(401, "UNAUTHENTICATED");
        }
    }
}

#[tokio::test]
async fn the_gateway_listener_does_not_serve_owners_calls() {
    let world = World::new();
    for path in ["/sandboxes", "/v1/namespaces/default/sandboxes", "/platform/v1/keys/introspect"] {
        world.call_gateway("GET", path, Value::Null).await.refused(404, "NOT_FOUND");
    }
}

#[tokio::test]
async fn a_sandbox_is_found_by_id_and_by_name() {
    let world = World::new();
    let body =
        json!({ "name": "my-env", "exposed_ports": [8080], "allow_unauthenticated_access": true });
    let id = world.create(body).await;
    let by_id =
        world.call_gateway("GET", &format!("/gateway/v1/sandboxes/{id}"), Value::Null).await.ok();
    let by_name = world.call_gateway("GET", "/gateway/v1/sandboxes/my-env", Value::Null).await.ok();
    assert_eq!(by_id, by_name);
    let sandbox: sandgate_policy::gateway_api::Sandbox = serde_json::from_value(by_id).unwrap();
    assert_eq!((sandbox.id.as_str(), sandbox.name.as_deref()), (id.as_str(), Some("my-env")));
    assert_eq!(
        (sandbox.organization_id.as_str(), sandbox.project_id.as_str()),
        (world.ours.organization.as_str(), world.ours.project.as_str())
    );
    assert_eq!(sandbox.state, sandgate_policy::gateway_api::SandboxState::Running);
    assert!(sandbox.address.is_some_and(|address| address.is_loopback()));
    assert!(sandbox.allow_unauthenticated_access && sandbox.auto_resume);
    assert_eq!(sandbox.exposed_ports, [8080]);
}

#[tokio::test]
async fn unknown_and_terminated_sandboxes_are_404() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    world.call("DELETE", "/sandboxes/my-env", Value::Null).await.ok();
    for sandbox in
        [id.as_str(), "my-env", "nowhere", "aaaaaaaaaaaaaaaaaaaaa", "NOT-A-NAME", "8080-x", "%00"]
    {
        let answer = world
            .call_gateway("GET", &format!("/gateway/v1/sandboxes/{sandbox}"), Value::Null)
            .await;
        answer.refused(404, "SANDBOX_NOT_FOUND");
    }
}

#[tokio::test]
async fn each_address_comes_with_a_generation_that_never_repeats() {
    let world = World::new();
    world.create(json!({ "name": "one" })).await;
    world.create(json!({ "name": "two" })).await;
    let generation = async |name: &str| {
        let path = format!("/gateway/v1/sandboxes/{name}");
        world.call_gateway("GET", &path, Value::Null).await.ok()["generation"].as_u64().unwrap()
    };
    let mut seen = vec![generation("one").await, generation("two").await];
    for name in ["one", "two", "one"] {
        world.call("POST", &format!("/sandboxes/{name}/suspend"), Value::Null).await.ok();
        world.call("POST", &format!("/sandboxes/{name}/resume"), Value::Null).await.ok();
        seen.push(generation(name).await);
    }
    // Generations increase in the order in which addresses are assigned, across sandboxes.
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
}

async fn introspect(
    world: &World,
    kind: &str,
    secret: &str,
    context: Option<(&str, &str)>,
) -> Value {
    let mut body = json!({ "kind": kind, "secret": secret });
    if let Some((organization, project)) = context {
        body["organization_id"] = json!(organization);
        body["project_id"] = json!(project);
    }
    world.call_gateway("POST", "/gateway/v1/credentials/introspect", body).await.ok()["identity"]
        .clone()
}

#[tokio::test]
async fn an_api_key_identifies_its_project() {
    let world = World::new();
    let ours = &world.ours;
    let identity = introspect(&world, "api_key", &ours.key, None).await;
    let expected = json!({
        "principal": ours.key_id, "organization_id": ours.organization,
        "project_ids": [ours.project], "expires_at": null,
    });
    assert_eq!(identity, expected);
}

#[tokio::test]
async fn tokens_and_sessions_identify_a_user_in_the_named_project() {
    let world = World::new();
    let (ours, others) = (&world.ours, world.others());
    for (kind, secret) in [("personal_access_token", &ours.pat), ("session", &ours.session)] {
        let here = Some((ours.organization.as_str(), ours.project.as_str()));
        let identity = introspect(&world, kind, secret, here).await;
        assert_eq!(identity["principal"], json!(ours.user_id));
        assert_eq!(identity["project_ids"], json!([ours.project]));
        for elsewhere in [
            (others.organization.as_str(), others.project.as_str()),
            (others.organization.as_str(), ours.project.as_str()),
            (ours.organization.as_str(), others.project.as_str()),
            ("org_nowhere", "project_nowhere"),
        ] {
            let identity = introspect(&world, kind, secret, Some(elsewhere)).await;
            assert_eq!(identity["project_ids"], json!([]), "{elsewhere:?}");
        }
        let body = json!({ "kind": kind, "secret": secret });
        let answer = world.call_gateway("POST", "/gateway/v1/credentials/introspect", body).await;
        answer.refused(400, "INVALID_REQUEST");
    }
}

#[tokio::test]
async fn a_credential_presented_as_another_kind_is_invalid() {
    let world = World::new();
    let ours = world.ours.clone();
    let here = Some((ours.organization.as_str(), ours.project.as_str()));
    for (kind, secret) in [
        ("api_key", &ours.pat),
        ("api_key", &ours.session),
        ("personal_access_token", &ours.key),
        ("personal_access_token", &ours.session),
        ("session", &ours.pat),
        ("session", &ours.key),
        ("api_key", &"tl_apiKey_unknown".to_owned()),
        ("api_key", &String::new()),
    ] {
        assert_eq!(introspect(&world, kind, secret, here).await, Value::Null, "{kind}");
    }
}

#[tokio::test]
async fn an_invalid_body_is_refused_without_repeating_the_secret() {
    let world = World::new();
    let body =
        json!({ "kind": "tl_apiKey_secret_in_the_wrong_place", "secret": "tl_apiKey_s3cret" });
    let answer = world.call_gateway("POST", "/gateway/v1/credentials/introspect", body).await;
    let error = answer.refused(400, "INVALID_REQUEST");
    assert!(!error.contains("secret_in") && !error.contains("s3cret"), "{error}");
}
