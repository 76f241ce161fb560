//! Every row of the decision table, through a real Envoy.

use std::time::Duration;

use anyhow::Result;
use http::Method;
use sandgate_e2e::{Answer, DOMAIN, Protocol, Setup, run};
use serde_json::json;

/// Asserts that a 503, which promises that nothing was forwarded, has `retry-after`.
fn assert_retry_after(answer: &Answer) {
    let seconds = answer.header("retry-after").and_then(|value| value.parse::<u32>().ok());
    assert!(seconds.is_some_and(|seconds| seconds >= 1), "{answer:?}");
}

#[test]
fn invalid_hosts_are_refused() {
    run(Setup::default(), async |stack| {
        stack.my_env().await?;
        for host in [
            "example.com".to_owned(),
            "127.0.0.1".to_owned(),
            format!("x.8080-my-env.{DOMAIN}"),
            format!("0-my-env.{DOMAIN}"),
            format!("08080-my-env.{DOMAIN}"),
            format!("65536-my-env.{DOMAIN}"),
            format!("8080-.{DOMAIN}"),
            format!("-my-env.{DOMAIN}"),
            format!("my_env.{DOMAIN}"),
            format!("8080-my-env-.{DOMAIN}"),
            format!("8080-my-env.evil{DOMAIN}"),
        ] {
            let call = stack.edge().get(&host, "/").bearer(stack.key());
            assert_eq!(call.send().await?.denial()?, "400 INVALID_HOST", "{host}");
        }
        Ok(())
    });
}

#[test]
fn contradictory_and_duplicate_headers_are_refused() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let other = stack.sandbox(json!({ "exposed_ports": [8080] })).await?;
        let call = || stack.edge().get(&sandbox.host(8080), "/");
        let named = |id: &str| call().bearer(stack.key()).header("x-tensorlake-sandbox-id", id);
        assert_eq!(named(&other.id).send().await?.denial()?, "400 INVALID_REQUEST");
        assert_eq!(named(&sandbox.id).send().await?.status, 200);
        // The mismatch is not revealed to unauthenticated callers.
        let stranger = call().header("x-tensorlake-sandbox-id", &other.id);
        assert_eq!(stranger.send().await?.denial()?, "401 UNAUTHENTICATED");

        let twice = call().bearer(stack.key()).bearer(stack.key());
        assert_eq!(twice.send().await?.denial()?, "400 INVALID_REQUEST");
        let twice = call().bearer("tl_apiKey_wrong").bearer(stack.key());
        assert_eq!(twice.send().await?.denial()?, "400 INVALID_REQUEST");
        Ok(())
    });
}

#[test]
fn without_a_credential_the_response_does_not_reveal_if_a_sandbox_exists() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let mut answers = Vec::new();
        for host in [
            sandbox.host(8080),
            sandbox.host(8081),
            sandbox.host(9501),
            sandbox.management(),
            format!("8080-no-such-env.{DOMAIN}"),
            format!("no-such-env.{DOMAIN}"),
            format!("8080-aaaaaaaaaaaaaaaaaaaaa.{DOMAIN}"),
        ] {
            let answer = stack.edge().get(&host, "/").send().await?;
            assert_eq!(answer.denial()?, "401 UNAUTHENTICATED", "{host}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{host}");
            let mut headers = answer.headers.clone();
            headers.remove("date");
            // Envoy creates a new request id for each request.
            headers.remove("x-request-id");
            answers.push((headers, answer.body));
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "answers tell sandboxes apart: {answers:?}");
        Ok(())
    });
}

#[test]
fn after_an_invalid_credential_no_other_one_is_tried() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let call = || stack.edge().get(&sandbox.host(8080), "/");
        let owner = &stack.owner;
        for wrong in [
            call().bearer("tl_apiKey_0123456789abcdef0123456789abcdef"),
            call().bearer("some-other-bearer"),
            owner.with_context(call().bearer("tl_pat_0123456789abcdef0123456789abcdef")),
            owner.with_context(call().header("cookie", "tl.session_token=nonsense")),
            // A valid credential elsewhere has no effect.
            owner.with_context(
                call()
                    .bearer("tl_apiKey_0123456789abcdef0123456789abcdef")
                    .header("cookie", format!("tl.session_token={}", owner.session)),
            ),
            call().header("x-sandgate-authorization", "Bearer nonsense").bearer(stack.key()),
        ] {
            let answer = wrong.send().await?;
            assert_eq!(answer.denial()?, "401 INVALID_CREDENTIALS");
            assert!(answer.header("www-authenticate").is_some_and(|it| it.starts_with("Bearer")));
        }
        Ok(())
    });
}

#[test]
fn tokens_and_sessions_require_an_organization_and_a_project() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let call = || stack.edge().get(&sandbox.host(8080), "/");
        let owner = &stack.owner;
        let cookie = format!("tl.session_token={}", owner.session);
        for incomplete in [
            call().bearer(&owner.pat),
            call().bearer(&owner.pat).header("x-forwarded-organization-id", &owner.organization),
            call().bearer(&owner.pat).header("x-forwarded-project-id", &owner.project),
            call().header("cookie", &cookie),
        ] {
            assert_eq!(incomplete.send().await?.denial()?, "400 PROJECT_CONTEXT_REQUIRED");
        }
        // The query parameter is valid only in WebSocket upgrades.
        let path = format!("/?organizationId={}&projectId={}", owner.organization, owner.project);
        let query = stack.edge().get(&sandbox.host(8080), &path).bearer(&owner.pat);
        assert_eq!(query.send().await?.denial()?, "400 PROJECT_CONTEXT_REQUIRED");
        Ok(())
    });
}

#[test]
fn unknown_terminated_and_foreign_sandboxes_are_not_found() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let stranger = stack.control_plane.new_owner("stranger")?;
        let ask = async |host: &str, key: &str| -> Result<String> {
            stack.edge().get(host, "/").bearer(key).send().await?.denial()
        };
        let not_found = "404 SANDBOX_NOT_FOUND";
        assert_eq!(ask(&format!("8080-no-such-env.{DOMAIN}"), stack.key()).await?, not_found);
        for port in [8080, 8081, 9501] {
            assert_eq!(ask(&sandbox.host(port), &stranger.api_key).await?, not_found, "{port}");
        }
        // The user is not a member of the project.
        let call = stack.edge().get(&sandbox.host(8080), "/").bearer(&stranger.pat);
        let call = stack.owner.with_context(call);
        assert_eq!(call.send().await?.denial()?, not_found);
        // A sandbox that was terminated after it was cached.
        let call = stack.edge().get(&sandbox.host(8080), "/").bearer(stack.key());
        assert_eq!(call.send().await?.status, 200);
        stack.owner.delete(stack.api(), &sandbox).await?;
        assert_eq!(ask(&sandbox.host(8080), stack.key()).await?, not_found);
        assert_eq!(ask(&format!("8080-{}.{DOMAIN}", sandbox.id), stack.key()).await?, not_found);
        Ok(())
    });
}

#[test]
fn a_port_that_is_not_exposed_is_forbidden_even_if_a_process_listens_on_it() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.sandbox(json!({ "name": "my-env", "exposed_ports": [3000] })).await?;
        let call = stack.edge().get(&sandbox.host(8080), "/health").bearer(stack.key());
        assert_eq!(call.send().await?.denial()?, "403 PORT_NOT_EXPOSED");
        Ok(())
    });
}

#[test]
fn a_cookie_in_a_cross_site_request_is_ignored() {
    let setup = Setup { trusted_origins: json!(["https://app.example.com"]), ..Setup::default() };
    run(setup, async |stack| {
        let sandbox = stack.my_env().await?;
        let owner = &stack.owner;
        let host = sandbox.host(8080);
        let cookie = format!("tl.session_token={}", owner.session);
        let call = |method: Method| {
            let call = stack.edge().request(method, &host, "/").header("cookie", &cookie);
            owner.with_context(call)
        };
        let own = format!("http://{host}");
        let refused = "403 CROSS_ORIGIN";
        for (call, good) in [
            (call(Method::POST).header("origin", "https://evil.example"), false),
            (call(Method::POST).header("origin", "null"), false),
            (call(Method::DELETE).header("sec-fetch-site", "cross-site"), false),
            (call(Method::PUT).header("sec-fetch-site", "same-site"), false),
            (call(Method::POST).header("origin", &own), true),
            (call(Method::POST).header("origin", "https://app.example.com"), true),
            (call(Method::POST).header("sec-fetch-site", "same-origin"), true),
            (call(Method::POST), true),
            (call(Method::GET).header("origin", "https://evil.example"), true),
        ] {
            let answer = call.send().await?;
            if good {
                assert_eq!(answer.status, 200, "{}", answer.text());
            } else {
                assert_eq!(answer.denial()?, refused);
            }
        }
        // Another site can't make a browser send this header.
        let call = stack.edge().post(&host, "/").bearer(stack.key());
        assert_eq!(call.header("origin", "https://evil.example").send().await?.status, 200);
        Ok(())
    });
}

#[test]
fn requests_beyond_the_limit_in_flight_are_refused() {
    // One of the three requests in flight is reserved for management.
    let setup = Setup { limits: json!({ "requests_per_sandbox": 3 }), ..Setup::default() };
    run(setup, async |stack| {
        let sandbox = stack.my_env().await?;
        let host = sandbox.host(8080);
        // One connection, because the limit applies to each worker.
        let connection = stack.edge().connect(Protocol::H2c).await?;
        let calls = (0..6).map(|_| {
            let connection = connection.share();
            let call = stack.edge().get(&host, "/slow?ms=1500").bearer(stack.key());
            async move { connection?.send(call).await }
        });
        let answers = futures_util::future::try_join_all(calls).await?;
        let served = answers.iter().filter(|answer| answer.status == 200).count();
        assert_eq!(served, 2, "{answers:?}");
        for answer in answers.iter().filter(|answer| answer.status != 200) {
            assert_eq!(answer.denial()?, "429 TOO_MANY_REQUESTS");
            assert_retry_after(answer);
        }
        // Finished requests no longer count.
        let call = stack.edge().get(&host, "/health").bearer(stack.key());
        assert_eq!(connection.share()?.send(call).await?.status, 200);
        Ok(())
    });
}

#[test]
fn a_suspended_sandbox_that_may_not_be_resumed_is_not_running() {
    run(Setup::default(), async |stack| {
        let request = json!({ "name": "my-env", "exposed_ports": [8080], "auto_resume": false });
        let sandbox = stack.sandbox(request).await?;
        stack.owner.suspend(stack.api(), &sandbox).await?;
        let call = stack.edge().get(&sandbox.host(8080), "/").bearer(stack.key());
        assert_eq!(call.send().await?.denial()?, "503 SANDBOX_NOT_RUNNING");
        Ok(())
    });
}

#[test]
fn a_pending_sandbox_is_not_ready() {
    run(Setup { webhook: true, ..Setup::default() }, async |stack| {
        stack.platform()?.answer("start", json!({ "state": "pending" }));
        let request = json!({ "name": "my-env", "exposed_ports": [8080], "wait": false });
        let call = stack.owner.call(stack.api(), Method::POST, "/sandboxes").json(&request);
        let made = call.send().await?;
        assert!(made.status.is_success(), "{} {}", made.status, made.text());
        let host = format!("8080-my-env.{DOMAIN}");
        let answer = stack.edge().get(&host, "/").bearer(stack.key()).send().await?;
        assert_eq!(answer.denial()?, "503 SANDBOX_NOT_READY");
        assert_retry_after(&answer);
        Ok(())
    });
}

#[test]
fn without_the_control_plane_requests_that_are_not_cached_are_unavailable() {
    run(Setup { webhook: true, ..Setup::default() }, async |stack| {
        stack.control_plane.kill();
        let host = format!("8080-my-env.{DOMAIN}");
        let answer = stack.edge().get(&host, "/").bearer(stack.key()).send().await?;
        assert_eq!(answer.denial()?, "503 SANDBOX_UPSTREAM_ERROR");
        assert_retry_after(&answer);
        // Port 9501 is never public, so the credential is checked first.
        let management = format!("my-env.{DOMAIN}");
        let answer = stack.edge().get(&management, "/").bearer(stack.key()).send().await?;
        assert_eq!(answer.denial()?, "503 AUTH_SERVICE_UNAVAILABLE");
        assert_retry_after(&answer);
        // Without a credential, no lookup is needed.
        assert_eq!(
            stack.edge().get(&management, "/").send().await?.denial()?,
            "401 UNAUTHENTICATED"
        );
        Ok(())
    });
}

#[test]
fn a_port_without_a_listener_is_unreachable() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.sandbox(json!({ "name": "my-env", "exposed_ports": [4444] })).await?;
        let call = || stack.edge().get(&sandbox.host(4444), "/").bearer(stack.key());
        assert_eq!(call().send().await?.denial()?, "503 SANDBOX_UNREACHABLE");
        let posted = stack.edge().post(&sandbox.host(4444), "/").bearer(stack.key()).body("x");
        assert_eq!(posted.send().await?.denial()?, "503 SANDBOX_UNREACHABLE");
        // Browsers get a page.
        let page = call().header("accept", "text/html,*/*;q=0.8").send().await?;
        assert_eq!(page.status, 503);
        assert!(page.header("content-type").is_some_and(|it| it.starts_with("text/html")));
        Ok(())
    });
}

#[test]
fn resets_and_timeouts_after_a_request_was_sent_are_not_503() {
    let setup = Setup { stream_idle_timeout: Duration::from_secs(2), ..Setup::default() };
    run(setup, async |stack| {
        let sandbox = stack.my_env().await?;
        for method in [Method::GET, Method::POST] {
            let call = |path: &str| {
                stack.edge().request(method.clone(), &sandbox.host(8080), path).bearer(stack.key())
            };
            assert_eq!(call("/close").send().await?.denial()?, "502 UPSTREAM_RESET");
            assert_eq!(call("/hang").send().await?.denial()?, "504 UPSTREAM_TIMEOUT");
            // Slower in total than that limit, but never idle for so long.
            assert_eq!(call("/slow?ms=1000").send().await?.status, 200);
        }
        Ok(())
    });
}

#[test]
fn a_request_whose_connection_broke_is_sent_once() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let before = connections(stack, &sandbox.host(8080)).await?;
        let call =
            stack.edge().post(&sandbox.host(8080), "/close").bearer(stack.key()).body("once");
        assert_eq!(call.send().await?.denial()?, "502 UPSTREAM_RESET");
        tokio::time::sleep(Duration::from_millis(300)).await;
        let retries = stack.envoy().stat("cluster.sandbox_h1.upstream_rq_retry$").await?;
        assert_eq!(retries, 0);
        // The demo counts connections: the closed one, and the one of this request.
        assert!(connections(stack, &sandbox.host(8080)).await? <= before + 2);
        Ok(())
    });
}

async fn connections(stack: &sandgate_e2e::Stack, host: &str) -> Result<u64> {
    let answer = stack.edge().get(host, "/").bearer(stack.key()).send().await?.ok()?;
    crate::support::number(&answer, "connection")
}

#[test]
fn denials_are_pages_for_browsers_and_statuses_for_grpc_clients() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let page = stack
            .edge()
            .get(&sandbox.host(8080), "/")
            .header("accept", "text/html,application/xhtml+xml")
            .header("sec-fetch-mode", "navigate")
            .send()
            .await?;
        assert_eq!(page.status, 401);
        assert!(page.header("content-type").is_some_and(|it| it.starts_with("text/html")));
        assert!(page.text().contains("UNAUTHENTICATED"));

        let call = stack.edge().post(&sandbox.host(50051), "/sandgate.demo.v1.Echo/Echo").grpc();
        let answer = call.send().await?;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("grpc-status"), Some("16"));
        assert!(answer.header("grpc-message").is_some_and(|it| it.contains("UNAUTHENTICATED")));
        Ok(())
    });
}

#[test]
fn preflights_succeed_only_for_trusted_origins() {
    let setup = Setup { trusted_origins: json!(["https://app.example.com"]), ..Setup::default() };
    run(setup, async |stack| {
        let sandbox = stack.my_env().await?;
        let preflight = |host: &str, origin: &str| {
            stack
                .edge()
                .request(Method::OPTIONS, host, "/")
                .header("origin", origin)
                .header("access-control-request-method", "POST")
        };
        for host in [sandbox.host(8080), sandbox.management(), format!("8080-nobody.{DOMAIN}")] {
            let good = preflight(&host, "https://app.example.com").send().await?;
            assert!(good.status.is_success(), "{host}");
            let allowed = good.header("access-control-allow-origin");
            assert_eq!(allowed, Some("https://app.example.com"));
            let bad = preflight(&host, "https://evil.example").send().await?;
            assert_eq!(bad.denial()?, "403 CROSS_ORIGIN");
            assert_eq!(bad.header("access-control-allow-origin"), None);
        }
        Ok(())
    });
}
