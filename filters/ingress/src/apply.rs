//! Applies a decision to the effective stream.

use sandgate_engine::ingress::{Forward, Sight};
use sandgate_hostcalls::stream::{self, HeaderMap};
use sandgate_hostcalls::{Result, property};
use sandgate_policy::ingress::config::Upstream;
use sandgate_policy::ingress::config::upstream::{DYNAMIC_HOST, ORIGINAL_DST_ADDRESS};
use sandgate_policy::ingress::hygiene::HeaderChange;
use sandgate_policy::ingress::request::SANDBOX_ID_HEADER;

/// Changes the headers of a permitted request, and sets its upstream.
///
/// # Errors
/// When the host refuses. The request must then be denied.
pub(crate) fn forward(forward: &Forward<'_>, upstream: Upstream) -> Result<()> {
    let Forward { permit, changes } = forward;
    change(HeaderMap::RequestHeaders, changes)?;
    // Read in `edge.yaml` as the key of the upstream connection pool.
    stream::set_property("sandgate_generation", permit.connection_group())?;
    if let Some(caller) = permit.caller() {
        stream::set_property("sandgate_principal", caller.principal.as_str())?;
    }
    let state = state(upstream);
    // Last, because until this is set, the request has no upstream that it could reach.
    let mut port = itoa::Buffer::new();
    let upstream = [permit.upstream_host(), ":", port.format(permit.upstream().port())].concat();
    stream::set_filter_state(state, &upstream)
}

/// The filter state that has the upstream.
fn state(upstream: Upstream) -> &'static str {
    match upstream {
        Upstream::DynamicForwardProxy => DYNAMIC_HOST,
        Upstream::OriginalDst => ORIGINAL_DST_ADDRESS,
    }
}

/// Whether the guards can be seen at a request. One that names its sandbox in a header has the route of the public API until its
/// headers have changed, and Envoy does not say which cluster it goes to then.
pub(crate) fn can_look(forward: &Forward<'_>) -> bool {
    let is_name = |change: &HeaderChange| matches!(change, HeaderChange::Remove(name) if name == SANDBOX_ID_HEADER);
    !forward.changes.iter().any(is_name)
}

/// Looks for the guards around this filter, before the upstream of the effective stream is set.
pub(crate) fn look(upstream: Upstream) -> Sight {
    let text = |path: &[&str]| property(path).ok().flatten().filter(|text| !text.is_empty());
    let declared = ["xds", "cluster_metadata", "filter_metadata", "sandgate", "address_check"];
    Sight {
        has_black_hole: text(&["filter_state", state(upstream)]).is_some(),
        address_check: text(&declared),
    }
}

/// Applies header changes, in order.
///
/// # Errors
/// When the host refuses a change.
pub(crate) fn change(map: HeaderMap, changes: &[HeaderChange]) -> Result<()> {
    changes.iter().try_for_each(|change| match change {
        HeaderChange::Remove(name) => stream::remove_header(map, name),
        HeaderChange::Set(name, value) => stream::set_header(map, name, value),
        HeaderChange::Add(name, value) => stream::add_header(map, name, value),
    })
}

/// Records a decision for access logs. A request is not denied because that fails.
pub(crate) fn record(decision: &str) {
    let _ = stream::set_property("sandgate_decision", decision);
}
