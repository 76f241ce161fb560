//! One configuration of the filter.

use std::sync::Arc;

use sandgate_engine::ingress::Metrics;
use sandgate_policy::ingress::config::IngressConfig;

use super::process::Process;
use super::shared::Shared;
use crate::abi::{ConfigHandle, Counter, LogLevel, log};

/// The name of the filter in Envoy's configuration.
const NAME: &[u8] = b"sandgate_ingress";

/// What belongs to one configuration: the numbers that its counters have in Envoy.
pub(crate) struct Config {
    pub(super) shared: Arc<Shared>,
    pub(super) metrics: Metrics<Counter>,
}

impl Config {
    /// `None` refuses the configuration.
    pub(crate) fn new(handle: &ConfigHandle, name: &[u8], json: &[u8]) -> Option<Arc<Self>> {
        if name != NAME {
            log(LogLevel::Error, "sandgate: this module has no filter of this name");
            return None;
        }
        let refused = |reason: &str| {
            log(LogLevel::Error, &format!("sandgate_ingress: configuration refused: {reason}"));
        };
        let ingress =
            IngressConfig::from_json(json).map_err(|error| refused(&error.to_string())).ok()?;
        let Some(process) = Process::of_main_thread() else {
            refused(
                "Envoy's bootstrap lacks the extension `sandgate_ingress` of this module, \
                 `envoy.bootstrap.dynamic_modules`, which calls the control plane",
            );
            return None;
        };
        let metrics = Metrics::define(|name| handle.define_counter(name));
        Some(Arc::new(Self { shared: process.share(ingress, json), metrics }))
    }

    /// Envoy destroys the configuration, on any thread. No stream uses it any more.
    pub(crate) fn end(&self) {
        self.shared.leave();
    }
}
