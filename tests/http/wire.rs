//! HTTP byte by byte, for what no HTTP library lets one send: a client of HTTP/1.1 and HTTP/2 over any
//! stream, and a server that answers the same bytes to each request.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

/// How long silence may last.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a client got.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// None when the stream or the connection was ended without one.
    pub(crate) status: Option<u16>,
    /// Everything else, as it came: of HTTP/2 the bodies alone.
    pub(crate) text: String,
}

/// Sends the bytes of a request, and reads until the other side closes.
pub(crate) fn http1(mut stream: TcpStream, request: &[u8]) -> Result<Reply> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    // A connection that is reset has its bytes, too.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    // The gateway's own 100 comes before the response.
    let last = text.rsplit("HTTP/1.").find_map(|rest| rest.get(2..5)?.parse().ok());
    Ok(Reply { status: last, text })
}

/// Sends one request by HTTP/2 with prior knowledge, and reads its response.
pub(crate) fn http2(
    mut stream: TcpStream,
    fields: &[(String, Vec<u8>)],
    body: &[u8],
) -> Result<Reply> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut block = Vec::new();
    for (name, value) in fields {
        // A literal field that is not indexed (RFC 7541, section 6.2.2), without Huffman codes.
        block.push(0);
        string(name.as_bytes(), &mut block);
        string(value, &mut block);
    }
    let mut out = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(SETTINGS, 0, 0, &[], &mut out);
    let parts: Vec<&[u8]> = block.chunks(16_000).collect();
    for (number, part) in parts.iter().enumerate() {
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        let end_headers = if number + 1 == parts.len() { 4 } else { 0 };
        let end_stream = u8::from(number == 0 && body.is_empty());
        frame(kind, end_headers | end_stream, 1, part, &mut out);
    }
    if !body.is_empty() {
        frame(DATA, 1, 1, body, &mut out);
    }
    stream.write_all(&out)?;
    let mut reply = Reply::default();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return Ok(reply);
        }
        let [a, b, c, kind, flags, stream_id @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let mut payload = vec![0; usize::try_from(length)?];
        stream.read_exact(&mut payload)?;
        let ours = u32::from_be_bytes(stream_id) == 1;
        match kind {
            SETTINGS if flags & 1 == 0 => {
                let mut acknowledged = Vec::new();
                frame(SETTINGS, 1, 0, &[], &mut acknowledged);
                stream.write_all(&acknowledged)?;
            }
            HEADERS if ours && reply.status.is_none() => reply.status = Some(status(&payload)?),
            DATA if ours => reply.text.push_str(&String::from_utf8_lossy(&payload)),
            RST_STREAM if ours => return Ok(reply),
            GOAWAY => return Ok(reply),
            _ => {}
        }
        if ours && matches!(kind, HEADERS | DATA) && flags & 1 == 1 {
            return Ok(reply);
        }
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;

/// A frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut Vec<u8>) {
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
fn status(block: &[u8]) -> Result<u16> {
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

/// A server of HTTP/1.1 that answers the same bytes to every request, and closes.
#[derive(Debug, Default)]
pub(crate) struct Server {
    requests: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Server {
    /// Serves from now on, until the process ends.
    pub(crate) fn start(listener: TcpListener, response: Vec<u8>) -> Self {
        let server = Self::default();
        let requests = Arc::clone(&server.requests);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (requests, response) = (Arc::clone(&requests), response.clone());
                // A client that goes away is none of the server's errors.
                std::thread::spawn(move || answer(stream, &response, &requests));
            }
        });
        server
    }

    /// The heads of the requests that it has got.
    pub(crate) fn requests(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

fn answer(mut stream: TcpStream, response: &[u8], requests: &Mutex<Vec<Vec<u8>>>) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut buffer = [0; 16 << 10];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut buffer)?;
        ensure!(read > 0, "no request");
        request.extend(buffer.get(..read).unwrap_or_default());
    }
    requests.lock().unwrap_or_else(PoisonError::into_inner).push(request);
    stream.write_all(response)?;
    stream.shutdown(std::net::Shutdown::Write)?;
    // To close with unread bytes would reset the connection, and the response with it.
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}
