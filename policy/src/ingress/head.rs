//! The head of a request: names and raw bytes, in the order in which they were received.

use crate::header::Field;

/// The error for a header that may occur once but occurs several times.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Repeated;

/// The head of a request. Nothing in it is verified.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    fields: &'a [Field<'a>],
    /// The bits of all names. A decision asks for many names, and most of them are in no request.
    names: u64,
}

/// The bit of a name. Two names may have the same.
fn bit(name: &str) -> u64 {
    let first = name.bytes().next().unwrap_or_default();
    let length = u32::try_from(name.len()).unwrap_or_default();
    1_u64.wrapping_shl(length.wrapping_mul(7).wrapping_add(first.into()))
}

impl<'a> Head<'a> {
    /// Wraps the fields of a request, pseudo-headers included.
    #[must_use]
    pub fn new(fields: &'a [Field<'a>]) -> Self {
        let names = fields.iter().fold(0, |names, (name, _)| names | bit(name));
        Self { fields, names }
    }

    /// All fields, in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.fields.iter().copied()
    }

    /// All fields but the pseudo-headers, in order.
    pub fn fields(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        self.iter().filter(|(name, _)| !name.starts_with(':'))
    }

    /// Every value of `name`, in order.
    pub fn all(self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let fields = if self.names & bit(name) == 0 { &[] } else { self.fields };
        fields.iter().filter(move |(n, _)| *n == name).map(|(_, value)| *value)
    }

    /// The value of a header that may occur at most once.
    ///
    /// # Errors
    /// [`Repeated`], if the header occurs more than once.
    pub fn single(self, name: &'a str) -> Result<Option<&'a [u8]>, Repeated> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() { Err(Repeated) } else { Ok(first) }
    }

    /// The first value of `name`. Use [`Self::single`] for headers that a decision depends on.
    #[must_use]
    pub fn first(self, name: &'a str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Whether the comma-separated list in the header `name` contains `token`. The comparison ignores case.
    #[must_use]
    pub fn lists(self, name: &'a str, token: &str) -> bool {
        self.all(name)
            .flat_map(|value| value.split(|b| *b == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The request method.
    #[must_use]
    pub fn method(self) -> &'a [u8] {
        self.first(":method").unwrap_or_default()
    }

    /// Whether the request is a WebSocket upgrade, in HTTP/1.1's form (RFC 6455) or in HTTP/2's (RFC 8441).
    #[must_use]
    pub fn is_websocket(self) -> bool {
        self.lists("upgrade", "websocket") || self.first(":protocol") == Some(b"websocket")
    }

    /// Whether the request is a protocol upgrade, WebSocket or other.
    #[must_use]
    pub fn is_upgrade(self) -> bool {
        self.first("upgrade").is_some()
            || self.first(":protocol").is_some()
            || self.method() == b"CONNECT"
    }

    /// Whether the content type is `application/grpc` with an optional `+encoding`. gRPC-Web is plain HTTP.
    ///
    /// Envoy uses the same rule when it converts a local reply to a gRPC status. Routing in `envoy/edge.yaml` accepts
    /// more: parameters, and any case.
    #[must_use]
    pub fn is_grpc(self) -> bool {
        let kind = self.first("content-type").unwrap_or_default();
        match kind.strip_prefix(b"application/grpc") {
            Some(rest) => rest.is_empty() || rest.starts_with(b"+"),
            None => false,
        }
    }

    /// Whether a browser sends the request to navigate, so that it displays an HTML response.
    #[must_use]
    pub fn is_navigation(self) -> bool {
        let accepts_html = self
            .all("accept")
            .flat_map(|value| value.split(|b| *b == b',' || *b == b';'))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(b"text/html"));
        let mode = self.first("sec-fetch-mode");
        accepts_html && (mode.is_none() || mode == Some(b"navigate"))
    }
}
