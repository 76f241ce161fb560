//! Hears from the kernel of single packets that were refused (NFLOG).
//!
//! Nothing rests on it: the kernel drops what nobody reads in time, and the counters go on.

use std::io;

use super::packet::Packet;
use super::refusal::{Cause, GROUP};
use crate::netlink::message::{
    ACK, About, Malformed, REQUEST, Received, as_text, attribute, attributes, message, messages,
};
use crate::netlink::{DATAGRAM, Socket};

/// The subsystem `NFNL_SUBSYS_ULOG`, and its messages and attributes (`linux/netfilter/nfnetlink_log.h`).
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

/// A packet that was refused, and which chain had it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused {
    /// Why.
    pub cause: Cause,
    /// What it was; none where it can't be read.
    pub packet: Option<Packet>,
}

/// The agent's ear. The kernel ends it with the agent.
#[derive(Debug)]
pub struct Ear(Socket);

impl Ear {
    /// Becomes the one that hears.
    ///
    /// # Errors
    ///
    /// Where the kernel has no NFLOG, or somebody else in this namespace hears already.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::open()?;
        let about = About { kind: CONFIGURE, family: 0, resource: GROUP };
        // Whole packets, which the rules cut short; each at once.
        let mode = [&u32::from(u16::MAX).to_be_bytes()[..], &[COPY_PACKET, 0]].concat();
        let wanted = [
            attribute(COMMAND, &[BIND]),
            attribute(MODE, &mode),
            attribute(THRESHOLD, &1_u32.to_be_bytes()),
        ];
        socket.send(&message(about, REQUEST | ACK, 1, &wanted.concat()))?;
        let mut room = vec![0; DATAGRAM];
        let answer = socket.receive(&mut room)?.ok_or(Malformed)?;
        match messages(answer).next() {
            Some(Ok(Received::Outcome { errno: 0, .. })) => {}
            Some(Ok(Received::Outcome { errno, .. })) => {
                return Err(io::Error::from_raw_os_error(errno));
            }
            _ => return Err(Malformed.into()),
        }
        Ok(Self(socket))
    }

    /// The next of them, none where nothing waits.
    ///
    /// # Errors
    ///
    /// Some were lost, or can't be read; what comes next can.
    pub fn hear(&self, room: &mut [u8]) -> io::Result<Option<Vec<Refused>>> {
        Ok(self.0.receive(room)?.map(refused).transpose()?)
    }
}

fn refused(datagram: &[u8]) -> Result<Vec<Refused>, Malformed> {
    let mut all = Vec::new();
    for message in messages(datagram) {
        if let Received::Message { kind: PACKET, attributes } = message? {
            all.push(one(attributes)?);
        }
    }
    Ok(all)
}

fn one(bytes: &[u8]) -> Result<Refused, Malformed> {
    let (mut cause, mut packet) = (None, None);
    for attribute in attributes(bytes) {
        match attribute? {
            (PREFIX, value) => cause = as_text(value).and_then(Cause::named),
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
        let about = About { kind: PACKET, family: 2, resource: GROUP };
        message(about, 0, 0, &attributes.concat())
    }

    #[test]
    fn a_packet_is_told_with_its_cause() {
        let both = [datagram(&[text(PREFIX, "quic")]), datagram(&[text(PREFIX, "own")])].concat();
        let causes: Vec<_> = refused(&both).unwrap().iter().map(|one| one.cause).collect();
        assert_eq!(causes, [Cause::Quic, Cause::Own]);
    }

    #[test]
    fn what_is_not_ours_is_an_error() {
        assert_eq!(refused(&datagram(&[text(PREFIX, "another's")])), Err(Malformed));
        assert_eq!(refused(&datagram(&[])), Err(Malformed));
        assert_eq!(refused(&datagram(&[text(PREFIX, "own")])[..20]), Err(Malformed));
    }
}
