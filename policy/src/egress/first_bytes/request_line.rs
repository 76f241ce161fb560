//! Whether a connection's first line of text is a request of HTTP, told from any number of parts.

/// What names the protocol in a request line (RFC 9112, section 2.3), and in the preface of HTTP/2
/// (RFC 9113, section 3.4). In any case: some servers do not mind.
const PROTOCOL: &[u8; 5] = b"HTTP/";

/// A line, as far as it has been seen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum RequestLine {
    /// Only empty lines so far. "A server that is expecting to receive and parse a request-line
    /// SHOULD ignore at least one empty line" (RFC 9112, section 2.2).
    #[default]
    Start,
    /// In its first word: a method is a token (RFC 9110, section 9.1).
    Method,
    /// After it; so many bytes of [`PROTOCOL`] were the last.
    Rest(usize),
    /// It is told.
    Told(Line),
}

/// What a line is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Line {
    /// It has no end yet, and may become one of HTTP.
    GoesOn,
    /// It names HTTP.
    OfHttp,
    /// It doesn't.
    Other,
}

impl RequestLine {
    /// Reads on.
    pub(super) fn see(&mut self, bytes: &[u8]) -> Line {
        for byte in bytes {
            *self = self.after(*byte);
            if let Self::Told(line) = self {
                return *line;
            }
        }
        Line::GoesOn
    }

    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Told(_), _) => self,
            (Self::Start, b'\r' | b'\n') => Self::Start,
            (_, b'\n') => Self::Told(Line::Other),
            // Servers may take any of these for a space (RFC 9112, section 3).
            (Self::Start | Self::Method, b' ' | b'\t' | b'\r' | 0x0b | 0x0c) => Self::Rest(0),
            (Self::Start | Self::Method, byte) if is_token(byte) => Self::Method,
            (Self::Start | Self::Method, _) => Self::Told(Line::Other),
            (Self::Rest(seen), byte) => match after_protocol(seen, byte) {
                seen if seen == PROTOCOL.len() => Self::Told(Line::OfHttp),
                seen => Self::Rest(seen),
            },
        }
    }
}

/// How many bytes of the protocol's name end with that byte, after so many of them. None of them comes
/// twice but the `T`, which starts nothing: after a mismatch only an `H` is a new start.
fn after_protocol(seen: usize, byte: u8) -> usize {
    let byte = byte.to_ascii_uppercase();
    match PROTOCOL.get(seen) {
        Some(next) if *next == byte => seen + 1,
        _ => usize::from(byte == b'H'),
    }
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
