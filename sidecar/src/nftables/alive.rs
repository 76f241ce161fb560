//! The set `alive`. Its elements expire unless the agent renews them, and without them the rules
//! deny all traffic.
//!
//! The agent renews the elements several times a second, so it uses netlink: running a program each
//! time would cost more than all other work of an idle agent.

use std::io;
use std::time::Duration;

use super::kernel::{FAMILY, NFTABLES, TABLE, kind};
use crate::netlink::message::{
    ACK, CREATE, Header, REQUEST, Received, attribute, message, messages, nested, text,
};
use crate::netlink::{DATAGRAM, Socket};

/// The interval at which the agent renews the elements.
pub(crate) const RENEW_INTERVAL: Duration = Duration::from_millis(250);
/// The timeout of the elements: this time after the agent's last renewal, the rules deny all
/// traffic.
pub(crate) const ELEMENT_TIMEOUT: Duration = Duration::from_secs(2);

/// The set and its elements: `NFPROTO_IPV4` and `NFPROTO_IPV6`.
const SET: &str = "alive";
const ELEMENTS: [u8; 2] = [2, 10];

/// Message types and attributes (`linux/netfilter/nf_tables.h`).
const NEW_ELEMENTS: u16 = 12;
const DELETE_ELEMENTS: u16 = 14;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const LIST_ELEMENT: u16 = 1;
const KEY: u16 = 1;
const TIMEOUT: u16 = 4;
const VALUE: u16 = 1;
/// The first and the last message of a transaction (`linux/netfilter/nfnetlink.h`).
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;

/// Renders the renewal as part of an `nft` transaction. It also recreates expired elements.
#[must_use]
pub(crate) fn renew() -> String {
    let held = ELEMENT_TIMEOUT.as_secs();
    // `add` alone would not reset the timeout of an existing element.
    format!(
        "flush set inet {TABLE} {SET}\nadd element inet {TABLE} {SET} {{ ipv4 timeout {held}s, ipv6 timeout {held}s }}\n"
    )
}

/// Renews or removes the elements through netlink.
#[derive(Debug, Default)]
pub(crate) struct Handle {
    socket: Option<Socket>,
    sequence: u32,
}

impl Handle {
    /// Renews the elements for [`ELEMENT_TIMEOUT`] from now.
    ///
    /// # Errors
    ///
    /// If the kernel has not confirmed the transaction. The existing elements then expire at their
    /// previous timeout.
    pub(crate) fn renew(&mut self) -> io::Result<()> {
        self.transact(true)
    }

    /// Removes the elements, so that the rules deny all traffic immediately.
    ///
    /// # Errors
    ///
    /// If the kernel has not confirmed the transaction.
    pub(crate) fn expire(&mut self) -> io::Result<()> {
        self.transact(false)
    }

    fn transact(&mut self, hold: bool) -> io::Result<()> {
        // The socket is not reused after an error, because responses to the earlier request may
        // still arrive on it.
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

/// Flushes the set and adds the elements in one transaction, so that no packet is refused in
/// between.
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
        let milliseconds = u64::try_from(ELEMENT_TIMEOUT.as_millis()).unwrap_or(0).to_be_bytes();
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

/// Checks that the kernel has acknowledged all parts of the transaction. The responses have already
/// arrived. If the kernel refuses one part, it undoes the others, even if it has acknowledged them.
fn expect_done(socket: &Socket, wanted: u32, parts: usize) -> io::Result<()> {
    let (mut done, mut buffer) = (0, vec![0; DATAGRAM]);
    while let Some(datagram) = socket.receive(&mut buffer)? {
        for message in messages(datagram) {
            match message? {
                Received::Ack { sequence, errno: 0 } if sequence == wanted => done += 1,
                Received::Ack { errno, .. } if errno != 0 => {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                other => {
                    tracing::debug!("unexpected netlink message: {other:?}");
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
        }
    }
    if done == parts {
        Ok(())
    } else {
        Err(io::Error::other("the kernel has not confirmed the transaction"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_flushes_the_set_before_it_adds_the_elements() {
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
