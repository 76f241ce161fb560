//! The metrics: the page lists all of them, the alerts use only existing ones, and no input of a client becomes a label.

use std::collections::BTreeSet;
use std::time::Duration;

use sandgate::http::Listener;
use sandgate::model::Timestamp;
use sandgate::store::{Author, Principals as _};
use serde_json::{Value, json};

use super::support::{World, send};

const PAGE: &str = include_str!("../../../docs/operations.md");
const RULES: &str = include_str!("../../../deploy/prometheus/rules.yaml");
const XDS_PAGE: &str = include_str!("../../../docs/xds.md");

/// Uses every part of the server once, because a metric with labels appears with its first value.
async fn busy_world() -> World {
    let world = World::new();
    let id = world.create_suspended(json!({ "name": "my-env" })).await;
    let resume = format!("/gateway/v1/sandboxes/{id}/resume");
    world.call_gateway("POST", &resume, json!({ "wait_ms": 5_000 })).await.ok();
    let change = json!({ "exposed_ports": [8080] });
    world.call("PATCH", &format!("/sandboxes/{id}"), change).await.ok();
    let credential = json!({ "kind": "api_key", "secret": "tl_apiKey_unknown" });
    world.call_gateway("POST", "/gateway/v1/credentials/introspect", credential).await.ok();
    send(&world.gateway, "GET", "/gateway/v1/changes", &[], Value::Null).await;
    world.metrics.count_expiring_credentials(world.sandboxes.db()).await;
    world
}

async fn scrape(world: &World) -> String {
    let answer = world.call_gateway("GET", "/metrics", Value::Null).await;
    assert!(answer.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    answer.ok().as_str().unwrap().to_owned()
}

/// The names of the metrics in a scrape.
fn names(text: &str) -> BTreeSet<&str> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines.filter_map(|line| line.split(' ').next()).collect()
}

/// The names in backticks in the first column of a table.
fn documented(section: &str) -> BTreeSet<&str> {
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let cells = rows.filter_map(|row| row.split(" |").next());
    let names = cells.flat_map(|cell| cell.split("`, `"));
    names.map(|name| name.split(['{', '`']).next().unwrap()).collect()
}

#[tokio::test]
async fn the_page_lists_every_metric_and_no_other() {
    let world = busy_world().await;
    let text = scrape(&world).await;
    let (_, section) = PAGE.split_once("## Metrics of the control plane\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut listed = documented(section);
    assert!(listed.remove("sandgate_xds_…"));
    // Only a database has a pool of connections.
    listed.retain(|name| !name.starts_with("sandgate_store_connections"));
    let (xds, own): (BTreeSet<_>, BTreeSet<_>) =
        names(&text).into_iter().partition(|name| name.starts_with("sandgate_xds_"));
    assert_eq!(listed, own);
    for name in xds {
        assert!(XDS_PAGE.contains(&format!("`{name}")), "{name} is missing");
    }
}

#[tokio::test]
async fn the_alerts_are_complete_and_use_existing_metrics() {
    let world = busy_world().await;
    let text = scrape(&world).await;
    let rules = sandgate_xds::parse_yaml(RULES).unwrap();
    let known = names(&text);
    let mut alerts = BTreeSet::new();
    for group in rules["groups"].as_array().unwrap() {
        assert!(group["name"].is_string());
        for rule in group["rules"].as_array().unwrap() {
            let alert = rule["alert"].as_str().unwrap();
            assert!(alerts.insert(alert), "{alert} exists twice");
            assert!(matches!(rule["labels"]["severity"].as_str(), Some("page" | "ticket")));
            for key in ["summary", "description"] {
                assert!(rule["annotations"][key].is_string(), "{alert}: {key}");
            }
            let expression = rule["expr"].as_str().unwrap();
            let balance =
                |open, close| expression.matches(open).count() == expression.matches(close).count();
            assert!(balance('(', ')') && balance('{', '}') && balance('[', ']'), "{alert}");
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| word.starts_with("sandgate_")) {
                let exists = known.contains(word) || PAGE.contains(&format!("`{word}"));
                assert!(exists, "{alert}: there is no metric `{word}`");
            }
        }
    }
    assert!(alerts.len() > 10);
}

#[tokio::test]
async fn requests_are_counted_by_route_and_no_input_becomes_a_label() {
    let world = World::new();
    let id = world.create(json!({})).await;
    world.call("GET", &format!("/sandboxes/{id}"), Value::Null).await.ok();
    for path in ["/sandboxes/no-such-name", "/no/such/path-1", "/no/such/path-2"] {
        world.call("GET", path, Value::Null).await;
    }
    send(&world.api, "BREW", "/coffee", &[], Value::Null).await;
    send(
        &world.api,
        "GET",
        "/sandboxes",
        &[("authorization", "Bearer tl_apiKey_guess")],
        Value::Null,
    )
    .await;
    let text = scrape(&world).await;
    let has = |line: &str| assert!(text.contains(line), "{line} is missing in:\n{text}");
    let of = |route: &str, method: &str, status: u16| {
        format!(
            "sandgate_http_requests_total{{api=\"public\",route=\"{route}\",method=\"{method}\",status=\"{status}\"}}"
        )
    };
    has(&of("/sandboxes/{sandbox}", "GET", 200));
    has(&of("/sandboxes/{sandbox}", "GET", 404));
    has(&of("none", "GET", 404));
    has(&of("none", "other", 404));
    has("sandgate_http_unauthenticated_requests_total{api=\"public\"} 1");
    for input in
        [id.as_str(), "no-such-name", "path-1", "BREW", "coffee", "guess", &world.ours.project]
    {
        assert!(!text.contains(input), "`{input}` is in the metrics");
    }
}

#[tokio::test]
async fn a_held_poll_is_a_watcher_and_counts_as_in_flight_until_its_client_is_gone() {
    let world = World::new();
    let since = world.revision().await;
    let poll = world.poll("edge-1", &since, 20_000);
    let in_flight =
        "sandgate_http_requests_in_flight{api=\"gateway\",route=\"/gateway/v1/changes\"}";
    tokio::select! {
        _ = poll => panic!("the poll was answered"),
        () = async {
            until(&world, &format!("{in_flight} 1")).await;
            until(&world, "sandgate_watchers 1").await;
            until(&world, "sandgate_watchers_behind 0").await;
        } => {}
    }
    until(&world, &format!("{in_flight} 0")).await;
}

async fn until(world: &World, line: &str) {
    let shown = async {
        while !scrape(world).await.lines().any(|found| found == line) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), shown).await.expect(line);
}

#[tokio::test]
async fn the_metrics_need_a_gateway_token_except_at_their_own_address() {
    let world = World::new();
    let answer = send(&world.gateway, "GET", "/metrics", &[], Value::Null).await;
    answer.refused(401, "UNAUTHENTICATED");
    let key = format!("Bearer {}", world.ours.key);
    let headers = [("authorization", key.as_str())];
    let answer = send(&world.gateway, "GET", "/metrics", &headers, Value::Null).await;
    answer.refused(401, "UNAUTHENTICATED");
    // The owners' API, which edges route to, has none.
    let answer = world.call("GET", "/metrics", Value::Null).await;
    answer.refused(404, "NOT_FOUND");

    let listener =
        Listener::bind("--metrics-listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/metrics", listener.address());
    let router = sandgate::metrics::router(world.metrics.clone(), world.sandboxes.db().clone());
    tokio::spawn(listener.serve(router, std::future::pending()));
    let text = reqwest_get(&url).await;
    assert!(text.contains("sandgate_build_info"), "{text}");
}

async fn reqwest_get(url: &str) -> String {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn credentials_that_expire_soon_are_counted() {
    use sandgate::model::{NewCredential, Owner};
    let world = World::new();
    let now = Timestamp::now();
    let day = Duration::from_secs(24 * 60 * 60);
    for (number, age) in [day / 2, day * 3, day * 30].into_iter().enumerate() {
        let new = NewCredential {
            id: format!("key_expiring{number}"),
            owner: Owner::Project { project_id: world.ours.project.clone() },
            name: None,
            hash: sandgate::random::NewSecret::generate("tl_apiKey_").unwrap().hash(),
            expires_at: Some(now.plus(age)),
        };
        world.store.create_credential(&new, Author::now("test")).unwrap();
    }
    world.metrics.count_expiring_credentials(world.sandboxes.db()).await;
    until(&world, "sandgate_credentials_expiring{within=\"1d\"} 1").await;
    until(&world, "sandgate_credentials_expiring{within=\"7d\"} 2").await;
    // A revoked one needs no attention.
    world.store.revoke_credential("key_expiring0", Author::now("test")).unwrap();
    world.metrics.count_expiring_credentials(world.sandboxes.db()).await;
    until(&world, "sandgate_credentials_expiring{within=\"1d\"} 0").await;
}
