//! Reads the counters of refused packets. They are exact: the kernel counts each packet, whether or
//! not it is reported through NFLOG.

use std::collections::BTreeMap;
use std::io;

use super::kernel::{FAMILY, TABLE, kind};
use crate::netlink::message::{
    self, DUMP, Header, Malformed, REQUEST, Received, array_at, as_text, attribute, messages, text,
};
use crate::netlink::{DATAGRAM, Socket};

/// Message types and attributes (`linux/netfilter/nf_tables.h`).
const GET_OBJECTS: u16 = 19;
const NEW_OBJECT: u16 = 18;
const OBJECT_TABLE: u16 = 1;
const OBJECT_NAME: u16 = 2;
const OBJECT_TYPE: u16 = 3;
const OBJECT_DATA: u16 = 4;
const COUNTER: u32 = 1;
const COUNTER_PACKETS: u16 = 2;

/// The number of packets by counter name.
pub(crate) type Counters = BTreeMap<String, u64>;

/// Reads all counters of the table.
///
/// # Errors
///
/// If the kernel does not return all of them.
pub(crate) fn read() -> io::Result<Counters> {
    let header = Header { kind: kind(GET_OBJECTS), family: FAMILY, resource: 0 };
    let filter = [text(OBJECT_TABLE, TABLE), attribute(OBJECT_TYPE, &COUNTER.to_be_bytes())];
    let socket = Socket::open()?;
    socket.send(&message::message(header, REQUEST | DUMP, 1, &filter.concat()))?;
    let (mut counters, mut buffer) = (Counters::new(), vec![0; DATAGRAM]);
    while let Some(datagram) = socket.receive(&mut buffer)? {
        for message in messages(datagram) {
            match message? {
                Received::Message { kind: this, attributes } if this == kind(NEW_OBJECT) => {
                    counters.extend(counter(attributes)?);
                }
                Received::Done => return Ok(counters),
                Received::Ack { errno, .. } => {
                    return Err(io::Error::from_raw_os_error(errno));
                }
                Received::Message { .. } => return Err(Malformed.into()),
            }
        }
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// A counter of the table `sandgate`, or `None` for a counter of another table.
fn counter(attributes: &[u8]) -> Result<Option<(String, u64)>, Malformed> {
    let name = |wanted| -> Result<&str, Malformed> {
        message::find(attributes, wanted)?.and_then(as_text).ok_or(Malformed)
    };
    if name(OBJECT_TABLE)? != TABLE {
        return Ok(None);
    }
    let data = message::find(attributes, OBJECT_DATA)?.ok_or(Malformed)?;
    let packets = message::find(data, COUNTER_PACKETS)?.ok_or(Malformed)?;
    let packets = u64::from_be_bytes(array_at(packets, 0).ok_or(Malformed)?);
    Ok(Some((name(OBJECT_NAME)?.to_owned(), packets)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::nested;

    #[test]
    fn a_counter_is_read() {
        let data =
            nested(OBJECT_DATA, &[attribute(1, &[0; 8]), attribute(2, &7_u64.to_be_bytes())]);
        let object = |table| [text(1, table), text(2, "refused_quic"), data.clone()].concat();
        assert_eq!(counter(&object(TABLE)), Ok(Some(("refused_quic".to_owned(), 7))));
        assert_eq!(counter(&object("another")), Ok(None));
        assert_eq!(counter(&text(1, TABLE)), Err(Malformed));
    }
}
