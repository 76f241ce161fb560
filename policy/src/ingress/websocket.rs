//! A WebSocket opened over HTTP/2, for an app that speaks HTTP/1.1.
//!
//! A client sends an extended CONNECT (RFC 8441); Envoy makes an HTTP/1.1 upgrade of it before any
//! filter sees it, and so it is judged like one. Two things Envoy does not do: make a
//! `Sec-WebSocket-Key`, which RFC 6455 refuses to do without; and look whether the app agreed, which RFC
//! 6455 says by 101 alone, and RFC 8441 by any 2xx (see [`super::response`]).

use super::head::Head;
use super::hygiene::HeaderChange;

const KEY_HEADER: &str = "sec-websocket-key";
/// Base64 digits of 16 bytes (RFC 6455, section 4.1), apart from the last one and the padding.
const FREE_DIGITS: usize = 21;

/// An upgrade without a key: one that came over HTTP/2.
///
/// A client of HTTP/1.1 that leaves the key out is taken for one, which opens nothing: the key proves to
/// a client that the other side speaks WebSocket, and no browser lets a page send an upgrade of its own.
#[must_use]
pub fn lacks_key(head: Head<'_>) -> bool {
    head.is_websocket() && head.first(KEY_HEADER).is_none()
}

/// Adds the key that an upgrade came without.
#[must_use]
pub fn complete_request(head: Head<'_>) -> Vec<HeaderChange> {
    if lacks_key(head) { vec![HeaderChange::Set(KEY_HEADER.into(), key(head))] } else { Vec::new() }
}

/// Another one for each request: digits of its id, which are digits of base64 as well.
fn key(head: Head<'_>) -> Vec<u8> {
    let id = head.first("x-request-id").unwrap_or_default();
    let digits = id.iter().copied().filter(u8::is_ascii_alphanumeric);
    // The last digit has four bits too many, which are to be zero (RFC 4648, section 3.5).
    digits.chain(std::iter::repeat(b'A')).take(FREE_DIGITS).chain(*b"A==").collect()
}
