//! Constants and encodings of the proxy-wasm ABI, version 0.2.1.

use crate::headers::Headers;

/// The result of a host call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i32)]
pub(crate) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    InvalidMemoryAccess = 6,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
    Unimplemented = 12,
}

/// The header map that a call accesses. The numbers are the ABI's.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MapType {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    CallResponseHeaders,
    CallResponseTrailers,
}

impl MapType {
    pub(crate) fn from_abi(number: u32) -> Result<Self, Status> {
        match number {
            0 => Ok(Self::RequestHeaders),
            1 => Ok(Self::RequestTrailers),
            2 => Ok(Self::ResponseHeaders),
            3 => Ok(Self::ResponseTrailers),
            6 => Ok(Self::CallResponseHeaders),
            7 => Ok(Self::CallResponseTrailers),
            _ => Err(Status::BadArgument),
        }
    }
}

/// The buffers that this host can fill. The numbers are the ABI's.
pub(crate) mod buffer {
    pub(crate) const DOWNSTREAM_DATA: u32 = 2;
    pub(crate) const HTTP_CALL_RESPONSE_BODY: u32 = 4;
    pub(crate) const VM_CONFIGURATION: u32 = 6;
    pub(crate) const PLUGIN_CONFIGURATION: u32 = 7;
    pub(crate) const LAST: u32 = 8;
}

/// The streams that a filter may resume or close. The numbers are the ABI's.
pub(crate) mod stream_type {
    pub(crate) const HTTP_REQUEST: u32 = 0;
    pub(crate) const HTTP_RESPONSE: u32 = 1;
    pub(crate) const DOWNSTREAM: u32 = 2;
    pub(crate) const UPSTREAM: u32 = 3;
}

/// The maximum number of pairs that Envoy accepts from a filter.
const MAX_PAIRS: usize = 1024;
/// The maximum size of serialized pairs that Envoy accepts from a filter, in bytes.
const MAX_PAIRS_BYTES: usize = 1024 * 1024;

/// Serializes header pairs in the ABI's format: the count, the lengths, then the names and values,
/// each followed by a NUL. An empty map is serialized as no bytes.
pub(crate) fn encode_pairs(headers: &Headers) -> Vec<u8> {
    if headers.is_empty() {
        return Vec::new();
    }
    let mut bytes = length(headers.len()).to_vec();
    for (name, value) in headers.iter() {
        bytes.extend(length(name.len()));
        bytes.extend(length(value.len()));
    }
    for (name, value) in headers.iter() {
        bytes.extend_from_slice(name);
        bytes.push(0);
        bytes.extend_from_slice(value);
        bytes.push(0);
    }
    bytes
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).expect("a header fits into 32 bits").to_le_bytes()
}

/// The reverse of [`encode_pairs`]. As in Envoy, malformed bytes are parsed as an empty map.
pub(crate) fn decode_pairs(bytes: &[u8]) -> Headers {
    try_decode_pairs(bytes).unwrap_or_default()
}

fn try_decode_pairs(bytes: &[u8]) -> Option<Headers> {
    if bytes.len() > MAX_PAIRS_BYTES {
        return None;
    }
    let mut lengths = bytes.chunks_exact(4).map(|word| {
        u32::from_le_bytes(word.try_into().expect("chunks of four bytes are four bytes")) as usize
    });
    let count = lengths.next()?;
    if count > MAX_PAIRS {
        return None;
    }
    let mut at = 4 + count * 8;
    let mut take = |length: usize| {
        let part = bytes.get(at..at.checked_add(length)?)?;
        at += length + 1;
        Some(part.to_vec())
    };
    (0..count)
        .map(|_| {
            let (name, value) = (lengths.next()?, lengths.next()?);
            Some((take(name)?, take(value)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_pairs_decode_to_the_same_pairs() {
        let headers = Headers::from([(":method", "GET"), ("x-empty", ""), ("x-twice", "a")])
            .with("x-twice", "b")
            .with("x-bytes", [0xff, 0x00, 0xfe]);
        assert_eq!(decode_pairs(&encode_pairs(&headers)), headers);
    }

    #[test]
    fn pairs_with_wrong_lengths_decode_to_an_empty_map() {
        let mut bytes = encode_pairs(&Headers::from([("a", "b")]));
        bytes[4] = 200;
        assert!(decode_pairs(&bytes).is_empty());
        assert!(decode_pairs(&[255, 255, 255, 255]).is_empty());
        assert!(decode_pairs(&[]).is_empty());
    }
}
