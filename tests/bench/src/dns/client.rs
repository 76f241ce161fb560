//! Clients that ask one question after the other, over UDP.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::Question;
use super::servers::{DENIED, FORWARDED, VIRTUAL};

/// Questions in flight.
const CLIENTS: usize = 64;
/// A client asks again after this time.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) struct Outcome {
    pub(super) answers: u64,
    /// Questions without an answer.
    pub(super) lost: u64,
    pub(super) seconds: f64,
}

/// Asks for a time.
pub(super) async fn ask(to: SocketAddr, question: Question, time: Duration) -> Result<Outcome> {
    let begun = Instant::now();
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(async move {
            let client = Client::connect(to, question, number).await?;
            let (mut answers, mut lost) = (0_u64, 0_u64);
            let mut id = 0_u16;
            while begun.elapsed() < time {
                id = id.wrapping_add(1);
                match timeout(PATIENCE, client.ask(id)).await {
                    Ok(answered) => {
                        answered?;
                        answers += 1;
                    }
                    Err(_) => lost += 1,
                }
            }
            anyhow::Ok((answers, lost))
        });
    }
    let (mut answers, mut lost) = (0, 0);
    while let Some(one) = clients.join_next().await {
        let (answered, unanswered) = one??;
        answers += answered;
        lost += unanswered;
    }
    ensure!(answers > 0, "no question was answered");
    Ok(Outcome { answers, lost, seconds: begun.elapsed().as_secs_f64() })
}

/// Waits until a server has started.
pub(super) async fn wait_until_answered(to: SocketAddr, question: Question) -> Result<()> {
    for _ in 0..100 {
        let client = Client::connect(to, question, 0).await?;
        // A server that has not started refuses the question.
        match timeout(PATIENCE, client.ask(1)).await {
            Ok(Ok(())) => return Ok(()),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    bail!("the DNS server at {to} gives no correct answer to {question:?}");
}

struct Client {
    socket: UdpSocket,
    query: Vec<u8>,
    /// The response code of a correct answer.
    code: u8,
}

impl Client {
    async fn connect(to: SocketAddr, question: Question, number: usize) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        socket.connect(to).await?;
        let (name, code) = match question {
            Question::Own => (format!("c{number}.{FORWARDED}"), 0),
            Question::Virtual => (VIRTUAL.to_owned(), 0),
            Question::Denied => (DENIED.to_owned(), 3),
        };
        Ok(Self { socket, query: query(&name), code })
    }

    async fn ask(&self, id: u16) -> Result<()> {
        let id = id.to_be_bytes();
        let message = [&id, self.query.get(2..).unwrap_or_default()].concat();
        self.socket.send(&message).await?;
        let mut answer = [0; 512];
        loop {
            let length = self.socket.recv(&mut answer).await?;
            let Some([first, second, _, flags, _, _, _, answers]) =
                answer.get(..length).and_then(|it| it.first_chunk())
            else {
                bail!("an answer of {length} bytes");
            };
            // An answer to a question that was given up.
            if [*first, *second] != id {
                continue;
            }
            ensure!(flags & 15 == self.code, "response code {}", flags & 15);
            ensure!(self.code != 0 || *answers > 0, "an answer without an address");
            return Ok(());
        }
    }
}

/// A query for the IPv4 address of a name (RFC 1035, section 4.1).
fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}
