//! Authentication and authorization of the public API.

use serde_json::{Value, json};

use super::support::{World, send};

fn context(organization: &str, project: &str) -> [(&'static str, String); 2] {
    [
        ("x-forwarded-organization-id", organization.to_owned()),
        ("x-forwarded-project-id", project.to_owned()),
    ]
}

async fn list_as(
    world: &World,
    bearer: &str,
    extra: &[(&'static str, String)],
) -> super::support::Answer {
    let authorization = format!("Bearer {bearer}");
    let mut headers = vec![("authorization", authorization.as_str())];
    headers.extend(extra.iter().map(|(name, value)| (*name, value.as_str())));
    send(&world.api, "GET", "/sandboxes", &headers, Value::Null).await
}

#[tokio::test]
async fn without_a_credential_the_response_is_a_401_that_explains_authentication() {
    let world = World::new();
    for headers in [&[][..], &[("authorization", "Basic YTpi")], &[("authorization", "Bearer ")]] {
        let answer = send(&world.api, "GET", "/sandboxes", headers, Value::Null).await;
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        let error = answer.refused(401, "UNAUTHENTICATED");
        assert!(error.contains("Bearer"), "{error}");
    }
}

#[tokio::test]
async fn an_unknown_credential_is_a_401_that_does_not_contain_it() {
    let world = World::new();
    let answer = list_as(&world, "tl_apiKey_nobody_has_this", &[]).await;
    assert_eq!(answer.headers["www-authenticate"], "Bearer");
    let error = answer.refused(401, "INVALID_CREDENTIALS");
    assert!(!error.contains("nobody_has_this"), "{error}");
}

#[tokio::test]
async fn a_cookie_is_not_accepted_as_a_credential() {
    let world = World::new();
    let cookie = format!("tl.session_token={}", world.ours.session);
    let mut headers = vec![("cookie", cookie.as_str())];
    let ids = context(&world.ours.organization, &world.ours.project);
    headers.extend(ids.iter().map(|(name, value)| (*name, value.as_str())));
    let answer = send(&world.api, "GET", "/sandboxes", &headers, Value::Null).await;
    answer.refused(401, "UNAUTHENTICATED");
    // The cookie's value is not accepted as a bearer token either.
    list_as(&world, &world.ours.session, &ids).await.refused(401, "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn a_personal_access_token_requires_a_project() {
    let world = World::new();
    world.create(json!({ "name": "mine" })).await;
    let (org, project) = (world.ours.organization.clone(), world.ours.project.clone());
    list_as(&world, &world.ours.pat, &[]).await.refused(400, "PROJECT_CONTEXT_REQUIRED");
    let half = &context(&org, &project)[..1];
    list_as(&world, &world.ours.pat, half).await.refused(400, "PROJECT_CONTEXT_REQUIRED");
    let seen = list_as(&world, &world.ours.pat, &context(&org, &project)).await.ok();
    assert_eq!(seen["sandboxes"][0]["name"], "mine");
}

#[tokio::test]
async fn a_token_is_valid_only_in_projects_of_its_user() {
    let world = World::new();
    let others = world.others();
    let theirs = context(&others.organization, &others.project);
    list_as(&world, &world.ours.pat, &theirs).await.refused(403, "PROJECT_FORBIDDEN");
    let crossed = context(&others.organization, &world.ours.project);
    list_as(&world, &world.ours.pat, &crossed).await.refused(403, "PROJECT_FORBIDDEN");
}

#[tokio::test]
async fn an_api_key_may_name_only_its_own_project() {
    let world = World::new();
    let others = world.others();
    let right = context(&world.ours.organization, &world.ours.project);
    list_as(&world, &world.ours.key, &right).await.ok();
    let wrong = context(&others.organization, &others.project);
    list_as(&world, &world.ours.key, &wrong).await.refused(403, "PROJECT_FORBIDDEN");
}

#[tokio::test]
async fn duplicated_credential_headers_are_refused() {
    let world = World::new();
    let good = format!("Bearer {}", world.ours.key);
    let headers = [("authorization", good.as_str()), ("authorization", "Bearer x")];
    let answer = send(&world.api, "GET", "/sandboxes", &headers, Value::Null).await;
    answer.refused(400, "INVALID_REQUEST");
}

#[tokio::test]
async fn every_call_on_another_projects_sandbox_is_not_found() {
    let world = World::new();
    let others = world.others();
    let id = world.create(json!({ "name": "ours" })).await;
    for sandbox in [id.as_str(), "ours"] {
        let path = format!("/sandboxes/{sandbox}");
        let absent = "/sandboxes/nowhere".to_owned();
        for (method, suffix, body) in [
            ("GET", "", Value::Null),
            ("PATCH", "", json!({ "exposed_ports": [1] })),
            ("DELETE", "", Value::Null),
            ("POST", "/suspend", Value::Null),
            ("POST", "/resume", Value::Null),
        ] {
            let theirs =
                world.call_as(&others.key, method, &format!("{path}{suffix}"), body.clone()).await;
            let nowhere =
                world.call_as(&others.key, method, &format!("{absent}{suffix}"), body).await;
            assert_eq!(theirs.body, nowhere.body, "the errors must be identical");
            theirs.refused(404, "SANDBOX_NOT_FOUND");
        }
    }
    let seen = world.call_as(&others.key, "GET", "/sandboxes", Value::Null).await.ok();
    assert_eq!(seen["sandboxes"], json!([]));
    assert_eq!(world.call("GET", "/sandboxes/ours", Value::Null).await.ok()["status"], "running");
}

#[tokio::test]
async fn revoked_and_expired_credentials_are_refused_immediately() {
    use sandgate::model::{NewCredential, Owner, Timestamp};
    use sandgate::random::NewSecret;
    use sandgate::store::{Author, Principals as _};
    let world = World::new();
    world.store.revoke_credential(&world.ours.key_id, Author::now("test")).unwrap();
    list_as(&world, &world.ours.key, &[]).await.refused(401, "INVALID_CREDENTIALS");
    let secret = NewSecret::generate("tl_apiKey_").unwrap();
    let new = NewCredential {
        id: "key_expired".into(),
        owner: Owner::Project { project_id: world.ours.project.clone() },
        name: None,
        hash: secret.hash(),
        expires_at: Some(Timestamp::now()),
    };
    world.store.create_credential(&new, Author::now("test")).unwrap();
    list_as(&world, secret.reveal(), &[]).await.refused(401, "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn keys_introspect_returns_the_project_of_a_key() {
    let world = World::new();
    let answer = world.call("POST", "/platform/v1/keys/introspect", Value::Null).await.ok();
    assert_eq!(
        answer,
        json!({
            "id": world.ours.key_id,
            "organizationId": world.ours.organization,
            "projectId": world.ours.project,
        })
    );
    let wrong = world.call_as("tl_apiKey_x", "POST", "/platform/v1/keys/introspect", Value::Null);
    wrong.await.refused(401, "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn a_project_is_visible_to_its_principals() {
    let world = World::new();
    let others = world.others();
    let path = |organization: &str, project: &str| {
        format!("/platform/v1/organizations/{organization}/projects/{project}")
    };
    let ours = path(&world.ours.organization, &world.ours.project);
    let answer = world.call("GET", &ours, Value::Null).await.ok();
    assert_eq!(
        (&answer["organizationName"], &answer["name"]),
        (&json!("ours-org"), &json!("ours"))
    );
    let theirs = path(&others.organization, &others.project);
    world.call("GET", &theirs, Value::Null).await.refused(404, "PROJECT_NOT_FOUND");
}

#[tokio::test]
async fn unknown_paths_are_refused_in_json() {
    let world = World::new();
    world.call("GET", "/nothing", Value::Null).await.refused(404, "NOT_FOUND");
    world.call("PUT", "/sandboxes", Value::Null).await.refused(405, "METHOD_NOT_ALLOWED");
    // The gateway API is not on this listener.
    let path = "/gateway/v1/changes";
    world.call("GET", path, Value::Null).await.refused(404, "NOT_FOUND");
    assert_eq!(world.call("GET", "/healthz", Value::Null).await.ok(), "ok\n");
    assert_eq!(world.call("GET", "/readyz", Value::Null).await.ok(), "ready\n");
}

#[tokio::test]
async fn an_unsupported_tensorlake_call_is_not_reported_as_a_missing_sandbox() {
    let world = World::new();
    world.create(json!({ "name": "my-env" })).await;
    for (method, path) in [
        ("POST", "/sandboxes/my-env/snapshot"),
        ("POST", "/sandboxes/my-env/copy?times=2"),
        ("POST", "/sandboxes/my-env/file_systems"),
        ("DELETE", "/sandboxes/my-env/file_systems"),
        ("GET", "/sandboxes/my-env/logs"),
        ("GET", "/sandboxes/my-env/processes"),
        ("GET", "/snapshots"),
        ("GET", "/snapshots/snapshot_1"),
        ("DELETE", "/snapshots/snapshot_1"),
        ("GET", "/archived-sandboxes?limit=10"),
        ("GET", "/sandbox-pools"),
        ("POST", "/sandbox-pools"),
        ("PUT", "/sandbox-pools/pool_1"),
        ("POST", "/sandbox-pools/pool_1/sandboxes"),
    ] {
        for prefix in ["", "/v1/namespaces/default"] {
            let answer = world.call(method, &format!("{prefix}{path}"), Value::Null).await;
            let error = answer.refused(501, "NOT_SUPPORTED");
            let (path, _) = path.split_once('?').unwrap_or((path, ""));
            assert!(error.contains(&format!("`{method} {prefix}{path}`")), "{error}");
        }
    }
    for path in [
        "/platform/v1/organizations",
        "/platform/v1/users/me/ssh-keys",
        "/platform/v1/secrets",
        "/platform/v1/sandbox-templates",
    ] {
        world.call("GET", path, Value::Null).await.refused(501, "NOT_SUPPORTED");
    }
    // A supported call for a missing sandbox is still answered with 404.
    world.call("GET", "/sandboxes/nobody", Value::Null).await.refused(404, "SANDBOX_NOT_FOUND");
}
