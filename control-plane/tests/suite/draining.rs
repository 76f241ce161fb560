//! The time between a stop signal and the stop.

use sandgate::http::Draining;
use serde_json::Value;

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
