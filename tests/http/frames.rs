//! HTTP/2 frames (RFC 9113), and the part of HPACK (RFC 7541) that a client needs for one request.

use anyhow::{Context as _, Result, ensure};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
/// Flag of HEADERS and DATA.
pub(crate) const END_STREAM: u8 = 1;
/// Flag of SETTINGS.
pub(crate) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// The longest payload by default (`SETTINGS_MAX_FRAME_SIZE`; RFC 9113, section 6.5.2).
const LONGEST: usize = 16_384;

/// The first nine bytes of a frame (RFC 9113, section 4.1).
pub(crate) struct FrameHead {
    pub(crate) length: usize,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
}

impl From<[u8; 9]> for FrameHead {
    fn from([a, b, c, kind, flags, stream @ ..]: [u8; 9]) -> Self {
        let length = u32::from_be_bytes([0, a, b, c]) as usize;
        Self { length, kind, flags, stream: u32::from_be_bytes(stream) }
    }
}

/// The first bytes of a client: the preface, and a SETTINGS frame with this payload.
pub(crate) fn start(settings: &[u8]) -> Vec<u8> {
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(SETTINGS, 0, 0, settings, &mut out);
    out
}

/// The acknowledgement of the peer's SETTINGS.
pub(crate) fn acknowledgement() -> Vec<u8> {
    let mut out = Vec::new();
    frame(SETTINGS, ACK, 0, &[], &mut out);
    out
}

/// The frames of a request's fields. `is_whole`: no body follows.
pub(crate) fn request(
    stream: u32,
    fields: &[(impl AsRef<[u8]>, impl AsRef<[u8]>)],
    is_whole: bool,
) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal field that is not indexed (RFC 7541, section 6.2.2), without Huffman codes.
        block.push(0);
        string(name.as_ref(), &mut block);
        string(value.as_ref(), &mut block);
    }
    let mut out = Vec::new();
    let mut parts = block.chunks(LONGEST).peekable();
    let (mut kind, mut flags) = (HEADERS, if is_whole { END_STREAM } else { 0 });
    while let Some(part) = parts.next() {
        let end_headers = if parts.peek().is_none() { END_HEADERS } else { 0 };
        frame(kind, flags | end_headers, stream, part, &mut out);
        (kind, flags) = (CONTINUATION, 0);
    }
    out
}

/// Appends a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend(&length[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// A string literal (RFC 7541, section 5.2).
fn string(bytes: &[u8], out: &mut Vec<u8>) {
    if bytes.len() < 127 {
        out.push(u8::try_from(bytes.len()).unwrap_or_default());
    } else {
        out.push(127);
        let mut rest = bytes.len() - 127;
        while rest >= 128 {
            out.push(u8::try_from(rest % 128).unwrap_or_default() | 128);
            rest /= 128;
        }
        out.push(u8::try_from(rest).unwrap_or_default());
    }
    out.extend(bytes);
}

/// The status in the first field of a response's block: an entry of the static table, or a literal with
/// the name of one (RFC 7541, appendix A).
pub(crate) fn status(block: &[u8]) -> Result<u16> {
    let (&first, rest) = block.split_first().context("an empty block")?;
    // A change of the table's size comes before the fields (RFC 7541, section 6.3).
    if first & 0xe0 == 0x20 {
        return status(rest);
    }
    if let Some(number) =
        [200, 204, 206, 304, 400, 404, 500].get(usize::from(first.wrapping_sub(0x88)))
    {
        return Ok(*number);
    }
    ensure!(matches!(first, 0x08..=0x0e | 0x18..=0x1e | 0x48..=0x4e), "no status in {block:x?}");
    let (&length, value) = rest.split_first().context("no value")?;
    let value = value.get(..usize::from(length & 127)).context("a short value")?;
    if length & 128 == 0 {
        return Ok(std::str::from_utf8(value)?.parse()?);
    }
    digits(value)
}

/// Three digits in Huffman codes (RFC 7541, appendix B): five bits for 0 to 2, six for the others.
fn digits(value: &[u8]) -> Result<u16> {
    let bits: Vec<u16> = value
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |at| u16::from(byte >> at & 1)))
        .collect();
    let code = |at: usize, length: usize| {
        let bits = bits.get(at..at + length).context("a short value")?;
        Ok::<u16, anyhow::Error>(bits.iter().fold(0, |code, bit| code << 1 | bit))
    };
    let (mut at, mut number) = (0, 0);
    for _ in 0..3 {
        let short = code(at, 5)?;
        let (digit, length) =
            if short < 3 { (short, 5) } else { (code(at, 6)?.wrapping_sub(22), 6) };
        ensure!(digit < 10, "no digit in {value:x?}");
        number = number * 10 + digit;
        at += length;
    }
    Ok(number)
}
