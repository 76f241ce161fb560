//! Checks the path of requests (in both directions) and their method (in egress only), independently of any policy.
//! Envoy's parsers of HTTP/1.1 and HTTP/2 accept different request lines, and servers may interpret them differently.

/// The reason why a request line is not valid.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidLine {
    /// The method is not a token (RFC 9110, section 9.1).
    Method,
    /// The path has a byte that is not ASCII, so it is not allowed in a URI (RFC 3986, section 2).
    Path,
}

impl InvalidLine {
    /// The message for the client.
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

/// Checks the method and the path of a request. The path of a CONNECT request is empty.
///
/// # Errors
/// [`InvalidLine`], if the request must not be forwarded.
pub fn check(method: &[u8], path: &[u8]) -> Result<(), InvalidLine> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if method.is_empty() || !method.iter().all(is_token) {
        return Err(InvalidLine::Method);
    }
    check_path(path)
}

/// Checks the path of a request.
///
/// # Errors
/// [`InvalidLine::Path`], if the path has a byte that is not ASCII.
pub fn check_path(path: &[u8]) -> Result<(), InvalidLine> {
    if path.is_ascii() { Ok(()) } else { Err(InvalidLine::Path) }
}
