//! Inspects the first bytes of a connection whose client sent nothing until Envoy's listener
//! filters timed out.
//!
//! Envoy decides about such a connection without a name. If the client shows a name later, the
//! policy applies to that name, as if it had come in time. Otherwise a client could evade the rules
//! about names by waiting.

mod client_hello;
mod request_line;

use super::facts::ShownName;
use client_hello::Shown;
use request_line::{Line, RequestLine};

/// The maximum number of bytes of a ClientHello that are inspected. A longer ClientHello counts as
/// not parsable. The format allows 2^24 bytes; real ones have less than 20,000.
pub const TLS_MAX: usize = 65_536;

/// The state of the inspection.
#[derive(Clone, Debug, Default)]
pub struct FirstBytes {
    /// The number of bytes that are needed before the inspection can make progress.
    min_bytes: usize,
    /// The state of the request line, once the bytes are known not to be TLS.
    request_line: Option<RequestLine>,
}

/// The result of an inspection, and what the caller must do with the bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Inspection {
    /// The incomplete start of TLS. The caller must hold the bytes and pass them again together
    /// with the next bytes.
    Hold,
    /// The start of a line that may become an HTTP request. The caller must forward these bytes and
    /// pass only the next ones. Forwarding is safe, because no server responds to an incomplete
    /// request line; and text protocols are not delayed.
    Pass,
    /// TLS. The ClientHello has this server name.
    Tls(ShownName),
    /// HTTP. A decision would be necessary for each request of the connection.
    Http,
    /// Neither TLS nor HTTP. The next bytes can't change that.
    Other,
}

impl FirstBytes {
    /// The number of held bytes that the next call of [`Self::inspect`] needs. The caller must hold
    /// fewer bytes than that without a call.
    #[must_use]
    pub fn min_bytes(&self) -> usize {
        self.min_bytes
    }

    /// Inspects all bytes since the last [`Inspection::Pass`].
    pub fn inspect(&mut self, bytes: &[u8]) -> Inspection {
        if self.request_line.is_none() {
            match client_hello::parse(bytes) {
                Shown::Name(name) => return Inspection::Tls(name),
                // The wait is bounded. An incomplete ClientHello of maximum length counts as not
                // parsable.
                Shown::Incomplete { .. } if bytes.len() >= TLS_MAX => {
                    return Inspection::Tls(ShownName::Unparsable);
                }
                Shown::Incomplete { min_bytes } => {
                    self.min_bytes = min_bytes.min(TLS_MAX);
                    return Inspection::Hold;
                }
                Shown::NoTls => self.min_bytes = 0,
            }
        }
        match self.request_line.get_or_insert_default().push(bytes) {
            Line::Incomplete => Inspection::Pass,
            Line::Http => Inspection::Http,
            Line::Other => Inspection::Other,
        }
    }
}
