//! The first bytes that a client sends, where the proxy's own inspectors had nothing to look at yet.
//!
//! A connection whose client is silent for too long is decided without names. If the client then
//! shows one after all, it must not have gained anything by waiting: the names count as if they had
//! come in time. So the first bytes are looked at once more, when they come.

use super::facts::NameFact;

/// Longest start of a connection that is looked at, in bytes. What is not understood by then is not
/// understood. A ClientHello is at most 2^24 bytes by its format; real ones have under 20,000.
pub const EXAMINED_MAX: usize = 65_536;
/// The same for a line of text. Servers take request lines of 8,000 bytes (RFC 9112, section 3).
const LINE_MAX: usize = 16_384;

/// Content type of a handshake record, and a ClientHello in it (RFC 8446, sections 5.1 and 4).
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
/// The extension `server_name`, and a name of type `host_name` in it (RFC 6066, section 3).
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What a client's first bytes are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FirstBytes {
    /// The start of TLS or HTTP; more is needed to say what it names.
    Incomplete,
    /// TLS, with the server name of its ClientHello.
    Tls(NameFact),
    /// HTTP. Each request of the connection would have to be judged.
    Http,
    /// Neither.
    Other,
}

impl FirstBytes {
    /// Looks at all that the client has sent so far.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let seen = match bytes {
            [] => Self::Incomplete,
            [HANDSHAKE] => Self::Incomplete,
            [HANDSHAKE, 3, ..] => of_tls(bytes),
            _ => of_text(bytes),
        };
        let is_tls = bytes.first() == Some(&HANDSHAKE);
        match seen {
            // Nobody waits for ever, and what is no longer waited for counts as the worst.
            Self::Incomplete if is_tls && bytes.len() >= EXAMINED_MAX => {
                Self::Tls(NameFact::Unparsable)
            }
            Self::Incomplete if !is_tls && bytes.len() >= LINE_MAX => Self::Http,
            seen => seen,
        }
    }
}

fn of_tls(bytes: &[u8]) -> FirstBytes {
    match client_hello(bytes) {
        Ok(hello) => FirstBytes::Tls(server_name(&hello).unwrap_or(NameFact::Unparsable)),
        Err(Missing::More) => FirstBytes::Incomplete,
        Err(Missing::Sense) => FirstBytes::Tls(NameFact::Unparsable),
    }
}

/// Why there is no ClientHello.
enum Missing {
    /// It goes on.
    More,
    /// It is none.
    Sense,
}

/// The body of the ClientHello, put together from the records that it was cut into.
fn client_hello(bytes: &[u8]) -> Result<Vec<u8>, Missing> {
    let mut records = Bytes(bytes);
    let mut message = Vec::new();
    loop {
        if let Some(body) = message_body(&message)? {
            return Ok(body.to_vec());
        }
        let [content, major] = records.array().ok_or(Missing::More)?;
        if content != HANDSHAKE || major != 3 {
            return Err(Missing::Sense);
        }
        records.take(1).ok_or(Missing::More)?;
        let length = records.u16().ok_or(Missing::More)?;
        if length == 0 {
            return Err(Missing::Sense);
        }
        // What is there of a record counts: a message may end before the record does.
        let fragment = records.take(usize::from(length).min(records.0.len())).unwrap_or_default();
        message.extend_from_slice(fragment);
        if fragment.len() < usize::from(length) {
            return message_body(&message)?.map(<[u8]>::to_vec).ok_or(Missing::More);
        }
    }
}

/// The body of a handshake message, once it is whole.
fn message_body(message: &[u8]) -> Result<Option<&[u8]>, Missing> {
    let mut message = Bytes(message);
    let Some([kind, high, middle, low]) = message.array() else { return Ok(None) };
    if kind != CLIENT_HELLO {
        return Err(Missing::Sense);
    }
    let length = u32::from_be_bytes([0, high, middle, low]);
    Ok(usize::try_from(length).ok().and_then(|length| message.take(length)))
}

/// The server name of a ClientHello (RFC 8446, section 4.1.2); nothing when it is malformed.
fn server_name(hello: &[u8]) -> Option<NameFact> {
    let mut hello = Bytes(hello);
    let _version_and_random = hello.take(2 + 32)?;
    let _session_id = hello.short_vector()?;
    let _cipher_suites = hello.vector()?;
    let _compression_methods = hello.short_vector()?;
    if hello.0.is_empty() {
        return Some(NameFact::Absent);
    }
    let mut extensions = Bytes(hello.vector()?);
    let mut found = NameFact::Absent;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let body = extensions.vector()?;
        if kind != SERVER_NAME {
            continue;
        }
        let mut list = Bytes(Bytes(body).vector()?);
        let [name_type] = list.array()?;
        let name = list.vector()?;
        // Two names, or two extensions: which one counts is the server's affair, so none does.
        if name_type != HOST_NAME
            || name.is_empty()
            || !list.0.is_empty()
            || found != NameFact::Absent
        {
            return None;
        }
        found = NameFact::from_sni(name);
    }
    Some(found)
}

/// Bytes that are read from the front; every read says whether there was enough.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// A vector whose length is in one byte.
    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let [length] = self.array()?;
        self.take(length.into())
    }

    /// A vector whose length is in two bytes.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}

/// Lines of text: HTTP where the first that is not empty names the protocol, as request lines do
/// (RFC 9112, section 3), and the preface of HTTP/2 (RFC 9113, section 3.4).
fn of_text(bytes: &[u8]) -> FirstBytes {
    // "A server SHOULD ignore at least one empty line before the request-line" (RFC 9112, 2.2).
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    let text = bytes.get(start..).unwrap_or_default();
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let ended = line.len() < text.len();
    if !may_be_request_line(line) {
        FirstBytes::Other
    } else if line.windows(5).any(|part| part.eq_ignore_ascii_case(b"HTTP/")) {
        FirstBytes::Http
    } else if ended || is_a_lower_case_word(line) {
        FirstBytes::Other
    } else {
        FirstBytes::Incomplete
    }
}

/// Whether a line, as far as it goes, may be one of HTTP: a method, or a method and more text.
fn may_be_request_line(line: &[u8]) -> bool {
    let method = first_word(line);
    let is_text = |byte: &u8| *byte >= b' ' || matches!(byte, b'\t' | b'\r');
    method.iter().all(|byte| is_token(*byte)) && line.iter().all(is_text)
}

/// A word without an end, and not of capital letters as methods are. Protocols that begin with one and
/// wait for an answer are not kept waiting.
fn is_a_lower_case_word(line: &[u8]) -> bool {
    first_word(line).len() == line.len() && line.iter().any(u8::is_ascii_lowercase)
}

fn first_word(line: &[u8]) -> &[u8] {
    line.split(|byte| matches!(byte, b' ' | b'\t' | b'\r')).next().unwrap_or_default()
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
