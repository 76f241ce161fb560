//! A request, as the test that sent it sees it.

use std::sync::Arc;

use super::{Envoy, Headers, Outcome, Stream, stream};

impl Stream {
    pub(super) fn act<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Arc<Envoy>, usize) -> T + Send + 'static,
    ) -> T {
        let id = self.id;
        let worker = self.host.envoy().state().streams.get(&id).map(|stream| stream.worker);
        let worker = worker.expect("a known stream");
        self.host.on_worker(worker, move |envoy| act(envoy, id))
    }

    fn look<T>(&self, look: impl FnOnce(&stream::StreamState) -> T) -> T {
        look(self.host.envoy().state().streams.get(&self.id).expect("a known stream"))
    }

    /// The outcome so far.
    pub(crate) fn outcome(&self) -> Outcome {
        self.look(stream::StreamState::outcome)
    }

    /// Whether the stream has not ended.
    pub(crate) fn is_open(&self) -> bool {
        self.look(stream::StreamState::is_open)
    }

    /// The upstream responds. Returns what the client receives, or `None` if it receives nothing.
    pub(crate) fn respond(&self, headers: Headers) -> Option<Headers> {
        self.act(move |envoy, id| envoy.respond(id, headers))
    }

    /// The client ends its request with these trailers. Returns what the upstream receives.
    pub(crate) fn send_trailers(&self, trailers: Headers) -> Option<Headers> {
        self.act(move |envoy, id| envoy.trailers(id, true, trailers))
    }

    /// The upstream ends its response with these trailers. Returns what the client receives.
    pub(crate) fn respond_with_trailers(&self, trailers: Headers) -> Option<Headers> {
        self.act(move |envoy, id| envoy.trailers(id, false, trailers))
    }

    /// The client or the upstream sends a part of a body.
    pub(crate) fn send_body(&self, is_request: bool, size: usize) {
        self.act(move |envoy, id| envoy.body(id, is_request, size));
    }

    /// The response is complete.
    pub(crate) fn complete(&self) {
        self.act(|envoy, id| envoy.finish(id, Outcome::Pending));
    }

    /// The client aborts the request.
    pub(crate) fn abort(&self) {
        self.act(|envoy, id| envoy.finish(id, Outcome::Aborted));
    }

    /// Sets an attribute that Envoy provides from now on.
    pub(crate) fn set_attribute(&self, name: &str, value: impl AsRef<[u8]>) {
        let mut state = self.host.envoy().state();
        if let Some(stream) = state.streams.get_mut(&self.id) {
            stream.attributes.insert(name.to_owned(), value.as_ref().to_vec());
        }
    }

    /// The client has received this number of bytes of the response's body.
    pub(crate) fn set_sent_bytes(&self, bytes: u64) {
        self.act(move |envoy, id| envoy.set_sent_bytes(id, bytes));
    }

    /// A text that the module set for access logs, by its name without the prefix of `edge.yaml`.
    pub(crate) fn property(&self, name: &str) -> Option<String> {
        self.look(|stream| {
            // `edge.yaml` reads it from there in the native form.
            if name == "sandgate_generation" {
                return stream.filter_state.get(stream::UPSTREAM_SERVER_NAME).cloned();
            }
            let value = stream.properties.get(&format!("wasm.{name}"))?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }

    /// All texts that the module set for access logs.
    pub(crate) fn properties(&self) -> Headers {
        self.look(|stream| {
            let name = |key: &str| key.strip_prefix("wasm.").unwrap_or(key).into();
            stream.properties.iter().map(|(key, value)| (name(key), value.clone())).collect()
        })
    }

    /// The number of times that the module let Envoy select the route again.
    pub(crate) fn routes(&self) -> usize {
        self.look(|stream| stream.routes)
    }
}
