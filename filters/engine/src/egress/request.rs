//! One plain HTTP request of the sandbox.

use std::net::SocketAddr;

use sandgate_policy::egress::{Permit, Route, ShownName, Verdict};
use sandgate_policy::header::Field;
use sandgate_policy::request_line::{self, InvalidLine};

use crate::egress::decision::{Decision, FilterKind};
use crate::egress::engine::Engine;
use crate::egress::live::{LiveStream, StreamFacts};

/// The value that Envoy is configured to set if an HTTP/1.0 request has no Host. No such name exists
/// (RFC 6761, section 6.4).
const NO_HOST: &[u8] = b"no-host.invalid";

/// What the host does with a request.
#[derive(Debug)]
pub enum RequestEffect {
    /// Set the upstream, and forward the request.
    Forward(Box<Forward>),
    /// Report the decision, and reply that the policy denies the request.
    Deny(Decision),
    /// Reply that the request is not valid, whatever the policy says.
    Reject(InvalidLine),
    /// Reply that no decision was possible.
    Fail,
}

/// A request that may leave.
#[derive(Debug)]
pub struct Forward {
    /// The permission, with the route to the upstream.
    pub permit: Permit,
    /// The original destination, whose port the upstream connection uses.
    pub destination: SocketAddr,
    pub decision: Decision,
    /// The new value of `:authority`, for a request that has no Host.
    pub authority: Option<String>,
}

impl Engine {
    /// Decides about a request. `stream` is the host's context id of the request, `destination` the
    /// original destination of its connection, if the host knows it. Header names are in lower case.
    pub fn on_request_headers(
        &mut self,
        stream: u32,
        destination: Option<SocketAddr>,
        headers: &[Field<'_>],
    ) -> RequestEffect {
        if let Err(invalid) = check_request_line(headers) {
            return RequestEffect::Reject(invalid);
        }
        let (Some(config), Some(destination)) = (self.active_config(), destination) else {
            return RequestEffect::Fail;
        };
        let facts = StreamFacts { destination, sni: ShownName::Absent, host: host(headers) };
        let verdict = facts.decide(config);
        let decision = Decision::of(FilterKind::Http, &verdict, config);
        let permit = match verdict {
            Verdict::Allow(permit) => permit,
            Verdict::Deny(_) => return RequestEffect::Deny(decision),
        };
        self.live.insert(stream, LiveStream::new(FilterKind::Http, facts, &permit));
        let authority = missing_authority(headers, &permit, destination);
        RequestEffect::Forward(Box::new(Forward { permit, destination, decision, authority }))
    }
}

fn check_request_line(headers: &[Field<'_>]) -> Result<(), InvalidLine> {
    let pseudo = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| *name == wanted);
        found.map_or(&[][..], |(_, value)| *value)
    };
    request_line::check(pseudo(":method"), pseudo(":path"))
}

/// The name that a request shows. An HTTP/2 request may have both `:authority` and `Host`. If they
/// differ, the name is not parsable, because it is the destination that chooses between them.
fn host(headers: &[Field<'_>]) -> ShownName {
    let mut values = headers
        .iter()
        .filter(|(name, _)| *name == ":authority" || name.eq_ignore_ascii_case("host"))
        .map(|(_, value)| *value);
    match values.next() {
        None => ShownName::Absent,
        Some(first) if values.any(|other| other != first) => ShownName::Unparsable,
        Some(NO_HOST | b"") => ShownName::Absent,
        Some(first) => ShownName::from_authority(first),
    }
}

/// The authority of a request without a Host: the name or the address that the request goes to. Envoy
/// forwards HTTP/1.0 as HTTP/1.1, which requires a Host (RFC 9112, section 3.2).
fn missing_authority(
    headers: &[Field<'_>],
    permit: &Permit,
    destination: SocketAddr,
) -> Option<String> {
    if !headers.contains(&(":authority", NO_HOST)) {
        return None;
    }
    let host = match permit.route() {
        Route::Original(address) => SocketAddr::new(*address, destination.port()).to_string(),
        Route::ByName(name) => format!("{name}:{}", destination.port()),
    };
    Some(host.strip_suffix(":80").map(str::to_owned).unwrap_or(host))
}

/// Whether Envoy treats the request as a WebSocket handshake: it compares the whole value of `Upgrade`.
#[must_use]
pub fn is_websocket_handshake(headers: &[Field<'_>]) -> bool {
    headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("upgrade") && value.eq_ignore_ascii_case(b"websocket")
    })
}
