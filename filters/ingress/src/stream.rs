//! The HTTP context: the callbacks of one request and its response.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;
use sandgate_engine::ingress::{DenialReply, Reply};
use sandgate_hostcalls::stream::{self, HeaderMap, headers};
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::recipient::Recipient;

use crate::reply;
use crate::vm::{NoVm, SharedVm};

/// The HTTP context of one stream.
pub(crate) struct Stream {
    id: u32,
    vm: SharedVm,
}

impl Stream {
    pub(crate) fn new(id: u32, vm: SharedVm) -> Self {
        Self { id, vm }
    }

    fn on_trailers(&self, map: HeaderMap) -> Action {
        self.vm.with(|vm| vm.on_trailers(self.id, map)).unwrap_or_else(without_vm)
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let Ok(headers) = headers(HeaderMap::RequestHeaders) else {
            return deny(Recipient::default());
        };
        let Ok(fields) = headers.fields() else { return deny(Recipient::default()) };
        let head = Head::new(&fields);
        self.vm
            .with(|vm| vm.on_request_headers(self.id, head))
            .unwrap_or_else(|_| deny(Recipient::unconfigured(head)))
    }

    fn on_http_response_headers(&mut self, _: usize, _: bool) -> Action {
        self.vm.with(|vm| vm.on_response_headers(self.id)).unwrap_or_else(without_vm)
    }

    // Many servers and clients merge trailers into headers, so a field that is forbidden as a header must not
    // pass as a trailer.
    fn on_http_request_trailers(&mut self, _: usize) -> Action {
        self.on_trailers(HeaderMap::RequestTrailers)
    }

    fn on_http_response_trailers(&mut self, _: usize) -> Action {
        self.on_trailers(HeaderMap::ResponseTrailers)
    }
}

impl Context for Stream {}

/// Envoy deletes the context right after the end of the stream. The module therefore has no callback for the end itself,
/// which would be another call into the VM for each request.
impl Drop for Stream {
    fn drop(&mut self) {
        // Without a VM there is no state of the stream to drop.
        let _ = self.vm.with(|vm| vm.on_stream_end(self.id));
    }
}

/// The action for a response or trailers that can't be cleaned.
fn without_vm(reason: NoVm) -> Action {
    match reason {
        // They belong to the local reply that denied the request.
        NoVm::NotConfigured => Action::Continue,
        NoVm::Busy => {
            // If even this fails, the stream stays paused until Envoy's own time limit.
            let _ = stream::reset();
            Action::Pause
        }
    }
}

/// Denies a request that the engine can't decide.
fn deny(recipient: Recipient) -> Action {
    // If even this fails, the request stays paused until Envoy's own time limit.
    let _ = reply::send(&Reply::denial(&DenialReply::new(Denial::SandboxUpstreamError, recipient)));
    Action::Pause
}
