//! Executes the effects of the engine and of its hub.

use proxy_wasm::types::Action;
use sandgate_engine::ingress::{Call, CallKind, DenialReply, Effect, HubEffect, Now, Reply};
use sandgate_hostcalls::http::{self, Call as HttpCall};
use sandgate_hostcalls::queue::{Queue, unique_number};
use sandgate_hostcalls::stream::{self, HeaderMap, Headers};
use sandgate_hostcalls::{LogLevel, Result, log, wall_clock};
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::recipient::Recipient;

use crate::vm::{Vm, effective_client};
use crate::{apply, reply};

impl Vm {
    /// Executes all effects. Those that name a stream occur only while the root is the effective context, and
    /// leave it effective.
    pub(crate) fn execute_effects(&mut self, now: Now) {
        while let Some(effect) = self.engine.next_effect() {
            match effect {
                Effect::Start => self.start(),
                Effect::Wake => self.wake(),
                Effect::RunHub => self.must_run_hub = true,
                Effect::Forward(stream) => {
                    if self.on_stream(stream, |vm| vm.forward(stream, now)).is_none() {
                        self.engine.on_stream_end(stream);
                    }
                }
                Effect::AnswerPreflight { stream, origin, recipient } => {
                    self.on_stream(stream, |vm| vm.answer_paused_preflight(&origin, recipient));
                }
                Effect::Deny(stream, reply) => {
                    self.on_stream(stream, |vm| vm.deny(&reply));
                }
                Effect::Close { stream, reason } => {
                    match self.on_stream(stream, |vm| vm.close(reason)) {
                        Some(Ok(())) => self.engine.on_stream_end(stream),
                        Some(Err(_)) | None => {
                            self.metrics.host_error().increment();
                            self.engine.on_close_failed(stream);
                        }
                    }
                }
                Effect::ReadClient(stream) => {
                    if let Some(client) = self.on_stream(stream, |_| effective_client()) {
                        self.engine.on_client(stream, client, now);
                    }
                }
                Effect::ReadByteCount(stream) => {
                    if let Some(Ok(bytes)) = self.on_stream(stream, |_| stream::byte_count()) {
                        self.engine.on_byte_count(stream, bytes, now);
                    }
                }
                Effect::RecheckStarted => self.metrics.recheck().increment(),
            }
        }
    }

    /// Executes all effects of the hub. The root is the effective context.
    pub(crate) fn execute_hub_effects(&mut self, now: Now) {
        while let Some(effect) = self.hub.next_effect() {
            match effect {
                HubEffect::Call(call) => self.send(&call, now),
                HubEffect::CallFinished { kind, is_answered } => {
                    self.metrics.call(kind, is_answered).increment();
                    if !is_answered && kind != CallKind::Changes {
                        let message = "sandgate_ingress: the control plane did not answer a lookup";
                        log(LogLevel::Debug, message);
                    }
                }
                HubEffect::Notify(_, notice) | HubEffect::NotifyAll(notice) => {
                    self.engine.on_notice(notice, now);
                }
                HubEffect::Run => self.wake(),
            }
        }
    }

    /// Runs `f` with the stream as the effective context. `None` if the host has no such stream.
    fn on_stream<T>(&mut self, stream: u32, f: impl FnOnce(&mut Self) -> T) -> Option<T> {
        stream::make_effective(stream).ok()?;
        let result = f(self);
        if stream::make_effective(self.root_id).is_err() {
            self.metrics.host_error().increment();
        }
        Some(result)
    }

    /// Registers the queue that wakes the root context, and starts the hub.
    fn start(&mut self) {
        let number = unique_number("sandgate_ingress.vms").unwrap_or_default();
        let nanoseconds = wall_clock().unwrap_or_default().as_nanos();
        let watcher = format!("{nanoseconds:x}-{number}-{}", self.root_id);
        self.queue = Queue::register(&format!("sandgate_ingress.{watcher}")).ok();
        // Without a queue, each tick does the work.
        if self.queue.is_none() {
            self.metrics.host_error().increment();
        }
        self.hub.start(watcher);
        self.must_run_hub = true;
    }

    pub(crate) fn wake(&mut self) {
        if let Some(queue) = self.queue
            && queue.wake().is_err()
        {
            self.metrics.host_error().increment();
        }
    }

    fn send(&mut self, call: &Call, now: Now) {
        let control_plane = self.engine.config().control_plane();
        let token = http::dispatch(&HttpCall {
            cluster: &control_plane.cluster,
            method: call.method,
            authority: &control_plane.authority,
            path: &call.path,
            body: call.body.as_deref(),
            timeout: call.timeout,
        });
        match token {
            Ok(token) => {
                self.calls.insert(token, call.id);
            }
            Err(_) => self.hub.on_call_failed(call.id, now),
        }
    }

    /// Continues the effective stream, whose request is paused.
    fn forward(&mut self, stream: u32, now: Now) {
        let upstream = self.engine.config().upstream();
        let mut sight = None;
        // While the request is paused, its headers can be read and changed.
        let applied = stream::headers(HeaderMap::RequestHeaders).and_then(|headers| {
            let fields = headers.fields()?;
            self.engine
                .forward(stream, Head::new(&fields))
                .map(|forward| {
                    let looks = apply::can_look(&forward) && self.guards.is_due(now);
                    sight = looks.then(|| apply::look(upstream));
                    apply::forward(&forward, upstream)
                })
                .transpose()
        });
        self.report_missing_guards(sight);
        let applied = match applied {
            Ok(Some(())) => Ok(()),
            Ok(None) => return,
            Err(error) => Err(error),
        };
        let action = self.forwarded(stream, applied);
        if action == Action::Continue && stream::continue_request().is_err() {
            self.metrics.host_error().increment();
        }
    }

    /// Counts the effective stream as forwarded, or denies it if that failed.
    pub(crate) fn forwarded(&mut self, stream: u32, applied: Result<()>) -> Action {
        if applied.is_ok() {
            self.count_permit();
            apply::record("permit");
            return Action::Continue;
        }
        self.metrics.host_error().increment();
        match self.engine.on_forward_failed(stream) {
            Some(reply) => self.deny(&reply),
            None => Action::Pause,
        }
    }

    fn answer_paused_preflight(&mut self, origin: &str, recipient: Recipient) {
        let headers = stream::headers(HeaderMap::RequestHeaders);
        match headers.as_ref().map_err(|error| *error).and_then(Headers::fields) {
            Ok(fields) => {
                self.answer_preflight(origin, Head::new(&fields));
            }
            Err(_) => {
                self.metrics.host_error().increment();
                let denial = Denial::SandboxUpstreamError;
                self.deny(&DenialReply { denial, recipient, retry_after: None });
            }
        }
    }

    /// Answers the CORS preflight of the effective stream.
    pub(crate) fn answer_preflight(&mut self, origin: &str, head: Head<'_>) -> Action {
        self.metrics.preflight().increment();
        apply::record("preflight");
        if reply::send(&Reply::preflight(origin, head)).is_err() {
            self.metrics.host_error().increment();
        }
        Action::Pause
    }

    /// Denies the request of the effective stream.
    pub(crate) fn deny(&mut self, reply: &DenialReply) -> Action {
        if self.send_denial(reply).is_err() {
            self.metrics.host_error().increment();
        }
        // After a local reply a stream must stay paused.
        Action::Pause
    }

    pub(crate) fn send_denial(&mut self, reply: &DenialReply) -> Result<()> {
        if let Some(counter) = self.metrics.denial(reply.denial) {
            counter.increment();
        }
        apply::record(reply.denial.code());
        reply::send(&Reply::denial(reply))
    }

    /// Resets the effective stream, which is no longer permitted.
    fn close(&mut self, reason: &str) -> Result<()> {
        apply::record(reason);
        stream::reset()?;
        self.metrics.stream_closed().increment();
        Ok(())
    }
}
