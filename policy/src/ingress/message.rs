//! The bounds and the framing of a request, whatever host it goes to.

use super::denial::Denial;
use super::head::Head;

/// The maximum size of the names and values of all fields, in bytes.
pub const HEADERS_SIZE_MAX: usize = 98_304;
/// The maximum number of fields: 200 of the client, and those that Envoy adds. All cookies are one field.
pub const HEADERS_COUNT_MAX: usize = 208;
/// The field in which Envoy's configuration keeps the value of `Transfer-Encoding`, which Envoy removes before its filters.
const TRANSFER_ENCODING: &str = "x-sandgate-transfer-encoding";

/// Checks the bounds and the framing of a request. `is_http10` reads whether the request is of HTTP/1.0.
///
/// The bounds are the same for HTTP/1.1 and HTTP/2. They protect the edge's memory: a stream holds its headers for as long
/// as it lasts. A message of HTTP/1.0 has no transfer coding (RFC 9112, section 6.1). A proxy in front that ignores the field
/// sees another end of the request than Envoy, which would keep the connection open.
///
/// # Errors
/// A [`Denial`], if the request must not be forwarded to any host.
pub fn check(head: Head<'_>, is_http10: impl FnOnce() -> bool) -> Result<(), Denial> {
    let size = |(name, value): (&str, &[u8])| name.len().saturating_add(value.len());
    if head.iter().count() > HEADERS_COUNT_MAX
        || head.iter().map(size).fold(0, usize::saturating_add) > HEADERS_SIZE_MAX
    {
        return Err(Denial::HeadersTooLarge);
    }
    if head.first(TRANSFER_ENCODING).is_some() && is_http10() {
        return Err(Denial::InvalidRequest(
            "a request of HTTP/1.0 has no Transfer-Encoding; send a Content-Length",
        ));
    }
    Ok(())
}
