//! Serves one socket for connections (RFC 7766): many questions on each, answered in the order in
//! which the answers are known.

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
use super::resolve::{Origin, Resolve, Step};

/// Questions of one connection that may be under way; the next is read when one is answered.
const PIPELINED: usize = 16;
/// A client that takes no answer for this long is gone.
const WRITE_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection beyond the limit has to put its question, which gets SERVFAIL.
const TURN_AWAY_WITHIN: Duration = Duration::from_secs(1);
/// The pause after `accept` has failed, for want of file descriptors perhaps.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// A bound socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) role: Role,
    pub(super) transparent: bool,
    /// Connections that are served at the same time; as many again are told that it is too much.
    pub(super) connections: Arc<Semaphore>,
    pub(super) turned_away: Arc<Semaphore>,
    /// How long a connection may be idle.
    pub(super) idle: Duration,
}

impl Listener {
    /// Answers until it is dropped. Its connections are closed with it.
    pub(super) async fn serve(self, resolve: Arc<Resolve>) {
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept() => {
                    let Ok((stream, client)) = accepted else {
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                        continue;
                    };
                    let destination = stream.local_addr().ok().filter(|_| self.transparent);
                    let (role, transport) = (self.role, Transport::Tcp);
                    let origin = Origin { client, destination, role, transport };
                    let (resolve, idle) = (Arc::clone(&resolve), self.idle);
                    if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
                        open.spawn(async move {
                            let _permit = permit;
                            converse(stream, origin, &resolve, idle).await
                        });
                        continue;
                    }
                    resolve.counters.overloaded_connections.one();
                    if let Ok(permit) = Arc::clone(&self.turned_away).try_acquire_owned() {
                        open.spawn(async move {
                            let _permit = permit;
                            timeout(TURN_AWAY_WITHIN, turn_away(stream)).await.ok().flatten()
                        });
                    }
                }
                Some(_) = open.join_next(), if !open.is_empty() => {}
            }
        }
    }
}

/// Serves one connection to its end.
async fn converse(
    stream: TcpStream,
    origin: Origin,
    resolve: &Resolve,
    idle: Duration,
) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let (read, mut write) = stream.into_split();
    let mut questions = Frames { stream: read, buffer: Vec::new() };
    let mut under_way: FuturesUnordered<BoxFuture<'_, Vec<u8>>> = FuturesUnordered::new();
    let mut ended = false;
    loop {
        let answer = tokio::select! {
            Some(answer) = under_way.next(), if !under_way.is_empty() => answer,
            question = timeout(idle, questions.next()), if !ended && under_way.len() < PIPELINED => {
                // A client may close its half once it has asked; it still gets its answers.
                let Some(message) = question.ok().flatten() else {
                    ended = true;
                    continue;
                };
                match resolve.step(&message, origin) {
                    Step::Silence => return None,
                    Step::Answer(answer) => answer,
                    Step::Ask(question) => {
                        under_way.push(Box::pin(async move { resolve.ask(&question).await }));
                        continue;
                    }
                }
            }
            else => return Some(()),
        };
        timeout(WRITE_WITHIN, write.write_all(&framed(&answer))).await.ok()?.ok()?;
    }
}

/// Reads one question and answers SERVFAIL.
async fn turn_away(stream: TcpStream) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let message = Frames { stream: read, buffer: Vec::new() }.next().await?;
    let query = Query::parse(&message, Transport::Tcp).ok()?;
    write.write_all(&framed(&query.error(ResponseCode::ServFail))).await.ok()
}

/// A message after its length (RFC 1035 §4.2.2).
fn framed(message: &[u8]) -> Vec<u8> {
    // Nothing longer is ever encoded; if it were, the client would get less than it was told.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), message].concat()
}

/// Messages out of a stream. Dropping [`Frames::next`] loses nothing: what was read stays here.
struct Frames {
    stream: OwnedReadHalf,
    buffer: Vec<u8>,
}

impl Frames {
    /// The next message; None at the end of the stream.
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
