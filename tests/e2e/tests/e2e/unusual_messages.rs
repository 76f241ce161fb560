//! Informational responses, trailers, and a full DNS cache: cases that filters usually do not handle.

use anyhow::Result;
use sandgate_e2e::{Sandbox, Setup, Stack, Upstream, run};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::scripted::{PORT, answer_once, listen};
use crate::support::{on_a_platform, raw, replace_once};

const PLANTED: &str =
    "set-cookie: tl-session=evil; Domain=sandbox.localhost\r\nx-sandgate-principal: admin\r\n";

/// Creates a private sandbox whose app responds to one request with `answer` when it has read `end`. The task returns
/// the bytes that the app read.
async fn app(
    stack: &Stack,
    end: &'static str,
    answer: String,
) -> Result<(Sandbox, JoinHandle<Result<String>>)> {
    let sandbox = stack.sandbox(json!({ "name": "odd", "exposed_ports": [PORT] })).await?;
    let listener = listen(stack, &sandbox).await?;
    Ok((sandbox, answer_once(listener, end, answer)))
}

#[test]
fn informational_responses_of_an_app_are_not_forwarded() {
    run(Setup::default(), async |stack| {
        let answer = format!(
            "HTTP/1.1 103 Early Hints\r\n{PLANTED}\r\nHTTP/1.1 102 Processing\r\n{PLANTED}\r\n\
             HTTP/1.1 200 OK\r\ncontent-length: 4\r\nx-app: 1\r\n\r\ndone"
        );
        let (sandbox, app) = app(stack, "\r\n\r\n", answer).await?;
        let request = format!(
            "GET / HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {}\r\nconnection: close\r\n\r\n",
            sandbox.host(PORT),
            stack.key()
        );
        let received = raw(stack, &request).await?;
        app.await??;
        assert!(received.starts_with("HTTP/1.1 200 "), "{received}");
        assert!(received.ends_with("done"), "{received}");
        assert!(!received.contains("evil") && !received.contains("admin"), "{received}");
        Ok(())
    });
}

#[test]
fn secrets_in_request_trailers_and_cookies_in_response_trailers_are_removed() {
    run(Setup::default(), async |stack| {
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
             4\r\ndone\r\n0\r\nx-sum: 7\r\n{PLANTED}\r\n"
        );
        let (sandbox, app) = app(stack, "x-last: 1\r\n", answer).await?;
        let key = stack.key();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {key}\r\nte: trailers\r\n\
             transfer-encoding: chunked\r\nconnection: close, te\r\n\r\n2\r\nhi\r\n0\r\n\
             x-forwarded-project-id: evil\r\nauthorization: Bearer {key}\r\ncookie: tl-session=evil; a=1\r\n\
             x-sandgate-principal: admin\r\nx-last: 1\r\n\r\n",
            sandbox.host(PORT)
        );
        let received = raw(stack, &request).await?;
        let seen = app.await??;
        for secret in ["evil", "admin", key] {
            assert!(!seen.contains(secret), "{seen}");
            assert!(!received.contains(secret), "{received}");
        }
        assert!(seen.contains("x-last: 1"), "{seen}");
        assert!(received.contains("x-sum: 7"), "{received}");
        Ok(())
    });
}

#[test]
fn a_request_beyond_the_dns_caches_capacity_is_a_503() {
    let change = |text: &str| replace_once(text, "max_hosts: 100000\n", "max_hosts: 3\n");
    let upstream = Some(Upstream::DynamicForwardProxy);
    run(Setup { upstream, change, ..on_a_platform() }, async |stack| {
        let ports: Vec<u16> = (4001..4020).collect();
        let sandbox = stack.sandbox(json!({ "name": "many", "exposed_ports": ports })).await?;
        let mut denials = Vec::new();
        for port in ports {
            let call = stack.edge().get(&sandbox.host(port), "/").bearer(stack.key());
            denials.push(call.send().await?.denial()?.to_owned());
        }
        assert!(denials.iter().any(|it| it == "503 SANDBOX_UPSTREAM_ERROR"), "{denials:?}");
        let known = ["503 SANDBOX_UNREACHABLE", "503 SANDBOX_UPSTREAM_ERROR"];
        assert!(denials.iter().all(|it| known.contains(&it.as_str())), "{denials:?}");
        Ok(())
    });
}
