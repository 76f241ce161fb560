//! An open tunnel. It converts binary messages to bytes of the TCP connection, and back.
//!
//! Each direction is a loop that reads again only after the previous bytes are written. So a slow
//! reader on one side slows down the other side, and a tunnel buffers at most one message.
//!
//! TCP connections can be half-closed; WebSockets can't. Therefore a Close frame ends only the
//! direction of its sender. After the client's Close frame, the service receives a FIN and may
//! still send data. The tunnel sends its own Close frame after the service has finished. RFC 6455,
//! section 5.5.1 allows such a late Close frame, but WebSocket libraries don't support it. So the
//! tunnel has one WebSocket for each direction, over the two halves of the same connection.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Empty, Join, ReadHalf, Sink, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf as FromService, WriteHalf as ToService};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

/// The maximum size of a message from the client, in bytes. Clients send what they read from a
/// socket, which is much less.
const MAX_MESSAGE: usize = 16 << 20;
/// The maximum number of the service's bytes in one message.
const CHUNK: usize = 64 << 10;
/// After one direction has ended, the maximum time without data in the other direction.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum time for sending a Close frame with an error code and for the client's close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

type FromClient = WebSocketStream<Join<ReadHalf<TokioIo<Upgraded>>, Sink>>;
type ToClient = WebSocketStream<Join<Empty, WriteHalf<TokioIo<Upgraded>>>>;

/// The reason why a tunnel ended before both directions had ended.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("tunnels carry binary messages only")]
    Text,
    #[error("{0}")]
    Protocol(Error),
    #[error("the service's connection broke: {0}")]
    Service(io::Error),
    #[error("the client is gone")]
    Client,
}

impl Failure {
    fn unless_by_client(self) -> Result<(), Self> {
        if matches!(self, Self::Client) { Ok(()) } else { Err(self) }
    }

    /// The code of the Close frame, if the client is still connected.
    fn close_code(&self) -> Option<CloseCode> {
        match self {
            Self::Text => Some(CloseCode::Unsupported),
            Self::Protocol(Error::Capacity(_)) => Some(CloseCode::Size),
            Self::Protocol(_) => Some(CloseCode::Protocol),
            Self::Service(_) => Some(CloseCode::Error),
            Self::Client => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Capacity(_) | Error::Utf8(_) => Self::Protocol(error),
            // The library reports a connection that ended without Close frames as a protocol error.
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Client,
            Error::Protocol(_) => Self::Protocol(error),
            _ => Self::Client,
        }
    }
}

/// Forwards bytes in both directions until both have ended, or one has failed.
pub(super) async fn run(client: Upgraded, mut service: TcpStream) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let (read, write) = tokio::io::split(TokioIo::new(client));
    let nowhere = tokio::io::join(read, tokio::io::sink());
    let nothing = tokio::io::join(tokio::io::empty(), write);
    let mut from_client =
        WebSocketStream::from_raw_socket(nowhere, Role::Server, Some(config)).await;
    let mut to_client = WebSocketStream::from_raw_socket(nothing, Role::Server, Some(config)).await;
    let (from_service, to_service) = service.split();
    let ended = both_ways(&mut from_client, to_service, from_service, &mut to_client).await;
    if let Err(failure) = ended {
        // Resets the service's connection instead of sending a FIN, so that the service does not
        // take an incomplete upload for a complete one. This fails only if the connection is
        // already closed.
        let _: io::Result<()> = service.set_zero_linger();
        drop(service);
        if let Some(code) = failure.close_code() {
            let frame = CloseFrame { code, reason: reason(&failure).into() };
            let close = async {
                to_client.close(Some(frame)).await?;
                // Reads the client's data in flight. Unread data would make the kernel reset the
                // connection, and the client could lose the Close frame.
                client_closed(&mut from_client).await;
                Ok::<_, Error>(())
            };
            // Best effort: the client may no longer read.
            let _: Result<_, _> = tokio::time::timeout(CLOSE_TIMEOUT, close).await;
        }
    }
}

/// The reason, truncated because a Close frame holds at most 123 bytes of it.
fn reason(failure: &Failure) -> String {
    let mut text = failure.to_string();
    text.truncate(text.floor_char_boundary(120));
    text
}

async fn both_ways(
    from_client: &mut FromClient,
    to_service: ToService<'_>,
    from_service: FromService<'_>,
    to_client: &mut ToClient,
) -> Result<(), Failure> {
    let forwarded = AtomicU64::new(0);
    // The capacity of one is sufficient: only the last of several pings must be answered (RFC 6455,
    // section 5.5.3).
    let (ping, pinged) = mpsc::channel(1);
    let mut up = pin!(upload(from_client, to_service, ping, &forwarded));
    let mut down = pin!(download(from_service, to_client, pinged, &forwarded));
    tokio::select! {
        uploaded = &mut up => {
            let rest = uploaded?;
            // The upload is complete, so a failure of the client no longer affects the service.
            tokio::select! {
                downloaded = &mut down => downloaded.or_else(Failure::unless_by_client),
                () = client_closed(rest) => Ok(()),
                () = idle(&forwarded) => Ok(()),
            }
        }
        downloaded = &mut down => {
            // A client that has disconnected may have sent its Close frame before.
            downloaded.or_else(Failure::unless_by_client)?;
            tokio::select! {
                uploaded = &mut up => uploaded.map(|_| ()),
                () = idle(&forwarded) => Err(Failure::Client),
            }
        }
    }
}

/// Forwards from the client to the service, until the client's Close frame.
async fn upload<'a>(
    client: &'a mut FromClient,
    mut service: ToService<'_>,
    ping: mpsc::Sender<Bytes>,
    forwarded: &AtomicU64,
) -> Result<&'a mut FromClient, Failure> {
    while let Some(message) = client.next().await {
        match message? {
            Message::Binary(bytes) => {
                service.write_all(&bytes).await.map_err(Failure::Service)?;
                forwarded.fetch_add(1, Ordering::Relaxed);
            }
            Message::Text(_) => return Err(Failure::Text),
            Message::Ping(bytes) => drop(ping.try_send(bytes)),
            Message::Close(_) => {
                service.shutdown().await.map_err(Failure::Service)?;
                return Ok(client);
            }
            Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Err(Failure::Client)
}

/// Forwards from the service to the client, until the service has finished. Then sends a Close
/// frame.
async fn download(
    mut service: FromService<'_>,
    client: &mut ToClient,
    mut pinged: mpsc::Receiver<Bytes>,
    forwarded: &AtomicU64,
) -> Result<(), Failure> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let message = tokio::select! {
            read = service.read(&mut chunk) => match read.map_err(Failure::Service)? {
                0 => break,
                length => {
                    Message::binary(chunk.get(..length).unwrap_or_default().to_vec())
                }
            },
            Some(bytes) = pinged.recv() => Message::Pong(bytes),
        };
        client.send(message).await?;
        forwarded.fetch_add(1, Ordering::Relaxed);
    }
    let done = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    Ok(client.close(Some(done)).await?)
}

/// Completes when the client's connection ends. Ignores all data after the client's Close frame.
async fn client_closed(client: &mut FromClient) {
    let mut ignored = [0; 512];
    while client.get_mut().read(&mut ignored).await.is_ok_and(|length| length > 0) {}
}

/// Completes when no data was forwarded for [`IDLE_TIMEOUT`].
async fn idle(forwarded: &AtomicU64) {
    loop {
        let before = forwarded.load(Ordering::Relaxed);
        tokio::time::sleep(IDLE_TIMEOUT).await;
        if forwarded.load(Ordering::Relaxed) == before {
            return;
        }
    }
}
