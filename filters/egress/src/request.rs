//! One plain HTTP request of the sandbox, as the proxy hands it over.

use std::net::SocketAddr;

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use sandgate_hostcalls::stream::{self, Direction, Headers};
use sandgate_hostcalls::{Result, property};
use sandgate_policy::egress::{NameFact, Permit, Route, Rule, Verdict};
use sandgate_policy::request_line::{self, InvalidLine};

use crate::live::{Facts, LiveStream};
use crate::vm::{self, Protocol};
use crate::{apply, reply};

/// Path and route of the agent's probe. Only its own listener has that route.
const PROBE_PATH: &[u8] = b"/generation";
const PROBE_ROUTE: &[u8] = b"sandgate_probe";
/// What Envoy is told to put in the place of the Host that an HTTP/1.0 request does not have. No such
/// name exists (RFC 6761, section 6.4).
const NO_HOST: &[u8] = b"no-host.invalid";

/// The HTTP context of one request.
pub(crate) struct Request {
    id: u32,
}

impl Request {
    pub(crate) fn new(id: u32) -> Self {
        Self { id }
    }

    fn arrive(&self) -> Action {
        let Ok(headers) = stream::headers(Direction::Request) else { return refuse() };
        if is_probe(&headers) {
            return answered(reply::probe());
        }
        if let Err(invalid) = request_line(&headers) {
            return answered(reply::invalid(invalid));
        }
        let config = vm::with(|vm| vm.current()).flatten();
        let (Some(config), Some(destination)) = (config, apply::destination()) else {
            return refuse();
        };
        let host = host(&headers);
        let facts = Facts { destination, sni: NameFact::Absent, host };
        let verdict = facts.judge(&config);
        apply::decided(Protocol::Http, verdict.is_allowed(), verdict.rule(), &config);
        let permit = match &verdict {
            Verdict::Allow(permit) => permit,
            Verdict::Deny(denial) => return deny(denial.rule()),
        };
        let done = complete(&headers, permit, destination)
            .and_then(|()| hide_upgrade(&headers))
            .and_then(|()| apply::permit_request(permit, destination));
        if done.is_err() {
            return refuse();
        }
        let live = LiveStream::new(Protocol::Http, facts, permit);
        match vm::with(|vm| vm.live.insert(self.id, live)) {
            Some(()) => Action::Continue,
            None => refuse(),
        }
    }
}

fn request_line(headers: &Headers) -> std::result::Result<(), InvalidLine> {
    let pseudo = |wanted: &str| {
        let found = headers.iter().find(|(name, _)| name == wanted);
        found.map_or(&[][..], |(_, value)| value)
    };
    request_line::check(pseudo(":method"), pseudo(":path"))
}

/// The name that a request asks for. HTTP/2 may have it in two places; they have to agree, since it
/// is the destination that chooses one.
fn host(headers: &Headers) -> NameFact {
    let mut values = headers
        .iter()
        .filter(|(name, _)| name == ":authority" || name.eq_ignore_ascii_case("host"))
        .map(|(_, value)| value.as_slice());
    match values.next() {
        None => NameFact::Absent,
        Some(first) if values.any(|other| other != first) => NameFact::Unparsable,
        Some(NO_HOST | b"") => NameFact::Absent,
        Some(first) => NameFact::from_authority(first),
    }
}

/// HTTP/1.0 is forwarded as HTTP/1.1, where a Host must be sent (RFC 9112, section 3.2): the name or
/// the address that it goes to, for a request that has none.
fn complete(headers: &Headers, permit: &Permit, destination: SocketAddr) -> Result<()> {
    if !headers.iter().any(|(name, value)| name == ":authority" && value == NO_HOST) {
        return Ok(());
    }
    let host = match permit.route() {
        Route::Original(address) => SocketAddr::new(*address, destination.port()).to_string(),
        Route::ByName(name) => format!("{name}:{}", destination.port()),
    };
    let host = host.strip_suffix(":80").unwrap_or(&host);
    stream::set_header(Direction::Request, ":authority", host.as_bytes())
}

/// Envoy passes no body of a response to a WebSocket handshake except 101, 4xx and 5xx. It knows the handshake by the
/// whole value of `Upgrade`. White space before it means nothing to servers (RFC 9112, section 5.1), and Envoy handles
/// the request like any other upgrade then. HTTP/2 has its `:protocol` from this value, which takes no white space.
fn hide_upgrade(headers: &Headers) -> Result<()> {
    let is_handshake = |(name, value): &(String, Vec<u8>)| {
        name.eq_ignore_ascii_case("upgrade") && value.eq_ignore_ascii_case(b"websocket")
    };
    if !headers.iter().any(is_handshake)
        || property(&["request", "protocol"])?.as_deref() != Some(b"HTTP/1.1")
    {
        return Ok(());
    }
    stream::set_header(Direction::Request, "upgrade", b" websocket")
}

fn is_probe(headers: &Headers) -> bool {
    let is_path = headers.iter().any(|(name, value)| name == ":path" && value == PROBE_PATH);
    let route = || property(&["xds", "route_name"]).ok().flatten();
    is_path && route().as_deref() == Some(PROBE_ROUTE)
}

fn deny(rule: &Rule) -> Action {
    answered(reply::deny(Some(rule)))
}

/// Refuses without a rule: the filter can't do its work.
fn refuse() -> Action {
    apply::host_error();
    answered(reply::deny(None))
}

/// If the answer failed, the request stays paused: it goes nowhere.
fn answered(result: Result<()>) -> Action {
    if result.is_err() {
        apply::host_error();
    }
    Action::Pause
}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.arrive()
    }
}

impl Context for Request {
    fn on_done(&mut self) -> bool {
        vm::with(|vm| vm.live.remove(self.id));
        true
    }
}
