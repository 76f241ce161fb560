//! Queries the resolvers within a time limit, even if some are slow, unreachable, or send forged responses.
//!
//! Each attempt has its own socket (and therefore source port) and id. If a resolver does not respond soon, the next
//! one is queried too, and the first response is used.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::counters::Counters;
use super::edns::HEADER;
use super::query::{Query, Transport, question_of};

/// The maximum number of attempts for a query.
const MAX_ATTEMPTS: usize = 6;
/// The maximum number of simultaneous attempts for a query.
const MAX_IN_FLIGHT: usize = 3;
/// The maximum size of a resolver's datagram, in bytes. The queries ask for less.
const DATAGRAM: usize = 4096;

/// The limits of queries to resolvers.
#[derive(Debug)]
pub(super) struct Upstream {
    /// The time limit of a query.
    pub(super) query_timeout: Duration,
    /// How long an attempt may take before the next one starts.
    pub(super) attempt_delay: Duration,
    /// Limits the additional attempts of all queries together, because each needs a socket.
    pub(super) additional: Semaphore,
}

/// A resolver's response.
#[derive(Debug)]
pub(super) struct Answer {
    /// The message. Its id, question section and sender match the query.
    pub(super) wire: Vec<u8>,
    /// Whether the message is incomplete, because it does not fit into a datagram.
    pub(super) truncated: bool,
}

impl Upstream {
    /// Queries the resolvers in their order until one responds without an error. `needs_complete_response` states that
    /// a truncated response can't be used.
    ///
    /// Returns a resolver's error (SERVFAIL, REFUSED, …) if all resolvers fail, and `None` if none responds in time.
    pub(super) async fn query(
        &self,
        query: &Query,
        resolvers: &[SocketAddr],
        needs_complete_response: bool,
        counters: &Counters,
    ) -> Option<Answer> {
        let deadline = Instant::now() + self.query_timeout;
        let attempt = |resolver, spare| Attempt {
            query,
            resolver,
            needs_complete_response,
            counters,
            _spare: spare,
        };
        let mut resolvers = resolvers.iter().copied().cycle().take(MAX_ATTEMPTS);
        let mut in_flight = FuturesUnordered::new();
        in_flight.push(attempt(resolvers.next()?, None).run());
        let (mut pause, mut failure) = (self.attempt_delay, None);
        let mut next = Instant::now() + pause;
        loop {
            let another = tokio::select! {
                biased;
                finished = in_flight.next() => match finished {
                    Some(Ok(answer)) if is_failure(&answer.wire) => {
                        failure = Some(answer);
                        true
                    }
                    Some(Ok(answer)) => return Some(answer),
                    Some(Err(_)) => true,
                    // All attempts have failed, and no resolver is left.
                    None => return failure,
                },
                () = sleep_until(next), if in_flight.len() < MAX_IN_FLIGHT => true,
                () = sleep_until(deadline) => return failure,
            };
            if another {
                pause += self.attempt_delay / 2;
                next = Instant::now() + pause;
                let spare = self.additional.try_acquire().ok();
                if let Some((resolver, spare)) =
                    spare.and_then(|spare| Some((resolvers.next()?, spare)))
                {
                    in_flight.push(attempt(resolver, Some(spare)).run());
                }
            }
        }
    }
}

/// One query to one resolver.
struct Attempt<'a> {
    query: &'a Query,
    resolver: SocketAddr,
    needs_complete_response: bool,
    counters: &'a Counters,
    _spare: Option<SemaphorePermit<'a>>,
}

impl Attempt<'_> {
    /// Uses the client's transport, so that the response is the same as without the proxy. Retries with TCP if the
    /// response to UDP is truncated, and with UDP if TCP fails.
    async fn run(self) -> std::io::Result<Answer> {
        match self.query.transport {
            Transport::Udp => {
                let answer = self.query_udp().await?;
                if answer.truncated && self.needs_complete_response {
                    self.query_tcp().await
                } else {
                    Ok(answer)
                }
            }
            Transport::Tcp => match self.query_tcp().await {
                Ok(answer) => Ok(answer),
                Err(reason) => {
                    let answer = self.query_udp().await?;
                    if answer.truncated { Err(reason) } else { Ok(answer) }
                }
            },
        }
    }

    async fn query_udp(&self) -> std::io::Result<Answer> {
        // With port 0, the kernel selects a random free port. A connected socket receives only this resolver's
        // datagrams, and an ICMP error ends the attempt immediately.
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
            if is_response(self.query, id, datagram) {
                let truncated = datagram.get(2).is_some_and(|flags| flags & 0x02 != 0);
                // A datagram that fills the buffer may be longer than the buffer.
                let truncated = truncated || length == DATAGRAM;
                return Ok(Answer { wire: datagram.to_vec(), truncated });
            }
            // A late or forged response. The right one may still arrive.
            self.counters.mismatched.increment();
        }
    }

    async fn query_tcp(&self) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(self.resolver).await?;
        stream.set_nodelay(true)?;
        let id = random_id()?;
        let question = self.query.forwarded(id);
        let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), question.as_slice()].concat()).await?;
        let length = stream.read_u16().await?;
        // The buffer grows with the data, so that a large length alone needs no memory.
        let mut wire = Vec::new();
        (&mut stream).take(u64::from(length)).read_to_end(&mut wire).await?;
        if wire.len() == usize::from(length) && is_response(self.query, id, &wire) {
            return Ok(Answer { wire, truncated: false });
        }
        self.counters.mismatched.increment();
        Err(std::io::Error::other("the resolver's response by TCP does not match the query"))
    }
}

/// An unpredictable id, from the system's random source.
fn random_id() -> std::io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(u16::from_be_bytes(bytes))
}

/// Whether a message is a response to this query, with the same id, name, type, and class. The case of the name may
/// differ, because some resolvers don't preserve it.
fn is_response(query: &Query, id: u16, wire: &[u8]) -> bool {
    let Some([id0, id1, flags, code, counts @ ..]) = wire.first_chunk::<HEADER>() else {
        return false;
    };
    if u16::from_be_bytes([*id0, *id1]) != id || flags & 0b1111_1000 != 0x80 {
        return false;
    }
    // A resolver that can't parse the query may respond with only a header.
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

/// Whether the resolver has failed, so that another one may succeed: all codes except NOERROR and NXDOMAIN.
fn is_failure(wire: &[u8]) -> bool {
    wire.get(3).is_none_or(|code| !matches!(code & 0x0f, 0 | 3))
}

#[cfg(test)]
mod tests;
