//! Applies a decision to a stream.

use sandgate_engine::ingress::{Forward, Reply, Sight};
use sandgate_policy::ingress::config::Upstream;
use sandgate_policy::ingress::config::upstream::{DYNAMIC_HOST, ORIGINAL_DST_ADDRESS};
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::hygiene::HeaderChange;
use sandgate_policy::ingress::request::SANDBOX_ID_HEADER;

use crate::abi::{HeaderMap, Result, StreamHandle};
use crate::grpc;

/// Part of the key of the upstream connection pool, also for connections without TLS.
const UPSTREAM_SERVER_NAME: &str = "envoy.network.upstream_server_name";
/// Filter state that `edge.yaml` reads: what selects the route of the bare domain, and fields of the access log.
const SANDBOX_HEADER: &str = "sandgate.sandbox_header";
const PRINCIPAL: &str = "wasm.sandgate_principal";
pub(super) const DECISION: &str = "wasm.sandgate_decision";

/// The request headers that routes of `edge.yaml` match and that a decision may remove. (It does not change `:authority`
/// and `:method`.)
const ROUTED: [&str; 3] = [SANDBOX_ID_HEADER, "content-type", "upgrade"];

/// The details of a local reply, in access logs and for `local_reply_config`.
const DETAILS: &str = "sandgate";

/// Changes the headers of a permitted request, and sets its upstream.
///
/// # Errors
/// When Envoy refuses. The request must then be denied.
pub(super) fn forward(
    stream: &StreamHandle,
    forward: &Forward<'_>,
    upstream: Upstream,
) -> Result<()> {
    let Forward { permit, changes } = forward;
    change(stream, HeaderMap::RequestHeaders, changes)?;
    if removes(changes, &[SANDBOX_ID_HEADER]) {
        stream.set_property(SANDBOX_HEADER, "1")?;
    }
    // Sandboxes and generations never share a connection.
    stream.set_filter_state(UPSTREAM_SERVER_NAME, permit.connection_group())?;
    if let Some(caller) = permit.caller() {
        stream.set_property(PRINCIPAL, caller.principal.as_str())?;
    }
    // Last, because until this is set, the request has no upstream that it could reach.
    let mut port = itoa::Buffer::new();
    let upstream_text =
        [permit.upstream_host(), ":", port.format(permit.upstream().port())].concat();
    stream.set_filter_state(state(upstream), &upstream_text)?;
    // Envoy has selected a route before this filter ran, and the address selects the shard.
    if upstream == Upstream::OriginalDst || removes(changes, &ROUTED) {
        stream.clear_route()?;
    }
    Ok(())
}

/// Like [`forward`]. Also looks for the guards around this filter: for the black hole, which the upstream replaces, and for the
/// address check of the cluster that the request goes to.
///
/// # Errors
/// As [`forward`].
pub(super) fn forward_and_look(
    stream: &StreamHandle,
    permitted: &Forward<'_>,
    upstream: Upstream,
) -> Result<Sight> {
    let black_hole = stream.filter_state(state(upstream));
    forward(stream, permitted, upstream)?;
    let address_check = stream.cluster_metadata("sandgate", "address_check");
    Ok(Sight {
        has_black_hole: black_hole.is_some_and(|upstream| !upstream.is_empty()),
        address_check: address_check.filter(|networks| !networks.is_empty()),
    })
}

/// The filter state that names the upstream.
fn state(upstream: Upstream) -> &'static str {
    match upstream {
        Upstream::DynamicForwardProxy => DYNAMIC_HOST,
        Upstream::OriginalDst => ORIGINAL_DST_ADDRESS,
    }
}

/// Adds fields that the request does not have, instead of replacing them: Envoy then looks for no old value.
pub(super) fn add_new_fields(changes: &mut [HeaderChange], request: Head<'_>) {
    for change in changes {
        if let HeaderChange::Set(name, value) = change
            // Envoy adds no empty value.
            && !value.is_empty()
            && request.first(name).is_none()
        {
            *change = HeaderChange::Add(name, std::mem::take(value));
        }
    }
}

/// Whether one of these header fields is removed.
fn removes(changes: &[HeaderChange], names: &[&str]) -> bool {
    changes.iter().any(
        |change| matches!(change, HeaderChange::Remove(name) if names.contains(&name.as_str())),
    )
}

/// Applies header changes, in order.
///
/// # Errors
/// When Envoy refuses a change.
pub(super) fn change(
    stream: &StreamHandle,
    map: HeaderMap,
    changes: &[HeaderChange],
) -> Result<()> {
    changes.iter().try_for_each(|change| match change {
        HeaderChange::Remove(name) => stream.remove_header(map, name),
        HeaderChange::Set(name, value) => stream.set_header(map, name, value),
        HeaderChange::Add(name, value) => stream.add_header(map, name, value),
    })
}

/// Sends a local reply. The stream may end before this returns.
pub(super) fn reply(stream: &StreamHandle, reply: &Reply) -> Result<()> {
    let mut headers: Vec<_> = reply.headers.iter().map(|(name, value)| (*name, &**value)).collect();
    // Envoy's ABI gives each local reply to a gRPC request the status OK, unless a header names another one.
    let status = grpc::status(reply.status).to_string();
    if reply.is_grpc {
        headers.push(("grpc-status", &status));
    }
    stream.reply(reply.status, &headers, reply.body.as_bytes(), DETAILS)
}

#[cfg(test)]
mod tests;
