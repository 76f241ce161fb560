//! An HTTP request that passes through the filter, and its outcome.

use std::collections::BTreeMap;

use crate::connection::Attributes;
use crate::filter_state::{DYNAMIC_HOST, DYNAMIC_PORT, FilterState, LifeSpan};
use crate::headers::Headers;

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
    /// The `address:port` that the dynamic forward proxy connects to. `None` if the filter left the
    /// black hole in place, so that only a route to a static cluster can forward the request.
    pub upstream: Option<String>,
    /// The headers that the upstream receives.
    pub headers: Headers,
}

/// A reply as the client receives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
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

/// Who sends trailers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Side {
    Downstream,
    Upstream,
}

/// What stands in the filter state before the filter: an upstream that leads nowhere.
const BLACK_HOLE: &str = "black-hole.invalid";

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
    /// Trailers that the filter may look at now, and of which side they are.
    pub(crate) trailers: Option<(Side, Headers)>,
    pub(crate) paused: bool,
    /// The filter has sent a reply. Envoy accepts no second one.
    pub(crate) reply_held: bool,
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
            reply_held: false,
            logging: false,
            filter_state: BTreeMap::from([
                (DYNAMIC_HOST.to_owned(), black_hole(BLACK_HOLE)),
                (DYNAMIC_PORT.to_owned(), black_hole("1")),
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
        let upstream = (host != BLACK_HOLE || port != "1").then(|| format!("{host}:{port}"));
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

    /// The headers and the body that Envoy generates from a reply of the filter.
    pub(crate) fn local_reply(&self, reply: &LocalReply) -> (Headers, String) {
        let head = self.request.first(b":method") == Some(b"HEAD");
        let body = String::from_utf8_lossy(&reply.body).into_owned();
        let mut headers = Headers::new();
        headers.add(b":status", reply.status.to_string().as_bytes());
        for (name, value) in reply.headers.iter() {
            headers.add(name, value);
        }
        if self.is_grpc() {
            headers.replace(b":status", b"200");
            headers.replace(b"content-type", b"application/grpc");
            headers.remove(b"content-length");
            if headers.first(b"grpc-status").is_none() {
                let status = reply.grpc_status.unwrap_or_else(|| grpc_status(reply.status));
                headers.add(b"grpc-status", status.to_string().as_bytes());
            }
            if !body.is_empty() && !head {
                headers.replace(b"grpc-message", percent_encoded(&body).as_bytes());
            }
            return (headers, String::new());
        }
        if body.is_empty() {
            headers.remove(b"content-length");
            headers.remove(b"content-type");
        } else {
            headers.replace(b"content-length", body.len().to_string().as_bytes());
            if headers.first(b"content-type").is_none() {
                headers.add(b"content-type", b"text/plain");
            }
        }
        (headers, if head { String::new() } else { body })
    }

    /// Whether the content type is exactly `application/grpc` or starts with `application/grpc+`.
    /// Envoy accepts neither parameters nor upper case for gRPC.
    fn is_grpc(&self) -> bool {
        self.request
            .first(b"content-type")
            .and_then(|value| value.strip_prefix(b"application/grpc"))
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
    }
}

/// A reply that the filter requests.
#[derive(Debug)]
pub(crate) struct LocalReply {
    pub(crate) status: u32,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) grpc_status: Option<i32>,
}

/// Encodes a gRPC message for a header. Printable ASCII except `%` stays unchanged.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// The gRPC status for an HTTP status.
fn grpc_status(http: u32) -> i32 {
    match http {
        200 => 0,
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}
