//! Creates the proxy's own responses, and encodes responses so that they fit.

use std::net::IpAddr;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{Name, RData, Record};

use super::edns;
use super::edns::HEADER;
use super::query::Query;

/// The TTL of negative responses, in seconds. Short, so that a policy that allows more takes effect soon; not 0, so
/// that clients that query in a loop use their caches.
pub(super) const NEGATIVE_TTL: u32 = 5;
/// The extended error *Blocked* (RFC 8914 §4.16), and the code of the EDNS option.
const EDE_BLOCKED: [u8; 2] = 15_u16.to_be_bytes();
const EDE: u16 = 15;

impl Query {
    /// An empty response to this query.
    pub(super) fn response(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.response_code = code;
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.edns = self.response_edns();
        message
    }

    /// A response with an error.
    pub(super) fn error(&self, code: ResponseCode) -> Vec<u8> {
        self.encode(self.response(code))
    }

    /// The response for a denied name: NXDOMAIN with a short TTL. Clients that use EDNS get the text of the rule. The
    /// generation is the serial number of the SOA record.
    pub(super) fn denied(&self, rule: &str, generation: u64) -> Vec<u8> {
        let mut message = self.response(ResponseCode::NXDomain);
        message.authorities.push(self.negative_soa(generation));
        if let Some(edns) = &mut message.edns {
            let text = [&EDE_BLOCKED, rule.as_bytes()].concat();
            edns.options_mut().insert(EdnsOption::Unknown(EDE, text));
        }
        self.encode(message)
    }

    /// The response for a name that exists without records of the queried type.
    pub(super) fn no_data(&self, generation: u64) -> Message {
        let mut message = self.response(ResponseCode::NoError);
        message.authorities.push(self.negative_soa(generation));
        message
    }

    /// A response with this address.
    pub(super) fn address(&self, address: IpAddr, ttl: u32) -> Message {
        let data = match address {
            IpAddr::V4(v4) => RData::A(A(v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
        };
        let mut message = self.response(ResponseCode::NoError);
        message.answers.push(Record::from_rdata(self.name.clone(), ttl, data));
        message
    }

    /// The SOA record with which clients cache a negative response (RFC 2308 §3). Its owner must be above the name,
    /// which is always true of the top-level domain.
    fn negative_soa(&self, generation: u64) -> Record {
        let owner = if self.name.iter().len() > 1 { self.name.trim_to(1) } else { Name::root() };
        let ours = |label: &str| {
            Name::from_labels([label.as_bytes(), b"sandgate", b"invalid"]).unwrap_or_default()
        };
        let (expire, refresh) = (86_400, 3_600);
        let serial = u32::try_from(generation & u64::from(u32::MAX)).unwrap_or_default();
        let minimum = NEGATIVE_TTL;
        let soa = SOA::new(ours("dns"), ours("policy"), serial, refresh, refresh, expire, minimum);
        Record::from_rdata(owner, NEGATIVE_TTL, RData::SOA(soa))
    }

    /// Serializes a message with the client's question. If it does not fit, it is truncated and TC is set, so that the
    /// client retries with TCP. The answer records that fit stay, for clients that ignore TC.
    pub(super) fn encode(&self, mut message: Message) -> Vec<u8> {
        message.queries.clear();
        let limit = self.limit();
        if let Some(wire) = self.serialize(&message).filter(|wire| wire.len() <= limit) {
            return wire;
        }
        // Additional and authority records are removed first (RFC 2181 §9), except OPT.
        message.additionals.clear();
        if let Some(wire) = self.serialize(&message).filter(|wire| wire.len() <= limit) {
            return wire;
        }
        message.authorities.clear();
        message.metadata.truncation = true;
        let all = std::mem::take(&mut message.answers);
        let fits = |count: usize| {
            let mut part = message.clone();
            part.answers.extend(all.iter().take(count).cloned());
            self.serialize(&part).filter(|wire| wire.len() <= limit)
        };
        let (mut fitting, mut too_many) = (0, all.len() + 1);
        while fitting + 1 < too_many {
            let middle = fitting.midpoint(too_many);
            if fits(middle).is_some() { fitting = middle } else { too_many = middle }
        }
        fits(fitting).unwrap_or_else(|| self.server_failure())
    }

    /// Serializes a message with the client's question, whatever its size.
    fn serialize(&self, message: &Message) -> Option<Vec<u8>> {
        let mut message = message.clone();
        // The encoder compresses names with references to the question, which is then overwritten byte for byte.
        message.add_query(hickory_proto::op::Query::query(self.name.clone(), self.kind));
        let mut wire = message.to_vec().ok()?;
        wire.get_mut(HEADER..HEADER + self.question.len())?.copy_from_slice(&self.question);
        Some(wire)
    }

    /// SERVFAIL, built without a fallible encoder.
    fn server_failure(&self) -> Vec<u8> {
        let [id0, id1] = self.id.to_be_bytes();
        let mut wire = vec![id0, id1, 0x80, 0x82, 0, 1, 0, 0, 0, 0, 0, 0];
        wire.extend_from_slice(&self.question);
        edns::append(&mut wire, self.edns);
        wire
    }
}
