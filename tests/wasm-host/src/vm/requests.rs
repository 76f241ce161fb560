//! The lifecycle of requests: the callbacks in Envoy's order.

use super::{CONTINUE, Vm, count};
use crate::connection::Attributes;
use crate::headers::Headers;
use crate::local_reply::LocalReply;
use crate::stream::{Ending, Reply, Side, StreamState};

impl Vm {
    /// Sends a request to the filter with this root id.
    pub(crate) fn request(
        &mut self,
        root_id: &str,
        headers: Headers,
        attributes: Attributes,
        end_of_stream: bool,
    ) -> u32 {
        let Some(root) = self.current_root(root_id) else {
            panic!("a request before the filter has a configuration");
        };
        let id = self.state_mut().new_context();
        let number = count(headers.len());
        self.state_mut().streams.insert(id, StreamState::new(root, headers, attributes));
        self.invoke("proxy_on_context_create", id, &[id, root]);
        self.with(id, |stream| stream.request_readable = true);
        let returned =
            self.invoke("proxy_on_request_headers", id, &[id, number, u32::from(end_of_stream)]);
        self.with(id, |stream| match returned {
            CONTINUE => stream.forward(),
            _ => stream.paused = true,
        });
        id
    }

    /// Passes the upstream's response through the filter. Returns its headers as the client
    /// receives them, or `None` if the request has ended or the filter reset it.
    pub(crate) fn response(&mut self, id: u32, headers: Headers) -> Option<Headers> {
        let headers = self.encode(id, headers, false)?;
        self.with(id, |stream| stream.response_started = true)?;
        Some(headers)
    }

    /// Passes trailers through the filter. Returns the trailers that the other side receives, or `None` if
    /// the request has ended or the filter reset it.
    pub(crate) fn trailers(&mut self, id: u32, side: Side, trailers: Headers) -> Option<Headers> {
        let number = count(trailers.len());
        self.with(id, |stream| stream.trailers = Some((side, trailers)))?;
        let callback = match side {
            Side::Downstream => "proxy_on_request_trailers",
            Side::Upstream => "proxy_on_response_trailers",
        };
        let returned = self.invoke(callback, id, &[id, number]);
        let (_, trailers) = self.with(id, |stream| stream.trailers.take())??;
        (returned == CONTINUE).then_some(trailers)
    }

    /// Passes response headers through the filter.
    fn encode(&mut self, id: u32, headers: Headers, end_of_stream: bool) -> Option<Headers> {
        let number = count(headers.len());
        self.with(id, |stream| {
            stream.response = headers;
            stream.response_readable = true;
        })?;
        let returned =
            self.invoke("proxy_on_response_headers", id, &[id, number, u32::from(end_of_stream)]);
        self.with(id, |stream| {
            if returned == CONTINUE {
                stream.response_readable = false;
                return Some(stream.response.clone());
            }
            None
        })?
    }

    /// Ends a request: its response is complete, or the client has aborted it.
    pub(crate) fn finish(&mut self, id: u32, ending: Ending) {
        let begun = self.with(id, |stream| {
            let open = stream.ending.is_none();
            stream.ending.get_or_insert(ending);
            stream.logging = true;
            open
        });
        if begun != Some(true) {
            return;
        }
        self.invoke("proxy_on_log", id, &[id]);
        self.invoke("proxy_on_done", id, &[id]);
        self.invoke("proxy_on_delete", id, &[id]);
        if let Some(stream) = self.state_mut().streams.remove(&id) {
            self.state_mut().finished.insert(id, stream);
        }
        self.release_roots();
    }

    pub(super) fn reset(&mut self, id: u32) {
        if self.with(id, |stream| stream.ending.is_none()) != Some(true) {
            self.fault(format!("it reset request {id}, which had ended"));
        }
        self.finish(id, Ending::Reset);
    }

    pub(super) fn resume(&mut self, id: u32) {
        let paused = self.with(id, |stream| {
            if stream.paused {
                stream.forward();
                return true;
            }
            stream.ending.is_some()
        });
        if paused == Some(false) {
            self.fault(format!("it resumed request {id}, which was not paused"));
        }
    }

    pub(super) fn reply(&mut self, id: u32, reply: &LocalReply) {
        let Some((started, filtered, (headers, body))) = self.with(id, |stream| {
            (stream.response_started, stream.response_readable, reply.generate(&stream.request))
        }) else {
            return;
        };
        if started {
            // The response has already started, so Envoy can only reset it.
            self.finish(id, Ending::Reset);
            return;
        }
        // The filters have already processed the response that this reply replaces, so Envoy does not
        // pass the reply through them.
        let headers =
            if filtered { Some(headers) } else { self.encode(id, headers, body.is_empty()) };
        let Some(headers) = headers else { return };
        let status = headers.value(":status").and_then(|status| status.parse().ok()).unwrap_or(0);
        self.finish(id, Ending::Replied(Reply { status, headers, body }));
    }

    /// Accesses a request that has not ended.
    fn with<T>(&mut self, id: u32, look: impl FnOnce(&mut StreamState) -> T) -> Option<T> {
        self.state_mut().streams.get_mut(&id).map(look)
    }
}
