//! The edge reports denials, and the owner of the sandbox sees them as events.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use sandgate_e2e::{Setup, run};
use sandgate_stack::wait::until;
use serde_json::{Value, json};

/// Longer than the pause after a report that failed. Without a failure, an edge reports within two seconds, and the control plane writes
/// the events within two seconds after that.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn denied_requests_are_events_with_their_number_and_permitted_ones_are_not() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.sandbox(json!({ "name": "my-env", "exposed_ports": [8080] })).await?;
        for (port, credential, times, status) in [
            (8080, None, 3, 401),
            (8080, Some("tl_wrong"), 2, 401),
            (22, Some(stack.key()), 4, 403),
            (8080, Some(stack.key()), 5, 200),
        ] {
            for _ in 0..times {
                let mut call = stack.edge().get(&sandbox.host(port), "/health?token=private");
                if let Some(credential) = credential {
                    call = call.bearer(credential);
                }
                assert_eq!(call.send().await?.status.as_u16(), status);
            }
        }
        let expected = BTreeMap::from([
            ((8080, "UNAUTHENTICATED".to_owned()), 3),
            ((8080, "INVALID_CREDENTIALS".to_owned()), 2),
            ((22, "PORT_NOT_EXPOSED".to_owned()), 4),
        ]);
        let path = format!("/sandboxes/{}/events", sandbox.id);
        until("the events have all denials", PATIENCE, async || {
            let call = stack.owner.call(stack.api(), Method::GET, &path);
            let listed = call.send().await?.ok()?;
            assert!(!listed.to_string().contains("private"), "{listed}");
            Ok((denials(&listed)? == expected).then_some(()))
        })
        .await
    });
}

/// The number of denials by port and code. Denials around the end of a period are two events.
fn denials(listed: &Value) -> Result<BTreeMap<(u64, String), u64>> {
    let mut counts = BTreeMap::new();
    let events = listed["events"].as_array().context("no events")?;
    for event in events.iter().filter(|event| event["type"] == "inbound_denied") {
        let port = event["port"].as_u64().context("no port")?;
        let rule = event["rule"].as_str().context("no rule")?.to_owned();
        *counts.entry((port, rule)).or_default() += event["count"].as_u64().context("no count")?;
    }
    Ok(counts)
}
