//! Requests are routed by host to sandboxes, by id and by name, and are not rewritten.

use http::Method;
use sandgate_e2e::{API_HOST, DOMAIN, Protocol, SECOND_DOMAIN, Setup, run};
use serde_json::json;

use crate::support::{received_headers, sandbox_id, text};

const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::H2c];

#[test]
fn a_port_is_reached_by_the_id_and_the_name_of_its_own_sandbox() {
    run(Setup::default(), async |stack| {
        let first = stack.my_env().await?;
        let second = stack.sandbox(json!({ "exposed_ports": [8080] })).await?;
        for protocol in PROTOCOLS {
            for (host, sandbox) in [
                (format!("8080-{}.{DOMAIN}", first.id), &first),
                (format!("8080-my-env.{DOMAIN}"), &first),
                (format!("8080-{}.{DOMAIN}", second.id), &second),
            ] {
                let call = stack.edge().get(&host, "/health").over(protocol).bearer(stack.key());
                let answer = call.send().await?.ok()?;
                assert_eq!(sandbox_id(&answer), Some(sandbox.id.as_str()), "{protocol:?} {host}");
                assert_eq!(text(&answer, "status")?, "ok");
            }
        }
        Ok(())
    });
}

#[test]
fn the_bare_sandbox_host_and_port_9501_lead_to_the_management_api() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        for host in [
            format!("my-env.{DOMAIN}"),
            format!("{}.{DOMAIN}", sandbox.id),
            format!("9501-my-env.{DOMAIN}"),
        ] {
            let call = stack.edge().get(&host, "/api/v1/info").bearer(stack.key());
            let answer = call.send().await?.ok()?;
            assert_eq!(sandbox_id(&answer), Some(sandbox.id.as_str()), "{host}");
        }
        Ok(())
    });
}

#[test]
fn path_query_and_host_arrive_unchanged() {
    run(Setup::default(), async |stack| {
        stack.my_env().await?;
        let long = format!("/?{}", "q=0123456789abcdef&".repeat(440));
        assert!(long.len() > 8 << 10);
        let paths = [
            "/a%2Fb//c/./d/../e%2e%2e/%E2%82%AC",
            "/?a&&b=&=c&%26",
            "//evil.example/x",
            "/a;p=1/b?x=/../y",
            "/%5C%5c/\\?q=a+b%20c",
            "/health?",
            "/_underscored__/~tilde!$'()*,=:@",
            long.as_str(),
        ];
        let hosts = [
            format!("8080-my-env.{DOMAIN}"),
            format!("8080-my-env.{DOMAIN}:9443"),
            "8080-MY-Env.Sandbox.LocalHost".to_owned(),
            format!("8080-my-env.{DOMAIN}."),
        ];
        for protocol in PROTOCOLS {
            for (path, host) in paths
                .iter()
                .map(|path| (*path, &hosts[0]))
                .chain(hosts.iter().map(|host| ("/x", host)))
            {
                let call = stack.edge().get(host, path).over(protocol).bearer(stack.key());
                let answer = call.send().await?.ok()?;
                assert_eq!(text(&answer, "target")?, path, "{protocol:?}");
                assert_eq!(text(&answer, "host")?, host, "{protocol:?}");
                // The upstream protocol does not depend on the client's.
                assert_eq!(text(&answer, "version")?, "HTTP/1.1");
            }
        }
        Ok(())
    });
}

#[test]
fn methods_headers_and_bodies_arrive_unchanged() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let host = sandbox.host(8080);
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"] {
            for protocol in PROTOCOLS {
                let method = Method::from_bytes(method.as_bytes())?;
                let call = stack
                    .edge()
                    .request(method.clone(), &host, "/status/207")
                    .over(protocol)
                    .bearer(stack.key())
                    .header("under_scored", "1")
                    .header("x-twice", "a")
                    .header("x-twice", "b")
                    .header("x-request-id", "mine")
                    .header("x-latin", b"caf\xe9")
                    .body("body");
                let answer = call.send().await?;
                let options = method == Method::OPTIONS;
                assert_eq!(answer.status.as_u16(), if options { 200 } else { 207 });
                let answer = answer.json()?;
                assert_eq!(text(&answer, "method")?, method.as_str());
                assert_eq!(text(&answer, "body")?, "body");
                assert_eq!(received_headers(&answer, "under_scored"), ["1"]);
                assert_eq!(received_headers(&answer, "x-request-id"), ["mine"]);
                assert_eq!(received_headers(&answer, "x-latin"), ["caf\\xe9"]);
                assert_eq!(received_headers(&answer, "x-twice").join(","), "a,b");
            }
        }
        Ok(())
    });
}

#[test]
fn internal_headers_are_removed_from_requests_and_responses() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let call = stack
            .edge()
            .get(
                &sandbox.host(8080),
                "/headers?set=x-sandgate-decision:%20permit&set=server:%20mine",
            )
            .bearer(stack.key())
            .header("x-envoy-retry-on", "5xx")
            .header("x-envoy-upstream-rq-timeout-ms", "1")
            .header("x-sandgate-anything", "1")
            .header("x-tensorlake-sandbox-port", "22")
            .header("x-tensorlake-route-hint", "elsewhere")
            .header("x-tensorlake-sandbox-id", &sandbox.id);
        let answer = call.send().await?;
        assert_eq!(answer.header("x-sandgate-decision"), None, "only the gateway may say that");
        assert_eq!(answer.header("server"), Some("mine"), "the app's own");
        assert!(!answer.headers.keys().any(|name| name.as_str().starts_with("x-envoy-")));
        let answer = answer.ok()?;
        for (name, value) in answer["headers"].as_array().unwrap().iter().map(|h| (&h[0], &h[1])) {
            let name = name.as_str().unwrap();
            let internal = ["x-envoy-", "x-sandgate-", "x-tensorlake-"];
            assert!(!internal.iter().any(|prefix| name.starts_with(prefix)), "{name}: {value}");
        }
        Ok(())
    });
}

#[test]
fn two_domains_route_to_the_same_sandboxes() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        for domain in [DOMAIN, SECOND_DOMAIN] {
            let host = format!("8080-my-env.{domain}");
            let call = stack.edge().get(&host, "/").bearer(stack.key());
            assert_eq!(
                sandbox_id(&call.send().await?.ok()?),
                Some(sandbox.id.as_str()),
                "{domain}"
            );
        }
        let call = stack.edge().get("8080-my-env.other.example", "/").bearer(stack.key());
        assert_eq!(call.send().await?.denial()?, "400 INVALID_HOST");
        Ok(())
    });
}

#[test]
fn the_bare_domain_and_its_api_host_serve_the_lifecycle_api() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        for host in [
            DOMAIN.to_owned(),
            format!("api.{DOMAIN}"),
            format!("API.{DOMAIN}:9443"),
            format!("api.{DOMAIN}."),
            SECOND_DOMAIN.to_owned(),
            format!("api.{SECOND_DOMAIN}"),
            API_HOST.to_owned(),
            format!("{API_HOST}.:80"),
        ] {
            let call = stack.edge().get(&host, "/sandboxes/my-env").bearer(stack.key());
            let answer = call.send().await?.ok()?;
            assert_eq!(text(&answer, "id")?, sandbox.id, "{host}");
            let without = stack.edge().get(&host, "/sandboxes/my-env").send().await?;
            assert_eq!(without.status.as_u16(), 401, "{host}");
        }
        Ok(())
    });
}

#[test]
fn the_sandbox_id_header_selects_a_sandbox_only_on_the_bare_domain() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        for reference in [sandbox.id.as_str(), "my-env"] {
            let call = stack
                .edge()
                .get(DOMAIN, "/api/v1/info")
                .bearer(stack.key())
                .header("x-tensorlake-sandbox-id", reference);
            assert_eq!(sandbox_id(&call.send().await?.ok()?), Some(sandbox.id.as_str()));
        }
        // Without a credential, the response is the same as for any other sandbox.
        let call =
            stack.edge().get(DOMAIN, "/api/v1/info").header("x-tensorlake-sandbox-id", "my-env");
        assert_eq!(call.send().await?.denial()?, "401 UNAUTHENTICATED");
        // The header has no effect on the API's own hosts.
        for host in [&format!("api.{DOMAIN}"), API_HOST] {
            let call = stack
                .edge()
                .get(host, "/api/v1/info")
                .bearer(stack.key())
                .header("x-tensorlake-sandbox-id", "my-env");
            assert_eq!(call.send().await?.status.as_u16(), 404, "{host}");
        }
        Ok(())
    });
}
