//! HTTP/2 frames (RFC 9113) written by hand, for what no library sends.

use anyhow::{Context as _, Result};
use sandgate_e2e::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// Flag of HEADERS and DATA; on SETTINGS it is ACK.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// No frame is longer (`SETTINGS_MAX_FRAME_SIZE` as it is by default).
const LONGEST: usize = 16_384;

/// A connection whose windows are never opened any further.
pub(crate) struct Frames {
    stream: TcpStream,
    next_stream: u32,
}

/// What came of a request.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// A response, with the body as far as the window allows it.
    Response(String),
    /// RST_STREAM: only this request has failed.
    StreamReset,
    /// GOAWAY with an error, or the end: all requests of the connection have failed.
    ConnectionEnded,
}

/// What a server lets its client send.
#[derive(Debug, Default)]
pub(crate) struct Offer {
    pub(crate) streams: u64,
    pub(crate) stream_window: u64,
    pub(crate) connection_window: u64,
}

impl Frames {
    /// Connects; the server may send `window` bytes of each response.
    pub(crate) async fn connect(client: Client, window: u32) -> Result<Self> {
        let mut stream = TcpStream::connect(client.address()).await?;
        let mut start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let setting = [&[0, 4], window.to_be_bytes().as_slice()].concat();
        frame(&mut start, SETTINGS, 0, 0, &setting);
        stream.write_all(&start).await?;
        Ok(Self { stream, next_stream: 1 })
    }

    /// Sends a GET without waiting for the response.
    pub(crate) async fn get(
        &mut self,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<u32> {
        let id = self.next_stream;
        self.next_stream += 2;
        let mut block = Vec::new();
        let request =
            [(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", path)];
        for (name, value) in request.iter().chain(headers) {
            // Literal, not indexed, with a new name (RFC 7541, 6.2.2).
            block.push(0);
            text(&mut block, name.as_bytes());
            text(&mut block, value.as_bytes());
        }
        let mut frames = Vec::new();
        let mut pieces = block.chunks(LONGEST).peekable();
        let (mut kind, mut flags) = (HEADERS, END_STREAM);
        while let Some(piece) = pieces.next() {
            let last = if pieces.peek().is_none() { END_HEADERS } else { 0 };
            frame(&mut frames, kind, flags | last, id, piece);
            (kind, flags) = (CONTINUATION, 0);
        }
        self.stream.write_all(&frames).await?;
        Ok(id)
    }

    /// What the server says first: its settings, and how much larger the connection's window is than by default.
    pub(crate) async fn offer(&mut self) -> Result<Offer> {
        let mut offer = Offer::default();
        while offer.connection_window == 0 {
            let (kind, flags, _, payload) = self.read().await.context("no offer")?;
            let number =
                |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            match kind {
                WINDOW_UPDATE => offer.connection_window = 65_535 + number(&payload),
                SETTINGS if flags & END_STREAM == 0 => {
                    for setting in payload.chunks_exact(6) {
                        let (name, value) = setting.split_at(2);
                        match number(name) {
                            3 => offer.streams = number(value),
                            4 => offer.stream_window = number(value),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(offer)
    }

    /// The next frame: its type, flags, stream, and payload. Nothing when the connection has ended.
    async fn read(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((kind, flags, u32::from_be_bytes(stream), payload))
    }

    /// What comes of a request.
    pub(crate) async fn outcome(&mut self, id: u32) -> Result<Outcome> {
        let mut body = String::new();
        loop {
            let Some((kind, flags, stream, payload)) = self.read().await else {
                return Ok(Outcome::ConnectionEnded);
            };
            let of_request = stream == id;
            match kind {
                SETTINGS if flags & END_STREAM == 0 => {
                    let mut ack = Vec::new();
                    frame(&mut ack, SETTINGS, END_STREAM, 0, &[]);
                    self.stream.write_all(&ack).await?;
                }
                DATA if of_request => body.push_str(&String::from_utf8_lossy(&payload)),
                RST_STREAM if of_request => return Ok(Outcome::StreamReset),
                GOAWAY => {
                    let code = payload.get(4..8).context("a GOAWAY without a code")?;
                    if code != [0; 4] {
                        return Ok(Outcome::ConnectionEnded);
                    }
                }
                _ => {}
            }
            if of_request && matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0 {
                return Ok(Outcome::Response(body));
            }
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    out.extend(&length[1..]);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// A string, its length in a prefix of seven bits (RFC 7541, 5.1 and 5.2).
fn text(out: &mut Vec<u8>, text: &[u8]) {
    let mut length = text.len();
    if length < 127 {
        out.push(u8::try_from(length).unwrap());
    } else {
        out.push(127);
        length -= 127;
        while length >= 128 {
            out.push(u8::try_from(length % 128).unwrap() | 128);
            length /= 128;
        }
        out.push(u8::try_from(length).unwrap());
    }
    out.extend(text);
}
