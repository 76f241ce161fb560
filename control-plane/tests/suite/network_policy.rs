//! A sandbox's network policy: what owners send, what they see, and how its sidecar hears of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use sandgate::gateway::sidecar_tokens;
use sandgate::http::Listener;
use sandgate::model::SandboxId;
use sandgate::policy_feed::{PolicyFeed, PolicyFeedError, Said};
use sandgate::store::Sandboxes as _;
use serde_json::{Value, json};

use super::support::{Answer, TOKEN, World, send};

/// The policy of an answer, which has it under two names.
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
async fn what_clients_send_on_create_is_what_they_see() {
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
async fn absent_keeps_an_object_replaces_all_of_it_and_null_clears() {
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
    let log = world.store.network_changes(SandboxId::parse(&id).as_ref()).unwrap();
    let log: Vec<_> = log.iter().map(|line| (json!(line.before), json!(line.after))).collect();
    assert_eq!(log, [(default(), off()), (off(), denied.clone()), (denied, default())]);
}

#[tokio::test]
async fn a_bad_policy_is_refused_with_its_entry_and_replaces_nothing() {
    let world = World::with_sidecars();
    let id = world.create(json!({ "network": off() })).await;
    let path = format!("/sandboxes/{id}");
    for (bad, named) in [
        (
            json!({ "allow_out": ["8.8.8.8", "10.0.0.5/8"] }),
            "`network`: `allow_out[1]` (`10.0.0.5/8`)",
        ),
        (
            json!({ "deny_out": ["example.com:443"] }),
            "`network`: `deny_out[0]` (`example.com:443`)",
        ),
        (json!({ "deny_out": ["*"] }), "`network`: `deny_out[0]` (`*`)"),
        (json!({ "allow_internet_access": "no" }), "expected a boolean"),
        (json!({ "allow_out": "10.0.0.1" }), "expected a sequence"),
        (json!({ "allowOut": [] }), "unknown field `allowOut`"),
        (json!({ "allow_out": vec!["8.8.8.8"; 1_001] }), "`allow_out` has 1001 entries"),
        (json!([]), "`network` must be an object or null"),
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
async fn a_sidecar_hears_of_a_change_at_once_and_of_nothing_else() {
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
    // One that is not there is refused in the same words as one that is another's.
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
    // And never over the owners' API.
    let owners = send(&world.api, "GET", &path(&mine), &[], Value::Null).await;
    assert_eq!(owners.status, StatusCode::NOT_FOUND);
}

/// The gateway API on a port, until the value is dropped.
async fn listen(world: &World) -> (String, tokio::task::JoinSet<()>) {
    let listener = Listener::bind("--gateway-listen", ([127, 0, 0, 1], 0).into()).await.unwrap();
    let url = format!("http://{}", listener.address());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(listener.serve(world.gateway.clone(), std::future::pending()));
    (url, tasks)
}

fn client() -> reqwest::Client {
    // An error means that a provider is chosen already, which does as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let redirects = reqwest::redirect::Policy::none();
    reqwest::Client::builder().redirect(redirects).no_proxy().build().unwrap()
}

#[tokio::test]
async fn an_agent_follows_its_policy_to_the_end_of_its_sandbox() {
    let world = World::with_sidecars();
    let (url, _tasks) = listen(&world).await;
    let id = world.create(json!({ "network": off() })).await;
    let sandbox = SandboxId::parse(&id).unwrap();
    let token = sidecar_token(&world, &id);
    let feed = PolicyFeed::new(client(), &url, &sandbox, token).unwrap();
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let following = tokio::spawn(feed.follow(move |said| {
        let _ = told.send(said);
    }));
    let as_said = |policy: Value| Said::Policy(serde_json::from_value(policy).unwrap());
    assert_eq!(heard.recv().await, Some(as_said(off())));
    let own = format!("/sandboxes/{id}");
    world.call("PATCH", &own, json!({ "network": null })).await.ok();
    assert_eq!(heard.recv().await, Some(as_said(default())));
    world.call("DELETE", &own, Value::Null).await.ok();
    assert_eq!(heard.recv().await, Some(Said::Gone));
    following.abort();
}

#[tokio::test]
async fn an_agent_says_why_it_was_told_nothing() {
    let world = World::with_sidecars();
    let (url, tasks) = listen(&world).await;
    let id = SandboxId::parse(&world.create(json!({})).await).unwrap();
    let feed = |url: &str, token: &str| PolicyFeed::new(client(), url, &id, token.to_owned());
    let refused = feed(&url, "sgs_wrong").unwrap().next().await;
    assert!(matches!(refused, Err(PolicyFeedError::Token)), "{refused:?}");
    drop(tasks);
    let unreachable = feed(&url, TOKEN).unwrap().next().await;
    assert!(matches!(unreachable, Err(PolicyFeedError::Unavailable(_))), "{unreachable:?}");
    for wrong in ["localhost:8901", "ftp://a", "http://a/b", "http://u@a", "http://a?b"] {
        assert!(matches!(feed(wrong, TOKEN), Err(PolicyFeedError::Url(_))), "{wrong}");
    }
}

#[tokio::test]
async fn an_answer_of_something_else_is_no_policy() {
    // What a proxy on the way might say: with a status of success, or of a sandbox that is gone.
    for status in [StatusCode::OK, StatusCode::NOT_FOUND] {
        let page = axum::Router::new().fallback(move || async move { (status, "{}") });
        let listener =
            Listener::bind("--gateway-listen", ([127, 0, 0, 1], 0).into()).await.unwrap();
        let url = format!("http://{}", listener.address());
        let serving = tokio::spawn(listener.serve(page, std::future::pending()));
        let id = SandboxId::parse("a1b2c3d4e5f6g7h8i9j0k").unwrap();
        let mut feed = PolicyFeed::new(client(), &url, &id, TOKEN.to_owned()).unwrap();
        let said = feed.next().await;
        assert!(matches!(said, Err(PolicyFeedError::Unavailable(_))), "{said:?}");
        serving.abort();
    }
}
