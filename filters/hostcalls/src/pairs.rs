//! Reads a header map with one call of the host and one copy.
//!
//! The SDK's own function allocates the name and the value of each field. This module declares the host call itself, and
//! lends the fields out of the one buffer that the host fills.

use proxy_wasm::types::{MapType, Status};

use crate::{HostError, Result};

/// A header field: the name in lower case, and the value as it was received.
pub type Field<'a> = (&'a str, &'a [u8]);

const CALL: &str = "get_map";

/// The fields of a header map, as the host wrote them: the number of fields, then the lengths of each name and value,
/// then the names and values themselves, each followed by a zero byte. Numbers have 4 bytes, little endian.
#[derive(Default)]
pub struct Headers(Vec<u8>);

impl Headers {
    /// The fields, in order.
    ///
    /// # Errors
    /// When the host's buffer is malformed, or a name is not UTF-8, which Envoy's parsers refuse.
    pub fn fields(&self) -> Result<Vec<Field<'_>>> {
        parse(&self.0).ok_or(HostError::of(CALL)(Status::ParseFailure))
    }
}

fn parse(buffer: &[u8]) -> Option<Vec<Field<'_>>> {
    if buffer.is_empty() {
        return Some(Vec::new());
    }
    let (count, rest) = buffer.split_first_chunk()?;
    let count = length(*count)?;
    let (lengths, mut bytes) = rest.split_at_checked(count.checked_mul(8)?)?;
    let mut fields = Vec::with_capacity(count);
    for &[n0, n1, n2, n3, v0, v1, v2, v3] in lengths.as_chunks().0 {
        let (name, after) = bytes.split_at_checked(length([n0, n1, n2, n3])?)?;
        let (_, after) = after.split_first()?;
        let (value, after) = after.split_at_checked(length([v0, v1, v2, v3])?)?;
        (_, bytes) = after.split_first()?;
        fields.push((std::str::from_utf8(name).ok()?, value));
    }
    Some(fields)
}

fn length(bytes: [u8; 4]) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

/// Reads a header map of the effective context.
#[expect(
    unsafe_code,
    reason = "the host call returns a raw buffer, which nothing in the SDK lends"
)]
pub(crate) fn read(map: MapType) -> Result<Headers> {
    #[link(wasm_import_module = "env")]
    unsafe extern "C" {
        fn proxy_get_header_map_pairs(
            map: MapType,
            return_data: *mut *mut u8,
            return_size: *mut usize,
        ) -> Status;
    }
    let mut data: *mut u8 = std::ptr::null_mut();
    let mut size = 0;
    // SAFETY: the signature is that of proxy-wasm ABI 0.2.1. Both pointers are valid for the time of the call, and the
    // host writes a pointer and a size there.
    let status = unsafe { proxy_get_header_map_pairs(map, &raw mut data, &raw mut size) };
    match status {
        Status::Ok if data.is_null() => Ok(Headers(Vec::new())),
        // SAFETY: the host has allocated the buffer by `proxy_on_memory_allocate`, for which the SDK makes a `Vec<u8>` with
        // this very capacity and forgets it. The host has filled all of it, and keeps no pointer to it.
        Status::Ok => Ok(Headers(unsafe { Vec::from_raw_parts(data, size, size) })),
        status => Err(HostError::of(CALL)(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buffer(fields: &[Field<'_>]) -> Vec<u8> {
        let number = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        let mut buffer = number(fields.len()).to_vec();
        for (name, value) in fields {
            buffer.extend(number(name.len()).into_iter().chain(number(value.len())));
        }
        for (name, value) in fields {
            for part in [name.as_bytes(), value] {
                buffer.extend(part.iter().chain(&[0]));
            }
        }
        buffer
    }

    #[test]
    fn the_fields_are_those_that_the_host_wrote() {
        let fields: [Field<'_>; 3] = [(":path", b"/"), ("x", b""), ("x", b"\xff\0")];
        assert_eq!(Headers(buffer(&fields)).fields().unwrap(), fields);
        assert_eq!(Headers(buffer(&[])).fields().unwrap(), []);
        assert_eq!(Headers(Vec::new()).fields().unwrap(), []);
    }

    #[test]
    fn a_buffer_that_is_cut_off_anywhere_is_an_error() {
        let whole = buffer(&[("name", b"value"), ("other", b"")]);
        for end in 1..whole.len() {
            assert!(Headers(whole[..end].to_vec()).fields().is_err(), "{end}");
        }
    }

    #[test]
    fn lengths_beyond_the_buffer_are_an_error() {
        for at in [0, 4, 8] {
            let mut buffer = buffer(&[("name", b"value")]);
            buffer[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes());
            assert!(Headers(buffer).fields().is_err(), "{at}");
        }
    }

    #[test]
    fn a_name_that_is_not_text_is_an_error() {
        let mut buffer = buffer(&[("name", b"value")]);
        buffer[12] = 0xff;
        assert!(Headers(buffer).fields().is_err());
    }
}
