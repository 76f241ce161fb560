//! One HTTP request on its way through the filter, and what became of it.

use std::collections::BTreeMap;

use crate::connection::Attributes;
use crate::filter_state::{DYNAMIC_HOST, DYNAMIC_PORT, FilterState, LifeSpan};
use crate::headers::Headers;

/// What became of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The filter holds it.
    Pending,
    /// The filter let it pass.
    Forwarded(Forwarded),
    /// The filter answered it.
    Replied(Reply),
    /// The filter broke it off.
    Reset,
    /// The client went away.
    Aborted,
}

/// A request as it leaves the filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Forwarded {
    /// `address:port` that the dynamic forward proxy connects to; `None` when the filter left
    /// the black hole in place that stands in front of it, so that only a route to a fixed
    /// cluster carries the request anywhere.
    pub upstream: Option<String>,
    /// Headers that the upstream sees.
    pub headers: Headers,
}

/// An answer as the client gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// `:status`.
    pub status: u16,
    /// Its headers.
    pub headers: Headers,
    /// Its body, as text.
    pub body: String,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Ending {
    Replied(Reply),
    Reset,
    Aborted,
    Completed,
}

/// What stands in the filter state before the filter: an upstream that leads nowhere.
const BLACK_HOLE: &str = "black-hole.invalid";

/// A request's state, as Envoy keeps it.
#[derive(Debug)]
pub(crate) struct StreamState {
    pub(crate) root: u32,
    pub(crate) attributes: Attributes,
    pub(crate) request: Headers,
    /// Whether the filter may look at the request's headers now.
    pub(crate) request_readable: bool,
    pub(crate) response: Headers,
    /// Whether the filter may look at the response's headers now.
    pub(crate) response_readable: bool,
    pub(crate) response_started: bool,
    pub(crate) paused: bool,
    /// The filter has made a reply; Envoy takes no second one.
    pub(crate) reply_held: bool,
    /// In the access-log phase both header maps can be read, never changed.
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

    /// The filter let the request pass: what it says now is what counts.
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

    /// The headers and body that Envoy makes out of a reply of the filter's.
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

    /// Exactly `application/grpc`, or `application/grpc+something`: Envoy takes neither parameters
    /// nor capital letters for gRPC.
    fn is_grpc(&self) -> bool {
        self.request
            .first(b"content-type")
            .and_then(|value| value.strip_prefix(b"application/grpc"))
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+')))
    }
}

/// A reply as the filter asks for it.
#[derive(Debug)]
pub(crate) struct LocalReply {
    pub(crate) status: u32,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) grpc_status: Option<i32>,
}

/// A message as gRPC wants it in a header: printable ASCII but `%` stays as it is.
fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b' '..=b'~' if byte != b'%' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// What a status means to a gRPC client.
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
