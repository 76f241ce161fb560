//! EDNS of messages that are no question that can be answered. Their answer needs an OPT record, too, where they have one
//! (RFC 6891 §6.1.1), so it is looked for without parsing all of them.

use super::query::{ClientEdns, HEADER, LARGEST_DATAGRAM};

const OPT: u16 = 41;
/// The DO bit (RFC 3225 §3), in the upper half of the lower 16 bits of the OPT record's TTL.
const DNSSEC_OK: u8 = 0x80;

/// The first OPT record of a message. `None` where the message can't be followed as far as that.
pub(super) fn of(wire: &[u8]) -> Option<ClientEdns> {
    let count = |at| wire.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two));
    let (questions, records) = (count(4)?, [count(6)?, count(8)?, count(10)?]);
    let mut rest = wire.get(HEADER..)?;
    for _ in 0..questions {
        rest = after_name(rest)?.get(4..)?;
    }
    for _ in 0..records.into_iter().map(u32::from).sum() {
        let after = after_name(rest)?;
        // Type, class (the datagram that the client takes), TTL (extended code, version, flags), length of the data.
        let ([k0, k1, p0, p1, _, _, flags, _, l0, l1], data) = after.split_first_chunk()?;
        if u16::from_be_bytes([*k0, *k1]) == OPT && rest.first() == Some(&0) {
            let payload = u16::from_be_bytes([*p0, *p1]);
            return Some(ClientEdns { payload, dnssec_ok: flags & DNSSEC_OK != 0 });
        }
        rest = data.get(usize::from(u16::from_be_bytes([*l0, *l1]))..)?;
    }
    None
}

/// The OPT record of an answer, on the wire.
pub(super) fn record(client: ClientEdns) -> [u8; 11] {
    let [k0, k1] = OPT.to_be_bytes();
    let [p0, p1] = LARGEST_DATAGRAM.to_be_bytes();
    let flags = if client.dnssec_ok { DNSSEC_OK } else { 0 };
    [0, k0, k1, p0, p1, 0, 0, flags, 0, 0, 0]
}

/// What follows a name (RFC 1035 §4.1.4). A pointer ends it, and need not be followed for that.
fn after_name(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        match *rest.first()? {
            0 => return rest.get(1..),
            length @ 1..64 => rest = rest.get(1 + usize::from(length)..)?,
            192.. => return rest.get(2..),
            64..192 => return None,
        }
    }
}
