//! The platform reassigns addresses to other sandboxes. Upstream connections are not reused for them.

use anyhow::Result;
use sandgate_e2e::{Connection, Protocol, Sandbox, Setup, Stack, run};
use serde_json::json;

use crate::support::number;

/// Sends a request, and returns the number of the demo's connection that carried it.
async fn connection_used(
    stack: &Stack,
    connection: &mut Connection,
    sandbox: &Sandbox,
) -> Result<u64> {
    let call = stack.edge().get(&sandbox.host(8080), "/").bearer(stack.key());
    number(&connection.send(call).await?.ok()?, "connection")
}

#[test]
fn upstream_connections_are_reused_only_within_a_generation() {
    run(Setup { webhook: true, ..Setup::default() }, async |stack| {
        // One process acts as all sandboxes, one after the other, at one address.
        stack.platform()?.pin(stack.network.host(5));
        let mut previous = 0;
        // One client connection, and so one worker with one connection pool.
        let mut connection = stack.edge().connect(Protocol::Http1).await?;
        for round in 0..4 {
            let request = json!({ "name": format!("env-{round}"), "exposed_ports": [8080] });
            let sandbox = stack.sandbox(request).await?;
            let first = connection_used(stack, &mut connection, &sandbox).await?;
            assert!(first > previous, "round {round}: a connection of the sandbox before");
            let again = connection_used(stack, &mut connection, &sandbox).await?;
            assert_eq!(again, first, "within a generation connections are reused");
            // The same sandbox at the same address, in another generation.
            stack.owner.suspend(stack.api(), &sandbox).await?;
            let resumed = connection_used(stack, &mut connection, &sandbox).await?;
            assert!(resumed > first, "round {round}: a connection of the generation before");
            previous = connection_used(stack, &mut connection, &sandbox).await?;
            assert_eq!(previous, resumed);
            stack.owner.delete(stack.api(), &sandbox).await?;
        }
        Ok(())
    });
}

#[test]
fn a_sandbox_is_reached_at_its_new_address_immediately_after_a_move() {
    run(Setup { webhook: true, ..Setup::default() }, async |stack| {
        let sandbox = stack.my_env().await?;
        let mut connection = stack.edge().connect(Protocol::Http1).await?;
        let call = || stack.edge().get(&sandbox.host(8080), "/health").bearer(stack.key());
        for _ in 0..4 {
            assert_eq!(connection.send(call()).await?.status, 200);
            // The platform assigns a new address each time, and nothing listens at the old one.
            stack.owner.suspend(stack.api(), &sandbox).await?;
            let path = format!("/sandboxes/{}/resume", sandbox.id);
            let resumed = stack.owner.call(stack.api(), http::Method::POST, &path).send().await?;
            assert!(resumed.status.is_success());
            stack.owner.wait_for(stack.api(), &sandbox, "running").await?;
            assert_eq!(connection.send(call()).await?.status, 200);
        }
        Ok(())
    });
}
