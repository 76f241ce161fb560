//! A sandbox's network policy in the API of owners, and its distribution to the sidecar.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use sandgate::gateway::sidecar_tokens;
use sandgate::http::Listener;
use sandgate::model::{PolicyDifference, SandboxId};
use sandgate_policy::egress::NetworkPolicy;
use sandgate_sidecar::source::{ControlPlane, SourceSender, SourceState, Tls};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::contract::network_log;
use super::support::{Answer, TOKEN, World, send};

/// The policy of a response, which contains it in two fields.
#[track_caller]
fn policy(info: &Value) -> &Value {
    assert_eq!(info["network"], info["network_policy"]);
    &info["network"]
}

fn off() -> Value {
    json!({ "allow_internet_access": false, "allow_out": ["10.0.0.0/8", "8.8.8.8"], "deny_out": [] })
}

fn default() -> Value {
    json!({ "allow_internet_access": true, "allow_out": [], "deny_out": [] })
}

pub(crate) fn path(id: &str) -> String {
    format!("/gateway/v1/sandboxes/{id}/network-policy")
}

pub(crate) fn sidecar_token(world: &World, id: &str) -> String {
    let id = SandboxId::parse(id).unwrap();
    sidecar_tokens(&world.dir.path().join("tokens"), &id).unwrap().remove(0)
}

pub(crate) async fn ask(world: &World, token: &str, path: &str) -> Answer {
    let authorization = format!("Bearer {token}");
    send(&world.gateway, "GET", path, &[("authorization", &authorization)], Value::Null).await
}

#[tokio::test]
async fn the_policy_set_on_create_is_returned() {
    let world = World::with_sidecars();
    for (sent, seen) in [
        (off(), off()),
        (Value::Null, default()),
        (json!({}), default()),
        // Partial objects, as the command line client sends them.
        (
            json!({ "deny_out": ["Example.com."] }),
            json!({ "allow_internet_access": true, "allow_out": [], "deny_out": ["example.com"] }),
        ),
        (
            json!({ "allow_out": ["api.example.com", "10.0.0.0/8"], "deny_out": null }),
            json!({ "allow_internet_access": true, "allow_out": ["api.example.com", "10.0.0.0/8"],
                    "deny_out": [] }),
        ),
        (
            json!({ "allow_out": ["API.example.com:443", "10.0.0.0/8:8000-8100", "[2001:DB8::]/32:53"],
                    "deny_out": ["0.0.0.0/0:25", "2001:db8::1:443/128"] }),
            json!({ "allow_internet_access": true,
                    "allow_out": ["api.example.com:443", "10.0.0.0/8:8000-8100", "[2001:db8::]/32:53"],
                    "deny_out": ["0.0.0.0/0:25", "2001:db8::1:443/128"] }),
        ),
    ] {
        let made = world.call("POST", "/sandboxes", json!({ "network": sent })).await.ok();
        assert_eq!(policy(&made), &seen);
        let path = format!("/sandboxes/{}", made["sandbox_id"].as_str().unwrap());
        assert_eq!(policy(&world.call("GET", &path, Value::Null).await.ok()), &seen);
    }
    let list = world.call("GET", "/sandboxes", Value::Null).await.ok();
    assert_eq!(policy(&list["sandboxes"][0]), &off());
}

#[tokio::test]
async fn a_patch_replaces_the_whole_policy_null_clears_it_and_absence_keeps_it() {
    let world = World::with_sidecars();
    let id = world.create(json!({ "network": off() })).await;
    let path = format!("/sandboxes/{id}");
    let patch = async |body: Value| world.call("PATCH", &path, body).await.ok();
    assert_eq!(policy(&patch(json!({ "exposed_ports": [8080] })).await), &off());
    let replaced = patch(json!({ "network": { "deny_out": ["example.com"] } })).await;
    let denied =
        json!({ "allow_internet_access": true, "allow_out": [], "deny_out": ["example.com"] });
    assert_eq!(policy(&replaced), &denied);
    assert_eq!(policy(&patch(json!({ "network": null })).await), &default());
    let log = network_log(world.store.as_ref(), &SandboxId::parse(&id).unwrap());
    let log: Vec<_> = log.into_iter().map(|line| line.difference).collect();
    let policies = [default(), off(), denied, default()];
    let expected = policies.windows(2).map(|pair| {
        let [before, after] = [&pair[0], &pair[1]]
            .map(|policy| serde_json::from_value::<NetworkPolicy>(policy.clone()).unwrap());
        PolicyDifference::between(&before, &after).unwrap()
    });
    assert_eq!(log, expected.collect::<Vec<_>>());
}

/// A name of the maximum length.
fn long_name() -> String {
    format!("{}.example", vec!["a".repeat(60); 4].join("."))
}

#[tokio::test]
async fn a_policy_with_the_maximum_number_of_entries_is_accepted() {
    let world = World::with_sidecars();
    let list = |word: &str| -> Vec<String> {
        (0..1_000).map(|n| format!("{word}{n}.service.example.com")).collect()
    };
    let policy = json!({ "allow_out": list("a"), "deny_out": list("d") });
    let id = world.create(json!({ "network": policy })).await;
    let info = world.call("GET", &format!("/sandboxes/{id}"), Value::Null).await.ok();
    assert_eq!(info["network"]["deny_out"].as_array().unwrap().len(), 1_000);
}

#[tokio::test]
async fn an_invalid_policy_is_refused_by_its_entry_and_changes_nothing() {
    let world = World::with_sidecars();
    let id = world.create(json!({ "network": off() })).await;
    let path = format!("/sandboxes/{id}");
    for (bad, named) in [
        (
            json!({ "allow_out": ["8.8.8.8", "10.0.0.5/8"] }),
            "`network`: `allow_out[1]` (`10.0.0.5/8`)",
        ),
        (
            json!({ "deny_out": ["example.com:443", "example.com:0"] }),
            "`network`: `deny_out[1]` (`example.com:0`) has no valid port after its `:`",
        ),
        (
            json!({ "allow_out": ["2001:db8::1:443"] }),
            "`network`: `allow_out[0]` (`2001:db8::1:443`) can be read as an IPv6 address or as an address with a port",
        ),
        (json!({ "deny_out": ["*"] }), "`network`: `deny_out[0]` (`*`)"),
        (
            json!({ "allow_internet_access": "no" }),
            "`network.allow_internet_access` must be true or false",
        ),
        (json!({ "allow_out": "10.0.0.1" }), "`network.allow_out` must be a list"),
        (json!({ "allowOut": [] }), "`network.allowOut` is not a field"),
        (json!({ "allow_out": vec!["8.8.8.8"; 1_001] }), "`allow_out` has 1001 entries"),
        (json!({ "allow_out": vec![long_name(); 300] }), "`network` takes "),
        (json!([]), "`network` must be an object"),
    ] {
        let body = json!({ "network": bad, "exposed_ports": [1] });
        let error = world.call("PATCH", &path, body.clone()).await.refused(400, "INVALID_REQUEST");
        assert!(error.contains(named), "{error}");
        world.call("POST", "/sandboxes", body).await.refused(400, "INVALID_REQUEST");
    }
    let info = world.call("GET", &path, Value::Null).await.ok();
    assert_eq!((policy(&info), &info["exposed_ports"]), (&off(), &json!([])));
}

#[tokio::test]
async fn a_sidecars_poll_returns_immediately_after_a_change_of_its_policy_only() {
    let world = Arc::new(World::with_sidecars());
    let id = world.create(json!({ "network": off() })).await;
    let token = sidecar_token(&world, &id);
    let first = ask(&world, &token, &path(&id)).await.ok();
    assert_eq!((&first["sandbox_id"], &first["network_policy"]), (&json!(id), &off()));
    let since = first["revision"].as_str().unwrap().to_owned();

    let held = tokio::spawn({
        let (world, token) = (Arc::clone(&world), token.clone());
        let path = format!("{}?since={since}&wait_ms=30000", path(&id));
        async move { (ask(&world, &token, &path).await.ok(), Instant::now()) }
    });
    // Other sandboxes, and other changes of this one, do not end the wait.
    world.create(json!({})).await;
    let own = format!("/sandboxes/{id}");
    world.call("PATCH", &own, json!({ "exposed_ports": [8080] })).await.ok();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!held.is_finished());
    let begun = Instant::now();
    world.call("PATCH", &own, json!({ "network": null })).await.ok();
    let (second, at) = held.await.unwrap();
    assert_eq!(second["network_policy"], default());
    assert_ne!(second["revision"], first["revision"]);
    assert!(at.duration_since(begun) < Duration::from_secs(1), "{:?}", at.duration_since(begun));

    let since = second["revision"].as_str().unwrap();
    let same = ask(&world, &token, &format!("{}?since={since}&wait_ms=10", path(&id))).await.ok();
    assert_eq!(same, second);
    for foreign in ["", "x", first["revision"].as_str().unwrap().get(1..).unwrap()] {
        let path = format!("{}?since={foreign}&wait_ms=30000", path(&id));
        assert_eq!(ask(&world, &token, &path).await.ok(), second);
    }
}

#[tokio::test]
async fn a_held_poll_ends_with_its_sandbox() {
    let world = Arc::new(World::with_sidecars());
    let id = world.create(json!({})).await;
    let token = sidecar_token(&world, &id);
    let first = ask(&world, &token, &path(&id)).await.ok();
    let held = tokio::spawn({
        let (world, since) = (Arc::clone(&world), first["revision"].as_str().unwrap().to_owned());
        let path = format!("{}?since={since}&wait_ms=30000", path(&id));
        async move { ask(&world, &token, &path).await }
    });
    world.call("DELETE", &format!("/sandboxes/{id}"), Value::Null).await.ok();
    held.await.unwrap().refused(404, "SANDBOX_NOT_FOUND");
}

#[tokio::test]
async fn a_stopping_server_answers_a_held_poll() {
    let world = Arc::new(World::with_sidecars());
    let id = world.create(json!({})).await;
    let first = ask(&world, TOKEN, &path(&id)).await.ok();
    let held = tokio::spawn({
        let (world, since) = (Arc::clone(&world), first["revision"].as_str().unwrap().to_owned());
        let path = format!("{}?since={since}&wait_ms=30000", path(&id));
        async move { ask(&world, TOKEN, &path).await.ok() }
    });
    world.stopping.send(true).unwrap();
    assert_eq!(held.await.unwrap(), first);
}

#[tokio::test]
async fn a_sidecars_token_reads_its_own_policy_and_nothing_else() {
    let world = World::with_sidecars();
    let (mine, other) = (world.create(json!({})).await, world.create(json!({})).await);
    let token = sidecar_token(&world, &mine);
    ask(&world, &token, &path(&mine)).await.ok();
    ask(&world, TOKEN, &path(&mine)).await.ok();
    // The error for an unknown sandbox is the same as for a sandbox of another project.
    let nobody = "zzzzzzzzzzzzzzzzzzzzz";
    for id in [other.as_str(), nobody, "my-env"] {
        ask(&world, &token, &path(id)).await.refused(401, "UNAUTHENTICATED");
    }
    ask(&world, TOKEN, &path(nobody)).await.refused(404, "SANDBOX_NOT_FOUND");
    for path in [
        "/gateway/v1/changes".to_owned(),
        format!("/gateway/v1/sandboxes/{mine}"),
        format!("/gateway/v1/sandboxes/{other}"),
    ] {
        ask(&world, &token, &path).await.refused(401, "UNAUTHENTICATED");
    }
    for wrong in ["", "sgs_", &world.ours.key, token.get(1..).unwrap()] {
        ask(&world, wrong, &path(&mine)).await.refused(401, "UNAUTHENTICATED");
    }
    let none = send(&world.gateway, "GET", &path(&mine), &[], Value::Null).await;
    assert_eq!(none.headers["x-sandgate-control-plane"], "v1");
    none.refused(401, "UNAUTHENTICATED");
    // The token is not valid for the public API.
    let owners = send(&world.api, "GET", &path(&mine), &[], Value::Null).await;
    assert_eq!(owners.status, StatusCode::NOT_FOUND);
}

/// Serves the gateway API on a port, until the value is dropped.
async fn listen(world: &World) -> (String, JoinSet<()>) {
    let listener = Listener::bind("--gateway-listen", ([127, 0, 0, 1], 0).into()).await.unwrap();
    let url = format!("http://{}", listener.address());
    let mut tasks = JoinSet::new();
    tasks.spawn(listener.serve(world.gateway.clone(), std::future::pending()));
    (url, tasks)
}

/// Starts the policy source of a sidecar's agent. The token file is in the world's directory.
fn follow(
    world: &World,
    url: &str,
    id: &str,
    tokens: &str,
) -> (watch::Receiver<SourceState>, JoinSet<()>) {
    let file = world.dir.path().join("sidecar-token");
    std::fs::write(&file, tokens).unwrap();
    let source = ControlPlane::new(url, id.to_owned(), file, &Tls::default()).unwrap();
    let (sender, updates) = SourceSender::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(source.follow(sender));
    (updates, tasks)
}

/// Waits for the next update of an agent's source.
async fn next(updates: &mut watch::Receiver<SourceState>) -> (Option<Value>, Option<String>) {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, updates.changed()).await.expect("no update").unwrap();
    let SourceState { valid, problem } = updates.borrow_and_update().clone();
    (valid.map(|policy| serde_json::to_value(policy).unwrap()), problem)
}

#[tokio::test]
async fn an_agent_follows_its_policy_until_the_sandbox_ends() {
    let world = World::with_sidecars();
    let (url, _tasks) = listen(&world).await;
    let id = world.create(json!({ "network": off() })).await;
    // During a rotation of tokens. Their order in the file does not matter.
    let tokens = format!("sgs_of_a_token_that_is_gone\n{}\n", sidecar_token(&world, &id));
    let (mut updates, _agent) = follow(&world, &url, &id, &tokens);
    assert_eq!(next(&mut updates).await, (Some(off()), None));
    let own = format!("/sandboxes/{id}");
    world.call("PATCH", &own, json!({ "network": null })).await.ok();
    assert_eq!(next(&mut updates).await, (Some(default()), None));
    world.call("DELETE", &own, Value::Null).await.ok();
    let nothing = json!({ "allow_internet_access": false, "allow_out": [], "deny_out": [] });
    let problem = format!("the control plane has no sandbox `{id}`; all traffic is denied");
    assert_eq!(next(&mut updates).await, (Some(nothing), Some(problem)));
}

#[tokio::test]
async fn an_agent_reports_the_reason_if_it_gets_no_policy() {
    let world = World::with_sidecars();
    let (url, tasks) = listen(&world).await;
    let id = world.create(json!({})).await;
    let why = async |url: &str, token: &str| {
        let (mut updates, _agent) = follow(&world, url, &id, token);
        let (policy, problem) = next(&mut updates).await;
        assert_eq!(policy, None);
        problem.unwrap()
    };
    let refused = why(&url, "sgs_wrong").await;
    assert!(refused.contains("accepts no token of") && !refused.contains("sgs_"), "{refused}");
    let empty = why(&url, " \n\n").await;
    assert!(empty.contains("`sandgate keys sidecar`"), "{empty}");
    drop(tasks);
    let away = why(&url, TOKEN).await;
    assert!(away.contains("can't be fetched") && !away.contains(&url), "{away}");
    for wrong in ["localhost:8901", "ftp://a", "http://"] {
        let file = world.dir.path().join("sidecar-token");
        assert!(ControlPlane::new(wrong, id.clone(), file, &Tls::default()).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_response_that_is_not_of_the_control_plane_is_not_a_policy() {
    let world = World::with_sidecars();
    // Responses that a proxy in between might send: with a success status, or the status of a deleted sandbox.
    for status in [StatusCode::OK, StatusCode::NOT_FOUND] {
        let page = axum::Router::new().fallback(move || async move { (status, "{}") });
        let listener =
            Listener::bind("--gateway-listen", ([127, 0, 0, 1], 0).into()).await.unwrap();
        let url = format!("http://{}", listener.address());
        let mut serving = JoinSet::new();
        serving.spawn(listener.serve(page, std::future::pending()));
        let (mut updates, _agent) = follow(&world, &url, "a1b2c3d4e5f6g7h8i9j0k", TOKEN);
        let (policy, problem) = next(&mut updates).await;
        assert!(
            policy.is_none() && problem.unwrap().contains("does not come from the control plane")
        );
    }
}
