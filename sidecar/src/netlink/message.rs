//! Messages and attributes: written, and parsed without trust in any length.

use std::io;

/// Flags of a request (`linux/netlink.h`).
pub const REQUEST: u16 = 0x1;
/// Say that it was done.
pub const ACK: u16 = 0x4;
/// All of them.
pub const DUMP: u16 = 0x300;
/// Make it, if it is not there.
pub const CREATE: u16 = 0x400;

/// An outcome: 0 or a negative errno (`NLMSG_ERROR`).
const OUTCOME: u16 = 0x2;
/// The end of several (`NLMSG_DONE`).
const DONE: u16 = 0x3;

const HEADER: usize = 16;
/// `struct nfgenmsg`: family, version, and a number that depends on the subsystem.
const NETFILTER: usize = 4;
const ATTRIBUTE: usize = 4;
/// An attribute's kind without the bits `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const KIND: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// An answer is not what the ABI says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the kernel's answer can't be read")]
pub struct Malformed;

impl From<Malformed> for io::Error {
    fn from(error: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// What a message is about: `(subsystem << 8) | message` as its kind, and `struct nfgenmsg`.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The kind.
    pub kind: u16,
    /// `NFPROTO_…`; 0 where it does not matter.
    pub family: u8,
    /// A group of NFLOG, a subsystem for a batch; else 0.
    pub resource: u16,
}

/// Writes one message.
#[must_use]
pub fn message(about: About, flags: u16, sequence: u32, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER + NETFILTER + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(about.kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // To whom: the kernel.
    bytes.extend([0; 4]);
    bytes.extend([about.family, 0]);
    bytes.extend(about.resource.to_be_bytes());
    bytes.extend(attributes);
    pad(&mut bytes);
    bytes
}

/// Writes one attribute.
#[must_use]
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // Nothing that is written here comes near the bound; what did would be refused for its length.
    let length = u16::try_from(ATTRIBUTE + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    pad(&mut bytes);
    bytes
}

/// Writes an attribute of attributes.
#[must_use]
pub fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &attributes.concat())
}

/// Writes an attribute that is text, which ends with a NUL.
#[must_use]
pub fn text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// A message that came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Received<'a> {
    /// What became of the request with this number.
    Outcome {
        /// The request's.
        sequence: u32,
        /// An errno, 0 for success.
        errno: i32,
    },
    /// There are no more.
    Done,
    /// Something to read.
    Message {
        /// Its kind.
        kind: u16,
        /// Its attributes.
        attributes: &'a [u8],
    },
}

/// The messages of a datagram. After an error there is nothing more.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Received<'_>, Malformed>> {
    let mut rest = Some(datagram);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
        let parsed = first_message(bytes);
        rest = parsed.as_ref().map(|(_, after)| *after);
        Some(parsed.map(|(message, _)| message).ok_or(Malformed))
    })
}

fn first_message(bytes: &[u8]) -> Option<(Received<'_>, &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(at(bytes, 0)?)).ok()?;
    let kind = u16::from_ne_bytes(at(bytes, 4)?);
    let sequence = u32::from_ne_bytes(at(bytes, 8)?);
    let body = bytes.get(HEADER..length)?;
    let message = match kind {
        OUTCOME => {
            let errno = i32::from_ne_bytes(at(body, 0)?).checked_neg()?;
            Received::Outcome { sequence, errno }
        }
        DONE => Received::Done,
        kind => Received::Message { kind, attributes: body.get(NETFILTER..)? },
    };
    Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// An attribute's kind and value.
pub type Attribute<'a> = (u16, &'a [u8]);

/// The attributes in a value or message. After an error there is nothing more.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>, Malformed>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
        let parsed = first_attribute(bytes);
        rest = parsed.as_ref().map(|(_, after)| *after);
        Some(parsed.map(|(attribute, _)| attribute).ok_or(Malformed))
    })
}

fn first_attribute(bytes: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let length = usize::from(u16::from_ne_bytes(at(bytes, 0)?));
    let kind = u16::from_ne_bytes(at(bytes, 2)?) & KIND;
    let value = bytes.get(ATTRIBUTE..length)?;
    Some(((kind, value), bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The value of an attribute, none where it is not there.
///
/// # Errors
///
/// Where the attributes before it can't be read.
pub fn find(bytes: &[u8], wanted: u16) -> Result<Option<&[u8]>, Malformed> {
    for attribute in attributes(bytes) {
        let (kind, value) = attribute?;
        if kind == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// Text that ends with a NUL.
#[must_use]
pub fn as_text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.strip_suffix(&[0])?).ok()
}

/// Some bytes from a place on.
#[must_use]
pub fn at<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let attributes_written = [text(1, "sandgate"), nested(3, &[attribute(1, &[2])])].concat();
        let about = About { kind: 0x0a0c, family: 1, resource: 0 };
        let bytes = message(about, REQUEST, 7, &attributes_written);
        let read: Vec<_> = messages(&bytes).collect::<Result<_, _>>().unwrap();
        let [Received::Message { kind: 0x0a0c, attributes }] = read[..] else { panic!("{read:?}") };
        assert_eq!(as_text(find(attributes, 1).unwrap().unwrap()), Some("sandgate"));
        let inner = find(attributes, 3).unwrap().unwrap();
        assert_eq!(find(inner, 1).unwrap(), Some(&[2][..]));
        assert_eq!(find(attributes, 9).unwrap(), None);
    }

    #[test]
    fn an_outcome_says_which_request_and_why() {
        let mut bytes = 36_u32.to_ne_bytes().to_vec();
        bytes.extend(OUTCOME.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(5_u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend((-2_i32).to_ne_bytes());
        bytes.extend([0; 16]);
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!(read, [Ok(Received::Outcome { sequence: 5, errno: 2 })]);
    }

    #[test]
    fn what_is_cut_short_is_an_error() {
        let about = About { kind: 0x0a0c, family: 1, resource: 0 };
        let whole = message(about, REQUEST, 7, &text(1, "sandgate"));
        for length in 1..whole.len() {
            assert_eq!(messages(&whole[..length]).last(), Some(Err(Malformed)), "{length}");
        }
        let value = text(1, "name");
        for length in 1..9 {
            assert_eq!(attributes(&value[..length]).last(), Some(Err(Malformed)), "{length}");
        }
    }

    proptest! {
        /// Neither a panic nor an endless loop, and no more messages than there is room for.
        #[test]
        fn any_bytes_end(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(messages(&bytes).count() <= bytes.len());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
