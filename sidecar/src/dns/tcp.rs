//! Serves a TCP listener (RFC 7766). A connection can have several queries in flight, and gets each response as soon as
//! it is available.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hickory_proto::op::ResponseCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Role;
use super::query::{Query, Transport};
use super::resolve::{Action, Origin, QueryHandler};

/// The maximum number of queries in flight on one connection.
const MAX_PIPELINED: usize = 16;
/// The time limit for sending a response, after which the connection is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time limit of a connection beyond the maximum, whose first query gets SERVFAIL.
const OVERFLOW_TIMEOUT: Duration = Duration::from_secs(1);
/// The delay before a retry after `accept` has failed, for example because no file descriptor is free.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// A bound socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) role: Role,
    pub(super) transparent: bool,
    /// Limits the connections that are served, and the additional ones that get SERVFAIL.
    pub(super) connections: Arc<Semaphore>,
    pub(super) overflow: Arc<Semaphore>,
    /// The idle timeout of a connection.
    pub(super) idle: Duration,
}

impl Listener {
    /// Serves connections until it is dropped. Dropping it closes them.
    pub(super) async fn serve(self, handler: Arc<QueryHandler>) {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => {
                    let Ok((stream, client)) = accepted else {
                        tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                        continue;
                    };
                    let destination = stream.local_addr().ok().filter(|_| self.transparent);
                    let (role, transport) = (self.role, Transport::Tcp);
                    let origin = Origin { client, destination, role, transport };
                    let (handler, idle) = (Arc::clone(&handler), self.idle);
                    if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
                        open.spawn(async move {
                            let _permit = permit;
                            serve_connection(stream, origin, &handler, idle).await
                        });
                        continue;
                    }
                    handler.counters.overloaded_connections.increment();
                    if let Ok(permit) = Arc::clone(&self.overflow).try_acquire_owned() {
                        open.spawn(async move {
                            let _permit = permit;
                            timeout(OVERFLOW_TIMEOUT, reject(stream)).await.ok().flatten()
                        });
                    }
                }
                Some(_) = open.join_next(), if !open.is_empty() => {}
            }
        }
    }
}

/// Serves a connection until it ends.
async fn serve_connection(
    stream: TcpStream,
    origin: Origin,
    handler: &QueryHandler,
    idle: Duration,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let (read, mut write) = stream.into_split();
    let mut questions = Frames { stream: read, buffer: Vec::new() };
    let mut in_flight: FuturesUnordered<BoxFuture<'_, Vec<u8>>> = FuturesUnordered::new();
    let mut ended = false;
    loop {
        let answer = tokio::select! {
            Some(answer) = in_flight.next(), if !in_flight.is_empty() => answer,
            question = timeout(idle, questions.next()), if !ended && in_flight.len() < MAX_PIPELINED => {
                // A client that has closed its half of the connection still gets its responses.
                let Some(message) = question.ok().flatten() else {
                    ended = true;
                    continue;
                };
                match handler.handle(&message, origin) {
                    Action::Ignore => return None,
                    Action::Respond(answer) => answer,
                    Action::Forward(question) => {
                        in_flight.push(Box::pin(async move { handler.forward(&question).await }));
                        continue;
                    }
                }
            }
            else => return Some(()),
        };
        timeout(WRITE_TIMEOUT, write.write_all(&framed(&answer))).await.ok()?.ok()?;
    }
}

/// Reads one query and responds with SERVFAIL.
async fn reject(stream: TcpStream) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let message = Frames { stream: read, buffer: Vec::new() }.next().await?;
    let query = Query::parse(&message, Transport::Tcp).ok()?;
    write.write_all(&framed(&query.error(ResponseCode::ServFail))).await.ok()
}

/// Prefixes a message with its length (RFC 1035 §4.2.2).
fn framed(message: &[u8]) -> Vec<u8> {
    // The proxy encodes no longer message.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), message].concat()
}

/// Reads messages from a stream. [`Frames::next`] is cancel safe: the buffer keeps partial messages.
struct Frames {
    stream: OwnedReadHalf,
    buffer: Vec<u8>,
}

impl Frames {
    /// The next message, or `None` at the end of the stream.
    async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some((length, rest)) = self.buffer.split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(*length));
                if rest.len() >= length {
                    let tail = self.buffer.split_off(2 + length);
                    let mut message = std::mem::replace(&mut self.buffer, tail);
                    message.drain(..2);
                    return Some(message);
                }
            }
            if self.stream.read_buf(&mut self.buffer).await.ok()? == 0 {
                return None;
            }
        }
    }
}
