//! The internet's DNS server: one zone, on all addresses, by UDP and TCP. It responds like a resolver.

use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::site;

/// The transport of a query.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// A datagram. Long responses are truncated.
    Udp,
    /// A stream.
    Tcp,
}

/// A received query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// The name in lower case, without the last dot.
    pub name: String,
    pub kind: RecordType,
    pub transport: Transport,
}

/// The default TTL of records. An unusual number, so that no program uses it by accident.
pub const TTL: u32 = 77;
/// The number of addresses of `big.test`, which don't fit into 512 bytes.
pub const BIG: u8 = 100;

/// All records.
#[derive(Clone)]
pub struct Zone {
    records: Arc<Mutex<Vec<Record>>>,
    questions: Arc<Mutex<Vec<Question>>>,
}

impl Zone {
    pub(super) fn new(questions: Arc<Mutex<Vec<Question>>>) -> Result<Self> {
        let mut records = Vec::new();
        let mut add = |name: &str, data: RData| -> Result<()> {
            records.push(Record::from_rdata(Name::from_str(name)?, TTL, data));
            Ok(())
        };
        for (name, address) in [
            ("ok.test.", site::OK),
            ("ok.test.", site::OK6),
            ("a.ok.test.", site::OK),
            ("deep.a.ok.test.", site::OK),
            ("other.test.", site::OTHER),
            ("other.test.", site::OTHER6),
            ("example.com.", site::EXAMPLE),
            ("example.com.", site::EXAMPLE6),
            ("www.example.com.", site::EXAMPLE),
            ("private.test.", site::PRIVATE),
            ("meta.test.", site::METADATA),
            ("xn--bcher-kva.test.", site::OK),
            // An allowed name that is an alias of a denied one.
            ("rebind.ok.test.", site::METADATA),
            ("inside.ok.test.", site::PRIVATE),
        ] {
            add(name, address_record(address))?;
        }
        add("alias.test.", RData::CNAME(CNAME(Name::from_str("example.com.")?)))?;
        add("alias-www.test.", RData::CNAME(CNAME(Name::from_str("www.example.com.")?)))?;
        add("ok.test.", RData::TXT(TXT::new(vec!["v=rig".to_owned()])))?;
        add("ok.test.", RData::MX(MX::new(10, Name::from_str("a.ok.test.")?)))?;
        add("_ssh._tcp.ok.test.", RData::SRV(SRV::new(1, 1, 22, Name::from_str("ok.test.")?)))?;
        for last in 0..BIG {
            add("big.test.", RData::A(A::new(203, 0, 113, last)))?;
        }
        Ok(Self { records: Arc::new(Mutex::new(records)), questions })
    }

    /// Replaces a name's addresses in the family of this address.
    pub(super) fn set_address(&self, name: &str, ttl: u32, address: IpAddr) -> Result<()> {
        let record = Record::from_rdata(Name::from_str(name)?, ttl, address_record(address));
        let mut records = self.records();
        records.retain(|old| old.name != record.name || old.record_type() != record.record_type());
        records.push(record);
        Ok(())
    }

    fn records(&self) -> MutexGuard<'_, Vec<Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The response to a message, or `None` if the message is not a valid query.
    pub(super) fn answer(&self, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let request = Message::from_vec(message).ok()?;
        let query = request.queries.first()?.clone();
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).push(Question {
            name: query.name().to_lowercase().to_utf8().trim_end_matches('.').to_owned(),
            kind: query.query_type(),
            transport,
        });
        let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_desired = request.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        if let Some(asked) = &request.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload());
            answer.set_edns(edns);
        }
        let mut name = query.name().to_lowercase();
        let records = self.records();
        // A response contains a CNAME and the records of its target, like that of a recursive resolver.
        loop {
            let here: Vec<_> = records.iter().filter(|record| record.name == name).collect();
            // A name that only has names below it exists too.
            if !records.iter().any(|record| name.zone_of(&record.name)) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let mut next = None;
            for record in here {
                let wanted = query.query_type();
                if record.record_type() == wanted || wanted == RecordType::ANY {
                    answer.add_answer(record.clone());
                } else if let RData::CNAME(target) = &record.data {
                    answer.add_answer(record.clone());
                    next = Some(target.0.clone());
                }
            }
            match next {
                Some(target) => name = target,
                None => break,
            }
        }
        let bytes = answer.to_vec().ok()?;
        let room = request.edns.as_ref().map_or(512, |edns| edns.max_payload().max(512));
        if transport == Transport::Udp && bytes.len() > usize::from(room) {
            return answer.truncate().to_vec().ok();
        }
        Some(bytes)
    }
}

fn address_record(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}
