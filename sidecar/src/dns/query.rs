//! What a client asked, parsed once: a [`Query`] is one question of class IN that may be judged and
//! forwarded. Everything else gets the answer that the RFCs have for it, and goes no further.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use super::edns;

/// The largest datagram that is sent to a client or asked of a resolver, in bytes: it fits the
/// smallest IPv6 packet, so it is never fragmented (RFC 9715 §3).
pub(super) const LARGEST_DATAGRAM: u16 = 1232;
/// What a client without EDNS takes, in bytes (RFC 1035 §4.2.1).
const PLAIN_DATAGRAM: u16 = 512;
/// Length of a message's header, in bytes (RFC 1035 §4.1.1).
pub(super) const HEADER: usize = 12;

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// One message is one datagram, and its size is limited.
    Udp,
    /// Messages follow each other, each after its length.
    Tcp,
}

/// What the client said by EDNS (RFC 6891), as far as it is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ClientEdns {
    /// The datagram that it takes, in bytes.
    pub(super) payload: u16,
    /// It wants DNSSEC records (RFC 3225).
    pub(super) dnssec_ok: bool,
}

/// One question of class IN.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// Whom the answer is for, among the client's own questions.
    pub(super) id: u16,
    /// The name, in the client's upper and lower case.
    pub(super) name: Name,
    /// The type.
    pub(super) kind: RecordType,
    /// The question section as it was sent: an answer repeats it byte for byte.
    pub(super) question: Vec<u8>,
    /// RD, AD, CD as they were sent.
    pub(super) recursion_desired: bool,
    /// The client understands the AD bit (RFC 6840 §5.7).
    pub(super) authentic_data: bool,
    /// The client validates by itself (RFC 4035 §3.1.6).
    pub(super) checking_disabled: bool,
    /// None if the client does not speak EDNS.
    pub(super) edns: Option<ClientEdns>,
    /// How it came, and how its answer goes.
    pub(super) transport: Transport,
}

/// Why there is no [`Query`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswerable {
    /// Not even a header, or itself an answer: the only things that get none. Answering an answer
    /// would let two servers talk to each other forever.
    NotAQuery,
    /// Understood well enough to be refused: this goes back.
    Rejected(Vec<u8>),
}

impl Query {
    /// Parses one message of a client.
    ///
    /// FORMERR for what can't be parsed and for any number of questions but one (RFC 9619), NOTIMP
    /// for opcodes other than QUERY and for meta types, REFUSED for zone transfers and for classes
    /// other than IN, BADVERS for an EDNS version other than 0.
    pub(super) fn parse(wire: &[u8], transport: Transport) -> Result<Self, Unanswerable> {
        let [id0, id1, flags, _, counts @ .., _, _] =
            wire.first_chunk::<HEADER>().ok_or(Unanswerable::NotAQuery)?;
        if flags & 0x80 != 0 {
            return Err(Unanswerable::NotAQuery);
        }
        let reject = |code: u8| {
            Err(Unanswerable::Rejected(bare([*id0, *id1], *flags, code, edns::of(wire))))
        };
        if (flags >> 3) & 0x0f != 0 {
            return reject(NOTIMP);
        }
        // One question, no answers, no authorities. Also keeps a count that lies from being believed.
        if *counts != [0, 1, 0, 0, 0, 0] {
            return reject(FORMERR);
        }
        let Some(question) = question_of(wire) else { return reject(FORMERR) };
        let Ok(message) = Message::from_vec(wire) else { return reject(FORMERR) };
        let [asked] = message.queries.as_slice() else { return reject(FORMERR) };
        let query = Self {
            id: u16::from_be_bytes([*id0, *id1]),
            name: asked.name().clone(),
            kind: asked.query_type(),
            question: question.to_vec(),
            recursion_desired: message.metadata.recursion_desired,
            authentic_data: message.metadata.authentic_data,
            checking_disabled: message.metadata.checking_disabled,
            edns: message.edns.as_ref().map(|edns| ClientEdns {
                payload: edns.max_payload(),
                dnssec_ok: edns.flags().dnssec_ok,
            }),
            transport,
        };
        if message.version() != 0 {
            return Err(Unanswerable::Rejected(query.error(ResponseCode::BADVERS)));
        }
        if asked.query_class() != DNSClass::IN {
            return Err(Unanswerable::Rejected(query.error(ResponseCode::Refused)));
        }
        match u16::from(query.kind) {
            edns::OPT | 0 => Err(Unanswerable::Rejected(query.error(ResponseCode::FormErr))),
            IXFR | AXFR => Err(Unanswerable::Rejected(query.error(ResponseCode::Refused))),
            // The other meta types (RFC 6895 §3.1): they mean something between two servers.
            128..ANY => Err(Unanswerable::Rejected(query.error(ResponseCode::NotImp))),
            _ => Ok(query),
        }
    }

    /// How long the answer may be, in bytes.
    pub(super) fn limit(&self) -> usize {
        match (self.transport, self.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => usize::from(PLAIN_DATAGRAM),
            (Transport::Udp, Some(edns)) => {
                usize::from(edns.payload.clamp(PLAIN_DATAGRAM, LARGEST_DATAGRAM))
            }
        }
    }

    /// The EDNS part of an answer, where the client takes one.
    pub(super) fn answer_edns(&self) -> Option<Edns> {
        self.edns.map(|client| {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST_DATAGRAM).set_dnssec_ok(client.dnssec_ok);
            edns
        })
    }

    /// The question as it goes to a resolver, under an id of its own. The client's EDNS options
    /// stay here: they are said from hop to hop (RFC 6891 §6.2.6).
    pub(super) fn forwarded(&self, id: u16) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.authentic_data = self.authentic_data;
        message.metadata.checking_disabled = self.checking_disabled;
        message.edns = self.answer_edns();
        let mut wire = message.to_vec().unwrap_or_default();
        // The question goes in as the client wrote it, between the header and the OPT record.
        let options = wire.split_off(HEADER.min(wire.len()));
        if let Some(count) = wire.get_mut(5) {
            *count = 1;
        }
        wire.extend_from_slice(&self.question);
        wire.extend_from_slice(&options);
        wire
    }
}

const FORMERR: u8 = 1;
const NOTIMP: u8 = 4;
const IXFR: u16 = 251;
const AXFR: u16 = 252;
const ANY: u16 = 255;

/// A header, and an OPT record for a client that speaks EDNS: the response to a message without a question
/// that could be repeated.
fn bare(id: [u8; 2], flags: u8, code: u8, edns: Option<ClientEdns>) -> Vec<u8> {
    let opcode_and_rd = flags & 0b0111_1001;
    let mut wire = vec![id[0], id[1], 0x80 | opcode_and_rd, code, 0, 0, 0, 0, 0, 0, 0, 0];
    edns::append(&mut wire, edns);
    wire
}

/// The question section of a message with one question. None if the name is compressed (there is
/// nothing before it that a pointer could mean) or the message ends in it.
pub(super) fn question_of(wire: &[u8]) -> Option<&[u8]> {
    let mut end = HEADER;
    loop {
        match *wire.get(end)? {
            0 => break,
            length @ 1..64 => end += 1 + usize::from(length),
            64.. => return None,
        }
    }
    wire.get(HEADER..end + 5)
}
