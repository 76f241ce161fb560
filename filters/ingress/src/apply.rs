//! Carries a decision out on the effective stream.

use sandgate_hostcalls::Result;
use sandgate_hostcalls::stream::{self, Direction};
use sandgate_policy::ingress::Permit;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::credential::Credential;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::hygiene::{self, HeaderChange};
use sandgate_policy::ingress::websocket;

/// Filter state of the dynamic forward proxy; a filter in front of this one points both at a black
/// hole, so that a request which nobody permitted goes nowhere.
const UPSTREAM_HOST: &str = "envoy.upstream.dynamic_host";
const UPSTREAM_PORT: &str = "envoy.upstream.dynamic_port";

/// Makes a permitted request ready to go on. `used` is the credential that was judged, if any.
///
/// # Errors
/// When the host refuses any of it; the request must then be refused.
pub(crate) fn permit(
    permit: &Permit,
    head: Head<'_>,
    config: &IngressConfig,
    used: Option<&Credential>,
) -> Result<()> {
    // On a public port no credential was looked at, and the app's own bearer is the app's.
    let used = used.filter(|_| permit.caller().is_some());
    change(Direction::Request, &hygiene::clean_request(head, config, used, permit.caller()))?;
    change(Direction::Request, &websocket::complete_request(head))?;
    let upstream = permit.upstream();
    stream::set_property("sandgate_generation", &permit.connection_group())?;
    if let Some(caller) = permit.caller() {
        stream::set_property("sandgate_principal", &caller.principal)?;
    }
    stream::set_filter_state(UPSTREAM_PORT, &upstream.port().to_string())?;
    // Last: until the host is set, the request can only go into the black hole.
    stream::set_filter_state(UPSTREAM_HOST, &upstream.ip().to_string())
}

/// Applies header changes, in order.
///
/// # Errors
/// When the host refuses one.
pub(crate) fn change(direction: Direction, changes: &[HeaderChange]) -> Result<()> {
    changes.iter().try_for_each(|change| match change {
        HeaderChange::Remove(name) => stream::remove_header(direction, name),
        HeaderChange::Set(name, value) => stream::set_header(direction, name, value),
        HeaderChange::Add(name, value) => stream::add_header(direction, name, value),
    })
}

/// Shows a decision to access logs. Failing to is no reason to refuse.
pub(crate) fn record(decision: &str) {
    let _ = stream::set_property("sandgate_decision", decision);
}
