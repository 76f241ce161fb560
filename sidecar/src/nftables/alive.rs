//! The dead man's handle: elements of a set that end by themselves unless the agent renews them.
//!
//! That is several times a second for as long as the agent lives, so it asks the kernel itself: a
//! program for each time would cost more than all the rest of an idle agent.

use std::io;
use std::time::Duration;

use super::kernel::{FAMILY, NFTABLES, TABLE, kind};
use crate::netlink::message::{
    ACK, CREATE, Header, REQUEST, Received, attribute, message, messages, nested, text,
};
use crate::netlink::{DATAGRAM, Socket};

/// How often the agent renews it.
pub const RENEWED: Duration = Duration::from_millis(250);
/// After how long without the agent there is no way out.
pub const HELD: Duration = Duration::from_secs(2);

/// The set, and what is in it: `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const SET: &str = "alive";
const ELEMENTS: [u8; 2] = [2, 10];

/// Kinds of messages and attributes (`linux/netfilter/nf_tables.h`).
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const KEY: u16 = 1;
const TIMEOUT: u16 = 4;
const VALUE: u16 = 1;
/// The two ends of a transaction (`linux/netfilter/nfnetlink.h`).
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;

/// The same as a part of a transaction for `nft`. One that is gone is new afterwards.
#[must_use]
pub fn renew() -> String {
    let held = HELD.as_secs();
    // `add` alone would leave the time of an element that is there as it was.
    format!(
        "flush set inet {TABLE} {SET}\nadd element inet {TABLE} {SET} {{ ipv4 timeout {held}s, ipv6 timeout {held}s }}\n"
    )
}

/// The agent's hand on it.
#[derive(Debug, Default)]
pub struct Handle {
    socket: Option<Socket>,
    sequence: u32,
}

impl Handle {
    /// Holds the way open for [`HELD`] from now on.
    ///
    /// # Errors
    ///
    /// Where the kernel has not said that it is done: what was before goes on, and ends by itself.
    pub fn renew(&mut self) -> io::Result<()> {
        self.transact(true)
    }

    /// Closes the way now.
    ///
    /// # Errors
    ///
    /// Where the kernel has not said that it is done.
    pub fn expire(&mut self) -> io::Result<()> {
        self.transact(false)
    }

    fn transact(&mut self, hold: bool) -> io::Result<()> {
        // After an error, answers to what was asked before might come: they are not for this one.
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => Socket::open()?,
        };
        self.sequence = self.sequence.wrapping_add(1);
        socket.send(&transaction(self.sequence, hold))?;
        let parts = if hold { 2 } else { 1 };
        expect_done(&socket, self.sequence, parts)?;
        self.socket = Some(socket);
        Ok(())
    }
}

/// Empties the set, and fills it again, as one: in between nothing is refused.
fn transaction(sequence: u32, hold: bool) -> Vec<u8> {
    let bound = |kind, flags| {
        let header = Header { kind, family: 0, resource: NFTABLES };
        message(header, flags, sequence, &[])
    };
    let set = [text(LIST_TABLE, TABLE), text(LIST_SET, SET)].concat();
    let header = |message| Header { kind: kind(message), family: FAMILY, resource: 0 };
    let mut bytes = bound(BEGIN, REQUEST);
    bytes.extend(message(header(DELETE_ELEMENTS), REQUEST | ACK, sequence, &set));
    if hold {
        let milliseconds = u64::try_from(HELD.as_millis()).unwrap_or(0).to_be_bytes();
        let elements = ELEMENTS.map(|family| {
            let key = nested(KEY, &[attribute(VALUE, &[family])]);
            nested(LIST_ELEMENT, &[key, attribute(TIMEOUT, &milliseconds)])
        });
        let filled = [set, nested(LIST_ELEMENTS, &elements)].concat();
        bytes.extend(message(header(NEW_ELEMENTS), REQUEST | CREATE | ACK, sequence, &filled));
    }
    bytes.extend(bound(END, REQUEST));
    bytes
}

/// Whether all parts were done: what the kernel has to say is there by now. One part that it refuses
/// undoes the others, whatever it says of those.
fn expect_done(socket: &Socket, wanted: u32, parts: usize) -> io::Result<()> {
    let (mut done, mut room) = (0, vec![0; DATAGRAM]);
    while let Some(datagram) = socket.receive(&mut room)? {
        for message in messages(datagram) {
            match message? {
                Received::Ack { sequence, errno: 0 } if sequence == wanted => done += 1,
                Received::Ack { errno, .. } if errno != 0 => {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                other => {
                    tracing::debug!("unexpected from netfilter: {other:?}");
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
    }
    if done == parts {
        Ok(())
    } else {
        Err(io::Error::other("the kernel has not said that it is done"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_empties_the_set_before_it_fills_it() {
        let kinds = |hold| {
            let bytes = transaction(3, hold);
            let kinds: Vec<u16> = messages(&bytes)
                .map(|message| match message.unwrap() {
                    Received::Message { kind, .. } => kind,
                    other => panic!("{other:?}"),
                })
                .collect();
            kinds
        };
        assert_eq!(kinds(true), [BEGIN, kind(DELETE_ELEMENTS), kind(NEW_ELEMENTS), END]);
        assert_eq!(kinds(false), [BEGIN, kind(DELETE_ELEMENTS), END]);
    }
}
