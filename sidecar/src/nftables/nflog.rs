//! Receives refused packets from the kernel (NFLOG), for the log.
//!
//! No enforcement depends on this: the kernel drops messages that are not read in time, and its
//! counters stay exact.

use std::io;

use super::packet::Packet;
use super::refuse_chains::{Cause, GROUP};
use crate::netlink::message::{
    ACK, Header, Malformed, REQUEST, Received, as_text, attribute, attributes, message, messages,
};
use crate::netlink::{DATAGRAM, Socket};

/// The subsystem `NFNL_SUBSYS_ULOG`, and its message types and attributes
/// (`linux/netfilter/nfnetlink_log.h`).
const ULOG: u16 = 4;
const PACKET: u16 = ULOG << 8;
const CONFIGURE: u16 = ULOG << 8 | 1;
const COMMAND: u16 = 1;
const BIND: u8 = 1;
const MODE: u16 = 2;
const COPY_PACKET: u8 = 2;
const THRESHOLD: u16 = 5;
const PAYLOAD: u16 = 9;
const PREFIX: u16 = 10;

/// A refused packet, and the chain that refused it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Refused {
    /// The chain that refused the packet.
    pub(crate) cause: Cause,
    /// The parsed packet, or `None` if it can't be parsed.
    pub(crate) packet: Option<Packet>,
}

/// The agent's NFLOG socket. The kernel removes the binding when the agent ends.
#[derive(Debug)]
pub(crate) struct NflogSocket(Socket);

impl NflogSocket {
    /// Opens the socket and binds it to [`GROUP`].
    ///
    /// # Errors
    ///
    /// If the kernel has no NFLOG, or another process in this namespace is bound to the group.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = Socket::open()?;
        let header = Header { kind: CONFIGURE, family: 0, resource: GROUP };
        // The kernel copies whole packets, which the rules truncate, and sends each packet
        // immediately.
        let mode = [&u32::from(u16::MAX).to_be_bytes()[..], &[COPY_PACKET, 0]].concat();
        let attributes = [
            attribute(COMMAND, &[BIND]),
            attribute(MODE, &mode),
            attribute(THRESHOLD, &1_u32.to_be_bytes()),
        ];
        socket.send(&message(header, REQUEST | ACK, 1, &attributes.concat()))?;
        let mut buffer = vec![0; DATAGRAM];
        let response = socket.receive(&mut buffer)?.ok_or(Malformed)?;
        match messages(response).next() {
            Some(Ok(Received::Ack { errno: 0, .. })) => {}
            Some(Ok(Received::Ack { errno, .. })) => {
                return Err(io::Error::from_raw_os_error(errno));
            }
            _ => return Err(Malformed.into()),
        }
        Ok(Self(socket))
    }

    /// Receives the next refused packets, or `None` if nothing is queued.
    ///
    /// # Errors
    ///
    /// If messages were lost or are malformed. The next call can still succeed.
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<Option<Vec<Refused>>> {
        Ok(self.0.receive(buffer)?.map(parse_datagram).transpose()?)
    }
}

fn parse_datagram(datagram: &[u8]) -> Result<Vec<Refused>, Malformed> {
    let mut all = Vec::new();
    for message in messages(datagram) {
        if let Received::Message { kind: PACKET, attributes } = message? {
            all.push(parse_packet(attributes)?);
        }
    }
    Ok(all)
}

fn parse_packet(bytes: &[u8]) -> Result<Refused, Malformed> {
    let (mut cause, mut packet) = (None, None);
    for attribute in attributes(bytes) {
        match attribute? {
            (PREFIX, value) => cause = as_text(value).and_then(Cause::from_name),
            (PAYLOAD, value) => packet = Packet::parse(value),
            _ => {}
        }
    }
    Ok(Refused { cause: cause.ok_or(Malformed)?, packet })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::text;

    fn datagram(attributes: &[Vec<u8>]) -> Vec<u8> {
        let header = Header { kind: PACKET, family: 2, resource: GROUP };
        message(header, 0, 0, &attributes.concat())
    }

    #[test]
    fn each_packet_has_its_cause() {
        let both = [datagram(&[text(PREFIX, "quic")]), datagram(&[text(PREFIX, "own")])].concat();
        let causes: Vec<_> = parse_datagram(&both).unwrap().iter().map(|one| one.cause).collect();
        assert_eq!(causes, [Cause::Quic, Cause::Own]);
    }

    #[test]
    fn unknown_and_truncated_messages_are_errors() {
        assert_eq!(parse_datagram(&datagram(&[text(PREFIX, "another's")])), Err(Malformed));
        assert_eq!(parse_datagram(&datagram(&[])), Err(Malformed));
        assert_eq!(parse_datagram(&datagram(&[text(PREFIX, "own")])[..20]), Err(Malformed));
    }
}
