//! Edges that get their configuration from the control plane.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::StatusCode;
use sandgate_e2e::{Setup, Stack, TOKEN, run};
use sandgate_stack::wait::until;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn by_xds() -> Setup {
    Setup { by_xds: true, ..Setup::default() }
}

/// Sends a request to the public sandbox, and waits until it is served.
async fn until_served(stack: &Stack, host: &str) -> Result<()> {
    until("the sandbox answers", PATIENCE, async || {
        let answer = stack.edge().get(host, "/health").send().await?;
        ensure!(answer.status == StatusCode::OK, "{} {}", answer.status, answer.text());
        Ok(Some(()))
    })
    .await
}

/// The first node, as `sandgate xds nodes` shows it.
fn node(stack: &Stack) -> Result<Value> {
    let nodes = stack.control_plane.xds_nodes()?;
    nodes.pointer("/nodes/0").cloned().context("no node is connected")
}

async fn until_node(stack: &Stack, what: &str, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    until(what, PATIENCE, async || {
        let node = node(stack)?;
        ensure!(holds(&node), "{node:#}");
        Ok(Some(node))
    })
    .await
}

fn is_complete(node: &Value) -> bool {
    node["connected"] == true && node["pending"] == 0 && node["rejected"] == json!({})
}

fn change(stack: &Stack, field: &str, value: Value) -> Result<()> {
    let mut state = stack.desired_state.clone().context("this stack has no desired state")?;
    state["edge"][field] = value;
    stack.control_plane.set_desired_state(&state)
}

#[test]
fn an_edge_with_only_a_bootstrap_serves_requests_over_plain_text_and_tls() {
    run(by_xds(), async |stack| {
        stack.public_env().await?;
        let host = "8080-my-env.sandbox.localhost";
        until_served(stack, host).await?;
        let answer = stack.edge_tls().get(host, "/health").send().await?;
        assert_eq!(answer.status, StatusCode::OK);
        let answer = stack.edge().get("3000-other.sandbox.localhost", "/").send().await?;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        let node = until_node(stack, "the edge has everything", is_complete).await?;
        assert_eq!(node["node"], "edge-0");
        let dump = stack.envoy().admin().get("admin", "/config_dump").send().await?.text();
        assert!(dump.contains("gateway_token") && dump.contains("[redacted]"));
        for secret in [TOKEN, "sgx_", "PRIVATE KEY"] {
            assert!(!dump.contains(secret), "`{secret}` is in `config_dump`");
        }
        for kind in ["cluster", "listener", "route", "extension", "secret", "token_bucket"] {
            assert!(
                node["versions"][kind].as_object().is_some_and(|all| !all.is_empty()),
                "{kind}"
            );
        }
        Ok(())
    });
}

#[test]
fn an_edge_keeps_serving_without_the_control_plane_and_gets_what_changed_meanwhile() {
    run(by_xds(), async |stack| {
        stack.my_env().await?;
        let before = until_node(stack, "the edge has everything", is_complete).await?;
        stack.control_plane.kill();
        // No lookup is needed for this answer.
        let answer = stack.edge().get("9501-my-env.sandbox.localhost", "/").send().await?;
        assert_ne!(answer.status, StatusCode::OK);
        change(stack, "stream_idle_timeout_seconds", json!(1234))?;
        stack.control_plane.run().await?;
        let after = until_node(stack, "the edge has everything again", is_complete).await?;
        assert_ne!(before["versions"]["route"], after["versions"]["route"]);
        let dump = stack.envoy().admin().get("admin", "/config_dump").send().await?.text();
        assert!(dump.contains("1234s"));
        Ok(())
    });
}

#[test]
fn an_edge_rejects_a_bad_filter_keeps_the_former_one_and_recovers() {
    run(by_xds(), async |stack| {
        stack.public_env().await?;
        let host = "8080-my-env.sandbox.localhost";
        until_served(stack, host).await?;
        until_node(stack, "the edge has everything", is_complete).await?;
        change(stack, "ingress_limits", json!({ "no_such_limit": 1 }))?;
        until_node(stack, "the edge rejects the filter", |node| {
            let rejected = node["rejected"]["extension"].as_object();
            rejected.is_some_and(|it| it.keys().any(|name| name.starts_with("sandgate.ingress.")))
        })
        .await?;
        assert!(stack.control_plane.output().contains("an edge rejected its configuration"));
        until_served(stack, host).await?;
        change(stack, "ingress_limits", json!({ "requests_per_sandbox": 77 }))?;
        until_node(stack, "the edge has the good filter", is_complete).await?;
        until_served(stack, host).await
    });
}

#[test]
fn an_invalid_desired_state_changes_nothing_and_the_log_says_why() {
    run(by_xds(), async |stack| {
        stack.public_env().await?;
        let host = "8080-my-env.sandbox.localhost";
        let before = until_node(stack, "the edge has everything", is_complete).await?;
        change(stack, "trusted_hop", json!(1))?;
        until("the log says why", PATIENCE, async || {
            let output = stack.control_plane.output();
            Ok(output.contains("unknown field `trusted_hop`").then_some(()))
        })
        .await?;
        let after = node(stack)?;
        assert_eq!(before["versions"], after["versions"]);
        until_served(stack, host).await
    });
}
