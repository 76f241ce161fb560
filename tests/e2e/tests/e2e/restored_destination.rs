//! With `original_dst`, a cluster without a chosen upstream connects to the address that the client's connection was sent to, if
//! a listener filter restored that address. The PROXY protocol lets whoever speaks it name any address. Each test removes some
//! guards and shows that another one prevents forwarding; one removes all, and shows that the attack is real.

use anyhow::Result;
use sandgate_e2e::{DOMAIN, Setup, Stack, Upstream, run};
use serde_json::json;
use std::net::SocketAddr;
use tokio::net::TcpListener;

use crate::support::{is_denial, replace_once};

fn behind_a_proxy(change: fn(&str) -> String) -> Setup {
    let listener_filters = json!([{
        "name": "envoy.filters.listener.proxy_protocol",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
        },
    }]);
    let upstream = Some(Upstream::OriginalDst);
    Setup { webhook: true, upstream, listener_filters, change, ..Setup::default() }
}

fn without_filter(text: &str) -> String {
    let filter = "- name: sandgate.ingress\n";
    replace_once(text, filter, &format!("{filter}                    disabled: true\n"))
}

fn without_black_hole(text: &str) -> String {
    let filter = "- name: sandgate.black_hole\n";
    replace_once(text, filter, &format!("{filter}                    disabled: true\n"))
}

fn without_upstream_check(text: &str) -> String {
    replace_once(
        text,
        "upstream_ip: { address_prefix: \"${SANDGATE_SANDBOX_NETWORK}\", prefix_len: ${SANDGATE_SANDBOX_PREFIX_LEN} }",
        "upstream_ip: { address_prefix: 0.0.0.0, prefix_len: 0 }",
    )
}

/// Sends a request for `host` on a connection that a proxy claims to have received for `destination`.
async fn ask(stack: &Stack, destination: SocketAddr, host: &str) -> Result<String> {
    let SocketAddr::V4(destination) = destination else { anyhow::bail!("not IPv4") };
    let request = format!(
        "PROXY TCP4 203.0.113.7 {} 5555 {}\r\nGET /health HTTP/1.1\r\nhost: {host}\r\n\
         authorization: Bearer {}\r\nx-envoy-original-dst-host: {destination}\r\nconnection: close\r\n\r\n",
        destination.ip(),
        destination.port(),
        stack.key()
    );
    Ok(String::from_utf8_lossy(&stack.edge().raw(request.as_bytes()).await?).into_owned())
}

/// The address of a sandbox's app.
async fn app(stack: &Stack) -> Result<SocketAddr> {
    stack.platform()?.pin(stack.network.host(7));
    stack.public_env().await?;
    Ok((stack.network.host(7), 8080).into())
}

const NOBODY: &str = "8080-nobody.sandbox.localhost";

#[test]
fn without_any_guard_the_restored_destination_receives_the_request() {
    let change = |text: &str| without_black_hole(&without_upstream_check(&without_filter(text)));
    run(behind_a_proxy(change), async |stack| {
        let app = app(stack).await?;
        let answer = ask(stack, app, NOBODY).await?;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\"sandbox\""), "{answer}");
        Ok(())
    });
}

#[test]
fn without_the_filter_the_black_hole_alone_prevents_forwarding_to_the_restored_destination() {
    let change = |text: &str| without_upstream_check(&without_filter(text));
    run(behind_a_proxy(change), async |stack| {
        let app = app(stack).await?;
        let answer = ask(stack, app, NOBODY).await?;
        assert!(is_denial(&answer, "503 SANDBOX_UNREACHABLE"), "{answer}");
        Ok(())
    });
}

#[test]
fn the_upstream_check_alone_keeps_requests_away_from_other_addresses() {
    let change = |text: &str| without_black_hole(&without_filter(text));
    run(behind_a_proxy(change), async |stack| {
        let other = TcpListener::bind("127.0.0.1:0").await?;
        let answer = ask(stack, other.local_addr()?, NOBODY).await?;
        assert!(is_denial(&answer, "503 SANDBOX_UPSTREAM_ERROR"), "{answer}");
        let reached = tokio::time::timeout(std::time::Duration::ZERO, other.accept()).await;
        assert!(
            reached.is_err(),
            "Envoy connected to an address outside of the sandboxes' network"
        );
        Ok(())
    });
}

#[test]
fn the_filter_alone_denies_requests_to_a_restored_destination_and_sends_the_others_to_their_sandbox()
 {
    let change = |text: &str| without_black_hole(&without_upstream_check(text));
    run(behind_a_proxy(change), async |stack| {
        let app = app(stack).await?;
        let answer = ask(stack, app, NOBODY).await?;
        assert!(is_denial(&answer, "404 SANDBOX_NOT_FOUND"), "{answer}");
        let other = TcpListener::bind("127.0.0.1:0").await?;
        let host = format!("8080-my-env.{DOMAIN}");
        let answer = ask(stack, other.local_addr()?, &host).await?;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        Ok(())
    });
}

#[test]
fn without_a_restored_destination_there_is_no_upstream_and_no_header_names_one() {
    let change = |text: &str| without_black_hole(&without_upstream_check(&without_filter(text)));
    let setup = Setup { listener_filters: json!([]), ..behind_a_proxy(change) };
    run(setup, async |stack| {
        let app = app(stack).await?;
        let answer = stack
            .edge()
            .get(&app.to_string(), "/health")
            .header("x-envoy-original-dst-host", app.to_string())
            .send()
            .await?;
        assert_eq!(answer.denial()?, "503 SANDBOX_UPSTREAM_ERROR");
        Ok(())
    });
}
