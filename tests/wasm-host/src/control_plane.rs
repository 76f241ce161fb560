//! The HTTP calls that a filter makes, and the answers that a test gives to them.

use std::time::Duration;

use crate::headers::Headers;

/// A call that the filter dispatched.
#[derive(Clone, Debug)]
pub struct Call {
    /// Cluster that it was sent to.
    pub cluster: String,
    /// Its headers, with `:method`, `:path` and `:authority`.
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
    /// When it was sent, as time since the host was made.
    pub sent_at: Duration,
    /// How long it has been waiting for its answer.
    pub waited: Duration,
    /// Worker that sent it; `None` is Envoy's main thread.
    pub worker: Option<usize>,
}

impl Call {
    /// Its method.
    pub fn method(&self) -> String {
        self.headers.value(":method").unwrap_or_default()
    }

    /// Its path with the query.
    pub fn path(&self) -> String {
        self.headers.value(":path").unwrap_or_default()
    }

    /// Its body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A response, as the control plane would send it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Response {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

/// What becomes of a call.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(crate) kind: Kind,
    pub(crate) delay: Duration,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Respond(Response),
    /// Asked again on each turn, and once the delay has passed.
    Hold,
    /// Nothing comes back; the caller's timeout ends the call.
    Silence,
    /// The call ends without any response.
    Broken,
}

impl Answer {
    /// A response with no headers and no body.
    pub fn status(status: u16) -> Self {
        Self::respond(status, &Headers::new(), "")
    }

    /// A response.
    pub fn respond(status: u16, headers: &Headers, body: impl Into<Vec<u8>>) -> Self {
        let headers = Headers::from([(":status", status.to_string().as_str())])
            .iter()
            .chain(headers.iter())
            .map(|(name, value)| (name.to_vec(), value.to_vec()))
            .collect();
        Self::of(Kind::Respond(Response { headers, body: body.into() }))
    }

    /// Nobody listens: Envoy makes a 503 with a text out of it.
    pub fn connection_refused() -> Self {
        Self::of(Kind::Respond(local_response(
            503,
            "upstream connect error or disconnect/reset before headers. reset reason: \
             remote connection failure, transport failure reason: Connection refused",
        )))
    }

    /// Nothing ever comes back: when the call's time is up, Envoy makes a 504 out of it.
    pub fn silence() -> Self {
        Self::of(Kind::Silence)
    }

    /// The call ends without a response: the filter is told of no headers at all.
    pub fn broken() -> Self {
        Self::of(Kind::Broken)
    }

    /// Not answered yet. The control plane is asked again on every turn, at the latest when the
    /// call has waited this long.
    pub fn hold(at_most: Duration) -> Self {
        Self::of(Kind::Hold).after(at_most)
    }

    /// The same, that much later.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    fn of(kind: Kind) -> Self {
        Self { kind, delay: Duration::ZERO }
    }
}

/// A response that Envoy itself makes when a call fails.
fn local_response(status: u16, text: &str) -> Response {
    Response {
        headers: Headers::from([
            (":status", status.to_string().as_str()),
            ("content-length", text.len().to_string().as_str()),
            ("content-type", "text/plain"),
        ]),
        body: text.into(),
    }
}

/// What Envoy makes of a call whose time is up.
pub(crate) fn timed_out() -> Response {
    local_response(504, "upstream request timeout")
}
