//! The time between a stop signal and the stop.

use std::collections::BTreeSet;

use sandgate::http::Draining;
use serde_json::Value;

use super::command_line::{Installation, Served};
use super::fleet::{client, wait_for};
use super::support::{World, send};

#[tokio::test]
async fn a_draining_server_fails_health_checks_and_serves_everything_else() {
    let world = World::new();
    let draining = Draining::default();
    let api = draining.announce(world.api.clone());
    let get = async |path: &str| {
        let authorization = format!("Bearer {}", world.ours.key);
        send(&api, "GET", path, &[("authorization", &authorization)], Value::Null).await
    };
    let ready = get("/readyz").await;
    assert_eq!((ready.status.as_u16(), ready.headers.get("connection")), (200, None));
    draining.begin();
    let refused = get("/readyz").await;
    assert_eq!(refused.headers["connection"], "close");
    refused.refused(503, "STOPPING");
    // Alive, and of use.
    assert_eq!(get("/healthz").await.status, 200);
    let list = get("/sandboxes").await;
    assert_eq!(
        (list.status.as_u16(), &list.headers["connection"]),
        (200, &"close".parse().unwrap())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_listener_says_that_the_server_stops() {
    let installation = Installation::new();
    let file = installation.path("admin-token");
    std::fs::write(&file, "admin-token-for-tests-0123456789").unwrap();
    let mut command = installation.serve_command();
    command.args(["--admin-listen", "127.0.0.1:0", "--admin-token-file"]).arg(&file);
    command.args(["--metrics-listen", "127.0.0.1:0", "--drain-pause-seconds", "60"]);
    let server = Served::start(command);
    let (admin, metrics) = (server.admin.as_ref().unwrap(), server.metrics.as_ref().unwrap());
    let statuses = async || {
        let mut found = BTreeSet::new();
        for url in [&server.api, &server.gateway, admin, metrics] {
            let answer = client().get(format!("{url}/readyz")).send().await.unwrap();
            found.insert(answer.status().as_u16());
        }
        found
    };
    assert_eq!(statuses().await, [200].into());
    server.terminate();
    wait_for("all health checks fail", async || statuses().await == [503].into()).await;
}
