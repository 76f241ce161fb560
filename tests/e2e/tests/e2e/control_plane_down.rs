//! An outage of the control plane under load: cached requests are served.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Result;
use sandgate_e2e::{Call, DOMAIN, Protocol, Setup, run};
use sandgate_stack::wait::until;
use serde_json::json;

#[test]
fn during_an_outage_cached_requests_are_served_and_others_get_a_503_until_recovery() {
    run(Setup { webhook: true, ..Setup::default() }, async |stack| {
        let sandbox = stack.my_env().await?;
        let late = stack.sandbox(json!({ "name": "late-env", "exposed_ports": [8080] })).await?;
        let public = stack
            .sandbox(json!({
                "name": "public-env",
                "exposed_ports": [8080],
                "allow_unauthenticated_access": true,
            }))
            .await?;
        let edge = stack.edge();
        let owner = stack.owner.clone();
        let known = move |number: usize| -> Call {
            match number % 3 {
                0 => edge.get(&sandbox.host(8080), "/health").bearer(&owner.api_key),
                1 => owner.with_pat(edge.get(&sandbox.host(8080), "/health")),
                _ => edge.get(&public.host(8080), "/health"),
            }
        };
        // Each worker caches all entries.
        for number in 0..48 {
            assert_eq!(known(number).send().await?.status, 200);
        }

        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut clients = Vec::new();
        for number in 0..12 {
            let (stop, served, known) = (Arc::clone(&stop), Arc::clone(&served), known.clone());
            clients.push(tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let answer = known(number).send().await?;
                    anyhow::ensure!(answer.status == 200, "{} {}", answer.status, answer.text());
                    served.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                anyhow::Ok(())
            }));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        stack.control_plane.kill();
        let at_the_kill = served.load(Ordering::Relaxed);

        // Longer than entries are valid without the change feed (5 s), so that stale entries are used.
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let unknown = edge.get(&late.host(8080), "/").bearer(stack.key()).send().await?;
            assert_eq!(unknown.denial()?, "503 SANDBOX_UPSTREAM_ERROR");
            assert!(unknown.header("retry-after").is_some());
            let stranger = edge
                .get(&format!("my-env.{DOMAIN}"), "/api/v1/health")
                .bearer("tl_apiKey_never_seen_before_0123456789");
            assert_eq!(stranger.send().await?.denial()?, "503 AUTH_SERVICE_UNAVAILABLE");
        }
        let while_down = served.load(Ordering::Relaxed) - at_the_kill;
        assert!(while_down > 200, "only {while_down} requests were served without a control plane");
        assert!(clients.iter().all(|client| !client.is_finished()), "a known request failed");

        stack.control_plane.run().await?;
        until("unknown sandboxes are found again", Duration::from_secs(10), async || {
            let answer = edge.get(&late.host(8080), "/").bearer(stack.key()).send().await?;
            Ok((answer.status == 200).then_some(()))
        })
        .await?;
        // The change feed works again: changes take effect immediately.
        until("changes count again", Duration::from_secs(10), async || {
            stack.owner.expose(stack.api(), &late, &[], false).await?;
            let answer = edge.get(&late.host(8080), "/").bearer(stack.key()).send().await?;
            Ok((answer.status == 403).then_some(()))
        })
        .await?;
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.await??;
        }
        eprintln!("{while_down} requests were served in 8 s without a control plane");
        Ok(())
    });
}

#[test]
fn open_streams_survive_an_outage_of_the_control_plane() {
    run(Setup { webhook: true, ..Setup::default() }, async |stack| {
        let sandbox = stack.public_env().await?;
        let path = "/events?count=8&interval_ms=1000";
        let call = stack.edge().get(&sandbox.host(8080), path).over(Protocol::H2c);
        let mut answer = call.open().await?;
        stack.control_plane.kill();
        let body = crate::streaming::read_all(answer.body_mut()).await?;
        assert_eq!(String::from_utf8_lossy(&body).matches("data:").count(), 8);
        Ok(())
    });
}

#[test]
fn a_control_plane_with_another_token_counts_as_unavailable() {
    run(Setup::default(), async |stack| -> Result<()> {
        stack.my_env().await?;
        stack.envoy().rotate_token("another-token-0123456789abcdef")?;
        let host = format!("8080-my-env.{DOMAIN}");
        let ask = async || {
            let call = stack.edge().get(&host, "/health").bearer(stack.key());
            let answer = call.send().await?;
            if answer.status == 200 { Ok("200".to_owned()) } else { answer.denial() }
        };
        until("the new token is in use", Duration::from_secs(10), async || {
            let updates = stack.envoy().stat("sds.gateway_token.update_success").await?;
            Ok((updates >= 2).then_some(()))
        })
        .await?;
        assert_eq!(ask().await?, "503 SANDBOX_UPSTREAM_ERROR");
        // The second of the two tokens that are valid at the same time.
        stack.envoy().rotate_token(sandgate_e2e::NEXT_TOKEN)?;
        until("the rotated token is good", Duration::from_secs(10), async || {
            Ok((ask().await? == "200").then_some(()))
        })
        .await
    });
}
