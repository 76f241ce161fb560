//! Parses a client's message to a [`Query`]: one question of class IN, which can be evaluated and forwarded. All other
//! messages get the error that the RFCs require.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use super::edns::{self, ClientEdns, HEADER, LARGEST_DATAGRAM};

/// The maximum size of a datagram to a client without EDNS, in bytes (RFC 1035 §4.2.1).
const PLAIN_DATAGRAM: u16 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// Each message is a datagram of limited size.
    Udp,
    /// Each message follows its length.
    Tcp,
}

/// A query with one question of class IN.
#[derive(Clone, Debug)]
pub(super) struct Query {
    /// The id of the client's message.
    pub(super) id: u16,
    /// The name as the client wrote it, in upper and lower case.
    pub(super) name: Name,
    pub(super) kind: RecordType,
    /// The question section, which the response repeats byte for byte.
    pub(super) question: Vec<u8>,
    /// The RD bit.
    pub(super) recursion_desired: bool,
    /// The AD bit: the client understands it in responses (RFC 6840 §5.7).
    pub(super) authentic_data: bool,
    /// The CD bit: the client validates DNSSEC itself (RFC 4035 §3.1.6).
    pub(super) checking_disabled: bool,
    /// `None` if the client does not use EDNS.
    pub(super) edns: Option<ClientEdns>,
    /// The transport of the query and of its response.
    pub(super) transport: Transport,
}

/// The message is not a valid query.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unanswerable {
    /// The message has no complete header or is a response. It gets no response, because otherwise two servers could respond
    /// to each other forever.
    NotAQuery,
    /// The client gets this error.
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
        // Requires one question and no answer or authority records. Also rejects wrong counts before the message is parsed.
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
            // The other meta types (RFC 6895 §3.1), which only servers use.
            128..ANY => Err(Unanswerable::Rejected(query.error(ResponseCode::NotImp))),
            _ => Ok(query),
        }
    }

    /// The maximum size of the response, in bytes.
    pub(super) fn limit(&self) -> usize {
        match (self.transport, self.edns) {
            (Transport::Tcp, _) => usize::from(u16::MAX),
            (Transport::Udp, None) => usize::from(PLAIN_DATAGRAM),
            (Transport::Udp, Some(edns)) => {
                usize::from(edns.payload.clamp(PLAIN_DATAGRAM, LARGEST_DATAGRAM))
            }
        }
    }

    /// The EDNS parameters of the response, if the client uses EDNS.
    pub(super) fn response_edns(&self) -> Option<Edns> {
        self.edns.map(|client| {
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST_DATAGRAM).set_dnssec_ok(client.dnssec_ok);
            edns
        })
    }

    /// The query to a resolver, with its own id. Without the client's EDNS options, which apply to one hop only (RFC 6891
    /// §6.2.6).
    pub(super) fn forwarded(&self, id: u16) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.authentic_data = self.authentic_data;
        message.metadata.checking_disabled = self.checking_disabled;
        message.edns = self.response_edns();
        let mut wire = message.to_vec().unwrap_or_default();
        // Inserts the question as the client wrote it, between the header and the OPT record.
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

/// A response without a question section, to a message whose question can't be parsed. Has an OPT record if the client uses
/// EDNS.
fn bare(id: [u8; 2], flags: u8, code: u8, edns: Option<ClientEdns>) -> Vec<u8> {
    let opcode_and_rd = flags & 0b0111_1001;
    let mut wire = vec![id[0], id[1], 0x80 | opcode_and_rd, code, 0, 0, 0, 0, 0, 0, 0, 0];
    edns::append(&mut wire, edns);
    wire
}

/// The question section of a message with one question. `None` if it is truncated or the name is compressed, because
/// nothing precedes the name that a pointer could refer to.
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
