//! An authorized request resumes a suspended sandbox. Concurrent requests cause one resume.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::StatusCode;
use sandgate_e2e::{Protocol, Setup, run};
use serde_json::json;

use crate::support::{on_a_platform, sandbox_id};

#[test]
fn two_hundred_waiters_on_two_envoys_make_one_resume_call() {
    run(Setup { envoys: 2, ..on_a_platform() }, async |stack| {
        let sandbox = stack.my_env().await?;
        stack.owner.suspend(stack.api(), &sandbox).await?;
        let platform = stack.platform()?;
        platform.delay(Duration::from_millis(1500));
        let begun = Instant::now();
        let calls = (0..200).map(|number| {
            let edge = stack.envoys[number % 2].edge();
            // Requests for exposed ports and for the management API.
            let host = if number % 5 == 0 { sandbox.management() } else { sandbox.host(8080) };
            let path = if number % 5 == 0 { "/api/v1/health" } else { "/health" };
            edge.get(&host, path).bearer(stack.key()).send()
        });
        for answer in join_all(calls).await {
            let answer = answer?;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
        eprintln!("200 waiters served {:?} after the first came", begun.elapsed());
        assert_eq!(platform.count("resume", &sandbox.id), 1);
        // The waiting requests share the result, so the filters call the control plane only a few times.
        let mut asked = 0;
        for envoy in &stack.envoys {
            asked += envoy.stat("sandgate_ingress_lookups_total.resume").await?;
        }
        assert!((1..=8).contains(&asked), "{asked} resume calls of the filters");
        Ok(())
    });
}

#[test]
fn a_thousand_waiters_of_one_sandbox_are_all_served() {
    // A sandbox has 900 slots for them. The others wait for a slot.
    run(on_a_platform(), async |stack| {
        let sandbox = stack.my_env().await?;
        stack.owner.suspend(stack.api(), &sandbox).await?;
        let platform = stack.platform()?;
        platform.delay(Duration::from_secs(4));
        // One connection, so that all requests wait on the same worker.
        let connection = stack.edge().connect(Protocol::H2c).await?;
        let begun = Instant::now();
        let calls: Vec<_> = (0..1_000)
            .map(|_| {
                let call = stack.edge().get(&sandbox.host(8080), "/health").bearer(stack.key());
                let connection = connection.share();
                async move {
                    let answer = connection?.send(call).await?;
                    anyhow::Ok((answer, begun.elapsed()))
                }
            })
            .collect();
        let answers = futures_util::future::try_join_all(calls).await?;
        for (answer, _) in &answers {
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        }
        let times = || answers.iter().map(|(_, elapsed)| *elapsed);
        eprintln!("1,000 waiters served {:?} to {:?}", times().min(), times().max());
        assert_eq!(platform.count("resume", &sandbox.id), 1);
        Ok(())
    });
}

#[test]
fn unauthorized_requests_do_not_resume_a_sandbox() {
    run(on_a_platform(), async |stack| {
        let sandbox = stack.my_env().await?;
        let stranger = stack.control_plane.new_owner("stranger")?;
        stack.owner.suspend(stack.api(), &sandbox).await?;
        let edge = stack.edge();
        for (call, denial) in [
            (edge.get(&sandbox.host(8080), "/"), "401 UNAUTHENTICATED"),
            (edge.get(&sandbox.management(), "/"), "401 UNAUTHENTICATED"),
            (
                edge.get(&sandbox.host(8080), "/").bearer("tl_apiKey_wrong"),
                "401 INVALID_CREDENTIALS",
            ),
            (edge.get(&sandbox.host(8080), "/").bearer(&stranger.api_key), "404 SANDBOX_NOT_FOUND"),
            (edge.get(&sandbox.host(4444), "/").bearer(stack.key()), "403 PORT_NOT_EXPOSED"),
        ] {
            assert_eq!(call.send().await?.denial()?, denial);
        }
        let platform = stack.platform()?;
        assert_eq!(platform.count("resume", &sandbox.id), 0);
        // The owner's request resumes it.
        let call = edge.get(&sandbox.host(8080), "/health").bearer(stack.key());
        assert_eq!(sandbox_id(&call.send().await?.ok()?), Some(sandbox.id.as_str()));
        assert_eq!(platform.count("resume", &sandbox.id), 1);
        Ok(())
    });
}

#[test]
fn a_request_to_a_public_port_resumes_the_same_sandbox() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        stack.owner.suspend(stack.api(), &sandbox).await?;
        let answer = stack.edge().get(&sandbox.host(8080), "/health").send().await?.ok()?;
        assert_eq!(sandbox_id(&answer), Some(sandbox.id.as_str()));
        Ok(())
    });
}

#[test]
fn a_request_waits_for_a_resume_as_long_as_its_header_allows() {
    run(on_a_platform(), async |stack| {
        let sandbox = stack.my_env().await?;
        stack.owner.suspend(stack.api(), &sandbox).await?;
        stack.platform()?.delay(Duration::from_secs(6));
        let begun = Instant::now();
        let call = stack
            .edge()
            .get(&sandbox.host(8080), "/health")
            .bearer(stack.key())
            .header("x-tensorlake-request-timeout-ms", "2999");
        let answer = call.send().await?;
        assert_eq!(answer.denial()?, "503 SANDBOX_NOT_READY");
        assert!(answer.header("retry-after").is_some());
        let waited = begun.elapsed();
        assert!(
            waited > Duration::from_secs(2) && waited < Duration::from_millis(2999),
            "{waited:?}"
        );
        // The resume continued, so the next request succeeds.
        let call = stack.edge().get(&sandbox.host(8080), "/health").bearer(stack.key());
        assert_eq!(call.send().await?.status, StatusCode::OK);
        assert_eq!(stack.platform()?.count("resume", &sandbox.id), 1);
        Ok(())
    });
}

#[test]
fn a_body_sent_during_a_resume_arrives_complete() {
    run(on_a_platform(), async |stack| {
        let sandbox = stack.my_env().await?;
        stack.owner.suspend(stack.api(), &sandbox).await?;
        stack.platform()?.delay(Duration::from_secs(1));
        let body = vec![b'x'; 3 << 20];
        let call = stack.edge().post(&sandbox.host(8080), "/upload").bearer(stack.key()).body(body);
        let answer = call.send().await?.ok()?;
        assert_eq!(answer["body_length"], json!(3 << 20));
        Ok(())
    });
}

#[test]
fn requests_that_wait_for_a_resume_are_bounded_and_others_get_retry_after() {
    let setup = Setup { limits: json!({ "resume_waiters": 5 }), ..on_a_platform() };
    run(setup, async |stack| {
        let sandbox = stack.my_env().await?;
        let host = sandbox.host(8080);
        // One connection, because the bound applies to each worker.
        let mut connection = stack.edge().connect(Protocol::H2c).await?;
        let call = || stack.edge().get(&host, "/health").bearer(stack.key());
        assert_eq!(connection.send(call()).await?.status, StatusCode::OK);
        stack.owner.suspend(stack.api(), &sandbox).await?;
        stack.platform()?.delay(Duration::from_secs(2));
        let calls = (0..20).map(|_| {
            let (connection, call) = (connection.share(), call());
            async move { connection?.send(call).await }
        });
        let answers = futures_util::future::try_join_all(calls).await?;
        let (served, refused): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == StatusCode::OK);
        assert_eq!(served.len(), 5);
        for answer in refused {
            assert_eq!(answer.denial()?, "503 SANDBOX_NOT_READY");
            assert!(answer.header("retry-after").is_some());
        }
        Ok(())
    });
}
