//! EDNS of messages that are rejected before they are parsed. The response to a message with an OPT record needs one too
//! (RFC 6891 §6.1.1), so the OPT record is found without parsing the whole message.

/// The size of a message's header, in bytes (RFC 1035 §4.1.1).
pub(super) const HEADER: usize = 12;
/// The maximum size of a datagram to a client or from a resolver, in bytes. It fits into the smallest MTU of IPv6, so it is
/// not fragmented (RFC 9715 §3).
pub(super) const LARGEST_DATAGRAM: u16 = 1232;
/// The type of an OPT record.
pub(super) const OPT: u16 = 41;
/// The DO bit (RFC 3225 §3), in the third byte of the OPT record's TTL.
const DNSSEC_OK: u8 = 0x80;

/// The client's EDNS parameters (RFC 6891) that the proxy forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientEdns {
    /// The maximum size of a datagram to the client, in bytes.
    pub(super) payload: u16,
    /// Whether the client requests DNSSEC records (RFC 3225).
    pub(super) dnssec_ok: bool,
}

/// The first OPT record of a message, or `None` if there is none or the message is malformed before it.
pub(super) fn of(wire: &[u8]) -> Option<ClientEdns> {
    let count = |at| wire.get(at..)?.first_chunk().map(|two| u16::from_be_bytes(*two));
    let (questions, records) = (count(4)?, [count(6)?, count(8)?, count(10)?]);
    let mut rest = wire.get(HEADER..)?;
    for _ in 0..questions {
        rest = after_name(rest)?.get(4..)?;
    }
    for _ in 0..records.into_iter().map(u32::from).sum() {
        let after = after_name(rest)?;
        // Type, class (the largest datagram that the client takes), TTL (extended code, version,
        // flags), length of the data.
        let ([k0, k1, p0, p1, _, _, flags, _, l0, l1], data) = after.split_first_chunk()?;
        if u16::from_be_bytes([*k0, *k1]) == OPT && rest.first() == Some(&0) {
            let payload = u16::from_be_bytes([*p0, *p1]);
            return Some(ClientEdns { payload, dnssec_ok: flags & DNSSEC_OK != 0 });
        }
        rest = data.get(usize::from(u16::from_be_bytes([*l0, *l1]))..)?;
    }
    None
}

/// Appends the OPT record of a response to a message without additional records, if the client sent one.
pub(super) fn append(response: &mut Vec<u8>, client: Option<ClientEdns>) {
    let Some(client) = client else { return };
    if let Some(additional_count) = response.get_mut(HEADER - 1) {
        *additional_count = 1;
    }
    let [k0, k1] = OPT.to_be_bytes();
    let [p0, p1] = LARGEST_DATAGRAM.to_be_bytes();
    let flags = if client.dnssec_ok { DNSSEC_OK } else { 0 };
    response.extend([0, k0, k1, p0, p1, 0, 0, flags, 0, 0, 0]);
}

/// The bytes after a name (RFC 1035 §4.1.4). A pointer ends the name, so it is not followed.
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
