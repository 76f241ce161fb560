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

    fn clean_trailers(&self, direction: Direction) -> Action {
        let cleaned = self.gateway.with(|gateway| gateway.clean_trailers(self.id, direction));
        cleaned.unwrap_or(Action::Continue)
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        self.gateway.arrive(self.id)
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.gateway.with(|gateway| gateway.respond(self.id)).unwrap_or(Action::Continue)
    }

    // What is no header must not pass as a trailer: many servers and clients merge the two.
    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.clean_trailers(Direction::RequestTrailers)
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.clean_trailers(Direction::ResponseTrailers)
    }
}

impl Context for Stream {
    fn on_done(&mut self) -> bool {
        self.gateway.with(|gateway| gateway.end(self.id));
        true
    }
}
