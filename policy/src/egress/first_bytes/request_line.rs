//! Detects whether the first line of a connection is an HTTP request line. The line may arrive in
//! parts.

/// The protocol name in a request line (RFC 9112, section 2.3), and in the connection preface of
/// HTTP/2 (RFC 9113, section 3.4). The case is ignored, because some servers ignore it.
const PROTOCOL: &[u8; 5] = b"HTTP/";

/// The state after the bytes of the line so far.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum RequestLine {
    /// Only empty lines so far. "A server that is expecting to receive and parse a request-line
    /// SHOULD ignore at least one empty line" (RFC 9112, section 2.2).
    #[default]
    Start,
    /// In the method, which is a token (RFC 9110, section 9.1).
    Method,
    /// After the method. The last bytes match this many bytes of [`PROTOCOL`].
    Rest(usize),
    /// The result is known.
    Done(Line),
}

/// The kind of a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Line {
    /// The line is incomplete and may become an HTTP request line.
    Incomplete,
    /// The line contains the protocol name of HTTP.
    Http,
    /// The line is not an HTTP request line.
    Other,
}

impl RequestLine {
    /// Processes the next bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Line {
        for byte in bytes {
            *self = self.next(*byte);
            if let Self::Done(line) = self {
                return *line;
            }
        }
        Line::Incomplete
    }

    fn next(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Done(_), _) => self,
            (Self::Start, b'\r' | b'\n') => Self::Start,
            (_, b'\n') => Self::Done(Line::Other),
            // Servers may accept any of these as a space (RFC 9112, section 3).
            (Self::Start | Self::Method, b' ' | b'\t' | b'\r' | 0x0b | 0x0c) => Self::Rest(0),
            (Self::Start | Self::Method, byte) if is_token(byte) => Self::Method,
            (Self::Start | Self::Method, _) => Self::Done(Line::Other),
            (Self::Rest(matched), byte) => match after_protocol(matched, byte) {
                matched if matched == PROTOCOL.len() => Self::Done(Line::Http),
                matched => Self::Rest(matched),
            },
        }
    }
}

/// The length of the prefix of [`PROTOCOL`] that the line ends with after `byte`, if it ended with
/// a prefix of length `matched` before. After a mismatch only an `H` starts a new match: no other
/// letter of `PROTOCOL` is repeated except `T`, and `T` is not the first.
fn after_protocol(matched: usize, byte: u8) -> usize {
    let byte = byte.to_ascii_uppercase();
    match PROTOCOL.get(matched) {
        Some(next) if *next == byte => matched + 1,
        _ => usize::from(byte == b'H'),
    }
}

/// Whether the byte is a character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
