//! The state of the filter in one VM, for one configuration.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use proxy_wasm::types::Action;
use sandgate_engine::ingress::{
    CALL_RESPONSE_MAX, CallId, CallResponse, Clock, DenialReply, Engine, Guards, Hub, Metrics, Now,
    RequestAction, RequestProperties, ResponseAction, Sight, missing_guards,
};
use sandgate_hostcalls::http::Response;
use sandgate_hostcalls::metrics::Counter;
use sandgate_hostcalls::queue::Queue;
use sandgate_hostcalls::stream::{self, HeaderMap};
use sandgate_hostcalls::{LogLevel, Result, log, property, wall_clock};
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::recipient::Recipient;
use sandgate_policy::ingress::slots::ClientAddress;

use crate::apply;

/// The engine of one configuration, and its connection to Envoy. VMs share no memory, so the engine has a hub of its own.
pub(crate) struct Vm {
    pub(crate) root_id: u32,
    pub(crate) engine: Engine,
    pub(crate) hub: Arc<Hub>,
    /// Whether the root context must run the hub.
    pub(crate) must_run_hub: bool,
    pub(crate) metrics: Metrics<Counter>,
    /// The queue that wakes the root context; `None` before the first request.
    pub(crate) queue: Option<Queue>,
    /// The calls in flight, by the host's token.
    pub(crate) calls: BTreeMap<u32, CallId>,
    clock: Clock,
    pub(crate) guards: Guards,
    /// The permits that Envoy's counter lacks.
    uncounted_permits: u32,
}

/// The VM's state, shared by the root context and its streams. `None` before the configuration.
#[derive(Clone, Default)]
pub(crate) struct SharedVm(Rc<RefCell<Option<Vm>>>);

/// Why the VM's state can't be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NoVm {
    /// Before the configuration. All requests are denied.
    NotConfigured,
    /// Another callback uses it. Streams may be live, but what may pass is unknown.
    Busy,
}

impl SharedVm {
    pub(crate) fn configure(&self, root_id: u32, config: IngressConfig) {
        if let Ok(mut vm) = self.0.try_borrow_mut() {
            *vm = Some(Vm::new(root_id, config));
        }
    }

    /// Runs `f` on the VM's state.
    ///
    /// Envoy sends the local replies of a callback after the callback has returned. They nest on the native stack, but
    /// no callback of this VM is entered while another one runs, so the borrow succeeds.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Vm) -> T) -> std::result::Result<T, NoVm> {
        let mut vm = self.0.try_borrow_mut().map_err(|_| NoVm::Busy)?;
        vm.as_mut().map(f).ok_or(NoVm::NotConfigured)
    }
}

impl Vm {
    fn new(root_id: u32, config: IngressConfig) -> Self {
        let hub = Arc::new(Hub::new(config));
        let worker = hub.add_worker();
        Self {
            root_id,
            engine: Engine::new(Arc::clone(&hub), worker),
            hub,
            must_run_hub: false,
            metrics: Metrics::define(Counter::define),
            queue: None,
            calls: BTreeMap::new(),
            clock: Clock::default(),
            guards: Guards::default(),
            uncounted_permits: 0,
        }
    }

    fn now(&mut self) -> Now {
        let wall = wall_clock();
        if wall.is_err() {
            self.metrics.host_error().increment();
        }
        self.clock.now(wall.ok())
    }

    /// Counts a permit. Envoy learns the number with the next tick, because nearly all requests are permitted, and a host
    /// call for each of them costs more than all other counting.
    pub(crate) fn count_permit(&mut self) {
        self.uncounted_permits = self.uncounted_permits.saturating_add(1);
    }

    /// Reports what Envoy's configuration lacks around the filter. The request is not denied, because nothing is wrong with it.
    pub(crate) fn report_missing_guards(&self, sight: Option<Sight>) {
        let Some(sight) = sight else { return };
        for guard in missing_guards(&sight, self.engine.config()) {
            self.metrics.missing_guard(guard).increment();
            log(LogLevel::Critical, &format!("sandgate_ingress: {}", guard.message()));
        }
    }

    fn report_permits(&mut self) {
        if self.uncounted_permits > 0 {
            self.metrics.permit().add(std::mem::take(&mut self.uncounted_permits));
        }
    }

    /// Handles the headers of a request. The stream is the effective context.
    pub(crate) fn on_request_headers(&mut self, stream: u32, head: Head<'_>) -> Action {
        let now = self.now();
        let properties = RequestProperties::new(&effective_client, &is_http10);
        let upstream = self.engine.config().upstream();
        let action = match self.engine.on_request_headers(stream, head, &properties, now) {
            RequestAction::Wait => Action::Pause,
            RequestAction::Forward(forward) => {
                let looks = apply::can_look(&forward) && self.guards.is_due(now);
                let sight = looks.then(|| apply::look(upstream));
                let applied = apply::forward(&forward, upstream);
                self.report_missing_guards(sight);
                self.forwarded(stream, applied)
            }
            RequestAction::ForwardToApi(changes) => {
                match apply::change(HeaderMap::RequestHeaders, &changes) {
                    Ok(()) => {
                        apply::record("api");
                        Action::Continue
                    }
                    Err(_) => {
                        self.metrics.host_error().increment();
                        let recipient = Recipient::of(head, self.engine.config());
                        let denial = Denial::SandboxUpstreamError;
                        self.deny(&DenialReply { denial, recipient, retry_after: None })
                    }
                }
            }
            RequestAction::AnswerPreflight { origin } => self.answer_preflight(&origin, head),
            RequestAction::Deny(reply) => self.deny(&reply),
        };
        self.execute_effects(now);
        if self.must_run_hub {
            self.wake();
        }
        action
    }

    /// Handles the headers of a response. The stream is the effective context.
    pub(crate) fn on_response_headers(&mut self, stream: u32) -> Action {
        let code_details = || property(&["response", "code_details"]);
        let action = stream::headers(HeaderMap::ResponseHeaders).and_then(|headers| {
            let fields = headers.fields()?;
            self.engine.on_response_headers(stream, Head::new(&fields), code_details)
        });
        let applied = action.and_then(|action| match action {
            ResponseAction::Forward(changes) => {
                apply::change(HeaderMap::ResponseHeaders, &changes).map(|()| Action::Continue)
            }
            ResponseAction::Replace(reply) => self.send_denial(&reply).map(|()| Action::Pause),
        });
        applied.unwrap_or_else(|_| self.reset())
    }

    /// Handles trailers in either direction. The stream is the effective context.
    pub(crate) fn on_trailers(&mut self, stream: u32, map: HeaderMap) -> Action {
        if !self.engine.is_live(stream) {
            return Action::Continue;
        }
        let cleaned = stream::headers(map).and_then(|trailers| {
            let fields = trailers.fields()?;
            let trailers = Head::new(&fields);
            let changes = match map {
                HeaderMap::RequestHeaders | HeaderMap::RequestTrailers => {
                    self.engine.on_request_trailers(stream, trailers)
                }
                HeaderMap::ResponseHeaders | HeaderMap::ResponseTrailers => {
                    self.engine.on_response_trailers(stream, trailers)
                }
            };
            apply::change(map, &changes)
        });
        match cleaned {
            Ok(()) => Action::Continue,
            Err(_) => self.reset(),
        }
    }

    /// Resets the effective stream, because its response or trailers can't be cleaned.
    fn reset(&mut self) -> Action {
        self.metrics.host_error().increment();
        // Without a reset the stream stays paused until Envoy's own time limit.
        let _ = stream::reset();
        Action::Pause
    }

    pub(crate) fn on_stream_end(&mut self, stream: u32) {
        self.engine.on_stream_end(stream);
        // The clock takes a host call, which nearly all streams can do without.
        if self.engine.has_effects() {
            let now = self.now();
            self.execute_effects(now);
        }
    }

    /// The root is the effective context.
    pub(crate) fn on_queue_ready(&mut self) {
        let now = self.now();
        self.run(now);
    }

    /// The root is the effective context.
    pub(crate) fn on_tick(&mut self) {
        self.report_permits();
        let now = self.now();
        self.hub.on_tick(now);
        self.execute_hub_effects(now);
        self.engine.on_tick(now);
        self.execute_effects(now);
        self.run(now);
        if let Some(warning) = self.hub.warning() {
            log(LogLevel::Warn, &format!("sandgate_ingress: {warning}"));
        }
    }

    /// Does the work that is due. The root is the effective context.
    fn run(&mut self, now: Now) {
        self.engine.on_wake(now);
        self.execute_effects(now);
        self.must_run_hub = false;
        self.hub.run(now);
        self.execute_hub_effects(now);
        // A call that can't be sent may have given the engine more to do, which waits for the next callback.
        self.execute_effects(now);
    }

    /// Handles the response to a call. The root is the effective context.
    pub(crate) fn on_call_response(&mut self, token: u32, num_headers: usize, body_size: usize) {
        let Some(call) = self.calls.remove(&token) else { return };
        let now = self.now();
        let response: Result<Response> = Response::read(num_headers, body_size, CALL_RESPONSE_MAX);
        let response = response.ok();
        let fields = response.as_ref().and_then(|response| response.headers.fields().ok());
        let response = response.as_ref().zip(fields.as_ref()).map(|(response, fields)| {
            CallResponse { headers: Head::new(fields), body: &response.body }
        });
        self.hub.on_call_response(call, response.as_ref(), now);
        self.execute_hub_effects(now);
        self.run(now);
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.report_permits();
    }
}

/// Whether the request of the effective stream is of HTTP/1.0. If the host does not say, it may be.
fn is_http10() -> bool {
    property(&["request", "protocol"]).ok().flatten().is_none_or(|protocol| protocol == b"HTTP/1.0")
}

/// The client of the effective stream.
pub(crate) fn effective_client() -> ClientAddress {
    ClientAddress::of_connection(&stream::client_address().unwrap_or_default())
}
