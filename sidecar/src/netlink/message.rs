//! Serialization and parsing of netlink messages and attributes. The parser trusts no length field.

use std::io;

/// Request flags (`linux/netlink.h`).
pub(crate) const REQUEST: u16 = 0x1;
/// The kernel acknowledges the request.
pub(crate) const ACK: u16 = 0x4;
/// The request is for all objects.
pub(crate) const DUMP: u16 = 0x300;
/// The request creates the object if it does not exist.
pub(crate) const CREATE: u16 = 0x400;

/// The message type of an acknowledgement, which carries 0 or a negative errno (`NLMSG_ERROR`).
const ACK_TYPE: u16 = 0x2;
/// The message type at the end of a dump (`NLMSG_DONE`).
const DONE: u16 = 0x3;

const HEADER_SIZE: usize = 16;
/// The size of `struct nfgenmsg`: family, version, and a resource number that depends on the
/// subsystem.
const NETFILTER_SIZE: usize = 4;
const ATTRIBUTE_SIZE: usize = 4;
/// Masks an attribute's kind: removes the bits `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const KIND_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// A response does not have the format of the ABI.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the kernel's response is malformed")]
pub(crate) struct Malformed;

impl From<Malformed> for io::Error {
    fn from(error: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// The header fields of a message: its kind, which is `(subsystem << 8) | message`, and the fields
/// of `struct nfgenmsg`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// `(subsystem << 8) | message`.
    pub(crate) kind: u16,
    /// `NFPROTO_…`, or 0 if the message has no family.
    pub(crate) family: u8,
    /// The group for NFLOG, the subsystem for a batch, else 0.
    pub(crate) resource: u16,
}

/// Serializes a message.
#[must_use]
pub(crate) fn message(header: Header, flags: u16, sequence: u32, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADER_SIZE + NETFILTER_SIZE + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(header.kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    // The destination port. Port 0 is the kernel.
    bytes.extend([0; 4]);
    bytes.extend([header.family, 0]);
    bytes.extend(header.resource.to_be_bytes());
    bytes.extend(attributes);
    pad(&mut bytes);
    bytes
}

/// Serializes an attribute.
#[must_use]
pub(crate) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // The agent's values are far below the maximum. The kernel would refuse a longer value because
    // of its length.
    let length = u16::try_from(ATTRIBUTE_SIZE + value.len()).unwrap_or(u16::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    pad(&mut bytes);
    bytes
}

/// Serializes an attribute that contains attributes.
#[must_use]
pub(crate) fn nested(kind: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &attributes.concat())
}

/// Serializes a text attribute, which ends with a NUL.
#[must_use]
pub(crate) fn text(kind: u16, text: &str) -> Vec<u8> {
    attribute(kind, &[text.as_bytes(), &[0]].concat())
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Received<'a> {
    /// The acknowledgement of a request.
    Ack {
        /// The sequence number of the request.
        sequence: u32,
        /// An errno, or 0 for success.
        errno: i32,
    },
    /// The end of a dump.
    Done,
    /// A message with attributes.
    Message {
        /// `(subsystem << 8) | message`.
        kind: u16,
        /// The serialized attributes.
        attributes: &'a [u8],
    },
}

/// Parses the messages of a datagram. The iterator ends after the first error.
pub(crate) fn messages(datagram: &[u8]) -> impl Iterator<Item = Result<Received<'_>, Malformed>> {
    let mut rest = Some(datagram);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
        let parsed = first_message(bytes);
        rest = parsed.as_ref().map(|(_, after)| *after);
        Some(parsed.map(|(message, _)| message).ok_or(Malformed))
    })
}

fn first_message(bytes: &[u8]) -> Option<(Received<'_>, &[u8])> {
    let length = usize::try_from(u32::from_ne_bytes(array_at(bytes, 0)?)).ok()?;
    let kind = u16::from_ne_bytes(array_at(bytes, 4)?);
    let sequence = u32::from_ne_bytes(array_at(bytes, 8)?);
    let body = bytes.get(HEADER_SIZE..length)?;
    let message = match kind {
        ACK_TYPE => {
            let errno = i32::from_ne_bytes(array_at(body, 0)?).checked_neg()?;
            Received::Ack { sequence, errno }
        }
        DONE => Received::Done,
        kind => Received::Message { kind, attributes: body.get(NETFILTER_SIZE..)? },
    };
    Some((message, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// An attribute's kind and value.
pub(crate) type Attribute<'a> = (u16, &'a [u8]);

/// Parses the attributes in a value or message. The iterator ends after the first error.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = Result<Attribute<'_>, Malformed>> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest.take().filter(|bytes| !bytes.is_empty())?;
        let parsed = first_attribute(bytes);
        rest = parsed.as_ref().map(|(_, after)| *after);
        Some(parsed.map(|(attribute, _)| attribute).ok_or(Malformed))
    })
}

fn first_attribute(bytes: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let length = usize::from(u16::from_ne_bytes(array_at(bytes, 0)?));
    let kind = u16::from_ne_bytes(array_at(bytes, 2)?) & KIND_MASK;
    let value = bytes.get(ATTRIBUTE_SIZE..length)?;
    Some(((kind, value), bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// The value of the first attribute of kind `wanted`, or `None` if there is none.
///
/// # Errors
///
/// If an attribute before it is malformed.
pub(crate) fn find(bytes: &[u8], wanted: u16) -> Result<Option<&[u8]>, Malformed> {
    for attribute in attributes(bytes) {
        let (kind, value) = attribute?;
        if kind == wanted {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The text of a value that ends with a NUL, without the NUL.
#[must_use]
pub(crate) fn as_text(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.strip_suffix(&[0])?).ok()
}

/// The `N` bytes of `bytes` at the offset `from`, if they exist.
#[must_use]
pub(crate) fn array_at<const N: usize>(bytes: &[u8], from: usize) -> Option<[u8; N]> {
    bytes.get(from..from.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_message_is_parsed_as_it_was_serialized() {
        let attributes_written = [text(1, "sandgate"), nested(3, &[attribute(1, &[2])])].concat();
        let header = Header { kind: 0x0a0c, family: 1, resource: 0 };
        let bytes = message(header, REQUEST, 7, &attributes_written);
        let read: Vec<_> = messages(&bytes).collect::<Result<_, _>>().unwrap();
        let [Received::Message { kind: 0x0a0c, attributes }] = read[..] else { panic!("{read:?}") };
        assert_eq!(as_text(find(attributes, 1).unwrap().unwrap()), Some("sandgate"));
        let inner = find(attributes, 3).unwrap().unwrap();
        assert_eq!(find(inner, 1).unwrap(), Some(&[2][..]));
        assert_eq!(find(attributes, 9).unwrap(), None);
    }

    #[test]
    fn an_acknowledgement_has_the_sequence_number_and_the_errno() {
        let mut bytes = 36_u32.to_ne_bytes().to_vec();
        bytes.extend(ACK_TYPE.to_ne_bytes());
        bytes.extend([0; 2]);
        bytes.extend(5_u32.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend((-2_i32).to_ne_bytes());
        bytes.extend([0; 16]);
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!(read, [Ok(Received::Ack { sequence: 5, errno: 2 })]);
    }

    #[test]
    fn a_truncated_message_is_an_error() {
        let header = Header { kind: 0x0a0c, family: 1, resource: 0 };
        let whole = message(header, REQUEST, 7, &text(1, "sandgate"));
        for length in 1..whole.len() {
            assert_eq!(messages(&whole[..length]).last(), Some(Err(Malformed)), "{length}");
        }
        let value = text(1, "name");
        for length in 1..9 {
            assert_eq!(attributes(&value[..length]).last(), Some(Err(Malformed)), "{length}");
        }
    }

    proptest! {
        /// The parser neither panics nor loops, and yields at most one item per byte.
        #[test]
        fn any_bytes_are_parsed_in_bounded_steps(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(messages(&bytes).count() <= bytes.len());
            prop_assert!(attributes(&bytes).count() <= bytes.len());
        }
    }
}
