//! The HTTP context of one plain HTTP request of the sandbox.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use sandgate_engine::egress::{Forward, Reply, RequestEffect, is_websocket_handshake, upstream};
use sandgate_hostcalls::stream::{self, Field, HeaderMap, Headers};
use sandgate_hostcalls::{Result, property};

use crate::{apply, vm};

/// Path and route of the agent's probe. Only the listener of the probe has that route.
const PROBE_PATH: &[u8] = b"/generation";
const PROBE_ROUTE: &[u8] = b"sandgate_probe";

pub(crate) struct Request {
    id: u32,
}

impl Request {
    pub(crate) fn new(id: u32) -> Self {
        Self { id }
    }

    fn forward(&self, forward: &Forward, headers: &[Field<'_>]) -> Action {
        apply::report(&forward.decision);
        let applied = set_authority(forward.authority.as_deref())
            .and_then(|()| hide_handshake(headers))
            .and_then(|()| apply::set(upstream::of_request(&forward.permit, forward.destination)));
        if applied.is_err() {
            vm::with(|vm| vm.engine.on_stream_end(self.id));
            return fail();
        }
        Action::Continue
    }
}

fn is_probe(headers: &[Field<'_>]) -> bool {
    let is_path = headers.contains(&(":path", PROBE_PATH));
    let route = || property(&["xds", "route_name"]).ok().flatten();
    is_path && route().as_deref() == Some(PROBE_ROUTE)
}

fn set_authority(authority: Option<&str>) -> Result<()> {
    authority.map_or(Ok(()), |authority| {
        stream::set_header(HeaderMap::RequestHeaders, ":authority", authority.as_bytes())
    })
}

/// Changes the `Upgrade` of a WebSocket handshake so that Envoy treats it like any other upgrade.
/// Otherwise Envoy drops the body of every response to it except 101, 4xx, and 5xx. Servers ignore the
/// white space (RFC 9112, section 5.1). In HTTP/2, Envoy makes `:protocol` from the value, which must
/// not contain white space.
fn hide_handshake(headers: &[Field<'_>]) -> Result<()> {
    if !is_websocket_handshake(headers)
        || property(&["request", "protocol"])?.as_deref() != Some(b"HTTP/1.1")
    {
        return Ok(());
    }
    stream::set_header(HeaderMap::RequestHeaders, "upgrade", b" websocket")
}

/// Replies without a rule, because no decision was possible or the host refused a call.
fn fail() -> Action {
    vm::count_host_error();
    reply(&Reply::denial(None))
}

/// Replies, and pauses the request. If the host refused the reply, the request stays paused and is not forwarded.
fn reply(reply: &Reply) -> Action {
    if stream::reply(reply.status, &Reply::HEADERS, reply.body.as_bytes()).is_err() {
        vm::count_host_error();
    }
    Action::Pause
}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let headers = stream::headers(HeaderMap::RequestHeaders);
        let Ok(headers) = headers.as_ref().map_err(|error| *error).and_then(Headers::fields) else {
            return fail();
        };
        if is_probe(&headers) {
            let probe = vm::with(|vm| Reply::probe(&vm.engine));
            return probe.map_or_else(fail, |probe| reply(&probe));
        }
        let destination = apply::destination();
        let effect = vm::with(|vm| vm.engine.on_request_headers(self.id, destination, &headers));
        match effect {
            Some(RequestEffect::Forward(forward)) => self.forward(&forward, &headers),
            Some(RequestEffect::Deny(decision)) => {
                apply::report(&decision);
                reply(&Reply::denial(Some(&decision.rule)))
            }
            Some(RequestEffect::Reject(invalid)) => reply(&Reply::invalid(invalid)),
            Some(RequestEffect::Fail) | None => fail(),
        }
    }
}

impl Context for Request {}

/// The host deletes the context when the request has ended.
impl Drop for Request {
    fn drop(&mut self) {
        vm::with(|vm| vm.engine.on_stream_end(self.id));
    }
}
