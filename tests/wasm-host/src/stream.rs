//! An HTTP request that passes through the filter, and its outcome.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::connection::Attributes;
use crate::envoy::Envoy;
use crate::filter_state::{DYNAMIC_HOST, DYNAMIC_PORT, FilterState, LifeSpan, ORIGINAL_DST};
use crate::headers::Headers;
use crate::vm::Vm;

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The filter holds the request.
    Pending,
    /// The filter forwarded the request.
    Forwarded(Forwarded),
    /// The filter sent a reply.
    Replied(Reply),
    /// The filter reset the request.
    Reset,
    /// The client aborted the request.
    Aborted,
}

/// A forwarded request.
#[derive(Clone, Debug, PartialEq)]
pub struct Forwarded {
    /// The `address:port` that Envoy connects to, with either setting of `upstream`. `None` if the filter left the
    /// black hole in place, so that only a route to a static cluster can forward the request.
    pub upstream: Option<String>,
    /// The headers that the upstream receives.
    pub headers: Headers,
}

/// A reply as the client receives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    pub status: u16,
    pub headers: Headers,
    /// The body as text.
    pub body: String,
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ending {
    Replied(Reply),
    Reset,
    Aborted,
    Completed,
}

/// The side that sends trailers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Downstream,
    Upstream,
}

/// The upstream in the filter state before the filter runs. Connecting to it fails.
const BLACK_HOLE: &str = "black-hole.invalid";
const BLACK_HOLE_ADDRESS: &str = "255.255.255.255:9";

/// The state of a request in Envoy.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) root: u32,
    pub(crate) attributes: Attributes,
    pub(crate) request: Headers,
    /// Whether the filter may read the request headers now.
    pub(crate) request_readable: bool,
    pub(crate) response: Headers,
    /// Whether the filter may read the response headers now.
    pub(crate) response_readable: bool,
    pub(crate) response_started: bool,
    /// The trailers that the filter may read now, and the side that sent them.
    pub(crate) trailers: Option<(Side, Headers)>,
    pub(crate) paused: bool,
    /// The filter has sent a reply. Envoy accepts no second one.
    pub(crate) replied: bool,
    /// In the access log phase, both header maps can be read but not changed.
    pub(crate) logging: bool,
    pub(crate) filter_state: BTreeMap<String, FilterState>,
    pub(crate) properties: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) forwarded: Option<Forwarded>,
    pub(crate) ending: Option<Ending>,
}

impl StreamState {
    pub(crate) fn new(root: u32, request: Headers, attributes: Attributes) -> Self {
        let black_hole =
            |value: &str| FilterState { value: value.to_owned(), span: LifeSpan::FilterChain };
        Self {
            root,
            attributes,
            request,
            request_readable: false,
            response: Headers::new(),
            response_readable: false,
            response_started: false,
            trailers: None,
            paused: false,
            replied: false,
            logging: false,
            filter_state: BTreeMap::from([
                (DYNAMIC_HOST.to_owned(), black_hole(BLACK_HOLE)),
                (DYNAMIC_PORT.to_owned(), black_hole("1")),
                (ORIGINAL_DST.to_owned(), black_hole(BLACK_HOLE_ADDRESS)),
            ]),
            properties: BTreeMap::new(),
            forwarded: None,
            ending: None,
        }
    }

    /// Forwards the request with the current headers and filter state.
    pub(crate) fn forward(&mut self) {
        self.paused = false;
        self.request_readable = false;
        let state = |key| self.filter_state.get(key).map_or("", |state| state.value.as_str());
        let (host, port) = (state(DYNAMIC_HOST), state(DYNAMIC_PORT));
        let original_dst = state(ORIGINAL_DST);
        let upstream = if host.parse::<SocketAddr>().is_ok() {
            // The dynamic forward proxy prefers a port in the host.
            Some(host.to_owned())
        } else if original_dst == BLACK_HOLE_ADDRESS {
            (host != BLACK_HOLE || port != "1").then(|| format!("{host}:{port}"))
        } else {
            Some(original_dst.to_owned())
        };
        self.forwarded = Some(Forwarded { upstream, headers: self.request.clone() });
    }

    pub(crate) fn outcome(&self) -> Outcome {
        match (&self.ending, &self.forwarded) {
            (Some(Ending::Replied(reply)), _) => Outcome::Replied(reply.clone()),
            (Some(Ending::Reset), _) => Outcome::Reset,
            (Some(Ending::Aborted), _) => Outcome::Aborted,
            (_, Some(forwarded)) => Outcome::Forwarded(forwarded.clone()),
            (Some(Ending::Completed) | None, None) => Outcome::Pending,
        }
    }
}

/// A request that a test sent.
#[derive(Clone)]
pub struct Stream {
    pub(crate) envoy: Envoy,
    pub(crate) vm: usize,
    pub(crate) id: u32,
}

impl Stream {
    /// The outcome so far.
    pub fn outcome(&self) -> Outcome {
        self.look(StreamState::outcome)
    }

    /// Whether the filter still has a context for the request.
    pub fn is_open(&self) -> bool {
        self.look(|stream| stream.ending.is_none())
    }

    /// The upstream responds with these headers. Returns the headers that the client receives, or
    /// `None` if the request has ended.
    pub fn respond(&self, headers: Headers) -> Option<Headers> {
        self.act(|vm, id| vm.response(id, headers))
    }

    /// The client ends its request with these trailers. Returns the trailers that the upstream
    /// receives.
    pub fn send_trailers(&self, trailers: Headers) -> Option<Headers> {
        self.act(|vm, id| vm.trailers(id, Side::Downstream, trailers))
    }

    /// The upstream ends its response with these trailers. Returns the trailers that the client
    /// receives.
    pub fn respond_with_trailers(&self, trailers: Headers) -> Option<Headers> {
        self.act(|vm, id| vm.trailers(id, Side::Upstream, trailers))
    }

    /// The response is complete.
    pub fn complete(&self) {
        self.act(|vm, id| vm.finish(id, Ending::Completed));
    }

    /// The client aborts the request.
    pub fn abort(&self) {
        self.act(|vm, id| vm.finish(id, Ending::Aborted));
    }

    /// Sets an attribute that Envoy provides from now on.
    pub fn set_attribute(&self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref().to_vec();
        self.act(|vm, id| {
            if let Some(stream) = vm.state_mut().streams.get_mut(&id) {
                stream.attributes.insert(name.to_owned(), value);
            }
        });
    }

    /// The client has received this number of bytes.
    pub fn set_sent_bytes(&self, bytes: u64) {
        self.set_attribute("response.total_size", bytes.to_le_bytes());
    }

    /// A property that the filter set, for access logs.
    pub fn property(&self, name: &str) -> Option<String> {
        self.look(|stream| {
            let value = stream.properties.get(name.as_bytes())?;
            Some(String::from_utf8_lossy(value).into_owned())
        })
    }

    /// All properties that the filter set.
    pub fn properties(&self) -> Headers {
        self.look(|stream| {
            stream.properties.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
        })
    }

    /// An object in the request's filter state.
    pub fn filter_state(&self, key: &str) -> Option<FilterState> {
        self.look(|stream| stream.filter_state.get(key).cloned())
    }

    fn act<T>(&self, act: impl FnOnce(&mut Vm, u32) -> T) -> T {
        self.envoy.with_vm(self.vm, |vm| act(vm, self.id))
    }

    fn look<T>(&self, look: impl FnOnce(&StreamState) -> T) -> T {
        self.envoy.look_at_vm(self.vm, |vm| {
            let state = vm.state();
            let stream = state.streams.get(&self.id).or_else(|| state.finished.get(&self.id));
            look(stream.unwrap_or_else(|| panic!("request {} is not known", self.id)))
        })
    }
}
