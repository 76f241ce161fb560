//! The internet's DNS: one zone, on every address, by UDP and TCP. It answers what a resolver would.

use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use hickory_proto::op::{Edns, Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::site;

/// How a question came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transport {
    /// In a datagram: long answers are cut.
    Udp,
    /// By a stream.
    Tcp,
}

/// One question that arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Question {
    /// In lower case, without the last dot.
    pub name: String,
    /// Its type.
    pub kind: RecordType,
    /// How it came.
    pub transport: Transport,
}

/// The time to live of all records: one that nothing invents by itself.
pub const TTL: u32 = 77;
/// How many addresses `big.test` has: too many for 512 bytes.
pub const BIG: u8 = 100;

/// A name that leads to [`site::OK`] until it is turned elsewhere; nobody is to remember where.
pub const TURNS: &str = "turns.ok.test";

/// All records.
#[derive(Clone)]
pub struct Zone {
    records: Arc<Vec<(Name, RData)>>,
    questions: Arc<Mutex<Vec<Question>>>,
    leads: Arc<Mutex<IpAddr>>,
}

impl Zone {
    pub(super) fn new(
        questions: Arc<Mutex<Vec<Question>>>,
        leads: Arc<Mutex<IpAddr>>,
    ) -> Result<Self> {
        let mut records = Vec::new();
        let mut add = |name: &str, data: RData| -> Result<()> {
            records.push((Name::from_str(name)?, data));
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
            // It allows itself in by name, and points at what is denied by name.
            ("rebind.ok.test.", site::METADATA),
            ("inside.ok.test.", site::PRIVATE),
        ] {
            add(name, address_record(address))?;
        }
        add("alias.test.", RData::CNAME(CNAME(Name::from_str("example.com.")?)))?;
        add("ok.test.", RData::TXT(TXT::new(vec!["v=rig".to_owned()])))?;
        add("ok.test.", RData::MX(MX::new(10, Name::from_str("a.ok.test.")?)))?;
        add("_ssh._tcp.ok.test.", RData::SRV(SRV::new(1, 1, 22, Name::from_str("ok.test.")?)))?;
        for last in 0..BIG {
            add("big.test.", RData::A(A::new(203, 0, 113, last)))?;
        }
        Ok(Self { records: Arc::new(records), questions, leads })
    }

    /// The answer to a message, or nothing where it is none that can be answered.
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
        if name.to_utf8().trim_end_matches('.') == TURNS {
            if query.query_type() == RecordType::A {
                let leads = *self.leads.lock().unwrap_or_else(PoisonError::into_inner);
                let address = address_record(leads);
                answer.add_answer(Record::from_rdata(name, 0, address));
            }
            return answer.to_vec().ok();
        }
        // A CNAME and what it points at come together, as from any recursive resolver.
        loop {
            let here: Vec<_> = self.records.iter().filter(|(owner, _)| *owner == name).collect();
            if here.is_empty() && !self.exists(&name) {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let mut next = None;
            for (owner, data) in here {
                let wanted = query.query_type();
                if data.record_type() == wanted || wanted == RecordType::ANY {
                    answer.add_answer(Record::from_rdata(owner.clone(), TTL, data.clone()));
                } else if let RData::CNAME(target) = data {
                    answer.add_answer(Record::from_rdata(owner.clone(), TTL, data.clone()));
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

    /// Whether there is such a name, also one that only has names below it.
    fn exists(&self, name: &Name) -> bool {
        self.records.iter().any(|(owner, _)| name.zone_of(owner))
    }
}

fn address_record(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    }
}
