//! Serves one socket for datagrams.

use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::Role;
use super::query::Transport;
use super::resolve::{Origin, Resolve, Step};
use super::socket::{self, Received};

/// The longest datagram that is taken for a question, in bytes: a header, the longest name, and far
/// more options than any client sends. What is longer arrives cut off, and is answered as malformed.
const DATAGRAM: usize = 4096;

/// A bound socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) role: Role,
    pub(super) transparent: bool,
}

impl Listener {
    /// Answers until it is dropped. The questions under way are dropped with it.
    pub(super) async fn serve(self, resolve: Arc<Resolve>) {
        let mut under_way = JoinSet::new();
        let mut buffer = vec![0; DATAGRAM];
        loop {
            tokio::select! {
                received = socket::receive(&self.socket, &mut buffer) => {
                    // An error here is one of an earlier answer (ICMP), or of no lasting meaning.
                    let Ok(received) = received else {
                        tokio::task::yield_now().await;
                        continue;
                    };
                    if self.transparent && received.arrival.is_none() {
                        // Nobody knows from where to answer.
                        resolve.counters.unsent.one();
                        continue;
                    }
                    let origin = Origin {
                        client: received.client,
                        destination: received.arrival.map(|arrival| arrival.destination),
                        role: self.role,
                        transport: Transport::Udp,
                    };
                    let datagram = buffer.get(..received.length).unwrap_or_default();
                    match resolve.step(datagram, origin) {
                        Step::Silence => {}
                        Step::Answer(answer) => send(&self.socket, received, &answer, &resolve).await,
                        Step::Ask(question) => {
                            let (resolve, socket) = (Arc::clone(&resolve), Arc::clone(&self.socket));
                            under_way.spawn(async move {
                                let answer = resolve.ask(&question).await;
                                send(&socket, received, &answer, &resolve).await;
                            });
                        }
                    }
                }
                Some(_) = under_way.join_next(), if !under_way.is_empty() => {}
            }
        }
    }
}

/// Sends an answer from where the question was sent to.
async fn send(socket: &UdpSocket, question: Received, answer: &[u8], resolve: &Resolve) {
    let client = question.client;
    let sent = match question.arrival {
        Some(arrival) => socket::send_back(arrival, client, answer),
        None => socket.send_to(answer, client).await.map(|_| ()),
    };
    if let Err(reason) = sent {
        resolve.counters.unsent.one();
        tracing::debug!(target: "sandgate::dns", %client, %reason, "answer not sent");
    }
}
