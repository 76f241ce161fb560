//! Helpers that several files share.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use sandgate_demo::client::Target;
use sandgate_e2e::TOKEN;
use sandgate_e2e::{Sandbox, Setup, Stack};
use serde_json::{Value, json};

/// The gRPC status UNAVAILABLE.
pub(crate) const UNAVAILABLE: &str = "14";

/// A stack whose sandboxes run on a platform that the test controls.
pub(crate) fn on_a_platform() -> Setup {
    Setup { webhook: true, ..Setup::default() }
}

/// Replaces `old`, which must occur exactly once: a replacement without effect would make a test that can't fail.
pub(crate) fn replace_once(text: &str, old: &str, new: &str) -> String {
    let count = text.matches(old).count();
    assert_eq!(count, 1, "the template has `{old}` {count} times, not once");
    text.replace(old, new)
}

/// The id of the sandbox that responded.
pub(crate) fn sandbox_id(answer: &Value) -> Option<&str> {
    answer.pointer("/sandbox/id").and_then(Value::as_str)
}

/// All values of a header that the sandbox received.
pub(crate) fn received_headers<'a>(answer: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = answer.get("headers").and_then(Value::as_array);
    headers
        .into_iter()
        .flatten()
        .filter(|header| header.get(0).and_then(Value::as_str) == Some(name))
        .filter_map(|header| header.get(1).and_then(Value::as_str))
        .collect()
}

/// A text field of a response.
pub(crate) fn text<'a>(answer: &'a Value, field: &str) -> Result<&'a str> {
    answer
        .get(field)
        .and_then(Value::as_str)
        .with_context(|| format!("no text `{field}` in {answer}"))
}

/// A number field of a response.
pub(crate) fn number(answer: &Value, field: &str) -> Result<u64> {
    answer
        .get(field)
        .and_then(Value::as_u64)
        .with_context(|| format!("no number `{field}` in {answer}"))
}

/// A host and path behind the first Envoy's TLS port.
pub(crate) fn target_tls(stack: &Stack, host: &str, path: &str) -> Result<Target> {
    let address = stack.edge_tls().address().to_string();
    let trusted = sandgate_stack::pki::trusted()?;
    Ok(Target::new(&format!("https://{host}{path}"))?.via(address).trusting(trusted.as_bytes())?)
}

/// A host and path behind the first Envoy, for the demo's WebSocket and gRPC clients.
pub(crate) fn target(stack: &Stack, host: &str, path: &str) -> Result<Target> {
    let address = stack.edge().address().to_string();
    Ok(Target::new(&format!("http://{host}{path}"))?.via(address))
}

/// Sends the bytes of an HTTP/1.1 request, and reads until the connection ends.
pub(crate) async fn raw(stack: &Stack, request: &str) -> Result<String> {
    let received = stack.edge().raw(request.as_bytes()).await?;
    Ok(String::from_utf8_lossy(&received).into_owned())
}

/// Returns true if a response is the denial with this status and code, such as `400 INVALID_REQUEST`.
pub(crate) fn is_denial(response: &str, denial: &str) -> bool {
    denial.split_once(' ').is_some_and(|(status, code)| {
        response.starts_with(&format!("HTTP/1.1 {status} "))
            && response.contains(&format!("\"{code}\""))
    })
}

/// Sends a GET like [`raw`], with further `lines` in its head.
pub(crate) async fn raw_get(stack: &Stack, host: &str, path: &str, lines: &str) -> Result<String> {
    raw(stack, &format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{lines}\r\n")).await
}

/// Creates the public sandbox `my-env` with these ports, on which the test listens itself.
pub(crate) async fn public_ports(stack: &Stack, ports: &[u16]) -> Result<Sandbox> {
    let request = json!({
        "name": "my-env",
        "exposed_ports": ports,
        "allow_unauthenticated_access": true,
    });
    stack.sandbox(request).await
}

/// The address of a sandbox, for tests that listen there themselves.
pub(crate) async fn sandbox_address(stack: &Stack, sandbox: &Sandbox) -> Result<Ipv4Addr> {
    let path = format!("/gateway/v1/sandboxes/{}", sandbox.id);
    let call = stack.control_plane.gateway().get("gateway", &path).bearer(TOKEN);
    Ok(text(&call.send().await?.ok()?, "address")?.parse()?)
}
