//! The management API.

use serde_json::json;

use crate::support::{ID, NAME, ask, start};

#[tokio::test]
async fn health_has_exactly_the_expected_body() -> anyhow::Result<()> {
    let response = ask(start().await?.management, "GET /api/v1/health?x=1").await?;
    assert_eq!((response.status, response.json()?), (200, json!({ "healthy": true })));
    Ok(())
}

#[tokio::test]
async fn info_has_the_identity_and_the_request() -> anyhow::Result<()> {
    let addresses = start().await?;
    let info = ask(addresses.management, "GET /api/v1/info\r\nX-A: 1\r\nX-A: 2").await?.json()?;
    assert_eq!(info["sandbox"], json!({ "id": ID, "name": NAME }));
    assert_eq!(info["addresses"]["http"], addresses.http.to_string());
    assert_eq!(info["addresses"]["management"], addresses.management.to_string());
    assert!(info["uptime_ms"].is_u64(), "{info}");
    assert_eq!(info["request"]["host"], "demo.test");
    assert_eq!(
        info["request"]["headers"],
        json!([["host", "demo.test"], ["x-a", "1"], ["x-a", "2"]])
    );
    Ok(())
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_json() -> anyhow::Result<()> {
    let management = start().await?.management;
    for path in ["/", "/api/v1", "/api/v1/health/", "/API/v1/health"] {
        let response = ask(management, &format!("GET {path}")).await?;
        assert_eq!((response.status, &response.json()?["code"]), (404, &json!("NOT_FOUND")));
    }
    let response = ask(management, "POST /api/v1/health\r\nContent-Length: 0").await?;
    assert_eq!(response.status, 405);
    assert_eq!(response.header("allow"), [b"GET, HEAD"]);
    Ok(())
}
