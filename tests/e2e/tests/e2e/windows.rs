//! Streams of an HTTP/2 connection are not blocked by a stream that its client does not read.

use std::time::Duration;

use anyhow::{Context as _, Result};
use sandgate_e2e::{Setup, Stack, run};
use sandgate_stack::wait::until;

use crate::frames::Frames;

/// Far more than the windows of a stream.
const LONG: &str = "/download?bytes=4000000";

/// Waits until a counter of bytes no longer grows, because the windows are full.
async fn settled(stack: &Stack, bytes: &str) -> Result<()> {
    let mut before = 0;
    until("the windows are full", Duration::from_secs(60), async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = stack.envoy().stat(bytes).await?;
        let settled = now > 256 << 10 && now == before;
        before = now;
        Ok(settled.then_some(()))
    })
    .await
}

/// All clients of a sandbox share the worker's connection to its gRPC port.
#[test]
fn a_grpc_client_that_does_not_read_does_not_block_others() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        // The demo's port supports both HTTP versions. The edge chooses the version by the content type.
        let host = sandbox.host(8080);
        let grpc = [("content-type", "application/grpc")];
        let mut silent = Vec::new();
        for _ in 0..4 {
            let mut connection = Frames::connect(stack.edge(), 0).await?;
            for _ in 0..8 {
                connection.get(&host, LONG, &grpc).await?;
            }
            silent.push(connection);
        }
        settled(stack, "cluster.sandbox_h2c.upstream_cx_rx_bytes_total").await?;
        // Each request has its own connection, so that each worker serves some.
        for _ in 0..8 {
            let answer = stack.edge().get(&host, "/health").grpc().send();
            let answer = tokio::time::timeout(Duration::from_secs(10), answer).await;
            let answer = answer.context("it waits for those who don't read")??.ok()?;
            assert_eq!(answer["version"], "HTTP/2.0");
        }
        Ok(())
    });
}

/// A proxy in front sends the uploads of many clients over one connection. With a smaller window, four uploads that
/// apps do not read would block all others.
#[test]
fn the_connection_window_covers_the_windows_of_all_streams() {
    run(Setup::default(), async |stack| {
        let offer = Frames::connect(stack.edge(), 0).await?.offer().await?;
        assert!(offer.streams > 1_000, "{offer:?}");
        assert!(offer.connection_window >= offer.streams * offer.stream_window, "{offer:?}");
        Ok(())
    });
}
