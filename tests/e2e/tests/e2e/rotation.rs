//! The gateway's token is replaced on a running Envoy and a running control plane, and no request fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use sandgate_e2e::{DOMAIN, Setup, Stack, run};
use sandgate_e2e::{NEXT_TOKEN, TOKEN};
use sandgate_stack::wait::until;

const OLD: &str = TOKEN;
const NEW: &str = "e2e-gateway-token-of-tomorrow-0123456789";

/// Waits until the control plane accepts, or refuses, a token.
async fn taken(stack: &Stack, token: &str, is_taken: bool) -> Result<()> {
    let gateway = stack.control_plane.gateway();
    until("the control plane has read its file", Duration::from_secs(10), async || {
        let answer = gateway.get("gateway", "/gateway/v1/changes").bearer(token).send().await?;
        Ok(((answer.status == 200) == is_taken).then_some(()))
    })
    .await
}

#[test]
fn rotating_the_gateway_token_fails_no_request() {
    rotate(false);
}

#[test]
fn rotating_the_gateway_token_of_an_edge_that_gets_it_by_xds_fails_no_request() {
    rotate(true);
}

fn rotate(by_xds: bool) {
    run(Setup { by_xds, ..Setup::default() }, async |stack| {
        stack.my_env().await?;
        stack.control_plane.set_tokens(&[OLD])?;
        taken(stack, NEXT_TOKEN, false).await?;

        let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = Vec::new();
        for client in 0..4 {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            let (edge, key) = (stack.edge(), stack.key().to_owned());
            clients.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    // An unknown name, so that each request causes a lookup.
                    let number = asked.fetch_add(1, Ordering::Relaxed);
                    let host = format!("8080-nobody-{client}-{number}.{DOMAIN}");
                    let answer = edge.get(&host, "/").bearer(&key).send().await?;
                    let text = answer.denial()?;
                    anyhow::ensure!(text == "404 SANDBOX_NOT_FOUND", "request {number}: {text}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                anyhow::Ok(())
            }));
        }

        stack.control_plane.set_tokens(&[OLD, NEW])?;
        taken(stack, NEW, true).await?;
        let before = stack.envoy().stat("sds.gateway_token.update_success").await?;
        match by_xds {
            true => stack.control_plane.set_tokens(&[NEW, OLD])?,
            false => stack.envoy().rotate_token(NEW)?,
        }
        until("Envoy has the new token", Duration::from_secs(10), async || {
            let updates = stack.envoy().stat("sds.gateway_token.update_success").await?;
            Ok((updates > before).then_some(()))
        })
        .await?;
        stack.control_plane.set_tokens(&[NEW])?;
        taken(stack, OLD, false).await?;

        let at_the_end = asked.load(Ordering::Relaxed);
        until("requests go on", Duration::from_secs(10), async || {
            Ok((asked.load(Ordering::Relaxed) > at_the_end + 50).then_some(()))
        })
        .await?;
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.await??;
        }
        Ok(())
    });
}
