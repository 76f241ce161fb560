//! The native module and the wasm form treat every request alike: the same decision, the same reply, and the same headers for
//! the sandbox and for the client.
//!
//! Both hosts run with the same clock, so a request without any relation to the others is sent to both, and both must end
//! alike. The fleets behind them are equal.

use proptest::prelude::*;

use super::envoy::{Attributes, Headers, Outcome};
use super::suite::support::fleet::Fleet;
use super::suite::support::{DOMAIN, Gateway, KEY, PAT, PLAIN_KEY, SESSION, configuration};

/// The wasm form with the same configuration and an equal fleet.
fn wasm() -> sandgate_wasm_host::Host {
    let host = sandgate_wasm_host::Host::load("sandgate_ingress");
    host.clusters(&["sandgate_control_plane"]);
    let mut fleet = Fleet::new();
    host.control_plane(move |call| fleet.answer(call));
    host.configure(&configuration().to_string()).expect("a valid configuration");
    host
}
