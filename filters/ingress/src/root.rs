//! The root context: configuration, ticks, and the answers of the control plane.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType};
use sandgate_hostcalls::http::Answer;
use sandgate_hostcalls::queue::Queue;
use sandgate_hostcalls::stream::{self, Direction};
use sandgate_hostcalls::{LogLevel, configuration, log, set_tick_period};
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::recipient::Recipient;

use crate::gateway::Gateway;
use crate::lookups::ANSWER_MAX;
use crate::reply;
use crate::stream::Stream;

/// Deadlines of waiting requests are kept to this.
const TICK: Duration = Duration::from_millis(100);

/// The gateway of one configuration, shared by its root and its streams; empty until configured.
#[derive(Clone, Default)]
pub(crate) struct SharedGateway(Rc<RefCell<Option<Gateway>>>);

impl SharedGateway {
    /// Runs `f` on the gateway; `None` when there is no configuration. Calls of the host never run
    /// a callback of this VM before they return, so the borrow can't fail; if it did, the request
    /// would be refused and not trapped.
    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut Gateway) -> T) -> Option<T> {
        self.0.try_borrow_mut().ok()?.as_mut().map(f)
    }

    /// A request has come. What is not decided by the gateway is refused.
    pub(crate) fn arrive(&self, id: u32) -> Action {
        let Ok(headers) = stream::headers(Direction::Request) else {
            return refuse(&Recipient::default());
        };
        let head = Head::new(&headers);
        match self.with(|gateway| gateway.arrive(id, head)) {
            Some(action) => action,
            None => refuse(&Recipient::unconfigured(head)),
        }
    }
}

fn refuse(recipient: &Recipient) -> Action {
    // If even this fails, the request stays paused until the proxy's own time limit.
    let _ = reply::deny(Denial::SandboxUpstreamError, recipient, None);
    Action::Pause
}

/// The root context of one configuration in one VM.
pub(crate) struct Root {
    id: u32,
    gateway: SharedGateway,
}

impl Root {
    pub(crate) fn new(id: u32) -> Self {
        Self { id, gateway: SharedGateway::default() }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let config = match configuration(size) {
            Ok(json) => IngressConfig::from_json(&json).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match config {
            Ok(config) => {
                // Without ticks no deadline would be kept.
                if let Err(error) = set_tick_period(TICK) {
                    log(LogLevel::Error, &format!("sandgate_ingress: {error}"));
                    return false;
                }
                if let Ok(mut gateway) = self.gateway.0.try_borrow_mut() {
                    *gateway = Some(Gateway::new(self.id, config));
                }
                true
            }
            Err(error) => {
                log(LogLevel::Error, &format!("sandgate_ingress: configuration refused: {error}"));
                false
            }
        }
    }

    fn on_tick(&mut self) {
        self.gateway.with(Gateway::tick);
    }

    fn on_queue_ready(&mut self, queue_id: u32) {
        Queue::drain(queue_id);
        self.gateway.with(Gateway::flush);
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(context_id, self.gateway.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _: usize) {
        let answer = Answer::read(headers, body, ANSWER_MAX).ok();
        self.gateway.with(|gateway| gateway.answer(token, answer.as_ref()));
    }
}
