//! An open tunnel: binary messages become the TCP connection's bytes, and the other way round.
//!
//! Each direction is a loop that reads no more before the last bytes are written, so that a slow
//! reader on one side slows the other side down, and a tunnel holds one message at most.
//!
//! WebSockets cannot be closed half, TCP connections can. A Close frame stands for the end of what
//! its sender sends: a service that got it (as a FIN) may still answer, and the Close frame that
//! answers the client's comes when the service has ended, too. RFC 6455 section 5.5.1 lets a Close
//! be answered late. WebSocket libraries don't, so there is one WebSocket for each direction, over
//! the two halves of the same connection.

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

/// The largest message that a client may send. Clients send what they read from a socket.
const MAX_MESSAGE: usize = 16 << 20;
/// How much of the service's data goes into one message at most.
const CHUNK: usize = 64 << 10;
/// How long the second side may be silent when the first has ended.
const SILENCE: Duration = Duration::from_secs(10);
/// How long a client that was told to go may take to do so.
const FAREWELL: Duration = Duration::from_secs(1);

type FromClient = WebSocketStream<Join<ReadHalf<TokioIo<Upgraded>>, Sink>>;
type ToClient = WebSocketStream<Join<Empty, WriteHalf<TokioIo<Upgraded>>>>;

/// Why a tunnel ended before both sides were done.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("tunnels carry binary messages only")]
    Text,
    #[error("{0}")]
    Protocol(Error),
    #[error("the service's connection broke: {0}")]
    Service(io::Error),
    #[error("the client is gone")]
    Client,
}

impl Broken {
    fn unless_the_clients(self) -> Result<(), Self> {
        if matches!(self, Self::Client) { Ok(()) } else { Err(self) }
    }

    /// What a client that is still there is told.
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

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        match error {
            Error::Capacity(_) | Error::Utf8(_) => Self::Protocol(error),
            // The library takes a connection that just ended for a breach of the protocol.
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => Self::Client,
            Error::Protocol(_) => Self::Protocol(error),
            _ => Self::Client,
        }
    }
}

/// Carries bytes both ways until both sides have ended, or one of them broke.
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
    if let Err(broken) = ended {
        // A service must not take the half of an upload for the whole of it: a reset, not a FIN.
        // It fails on a connection that is already gone.
        let _: io::Result<()> = service.set_zero_linger();
        drop(service);
        if let Some(code) = broken.close_code() {
            let frame = CloseFrame { code, reason: reason(&broken).into() };
            let farewell = async {
                to_client.close(Some(frame)).await?;
                // What is still on its way is read, or the connection's end would overtake the Close.
                gone(&mut from_client).await;
                Ok::<_, Error>(())
            };
            // The client is told if it still listens.
            let _: Result<_, _> = tokio::time::timeout(FAREWELL, farewell).await;
        }
    }
}

/// A Close frame holds 123 bytes of reason.
fn reason(broken: &Broken) -> String {
    let mut text = broken.to_string();
    text.truncate(text.floor_char_boundary(120));
    text
}

async fn both_ways(
    from_client: &mut FromClient,
    to_service: ToService<'_>,
    from_service: FromService<'_>,
    to_client: &mut ToClient,
) -> Result<(), Broken> {
    let moved = AtomicU64::new(0);
    // One is enough: of several pings only the last has to be answered (RFC 6455 section 5.5.3).
    let (ping, pinged) = mpsc::channel(1);
    let mut up = pin!(upload(from_client, to_service, ping, &moved));
    let mut down = pin!(download(from_service, to_client, pinged, &moved));
    tokio::select! {
        uploaded = &mut up => {
            let rest = uploaded?;
            // The upload is whole, so the service learns of no failure on the client's side any more.
            tokio::select! {
                downloaded = &mut down => downloaded.or_else(Broken::unless_the_clients),
                () = gone(rest) => Ok(()),
                () = silence(&moved) => Ok(()),
            }
        }
        downloaded = &mut down => {
            // A client that is gone may have sent its Close before.
            downloaded.or_else(Broken::unless_the_clients)?;
            tokio::select! {
                uploaded = &mut up => uploaded.map(|_| ()),
                () = silence(&moved) => Err(Broken::Client),
            }
        }
    }
}

/// From the client to the service, until the client's Close.
async fn upload<'a>(
    client: &'a mut FromClient,
    mut service: ToService<'_>,
    ping: mpsc::Sender<Bytes>,
    moved: &AtomicU64,
) -> Result<&'a mut FromClient, Broken> {
    while let Some(message) = client.next().await {
        match message? {
            Message::Binary(bytes) => {
                service.write_all(&bytes).await.map_err(Broken::Service)?;
                moved.fetch_add(1, Ordering::Relaxed);
            }
            Message::Text(_) => return Err(Broken::Text),
            Message::Ping(bytes) => drop(ping.try_send(bytes)),
            Message::Close(_) => {
                service.shutdown().await.map_err(Broken::Service)?;
                return Ok(client);
            }
            Message::Pong(_) | Message::Frame(_) => {}
        }
    }
    Err(Broken::Client)
}

/// From the service to the client, until the service's end; then says so by a Close.
async fn download(
    mut service: FromService<'_>,
    client: &mut ToClient,
    mut pinged: mpsc::Receiver<Bytes>,
    moved: &AtomicU64,
) -> Result<(), Broken> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let message = tokio::select! {
            read = service.read(&mut chunk) => match read.map_err(Broken::Service)? {
                0 => break,
                length => {
                    Message::binary(chunk.get(..length).unwrap_or_default().to_vec())
                }
            },
            Some(bytes) = pinged.recv() => Message::Pong(bytes),
        };
        client.send(message).await?;
        moved.fetch_add(1, Ordering::Relaxed);
    }
    let done = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    Ok(client.close(Some(done)).await?)
}

/// Ends when the client's connection does. What a client sends after its Close has no meaning.
async fn gone(client: &mut FromClient) {
    let mut ignored = [0; 512];
    while client.get_mut().read(&mut ignored).await.is_ok_and(|length| length > 0) {}
}

/// Ends when nothing was carried for a while.
async fn silence(moved: &AtomicU64) {
    loop {
        let before = moved.load(Ordering::Relaxed);
        tokio::time::sleep(SILENCE).await;
        if moved.load(Ordering::Relaxed) == before {
            return;
        }
    }
}
