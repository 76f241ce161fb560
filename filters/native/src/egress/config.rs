//! One configuration of one of the two filters.

use std::sync::Arc;

use sandgate_engine::egress::{FilterKind, GENERATION_GAUGE};

use super::Metrics;
use super::process::PROCESS;
use crate::abi::{ConfigHandle, LogLevel, NetworkConfigHandle, log};

/// The names of the filters in Envoy's configuration.
const TCP_NAME: &[u8] = b"sandgate_egress_tcp";
pub(crate) const HTTP_NAME: &[u8] = b"sandgate_egress_http";

/// A configuration of the network filter.
pub(crate) struct ConnectionConfig {
    pub(super) metrics: Metrics,
}

impl ConnectionConfig {
    /// `None` refuses the configuration.
    pub(crate) fn new(handle: &NetworkConfigHandle, name: &[u8], json: &[u8]) -> Option<Arc<Self>> {
        if name != TCP_NAME {
            log(LogLevel::Error, "sandgate: this module has no network filter of this name");
            return None;
        }
        let generation = PROCESS.configure(FilterKind::Tcp, json)?;
        handle.set_gauge(GENERATION_GAUGE, generation);
        Some(Arc::new(Self { metrics: Metrics::define(|name| handle.define_counter(name)) }))
    }
}

/// A configuration of the HTTP filter.
pub(crate) struct RequestConfig {
    pub(super) metrics: Metrics,
}

impl RequestConfig {
    /// `None` refuses the configuration.
    pub(crate) fn new(handle: &ConfigHandle, json: &[u8]) -> Option<Arc<Self>> {
        let generation = PROCESS.configure(FilterKind::Http, json)?;
        handle.set_gauge(GENERATION_GAUGE, generation);
        Some(Arc::new(Self { metrics: Metrics::define(|name| handle.define_counter(name)) }))
    }
}
