//! Access log and metrics: decisions are in them, secrets are not, and no request crashes the filter.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::future::join_all;
use sandgate_e2e::{DOMAIN, Protocol, Setup, run};
use sandgate_e2e::{NEXT_TOKEN, TOKEN};
use sandgate_stack::wait::until;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[test]
fn decisions_are_in_the_access_log_and_in_metrics() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let call = |path: &str| stack.edge().get(&sandbox.host(8080), path);
        assert_eq!(call("/seen?token=in-the-query").bearer(stack.key()).send().await?.status, 200);
        assert_eq!(call("/refused").send().await?.status, 401);

        let line = async |path: &str| {
            until(&format!("{path} is logged"), Duration::from_secs(5), async || {
                let log = stack.envoy().output().await;
                let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                Ok(lines.into_iter().find(|line| line["path"] == path))
            })
            .await
        };
        let served = line("/seen").await?;
        assert_eq!(served["decision"], "permit");
        assert_eq!(served["status"], 200);
        let told = served["sandbox"].as_str().context("no sandbox in the access log")?;
        assert!(told.starts_with(&sandbox.id), "{told}");
        assert!(served["principal"].as_str().is_some_and(|it| !it.is_empty()), "{served}");
        assert!(served["upstream"].as_str().is_some_and(|it| it.ends_with(":8080")), "{served}");
        let refused = line("/refused").await?;
        assert_eq!(refused["decision"], "UNAUTHENTICATED");
        assert!(refused.get("upstream").is_none_or(Value::is_null), "{refused}");

        // The filter reports permits with its ticks.
        let metrics = until("the permit is counted", Duration::from_secs(5), async || {
            let answer = stack.envoy().admin().get("admin", "/stats/prometheus").send().await?;
            Ok(Some(answer.text()).filter(|text| text.contains("{code=\"permit\"} 1")))
        });
        let metrics = metrics.await?;
        for (code, count) in [("permit", 1), ("UNAUTHENTICATED", 1), ("PORT_NOT_EXPOSED", 0)] {
            let line = format!("sandgate_ingress_decisions_total{{code=\"{code}\"}} {count}");
            assert!(metrics.contains(&line), "no `{line}` in the metrics");
        }
        let lookups = "sandgate_ingress_lookups_total{asked=\"sandbox\",outcome=\"answered\"}";
        assert!(metrics.contains(lookups), "no `{lookups}` in the metrics");
        Ok(())
    });
}

#[test]
fn logs_configuration_and_metrics_contain_no_secret() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let owner = stack.owner.clone();
        let call = |path: &str| stack.edge().get(&sandbox.host(8080), path);
        for call in [
            call("/").bearer(&owner.api_key),
            owner.with_pat(call("/")),
            owner.with_context(call("/").header("cookie", format!("tl-session={}", owner.session))),
            call("/").header("x-sandgate-authorization", format!("Bearer {}", owner.api_key)),
            // Secrets in places where they do not belong.
            call(&format!("/?key={}", owner.api_key)),
            call("/").bearer(&owner.pat),
            stack.edge().get(&format!("nobody.{DOMAIN}"), "/").bearer(&owner.api_key),
        ] {
            call.send().await?;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        let admin = stack.envoy().admin();
        let places = [
            ("Envoy's log", stack.envoy().output().await),
            ("the control plane's log", stack.control_plane.output()),
            ("config_dump", admin.get("admin", "/config_dump").send().await?.text()),
            ("stats", admin.get("admin", "/stats").send().await?.text()),
            ("clusters", admin.get("admin", "/clusters").send().await?.text()),
        ];
        for (place, text) in places {
            assert!(!text.is_empty(), "{place} is empty");
            let secrets = [
                owner.api_key.as_str(),
                owner.pat.as_str(),
                owner.session.as_str(),
                TOKEN,
                NEXT_TOKEN,
            ];
            for secret in secrets {
                assert!(!text.contains(secret), "a secret stands in {place}");
            }
        }
        Ok(())
    });
}

#[test]
fn no_request_crashes_the_filter() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let host = sandbox.host(8080);
        let key = stack.key().to_owned();
        let long = "a".repeat(40_000);
        let many = "x-a: b\r\n".repeat(90);
        let heads = [
            "GET / HTTP/1.1\r\n\r\n".to_owned().into_bytes(),
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nhost: {host}\r\n\r\n").into_bytes(),
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-long: {long}\r\n\r\n").into_bytes(),
            format!("GET / HTTP/1.1\r\nhost: {host}\r\n{many}\r\n").into_bytes(),
            format!("GET http://{host}/x HTTP/1.1\r\nhost: other\r\n\r\n").into_bytes(),
            format!("OPTIONS * HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes(),
            format!("GET / HTTP/1.0\r\nhost: {host}\r\n\r\n").into_bytes(),
            [b"GET / HTTP/1.1\r\nhost: \xff\xfe\r\n\r\n".as_slice()].concat(),
            [format!("GET / HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer ").as_bytes(), b"\xff\xfe\r\n\r\n"].concat(),
            [format!("GET / HTTP/1.1\r\nhost: {host}\r\ncookie: tl-session=").as_bytes(), b"\x80\xff; =;;=\r\n\r\n"].concat(),
            [format!("GET /é HTTP/1.1\r\nhost: {host}\r\nx: ").as_bytes(), b"\xfe\r\n\r\n"].concat(),
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nx-tensorlake-request-timeout-ms: -1e999\r\n\r\n").into_bytes(),
            format!("GET / HTTP/1.1\r\nhost: {host}\r\nupgrade: websocket\r\nconnection: upgrade\r\norigin: null\r\n\r\n").into_bytes(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nnonsense".to_vec(),
        ];
        for head in heads {
            // There is a response, or the connection ends.
            let answer = stack.edge().raw(&head).await?;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            let asked = String::from_utf8_lossy(&head).into_owned();
            assert!(!answer.starts_with("HTTP/1.1 5"), "{asked:.80}\n{answer:.300}");
        }
        // Clients that disconnect during a lookup.
        for number in 0..50 {
            let head = format!(
                "GET / HTTP/1.1\r\nhost: 8080-gone-{number}.{DOMAIN}\r\nauthorization: Bearer {key}\r\n\r\n"
            );
            let stream = tokio::net::TcpStream::connect(stack.edge().address()).await?;
            stream.writable().await?;
            stream.try_write(head.as_bytes())?;
        }
        let call = stack.edge().get(&host, "/health").bearer(&key);
        assert_eq!(call.send().await?.status, 200);
        assert_eq!(stack.envoy().stat("wasm.sandgate_ingress.vm_reload").await?, 0, "a VM trapped");
        assert_eq!(stack.envoy().stat("sandgate_ingress_host_errors_total").await?, 0);
        Ok(())
    });
}

/// One response of the control plane may refuse all requests that wait for it. Envoy nests the local replies of one
/// callback; a VM that runs out of stack there would end all open streams.
#[test]
fn many_requests_refused_by_one_lookup_do_not_crash_the_filter() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        for round in 0..6 {
            let host = format!("8080-crowd-{round}.{DOMAIN}");
            let wrong = format!("tl_apiKey_wrong_{round}");
            let mut connections = Vec::new();
            for _ in 0..9 {
                connections.push(stack.edge().connect(Protocol::H2c).await?);
            }
            let mut crowd = Vec::new();
            for (number, connection) in (0..900).zip(connections.iter().cycle()) {
                let mut connection = connection.share()?;
                // Half of the requests name an unknown sandbox, and half have an invalid credential.
                let (call, expected) = match number % 2 {
                    0 => (stack.edge().get(&host, "/"), "401 UNAUTHENTICATED"),
                    _ => {
                        let call = stack.edge().get(&sandbox.management(), "/").bearer(&wrong);
                        (call, "401 INVALID_CREDENTIALS")
                    }
                };
                crowd.push(async move { (connection.send(call).await, expected) });
            }
            for (answer, expected) in join_all(crowd).await {
                assert_eq!(answer?.denial()?, expected);
            }
        }
        assert_eq!(stack.envoy().stat("wasm.sandgate_ingress.vm_reload").await?, 0, "a VM trapped");
        assert_eq!(stack.envoy().stat("sandgate_ingress_host_errors_total").await?, 0);
        Ok(())
    });
}

#[test]
fn ambiguous_requests_are_refused() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let host = sandbox.host(8080);
        let post = format!("POST / HTTP/1.1\r\nhost: {host}\r\n");
        let hidden = format!("GET /hidden HTTP/1.1\r\nhost: {host}\r\n\r\n");
        for (what, request) in [
            ("two lengths", format!("{post}content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef")),
            (
                "a length and chunks",
                format!("{post}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            ),
            (
                "another encoding",
                format!("{post}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
            ),
            (
                "an extension that ends in a bare line feed",
                format!("{post}transfer-encoding: chunked\r\n\r\n2;\nxx\r\n3\r\n0\r\n\r\n{hidden}"),
            ),
            (
                "a chunk longer than told",
                format!("{post}transfer-encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n"),
            ),
            ("a negative chunk", format!("{post}transfer-encoding: chunked\r\n\r\n-1\r\n\r\n")),
            ("a header without a name", format!("{post}: x\r\n\r\n")),
            ("a space before the colon", format!("{post}content-length : 0\r\n\r\n")),
        ] {
            let answer = stack.edge().raw(request.as_bytes()).await?;
            let answer = String::from_utf8_lossy(&answer);
            let refused = ["HTTP/1.1 400 ", "HTTP/1.1 501 "];
            assert!(refused.iter().any(|it| answer.starts_with(it)), "{what}: {answer}");
            assert!(!answer.contains("/hidden"), "{what}: {answer}");
        }
        Ok(())
    });
}

#[test]
fn slow_request_headers_time_out() {
    run(Setup::default(), async |stack| {
        let mut stream = tokio::net::TcpStream::connect(stack.edge().address()).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x").await?;
        let mut answer = Vec::new();
        let limit = Duration::from_secs(15);
        tokio::time::timeout(limit, stream.read_to_end(&mut answer)).await??;
        assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
        Ok(())
    });
}
