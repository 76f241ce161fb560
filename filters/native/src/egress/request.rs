//! The hooks of one plain HTTP request.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use sandgate_engine::egress::upstream;
use sandgate_engine::egress::{Decision, Forward, Reply, RequestEffect, is_websocket_handshake};
use sandgate_policy::header::Field;

use super::config::RequestConfig;
use super::report::Report;
use super::worker::{Live, Worker};
use crate::abi::{HeaderMap, Refused, Result, StreamHandle};
use crate::grpc;
use crate::ingress::Action;

/// Path and route of the agent's probe. Only the listener of the probe has that route.
const PROBE_PATH: Field<'_> = (":path", b"/generation");
const PROBE_ROUTE: &[u8] = b"sandgate_probe";

/// One request of a worker.
pub(crate) struct Request {
    id: u32,
    handle: StreamHandle,
    config: Arc<RequestConfig>,
    worker: Rc<Worker>,
    /// Whether a response may have begun: from then on the request can only be reset.
    is_decided: Cell<bool>,
    is_grpc: Cell<bool>,
    report: Report,
}

/// What the engine says about a request, and what only its headers tell.
enum Judged {
    Probe,
    Effect { effect: RequestEffect, is_handshake: bool },
}

impl Request {
    pub(crate) fn new(config: &Arc<RequestConfig>, handle: StreamHandle) -> Rc<Self> {
        let worker = Worker::current();
        Rc::new(Self {
            id: worker.next_stream(),
            handle,
            config: Arc::clone(config),
            worker,
            is_decided: Cell::new(false),
            is_grpc: Cell::new(false),
            report: Report::default(),
        })
    }

    pub(crate) fn handle(&self) -> &StreamHandle {
        &self.handle
    }

    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.handle.upstream_address().map(|address| address.ip())
    }

    pub(crate) fn on_request_headers(self: &Rc<Self>) -> Action {
        let destination = self.handle.destination_address();
        let judged = self
            .handle
            .with_fields(HeaderMap::RequestHeaders, |fields| self.judge(destination, fields));
        match judged {
            Ok(Judged::Probe) => self.reply(&self.worker.run(|engine| Reply::probe(engine))),
            Ok(Judged::Effect { effect, is_handshake }) => self.execute(effect, is_handshake),
            Err(Refused) => self.fail(),
        }
    }

    fn judge(&self, destination: Option<SocketAddr>, fields: &[Field<'_>]) -> Judged {
        if fields.contains(&PROBE_PATH) && self.handle.route_name().as_deref() == Some(PROBE_ROUTE)
        {
            return Judged::Probe;
        }
        let is_grpc =
            |(name, value): &Field<'_>| *name == "content-type" && grpc::is_content_type(value);
        self.is_grpc.set(fields.iter().any(is_grpc));
        let effect =
            self.worker.run(|engine| engine.on_request_headers(self.id, destination, fields));
        Judged::Effect { effect, is_handshake: is_websocket_handshake(fields) }
    }

    fn execute(self: &Rc<Self>, effect: RequestEffect, is_handshake: bool) -> Action {
        match effect {
            RequestEffect::Forward(forward) => {
                let added = self.worker.add(self.id, Live::Request(Rc::clone(self)));
                match added.and_then(|()| self.apply(&forward, is_handshake)) {
                    Ok(()) => {
                        self.is_decided.set(true);
                        self.report(forward.decision);
                        Action::Continue
                    }
                    Err(Refused) => self.fail(),
                }
            }
            RequestEffect::Deny(decision) => {
                let reply = Reply::denial(Some(&decision.rule));
                self.report(decision);
                self.reply(&reply)
            }
            RequestEffect::Reject(invalid) => self.reply(&Reply::invalid(invalid)),
            RequestEffect::Fail => self.fail(),
        }
    }

    /// Sets the upstream of a permitted request.
    fn apply(&self, forward: &Forward, is_handshake: bool) -> Result<()> {
        let headers = HeaderMap::RequestHeaders;
        if let Some(authority) = &forward.authority {
            self.handle.set_header(headers, ":authority", authority.as_bytes())?;
        }
        // As in the wasm form: Envoy must not treat the request as a WebSocket handshake, or it drops the body of every
        // response except 101, 4xx, and 5xx. Servers ignore the white space (RFC 9112, section 5.1).
        if is_handshake && self.handle.request_protocol().as_deref() == Some(b"HTTP/1.1") {
            self.handle.set_header(headers, "upgrade", b" websocket")?;
        }
        upstream::of_request(&forward.permit, forward.destination)
            .iter()
            .try_for_each(|(key, value)| self.handle.set_filter_state(key, value))
    }

    /// Replies without a rule, because no decision was possible or Envoy refused a call.
    fn fail(&self) -> Action {
        self.handle.count(*self.config.metrics.host_error());
        self.worker.run(|engine| engine.on_stream_end(self.id));
        self.reply(&Reply::denial(None))
    }

    /// Replies, and pauses the request. If Envoy refused the reply, the request stays paused and is not forwarded.
    fn reply(&self, reply: &Reply) -> Action {
        self.is_decided.set(true);
        let status = grpc::status(reply.status).to_string();
        let grpc = self.is_grpc.get().then_some(("grpc-status", &*status));
        let headers: Vec<_> = Reply::HEADERS.into_iter().chain(grpc).collect();
        // Without details, so that no rule for Envoy's own replies applies.
        if self.handle.reply(reply.status, &headers, reply.body.as_bytes(), "").is_err() {
            self.handle.count(*self.config.metrics.host_error());
        }
        Action::Pause
    }

    /// Resets the request.
    pub(super) fn close(&self, decision: Option<Decision>) {
        if let Some(decision) = decision {
            self.report(decision);
        }
        // An error means that the request has ended.
        let _ = self.handle.reset();
    }

    fn report(&self, decision: Decision) {
        self.report.set(decision, &self.config.metrics, |counter| self.handle.count(counter));
    }

    /// The worker was woken.
    pub(crate) fn on_scheduled(&self) {
        self.worker.reevaluate();
    }

    /// The request has ended, and Envoy writes the access log next.
    pub(crate) fn on_complete(&self) {
        self.report.show(|key, value| self.handle.set_property(key, value));
    }

    /// Envoy destroys the request.
    pub(crate) fn on_end(&self) {
        self.worker.remove(self.id);
    }

    /// A hook of this request has panicked.
    pub(crate) fn on_panic(&self) {
        self.handle.count(*self.config.metrics.host_error());
        if self.is_decided.get() {
            let _ = self.handle.reset();
        } else {
            self.reply(&Reply::denial(None));
        }
        self.worker.begin_anew();
    }
}
