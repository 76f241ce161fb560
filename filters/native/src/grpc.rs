//! Local replies to gRPC requests. Envoy's ABI gives each of them the status OK, unless a header names another one.

/// The gRPC status of an HTTP status, as the gRPC protocol maps them and Envoy does.
pub(crate) fn status(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// Whether Envoy turns a local reply to a request with this content type into a gRPC status. It may say so too often, which adds a
/// header that nobody reads.
pub(crate) fn is_content_type(value: &[u8]) -> bool {
    const PREFIX: &[u8] = b"application/grpc";
    value.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}
