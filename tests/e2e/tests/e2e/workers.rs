//! What the workers of one Envoy share: in the native form the cache, the lookups, the resumes, and the change feed.

use std::time::Duration;

use anyhow::Result;
use futures_util::future::try_join_all;
use http::StatusCode;
use sandgate_e2e::{Filters, Protocol, Sandbox, Setup, Stack, WORKERS, run};
use sandgate_stack::artifacts;
use sandgate_stack::wait::until;
use serde_json::json;

use crate::support::on_a_platform;

/// More connections than workers, so that each worker has several.
const CONNECTIONS: usize = 24;

const SOON: Duration = Duration::from_secs(20);

/// The number of hubs of an Envoy that has received requests on all workers.
fn hubs() -> Result<u64> {
    Ok(match artifacts::filters()? {
        Filters::Wasm => WORKERS.into(),
        Filters::Native => 1,
    })
}

/// Sends a request on each of so many connections, at the same time. All of them are permitted.
async fn request_on_all_workers(stack: &Stack, sandbox: &Sandbox) -> Result<()> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(stack.edge().connect(Protocol::Http1).await?);
    }
    for worker in 0..WORKERS {
        let pattern = format!("worker_{worker}.downstream_cx_active");
        // Envoy accepts a connection after the client has it.
        until("each worker has a connection", SOON, async || {
            Ok((stack.envoy().stat(&pattern).await? > 0).then_some(()))
        })
        .await?;
    }
    let calls = connections.into_iter().map(|mut connection| async move {
        let call = stack.edge().get(&sandbox.host(8080), "/health").bearer(stack.key());
        connection.send(call).await
    });
    for answer in try_join_all(calls).await? {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    Ok(())
}

/// How many calls to the control plane of a kind have been answered.
async fn answered(stack: &Stack, kind: &str) -> Result<u64> {
    stack.envoy().stat(&format!("sandgate_ingress_lookups_total.{kind}.answered")).await
}

#[test]
fn the_workers_of_a_process_share_lookups_and_the_change_feed() {
    run(Setup::default(), async |stack| {
        let first = stack.my_env().await?;
        let sandbox = json!({ "name": "other", "exposed_ports": [8080] });
        let sandbox = stack.sandbox(sandbox).await?;
        request_on_all_workers(stack, &first).await?;
        // The control plane answers the first poll of a watcher at once, and holds the next one.
        let hubs = hubs()?;
        until("the control plane holds a poll of each watcher", SOON, async || {
            let held = stack.envoy().stat("cluster.gateway_api.upstream_rq_active").await?;
            Ok((held == hubs).then_some(()))
        })
        .await?;
        assert_eq!(answered(stack, "changes").await?, hubs);
        // The first response of the feed has emptied the caches. From now on no lookup is repeated.
        request_on_all_workers(stack, &first).await?;
        let (sandboxes, callers) = (answered(stack, "sandbox"), answered(stack, "caller"));
        let (sandboxes, callers) = (sandboxes.await?, callers.await?);
        request_on_all_workers(stack, &sandbox).await?;
        request_on_all_workers(stack, &first).await?;
        request_on_all_workers(stack, &sandbox).await?;
        assert_eq!(answered(stack, "sandbox").await? - sandboxes, hubs);
        assert_eq!(answered(stack, "caller").await? - callers, 0);
        Ok(())
    });
}

#[test]
fn the_workers_of_a_process_share_a_resume() {
    run(on_a_platform(), async |stack| {
        let sandbox = stack.my_env().await?;
        stack.owner.suspend(stack.api(), &sandbox).await?;
        stack.platform()?.delay(Duration::from_millis(1500));
        request_on_all_workers(stack, &sandbox).await?;
        assert_eq!(stack.platform()?.count("resume", &sandbox.id), 1);
        assert_eq!(answered(stack, "resume").await?, hubs()?);
        Ok(())
    });
}
