//! One request and its answer, as the proxy hands them over.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use sandgate_hostcalls::stream::Direction;

use crate::root::SharedGateway;

/// The HTTP context of one stream.
pub(crate) struct Stream {
    id: u32,
    gateway: SharedGateway,
}

impl Stream {
    pub(crate) fn new(id: u32, gateway: SharedGateway) -> Self {
        Self { id, gateway }
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.gateway.arrive(self.id)
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.gateway.with(|gateway| gateway.clean(self.id, Direction::Response));
        Action::Continue
    }

    // What is no header must not pass as a trailer: many servers and clients merge the two.
    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.gateway.with(|gateway| gateway.clean(self.id, Direction::RequestTrailers));
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.gateway.with(|gateway| gateway.clean(self.id, Direction::ResponseTrailers));
        Action::Continue
    }
}

impl Context for Stream {
    fn on_done(&mut self) -> bool {
        self.gateway.with(|gateway| gateway.end(self.id));
        true
    }
}
