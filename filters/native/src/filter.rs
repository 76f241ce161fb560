//! The HTTP filters of the module, as the hooks see them. Envoy's configuration names one of them.

use std::rc::Rc;
use std::sync::Arc;

use crate::abi::{ConfigHandle, HeaderMap, StreamHandle};
use crate::egress::{self, Request, RequestConfig};
use crate::ingress::{self, Action};

/// A configuration of one of the filters.
pub(crate) enum Config {
    Ingress(Arc<ingress::Config>),
    Egress(Arc<RequestConfig>),
}

impl Config {
    /// `None` refuses the configuration.
    pub(crate) fn new(handle: &ConfigHandle, name: &[u8], json: &[u8]) -> Option<Arc<Self>> {
        Some(Arc::new(if name == egress::HTTP_NAME {
            Self::Egress(RequestConfig::new(handle, json)?)
        } else {
            Self::Ingress(ingress::Config::new(handle, name, json)?)
        }))
    }

    /// Envoy destroys the configuration, on any thread.
    pub(crate) fn end(&self) {
        if let Self::Ingress(config) = self {
            config.end();
        }
    }
}

/// A stream of one of the filters.
pub(crate) enum Stream {
    Ingress(Rc<ingress::Stream>),
    Egress(Rc<Request>),
}

impl Stream {
    pub(crate) fn new(config: &Config, handle: StreamHandle) -> Rc<Self> {
        Rc::new(match config {
            Config::Ingress(config) => Self::Ingress(ingress::Stream::new(config, handle)),
            Config::Egress(config) => Self::Egress(Request::new(config, handle)),
        })
    }

    pub(crate) fn handle(&self) -> &StreamHandle {
        match self {
            Self::Ingress(stream) => stream.handle(),
            Self::Egress(request) => request.handle(),
        }
    }

    pub(crate) fn on_request_headers(self: &Rc<Self>) -> Action {
        match &**self {
            Self::Ingress(stream) => stream.on_request_headers(),
            Self::Egress(request) => request.on_request_headers(),
        }
    }

    pub(crate) fn on_response_headers(self: &Rc<Self>) -> Action {
        match &**self {
            Self::Ingress(stream) => stream.on_response_headers(),
            Self::Egress(_) => Action::Continue,
        }
    }

    pub(crate) fn on_trailers(&self, map: HeaderMap) -> Action {
        match self {
            Self::Ingress(stream) => stream.on_trailers(map),
            Self::Egress(_) => Action::Continue,
        }
    }

    pub(crate) fn on_body(&self, is_request: bool) {
        if let Self::Ingress(stream) = self {
            stream.on_body(is_request);
        }
    }

    pub(crate) fn on_scheduled(self: &Rc<Self>) {
        match &**self {
            Self::Ingress(stream) => stream.on_scheduled(),
            Self::Egress(request) => request.on_scheduled(),
        }
    }

    pub(crate) fn on_complete(self: &Rc<Self>) {
        match &**self {
            Self::Ingress(stream) => stream.on_complete(),
            Self::Egress(request) => request.on_complete(),
        }
    }

    pub(crate) fn on_end(&self) {
        match self {
            Self::Ingress(stream) => stream.on_end(),
            Self::Egress(request) => request.on_end(),
        }
    }

    pub(crate) fn on_panic(&self) {
        match self {
            Self::Ingress(stream) => stream.on_panic(),
            Self::Egress(request) => request.on_panic(),
        }
    }
}
