//! Nothing is forwarded unless the filter permits it, and never out of the sandboxes' network. Each test removes some
//! guards and shows that another one prevents forwarding. One test removes all guards and shows that the request is
//! forwarded, so that the other tests can fail.

use anyhow::Result;
use sandgate_e2e::{DOMAIN, Protocol, Setup, Stack, Upstream, run};
use serde_json::json;

use crate::support::{UNAVAILABLE, replace_once};

/// Disables the filter.
fn without_filter(text: &str) -> String {
    replace_once(
        text,
        "- name: sandgate.ingress\n",
        "- name: sandgate.ingress\n                    disabled: true\n",
    )
}

fn without_black_hole(text: &str) -> String {
    replace_once(
        text,
        "- name: sandgate.black_hole\n",
        "- name: sandgate.black_hole\n                    disabled: true\n",
    )
}

/// Disables the address checks of the DNS cache, where there is one, and of the upstream filter.
fn without_address_guards(text: &str) -> String {
    const RANGE: &str = "- { address_prefix: \"${SANDGATE_SANDBOX_NETWORK}\", prefix_len: ${SANDGATE_SANDBOX_PREFIX_LEN} }";
    let text = if text.contains("invert_match: true") {
        let text = replace_once(text, "invert_match: true", "invert_match: false");
        replace_once(&text, RANGE, "- { address_prefix: 192.0.2.0, prefix_len: 24 }")
    } else {
        text.to_owned()
    };
    replace_once(
        &text,
        "upstream_ip: { address_prefix: \"${SANDGATE_SANDBOX_NETWORK}\", prefix_len: ${SANDGATE_SANDBOX_PREFIX_LEN} }",
        "upstream_ip: { address_prefix: 0.0.0.0, prefix_len: 0 }",
    )
}

/// Only the dynamic forward proxy falls back to the Host. `restored_destination.rs` has the fallback of `original_dst`.
const FALLS_BACK_TO_THE_HOST: Option<Upstream> = Some(Upstream::DynamicForwardProxy);

/// Sends a request with a sandbox's address as the Host. Returns the status, and true if the demo responded.
async fn ask_for_address(stack: &Stack) -> Result<(u16, bool)> {
    stack.platform()?.pin(stack.network.host(7));
    stack.public_env().await?;
    let host = format!("{}:8080", stack.network.host(7));
    let mut outcome = (0, false);
    for protocol in [Protocol::Http1, Protocol::H2c] {
        let answer = stack.edge().get(&host, "/health").over(protocol).send().await?;
        outcome = (answer.status.as_u16(), answer.text().contains("\"sandbox\""));
        if outcome.1 {
            break;
        }
    }
    Ok(outcome)
}

fn on_a_platform(change: fn(&str) -> String) -> Setup {
    Setup { webhook: true, change, ..Setup::default() }
}

#[test]
fn without_the_filter_nothing_is_forwarded() {
    run(on_a_platform(without_filter), async |stack| {
        assert_eq!(ask_for_address(stack).await?, (503, false));
        let call =
            stack.edge().get(&format!("8080-my-env.{DOMAIN}"), "/health").bearer(stack.key());
        assert_eq!(call.send().await?.denial()?, "503 SANDBOX_UPSTREAM_ERROR");
        Ok(())
    });
}

#[test]
fn without_the_filter_and_the_address_checks_the_black_hole_prevents_forwarding() {
    let change = |text: &str| without_address_guards(&without_filter(text));
    run(on_a_platform(change), async |stack| {
        assert_eq!(ask_for_address(stack).await?, (503, false));
        Ok(())
    });
}

#[test]
fn without_any_guard_the_request_is_forwarded() {
    let change = |text: &str| without_black_hole(&without_address_guards(&without_filter(text)));
    let setup = Setup { upstream: FALLS_BACK_TO_THE_HOST, ..on_a_platform(change) };
    run(setup, async |stack| {
        assert_eq!(ask_for_address(stack).await?, (200, true));
        Ok(())
    });
}

/// A wasm filter that traps on every request, as one with a bug would. The tests with it don't run in the native form, whose own
/// tests have panics in all places (`filters/native/src/tests/faults.rs`).
const CRASHING: &str = r#"
(module
  (memory (export "memory") 1)
  (global $next (mut i32) (i32.const 1024))
  (func $allocate (param $size i32) (result i32)
    (global.get $next)
    (global.set $next (i32.add (global.get $next) (local.get $size))))
  (export "proxy_on_memory_allocate" (func $allocate))
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_vm_start") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_configure") (param i32 i32) (result i32) (i32.const 1))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) unreachable)
)"#;

/// A 503 promises that nothing was forwarded, so clients retry after it.
#[test]
fn a_wasm_filter_that_crashes_after_the_request_was_sent_causes_a_502() {
    let change = |text: &str| without_black_hole(&without_address_guards(text));
    let late = CRASHING.replace("proxy_on_request_headers", "proxy_on_response_headers");
    let upstream = FALLS_BACK_TO_THE_HOST;
    let setup = Setup { upstream, filter: Some(late.leak()), ..on_a_platform(change) };
    run(setup, async |stack| {
        stack.platform()?.pin(stack.network.host(7));
        stack.public_env().await?;
        let host = format!("{}:8080", stack.network.host(7));
        let answer = stack.edge().get(&host, "/health").send().await?;
        assert_eq!(answer.denial()?, "502 UPSTREAM_RESET");
        Ok(())
    });
}

#[test]
fn if_a_wasm_filter_crashes_nothing_is_forwarded() {
    let setup = Setup { filter: Some(CRASHING), ..on_a_platform(without_address_guards) };
    run(setup, async |stack| {
        let (status, forwarded) = ask_for_address(stack).await?;
        assert_eq!((status, forwarded), (503, false));
        let host = format!("8080-my-env.{DOMAIN}");
        for _ in 0..20 {
            let answer = stack.edge().get(&host, "/health").bearer(stack.key()).send().await?;
            assert_eq!(answer.denial()?, "503 SANDBOX_UPSTREAM_ERROR");
        }
        Ok(())
    });
}

#[test]
fn the_dns_cache_alone_confines_requests_to_the_sandbox_network() {
    let narrower = |text: &str| {
        replace_once(
            text,
            "- { address_prefix: \"${SANDGATE_SANDBOX_NETWORK}\", prefix_len: ${SANDGATE_SANDBOX_PREFIX_LEN} }",
            "- { address_prefix: 192.0.2.0, prefix_len: 24 }",
        )
    };
    let upstream = Some(Upstream::DynamicForwardProxy);
    run(Setup { upstream, change: narrower, ..Setup::default() }, async |stack| {
        let sandbox = stack.public_env().await?;
        let answer = stack.edge().get(&sandbox.host(8080), "/health").send().await?;
        assert_eq!(answer.denial()?, "503 SANDBOX_UPSTREAM_ERROR");
        Ok(())
    });
}

#[test]
fn the_upstream_check_alone_confines_requests_to_the_sandbox_network() {
    let narrower = |text: &str| {
        replace_once(
            text,
            "upstream_ip: { address_prefix: \"${SANDGATE_SANDBOX_NETWORK}\", prefix_len: ${SANDGATE_SANDBOX_PREFIX_LEN} }",
            "upstream_ip: { address_prefix: 192.0.2.0, prefix_len: 24 }",
        )
    };
    run(Setup { change: narrower, ..Setup::default() }, async |stack| {
        let sandbox = stack.public_env().await?;
        for content_type in ["text/plain", "application/grpc-web"] {
            let call =
                stack.edge().post(&sandbox.host(8080), "/").header("content-type", content_type);
            assert_eq!(call.send().await?.denial()?, "503 SANDBOX_UPSTREAM_ERROR");
        }
        let grpc = stack.edge().post(&sandbox.host(50051), "/x").grpc();
        assert_eq!(grpc.send().await?.header("grpc-status"), Some(UNAVAILABLE));
        Ok(())
    });
}

#[test]
fn the_gateway_api_and_the_admin_interface_are_unreachable_through_the_edge() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let admin = stack.envoy().admin_address().port();
        let gateway = stack.control_plane.gateway().address().port();
        stack.owner.expose(stack.api(), &sandbox, &[8080, admin, gateway], true).await?;
        let paths =
            ["/config_dump", "/stats", "/gateway/v1/sandboxes/my-env", "/gateway/v1/changes"];
        for host in [
            format!("127.0.0.1:{admin}"),
            format!("127.0.0.1:{gateway}"),
            format!("localhost:{gateway}"),
            "gateway.sandgate.internal".to_owned(),
            "gateway_api".to_owned(),
            format!("gateway.{DOMAIN}"),
            format!("{gateway}-localhost.{DOMAIN}"),
            format!("{admin}-my-env.{DOMAIN}"),
            format!("{gateway}-my-env.{DOMAIN}"),
            format!("api.{DOMAIN}"),
            DOMAIN.to_owned(),
        ] {
            for path in paths {
                for credential in [stack.key(), sandgate_e2e::TOKEN] {
                    for protocol in [Protocol::Http1, Protocol::H2c] {
                        let call = stack.edge().get(&host, path).over(protocol).bearer(credential);
                        let answer = call.send().await?;
                        assert!(!answer.status.is_success(), "{host}{path}: {}", answer.text());
                        let marker = answer.header("x-sandgate-control-plane");
                        assert_eq!(marker, None, "{host}{path} reached the gateway API");
                    }
                }
            }
        }
        // The gateway API accepts only the gateway token.
        let gateway = stack.control_plane.gateway();
        for (secret, status) in [(stack.key(), 401), ("wrong", 401), (sandgate_e2e::TOKEN, 200)] {
            let call = gateway.get("gateway", "/gateway/v1/sandboxes/my-env").bearer(secret);
            assert_eq!(call.send().await?.status.as_u16(), status);
        }
        let dump = stack.envoy().admin().post("admin", "/quitquitquit").send().await?;
        assert_eq!(dump.status, 403, "the admin interface serves only the required pages");
        Ok(())
    });
}

#[test]
fn a_sandbox_never_receives_a_request_for_the_host_of_another() {
    run(Setup::default(), async |stack| {
        let first = stack.my_env().await?;
        let second = stack.sandbox(json!({ "name": "other-env", "exposed_ports": [8080] })).await?;
        // One connection alternates between both hosts: the upstream of one request is not kept for the next.
        for protocol in [Protocol::Http1, Protocol::H2c] {
            let mut connection = stack.edge().connect(protocol).await?;
            for _ in 0..10 {
                for sandbox in [&first, &second] {
                    let call = stack.edge().get(&sandbox.host(8080), "/").bearer(stack.key());
                    let answer = connection.send(call).await?.ok()?;
                    assert_eq!(crate::support::sandbox_id(&answer), Some(sandbox.id.as_str()));
                }
                let nobody =
                    stack.edge().get(&format!("8080-nobody.{DOMAIN}"), "/").bearer(stack.key());
                assert_eq!(connection.send(nobody).await?.status, 404);
            }
        }
        Ok(())
    });
}
