//! The HTTP calls of a filter, and the responses that a test gives to them.

use std::time::Duration;

use crate::headers::Headers;

/// A call that the filter dispatched.
#[derive(Clone, Debug)]
pub struct Call {
    /// The cluster of the call.
    pub cluster: String,
    /// The request headers, including `:method`, `:path` and `:authority`.
    pub headers: Headers,
    /// The request body.
    pub body: Vec<u8>,
    /// The time of the call since the host was created.
    pub sent_at: Duration,
    /// The time since the call.
    pub waited: Duration,
    /// The worker that made the call. `None` is Envoy's main thread.
    pub worker: Option<usize>,
}

impl Call {
    /// The request method.
    pub fn method(&self) -> String {
        self.headers.value(":method").unwrap_or_default()
    }

    /// The path with the query.
    pub fn path(&self) -> String {
        self.headers.value(":path").unwrap_or_default()
    }

    /// The request body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A response of the control plane.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Response {
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The headers, with the status.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

/// The reaction of the control plane to a call.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(crate) kind: Reaction,
    pub(crate) delay: Duration,
}

/// What happens to a call, possibly after a delay.
#[derive(Clone, Debug)]
pub enum Reaction {
    Respond(Response),
    /// The call is passed to the control plane again whenever the event loop runs, and when the delay has
    /// passed.
    Hold,
    /// No response arrives. The call ends by its timeout.
    Silence,
    /// The call ends without a response.
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
        Self::of(Reaction::Respond(Response { headers, body: body.into() }))
    }

    /// The control plane refuses the connection. Envoy converts this to a 503 response with a text.
    pub fn connection_refused() -> Self {
        Self::of(Reaction::Respond(local_response(
            503,
            "upstream connect error or disconnect/reset before headers. reset reason: \
             remote connection failure, transport failure reason: Connection refused",
        )))
    }

    /// No response arrives. Envoy converts the timeout of the call to a 504 response.
    pub fn silence() -> Self {
        Self::of(Reaction::Silence)
    }

    /// The call ends without a response. The filter's callback gets zero headers.
    pub fn broken() -> Self {
        Self::of(Reaction::Broken)
    }

    /// No response yet. The call is passed to the control plane again whenever the event loop runs, and at the
    /// latest when the call has waited for `at_most`.
    pub fn hold(at_most: Duration) -> Self {
        Self::of(Reaction::Hold).after(at_most)
    }

    /// Delays the reaction by `delay`.
    #[must_use]
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// The reaction and its delay, for another host.
    pub fn into_parts(self) -> (Reaction, Duration) {
        (self.kind, self.delay)
    }

    fn of(kind: Reaction) -> Self {
        Self { kind, delay: Duration::ZERO }
    }
}

/// A response that Envoy generates when a call fails.
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

/// The response that Envoy generates when a call times out.
pub fn timed_out() -> Response {
    local_response(504, "upstream request timeout")
}
