//! The server name of a ClientHello. The ClientHello may arrive in parts.

use super::super::facts::ShownName;

/// The first byte of a TLS record: the content type of a handshake or of an alert (RFC 8446,
/// section 5.1).
const HANDSHAKE: u8 = 22;
const ALERT: u8 = 21;
/// The message type of a ClientHello (RFC 8446, section 4).
const CLIENT_HELLO: u8 = 1;
/// The extension `server_name`, and its name type `host_name` (RFC 6066, section 3).
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// What the first bytes of a connection show.
pub(super) enum Shown {
    /// TLS with this server name.
    Name(ShownName),
    /// The bytes are an incomplete ClientHello. A result needs at least `min_bytes` bytes in total.
    Incomplete { min_bytes: usize },
    /// The bytes are not TLS that any server accepts.
    NoTls,
}

/// Parses the first bytes of a connection. Some servers accept a first record of any low version,
/// or an alert before the ClientHello. No ordinary client sends these, so their server name counts
/// as not parsable.
pub(super) fn parse(bytes: &[u8]) -> Shown {
    let odd = |is_tls| if is_tls { Shown::Name(ShownName::Unparsable) } else { Shown::NoTls };
    match *bytes {
        [] | [HANDSHAKE | ALERT] => Shown::Incomplete { min_bytes: bytes.len() + 1 },
        [HANDSHAKE, 3, ..] => match client_hello(bytes) {
            Ok(hello) => Shown::Name(server_name(&hello).unwrap_or(ShownName::Unparsable)),
            Err(Missing::Bytes(more)) => Shown::Incomplete { min_bytes: bytes.len() + more },
            Err(Missing::NotClientHello) => odd(true),
        },
        // The two bytes after the record header: the message type, and the first byte of the
        // message length.
        [HANDSHAKE, ..0x10, _, _, _, message, length, ..] => {
            odd(message == CLIENT_HELLO && length == 0)
        }
        [HANDSHAKE, ..0x10, ..] => Shown::Incomplete { min_bytes: 7 },
        [ALERT, ..0x10, _, high, low, ..] => odd([high, low] == [0, 2]),
        [ALERT, ..0x10, ..] => Shown::Incomplete { min_bytes: 5 },
        _ => Shown::NoTls,
    }
}

/// The reason why there is no complete ClientHello.
#[derive(Clone, Copy)]
enum Missing {
    /// The ClientHello is incomplete. At least this many more bytes are needed.
    Bytes(usize),
    /// The bytes are not a ClientHello.
    NotClientHello,
}

/// The body of the ClientHello, reassembled from its TLS records.
fn client_hello(bytes: &[u8]) -> Result<Vec<u8>, Missing> {
    let mut records = Bytes(bytes);
    let mut message = Vec::new();
    loop {
        let missing = match message_body(&message)? {
            Ok(body) => return Ok(body.to_vec()),
            Err(missing) => missing,
        };
        // Every missing byte of the message needs at least one more byte of a record.
        let more = Missing::Bytes(missing);
        let [content, major] = records.array().ok_or(more)?;
        if content != HANDSHAKE || major != 3 {
            return Err(Missing::NotClientHello);
        }
        records.take(1).ok_or(more)?;
        let length = records.u16().ok_or(more)?;
        if length == 0 {
            return Err(Missing::NotClientHello);
        }
        // An incomplete record counts as far as it has arrived, because the message may end before
        // the record does.
        let fragment = records.take(usize::from(length).min(records.0.len())).unwrap_or_default();
        message.extend_from_slice(fragment);
        if fragment.len() < usize::from(length) {
            return message_body(&message)?.map(<[u8]>::to_vec).map_err(Missing::Bytes);
        }
    }
}

/// The body of a handshake message, or the number of bytes that it still needs at least.
fn message_body(message: &[u8]) -> Result<Result<&[u8], usize>, Missing> {
    let mut message = Bytes(message);
    let Some([kind, high, middle, low]) = message.array() else {
        return Ok(Err(4 - message.0.len()));
    };
    if kind != CLIENT_HELLO {
        return Err(Missing::NotClientHello);
    }
    let length = u32::from_be_bytes([0, high, middle, low]);
    let length = usize::try_from(length).map_err(|_| Missing::NotClientHello)?;
    Ok(message.take(length).ok_or(length - message.0.len()))
}

/// The server name of a ClientHello (RFC 8446, section 4.1.2), or `None` if the ClientHello is
/// malformed.
fn server_name(hello: &[u8]) -> Option<ShownName> {
    let mut hello = Bytes(hello);
    let _version_and_random = hello.take(2 + 32)?;
    let _session_id = hello.short_vector()?;
    let _cipher_suites = hello.vector()?;
    let _compression_methods = hello.short_vector()?;
    if hello.0.is_empty() {
        return Some(ShownName::Absent);
    }
    let mut extensions = Bytes(hello.vector()?);
    let mut found = ShownName::Absent;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let body = extensions.vector()?;
        if kind != SERVER_NAME {
            continue;
        }
        let mut list = Bytes(Bytes(body).vector()?);
        let [name_type] = list.array()?;
        let name = list.vector()?;
        // With two names or two extensions, different servers may use different ones. So the
        // ClientHello counts as malformed.
        if name_type != HOST_NAME
            || name.is_empty()
            || !list.0.is_empty()
            || found != ShownName::Absent
        {
            return None;
        }
        found = ShownName::from_sni(name);
    }
    Some(found)
}

/// A reader of bytes. Each read returns `None` if not enough bytes remain.
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

    /// A vector with a length field of one byte.
    fn short_vector(&mut self) -> Option<&'a [u8]> {
        let [length] = self.array()?;
        self.take(length.into())
    }

    /// A vector with a length field of two bytes.
    fn vector(&mut self) -> Option<&'a [u8]> {
        let length = self.u16()?;
        self.take(length.into())
    }
}
