//! The first bytes that a client sends, where the proxy's own inspectors had nothing to look at yet.
//!
//! A connection whose client is silent for too long is decided without names. If the client then
//! shows one after all, it must not have gained anything by waiting: the names count as if they had
//! come in time. So the first bytes are looked at once more, as they come.

mod client_hello;
mod request_line;

use super::facts::NameFact;
use client_hello::Shown;
use request_line::{Line, RequestLine};

/// Longest start of TLS that is looked at, in bytes. What is not understood by then is not
/// understood. A ClientHello is at most 2^24 bytes by its format; real ones have under 20,000.
pub const TLS_MAX: usize = 65_536;

/// What has been seen of a client's first bytes.
#[derive(Clone, Debug, Default)]
pub struct FirstBytes {
    /// Before so many bytes are there, nothing more can be told.
    least: usize,
    /// The line that they are, once they are no TLS.
    line: Option<RequestLine>,
}

/// What the bytes are that came last, and what is to be done with them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    /// The start of TLS, which names nothing yet. To be held, and shown again with what follows.
    Hold,
    /// A line that may yet become a request of HTTP. Nobody answers half a line: it may go on, and
    /// what follows is to be shown. So protocols of words are not kept waiting.
    Pass,
    /// TLS, with the server name of its ClientHello.
    Tls(NameFact),
    /// HTTP. Each request of the connection would have to be judged.
    Http,
    /// Neither, whatever follows.
    Other,
}

impl FirstBytes {
    /// How many bytes that have not passed are the least to look at: before, they are to be held.
    #[must_use]
    pub fn least(&self) -> usize {
        self.least
    }

    /// Looks at what came since the last that passed.
    pub fn see(&mut self, bytes: &[u8]) -> Seen {
        if self.line.is_none() {
            match client_hello::shown(bytes) {
                Shown::Name(name) => return Seen::Tls(name),
                // Nobody waits for ever, and what is no longer waited for counts as the worst.
                Shown::Incomplete { .. } if bytes.len() >= TLS_MAX => {
                    return Seen::Tls(NameFact::Unparsable);
                }
                Shown::Incomplete { least } => {
                    self.least = least.min(TLS_MAX);
                    return Seen::Hold;
                }
                Shown::NoTls => self.least = 0,
            }
        }
        match self.line.get_or_insert_default().see(bytes) {
            Line::GoesOn => Seen::Pass,
            Line::OfHttp => Seen::Http,
            Line::Other => Seen::Other,
        }
    }
}
