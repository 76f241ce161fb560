//! The UDP servers: DNS on its port, and echo on all others.

use tokio::net::UdpSocket;

use super::dns::{Transport, Zone};

pub(super) fn serve(port: u16, socket: UdpSocket, zone: Zone) {
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        loop {
            // An ICMP error about an earlier response does not end the server.
            let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
            let Some(message) = buffer.get(..length) else { continue };
            let answer = if port == 53 {
                zone.answer(message, Transport::Udp)
            } else {
                Some(message.to_vec())
            };
            if let Some(answer) = answer {
                drop(socket.send_to(&answer, peer).await);
            }
        }
    });
}
