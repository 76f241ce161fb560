//! What a request line may hold, whatever the destination. Envoy's parsers of HTTP/1.1 and HTTP/2 differ in it, and a server
//! may read such a line in another way than they do.

/// Why a request goes nowhere.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidLine {
    /// The method is no token (RFC 9110, section 9.1).
    Method,
    /// The path has a byte that no URI has (RFC 3986, section 2).
    Path,
}

impl InvalidLine {
    /// What to do about it.
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
    if path.is_ascii() { Ok(()) } else { Err(InvalidLine::Path) }
}
