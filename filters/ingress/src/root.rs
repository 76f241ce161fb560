//! The root context: configuration, ticks, wake-ups, and the responses of the control plane.

use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use sandgate_engine::ingress::TICK_MS;
use sandgate_hostcalls::queue::Queue;
use sandgate_hostcalls::{LogLevel, configuration, log, set_tick_period};
use sandgate_policy::ingress::config::IngressConfig;

use crate::stream::Stream;
use crate::vm::SharedVm;

/// The root context of one configuration in one VM.
pub(crate) struct Root {
    id: u32,
    vm: SharedVm,
}

impl Root {
    pub(crate) fn new(id: u32) -> Self {
        Self { id, vm: SharedVm::default() }
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
                // Without ticks, the engine can't enforce deadlines.
                if let Err(error) = set_tick_period(Duration::from_millis(TICK_MS)) {
                    log(LogLevel::Error, &format!("sandgate_ingress: {error}"));
                    return false;
                }
                self.vm.configure(self.id, config);
                true
            }
            Err(error) => {
                log(LogLevel::Error, &format!("sandgate_ingress: configuration refused: {error}"));
                false
            }
        }
    }

    // Without a configuration, the callbacks below have nothing to do.

    fn on_tick(&mut self) {
        let _ = self.vm.with(|vm| vm.on_tick());
    }

    fn on_queue_ready(&mut self, queue_id: u32) {
        Queue::drain(queue_id);
        let _ = self.vm.with(|vm| vm.on_queue_ready());
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(context_id, self.vm.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Root {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, _: usize) {
        let _ = self.vm.with(|vm| vm.on_call_response(token, headers, body));
    }
}
