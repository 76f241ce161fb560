//! Asks resolvers, which may be slow, lossy, dead or lying, and comes back within a bound.
//!
//! Each attempt has a socket (so a source port) and an id of its own. A late answer is still an
//! answer: while one resolver keeps silent the next is asked as well, and the first that answers wins.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::counters::Counters;
use super::query::{HEADER, Query, Transport, question_of};

/// Attempts for one question, at most; and how many of them may wait at the same time.
const ATTEMPTS: usize = 6;
const WAITING: usize = 3;
/// What a datagram of a resolver may hold, in bytes. Ours asks for far less.
const DATAGRAM: usize = 4096;

/// How resolvers are asked.
#[derive(Debug)]
pub(super) struct Upstream {
    /// The whole time for one question.
    pub(super) answer_within: Duration,
    /// How long a resolver may keep silent before another attempt is made beside it.
    pub(super) patience: Duration,
    /// How many attempts after the first may be open, over all questions: each is a socket.
    pub(super) spare: Semaphore,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// The message. It answers the question: id, question section and sender were compared.
    pub(super) wire: Vec<u8>,
    /// It was too long for a datagram, and this is a part of it.
    pub(super) truncated: bool,
}

impl Upstream {
    /// Asks the resolvers, in their order, until one of them knows. `whole` says that a truncated
    /// answer is of no use.
    ///
    /// Returns the failure that a resolver reported (SERVFAIL, REFUSED, …) if none did better, and
    /// None if none answered in time.
    pub(super) async fn ask(
        &self,
        query: &Query,
        resolvers: &[SocketAddr],
        whole: bool,
        counters: &Counters,
    ) -> Option<Answer> {
        let deadline = Instant::now() + self.answer_within;
        let attempt = |resolver, spare| Attempt { query, resolver, whole, counters, _spare: spare };
        let mut resolvers = resolvers.iter().copied().cycle().take(ATTEMPTS);
        let mut waiting = FuturesUnordered::new();
        waiting.push(attempt(resolvers.next()?, None).run());
        let (mut pause, mut failure) = (self.patience, None);
        let mut next = Instant::now() + pause;
        loop {
            let another = tokio::select! {
                biased;
                finished = waiting.next() => match finished {
                    Some(Ok(answer)) if is_failure(&answer.wire) => {
                        failure = Some(answer);
                        true
                    }
                    Some(Ok(answer)) => return Some(answer),
                    Some(Err(_)) => true,
                    // Every attempt has failed, and there is nobody left to ask.
                    None => return failure,
                },
                () = sleep_until(next), if waiting.len() < WAITING => true,
                () = sleep_until(deadline) => return failure,
            };
            if another {
                pause += self.patience / 2;
                next = Instant::now() + pause;
                let spare = self.spare.try_acquire().ok();
                if let Some((resolver, spare)) =
                    spare.and_then(|spare| Some((resolvers.next()?, spare)))
                {
                    waiting.push(attempt(resolver, Some(spare)).run());
                }
            }
        }
    }
}

/// One question to one resolver.
struct Attempt<'a> {
    query: &'a Query,
    resolver: SocketAddr,
    whole: bool,
    counters: &'a Counters,
    _spare: Option<SemaphorePermit<'a>>,
}

impl Attempt<'_> {
    /// By the way the client chose, so that it fares as it would without us; by TCP as well where
    /// UDP does not carry enough, and by UDP where there is no TCP.
    async fn run(self) -> std::io::Result<Answer> {
        match self.query.transport {
            Transport::Udp => {
                let answer = self.by_udp().await?;
                if answer.truncated && self.whole { self.by_tcp().await } else { Ok(answer) }
            }
            Transport::Tcp => match self.by_tcp().await {
                Ok(answer) => Ok(answer),
                Err(reason) => {
                    let answer = self.by_udp().await?;
                    if answer.truncated { Err(reason) } else { Ok(answer) }
                }
            },
        }
    }

    async fn by_udp(&self) -> std::io::Result<Answer> {
        // Port 0: the kernel picks a free port at random. Connected: only this resolver's
        // datagrams arrive, and an ICMP refusal ends the attempt at once.
        let any = match self.resolver {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(self.resolver).await?;
        let id = random_id()?;
        socket.send(&self.query.forwarded(id)).await?;
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let length = socket.recv(&mut buffer).await?;
            let datagram = buffer.get(..length).unwrap_or_default();
            if answers(self.query, id, datagram) {
                let truncated = datagram.get(2).is_some_and(|flags| flags & 0x02 != 0);
                // What fills the buffer may have been cut off by it.
                let truncated = truncated || length == DATAGRAM;
                return Ok(Answer { wire: datagram.to_vec(), truncated });
            }
            // Not ours, or forged: the true one may still come.
            self.counters.mismatched.one();
        }
    }

    async fn by_tcp(&self) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(self.resolver).await?;
        stream.set_nodelay(true)?;
        let id = random_id()?;
        let question = self.query.forwarded(id);
        let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), question.as_slice()].concat()).await?;
        let length = stream.read_u16().await?;
        // Grows as it is read: a length alone does not take memory.
        let mut wire = Vec::new();
        (&mut stream).take(u64::from(length)).read_to_end(&mut wire).await?;
        if wire.len() == usize::from(length) && answers(self.query, id, &wire) {
            return Ok(Answer { wire, truncated: false });
        }
        self.counters.mismatched.one();
        Err(std::io::Error::other("the resolver sent something else by TCP"))
    }
}

/// An id that can't be guessed, from the system's random source.
fn random_id() -> std::io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(u16::from_be_bytes(bytes))
}

/// If a message answers this question: an answer, to a standard query, with the id and the question
/// that were sent. Letter case may differ (some resolvers do not keep it); type and class may not.
fn answers(query: &Query, id: u16, wire: &[u8]) -> bool {
    let Some([id0, id1, flags, code, counts @ ..]) = wire.first_chunk::<HEADER>() else {
        return false;
    };
    if u16::from_be_bytes([*id0, *id1]) != id || flags & 0b1111_1000 != 0x80 {
        return false;
    }
    // A resolver that could not read the question may answer by the header alone.
    if *counts == [0; 8] && code & 0x0f != 0 {
        return true;
    }
    let [0, 1, ..] = counts else { return false };
    let (Some(asked), Some(repeated)) = (query.question.split_last_chunk::<4>(), question_of(wire))
    else {
        return false;
    };
    repeated
        .split_last_chunk::<4>()
        .is_some_and(|(name, kind)| kind == asked.1 && name.eq_ignore_ascii_case(asked.0))
}

/// If the resolver itself has failed, so that another may do better: anything but NOERROR and
/// NXDOMAIN.
fn is_failure(wire: &[u8]) -> bool {
    wire.get(3).is_none_or(|code| !matches!(code & 0x0f, 0 | 3))
}

#[cfg(test)]
mod tests;
