//! A WebSocket that is opened over HTTP/2, for an app that supports HTTP/1.1 only.
//!
//! A client sends an extended CONNECT (RFC 8441). Envoy turns it into an HTTP/1.1 upgrade before the filters receive
//! it. Envoy does not add the `Sec-WebSocket-Key` that RFC 6455 requires; this module does. Envoy also does not check
//! that the app accepted the upgrade: with 101 in RFC 6455, but with any 2xx in RFC 8441 (see [`super::response`]).

use super::head::Head;
use super::hygiene::HeaderChange;

const KEY_HEADER: &str = "sec-websocket-key";
/// The number of base64 digits of 16 bytes (RFC 6455, section 4.1), without the last digit and the padding.
const FREE_DIGITS: usize = 21;

/// Whether a WebSocket upgrade has no key, as if the client used HTTP/2.
///
/// An HTTP/1.1 client may also omit the key. That is harmless: the key only proves to the client that the server
/// supports WebSocket, and browsers do not let a page send an upgrade without one.
#[must_use]
pub fn lacks_key(head: Head<'_>) -> bool {
    head.is_websocket() && head.first(KEY_HEADER).is_none()
}

/// Adds the key if the upgrade has none.
#[must_use]
pub fn complete_request(head: Head<'_>) -> Vec<HeaderChange> {
    if lacks_key(head) { vec![HeaderChange::Set(KEY_HEADER, key(head))] } else { Vec::new() }
}

/// A key that differs between requests: the letters and digits of the request id, which are also base64 digits.
fn key(head: Head<'_>) -> Vec<u8> {
    let id = head.first("x-request-id").unwrap_or_default();
    let digits = id.iter().copied().filter(u8::is_ascii_alphanumeric);
    // The last digit has four unused bits, which must be zero (RFC 4648, section 3.5).
    digits.chain(std::iter::repeat(b'A')).take(FREE_DIGITS).chain(*b"A==").collect()
}
