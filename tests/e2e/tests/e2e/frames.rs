//! An HTTP/2 client at the level of frames, for requests that no library sends.

use anyhow::{Context as _, Result};
use sandgate_e2e::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::http_frames::{
    ACK, DATA, END_STREAM, FrameHead, GOAWAY, HEADERS, RST_STREAM, SETTINGS, acknowledgement,
    request, start,
};

const WINDOW_UPDATE: u8 = 8;
/// The settings that the tests evaluate (RFC 9113, section 6.5.2).
const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 3;
const SETTINGS_INITIAL_WINDOW_SIZE: u16 = 4;

/// A connection that never sends a WINDOW_UPDATE.
pub(crate) struct Frames {
    stream: TcpStream,
    next_stream: u32,
}

/// The outcome of a request.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// A response, with its body as far as the window permits.
    Response(String),
    /// RST_STREAM: only this request has failed.
    StreamReset,
    /// GOAWAY with an error, or the end: all requests of the connection have failed.
    ConnectionEnded,
}

/// The limits that a server announces to its client.
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
        let setting = [&SETTINGS_INITIAL_WINDOW_SIZE.to_be_bytes()[..], &window.to_be_bytes()];
        stream.write_all(&start(&setting.concat())).await?;
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
        let pseudo =
            [(":method", "GET"), (":scheme", "http"), (":authority", host), (":path", path)];
        let fields = [&pseudo, headers].concat();
        self.stream.write_all(&request(id, &fields, true)).await?;
        Ok(id)
    }

    /// Reads the server's settings, and its first WINDOW_UPDATE for the connection.
    pub(crate) async fn offer(&mut self) -> Result<Offer> {
        let mut offer = Offer::default();
        while offer.connection_window == 0 {
            let (head, payload) = self.read().await.context("no offer")?;
            let number =
                |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            match head.kind {
                WINDOW_UPDATE => offer.connection_window = 65_535 + number(&payload),
                SETTINGS if head.flags & ACK == 0 => {
                    for setting in payload.chunks_exact(6) {
                        let (name, value) = setting.split_at(2);
                        match u16::try_from(number(name))? {
                            SETTINGS_MAX_CONCURRENT_STREAMS => offer.streams = number(value),
                            SETTINGS_INITIAL_WINDOW_SIZE => offer.stream_window = number(value),
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(offer)
    }

    /// The next frame, or nothing when the connection has ended.
    async fn read(&mut self) -> Option<(FrameHead, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let head = FrameHead::from(head);
        let mut payload = vec![0; head.length];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((head, payload))
    }

    /// Reads until the outcome of a request is known.
    pub(crate) async fn outcome(&mut self, id: u32) -> Result<Outcome> {
        let mut body = String::new();
        loop {
            let Some((head, payload)) = self.read().await else {
                return Ok(Outcome::ConnectionEnded);
            };
            let FrameHead { kind, flags, stream, .. } = head;
            let of_request = stream == id;
            match kind {
                SETTINGS if flags & ACK == 0 => {
                    self.stream.write_all(&acknowledgement()).await?;
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
