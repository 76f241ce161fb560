//! HTTP at the level of bytes, for messages that no library sends: a client of HTTP/1.1 and HTTP/2, and a server that
//! sends the same bytes to each request.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::http_frames::{
    ACK, DATA, END_STREAM, FrameHead, GOAWAY, HEADERS, RST_STREAM, SETTINGS, acknowledgement,
    frame, request, start, status,
};

/// The read timeout.
const PATIENCE: Duration = Duration::from_secs(10);

/// The reply that a client received.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    /// None if the stream or the connection ended without a status.
    pub(crate) status: Option<u16>,
    /// All other bytes. For HTTP/2, only the body.
    pub(crate) text: String,
}

/// Sends the bytes of a request, and reads until the peer closes.
pub(crate) fn http1(mut stream: TcpStream, request: &[u8]) -> Result<Reply> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    // Bytes that arrive before a reset count, too.
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
    let mut out = start(&[]);
    out.extend(request(1, fields, body.is_empty()));
    if !body.is_empty() {
        frame(DATA, END_STREAM, 1, body, &mut out);
    }
    stream.write_all(&out)?;
    let mut reply = Reply::default();
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return Ok(reply);
        }
        let FrameHead { length, kind, flags, stream: id } = head.into();
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload)?;
        let ours = id == 1;
        match kind {
            SETTINGS if flags & ACK == 0 => stream.write_all(&acknowledgement())?,
            HEADERS if ours && reply.status.is_none() => reply.status = Some(status(&payload)?),
            DATA if ours => reply.text.push_str(&String::from_utf8_lossy(&payload)),
            RST_STREAM if ours => return Ok(reply),
            GOAWAY => return Ok(reply),
            _ => {}
        }
        if ours && matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
            return Ok(reply);
        }
    }
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
                // A client that disconnects is not an error of the server.
                std::thread::spawn(move || answer(stream, &response, &requests));
            }
        });
        server
    }

    /// The heads of the received requests.
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
    // Closing with unread bytes would reset the connection and lose the response.
    while stream.read(&mut buffer)? > 0 {}
    Ok(())
}
