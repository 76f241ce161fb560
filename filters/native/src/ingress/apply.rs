//! Applies a decision to a stream.

use sandgate_engine::ingress::{Forward, Reply};
use sandgate_policy::ingress::config::Upstream;
use sandgate_policy::ingress::config::upstream::{
    DYNAMIC_HOST, DYNAMIC_PORT, ORIGINAL_DST_ADDRESS,
};
use sandgate_policy::ingress::hygiene::HeaderChange;

use crate::abi::{HeaderMap, Result, StreamHandle};

/// Filter state that `edge.yaml` reads. The wasm form sets properties, which are filter state with this prefix.
const GENERATION: &str = "wasm.sandgate_generation";
const PRINCIPAL: &str = "wasm.sandgate_principal";
pub(super) const DECISION: &str = "wasm.sandgate_decision";

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
    // Read in `edge.yaml` as the key of the upstream connection pool.
    stream.set_property(GENERATION, permit.connection_group())?;
    if let Some(caller) = permit.caller() {
        stream.set_property(PRINCIPAL, caller.principal.as_str())?;
    }
    match upstream {
        Upstream::DynamicForwardProxy => {
            stream.set_filter_state(DYNAMIC_PORT, &permit.upstream().port().to_string())?;
            // Last, because until the host is set, the request has no upstream that it could reach.
            stream.set_filter_state(DYNAMIC_HOST, permit.upstream_host())
        }
        Upstream::OriginalDst => {
            stream.set_filter_state(ORIGINAL_DST_ADDRESS, &permit.upstream().to_string())
        }
    }
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
    })?;
    // The route depends on a header that may have been removed. Envoy does this by itself in the wasm form.
    if map == HeaderMap::RequestHeaders && !changes.is_empty() {
        stream.clear_route()?;
    }
    Ok(())
}

/// Sends a local reply. The stream may end before this returns.
pub(super) fn reply(stream: &StreamHandle, reply: &Reply) -> Result<()> {
    let mut headers: Vec<_> = reply.headers.iter().map(|(name, value)| (*name, &**value)).collect();
    // Envoy's ABI gives each local reply to a gRPC request the status OK, unless a header names another one.
    let status = grpc_status(reply.status).to_string();
    if reply.is_grpc {
        headers.push(("grpc-status", &status));
    }
    stream.reply(reply.status, &headers, reply.body.as_bytes())
}

/// The gRPC status of an HTTP status, as the gRPC protocol maps them and Envoy does.
fn grpc_status(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}
