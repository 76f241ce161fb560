//! Which methods and paths are refused, in both directions and whatever a policy says. Envoy's parsers of HTTP/1.1 and
//! HTTP/2 differ in what they take, and a server may read such a request line in another way than they do.

/// What is wrong with a request line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidLine {
    /// The method is no token (RFC 9110, section 9.1).
    Method,
    /// The path has a byte that no URI has (RFC 3986, section 2).
    Path,
}

impl InvalidLine {
    /// A sentence for the client.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Method => {
                "the method of a request consists of letters, digits and !#$%&'*+-.^_`|~"
            }
            Self::Path => "percent-encode the bytes outside ASCII in the path",
        }
    }
}

/// Whether a request may be sent on. CONNECT has no path.
///
/// # Errors
/// What is wrong with it.
pub fn check(method: &[u8], path: &[u8]) -> Result<(), InvalidLine> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if method.is_empty() || !method.iter().all(is_token) {
        return Err(InvalidLine::Method);
    }
    check_path(path)
}

/// Whether a request with this path may be sent on.
///
/// # Errors
/// [`InvalidLine::Path`].
pub fn check_path(path: &[u8]) -> Result<(), InvalidLine> {
    if path.is_ascii() { Ok(()) } else { Err(InvalidLine::Path) }
}
