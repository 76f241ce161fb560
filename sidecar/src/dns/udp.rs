//! Serves a UDP socket.

use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;

use super::Role;
use super::query::Transport;
use super::resolve::{Action, Origin, QueryHandler};
use super::socket::{self, Received};

/// The maximum size of a query, in bytes: enough for a header, the longest name, and more options than any client
/// sends. Longer datagrams are truncated, and get a format error.
const DATAGRAM: usize = 4096;

/// A bound socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) role: Role,
    pub(super) transparent: bool,
}

impl Listener {
    /// Serves queries until it is dropped. Dropping it cancels the queries in flight.
    pub(super) async fn serve(self, handler: Arc<QueryHandler>) {
        let mut in_flight = JoinSet::new();
        let mut buffer = vec![0; DATAGRAM];
        loop {
            tokio::select! {
                received = socket::receive(&self.socket, &mut buffer) => {
                    // The error belongs to an earlier response (ICMP), or is temporary.
                    let Ok(received) = received else {
                        tokio::task::yield_now().await;
                        continue;
                    };
                    if self.transparent && received.arrival.is_none() {
                        // The source address of the response is unknown.
                        handler.counters.unsent.increment();
                        continue;
                    }
                    let origin = Origin {
                        client: received.client,
                        destination: received.arrival.map(|arrival| arrival.destination),
                        role: self.role,
                        transport: Transport::Udp,
                    };
                    let datagram = buffer.get(..received.length).unwrap_or_default();
                    match handler.handle(datagram, origin) {
                        Action::Ignore => {}
                        Action::Respond(answer) => send(&self.socket, received, &answer, &handler).await,
                        Action::Forward(question) => {
                            let (handler, socket) = (Arc::clone(&handler), Arc::clone(&self.socket));
                            in_flight.spawn(async move {
                                let answer = handler.forward(&question).await;
                                send(&socket, received, &answer, &handler).await;
                            });
                        }
                    }
                }
                Some(_) = in_flight.join_next(), if !in_flight.is_empty() => {}
            }
        }
    }
}

/// Sends a response from the original destination of the query.
async fn send(socket: &UdpSocket, question: Received, answer: &[u8], handler: &QueryHandler) {
    let client = question.client;
    let sent = match question.arrival {
        Some(arrival) => socket::send_back(arrival, client, answer),
        None => socket.send_to(answer, client).await.map(|_| ()),
    };
    if let Err(reason) = sent {
        handler.counters.unsent.increment();
        tracing::debug!(target: "sandgate::dns", %client, %reason, "response not sent");
    }
}
