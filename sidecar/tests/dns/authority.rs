//! A test resolver that answers from a text zone, with configurable faults.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_proto::op::{Message, OpCode, ResponseCode};
use hickory_proto::rr::rdata::NULL;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinEncodable;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

/// The faults of a resolver.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behaviour {
    /// Waits before each answer.
    pub(crate) delay: Duration,
    /// The number of first datagrams that get no response.
    pub(crate) loses: usize,
    /// Sends forged responses (a wrong id, then a wrong question) before each correct one.
    pub(crate) forges: bool,
    /// Every response over UDP is empty and truncated.
    pub(crate) truncates: bool,
    /// The response code of all responses.
    pub(crate) fails: Option<ResponseCode>,
    /// Sends these bytes after a valid header and question.
    pub(crate) garbage: Option<Vec<u8>>,
    /// Returns the question in lower case.
    pub(crate) lowers_case: bool,
}

/// A received query.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) from: SocketAddr,
    pub(crate) id: u16,
    pub(crate) name: String,
    pub(crate) payload: Option<u16>,
    pub(crate) by_tcp: bool,
}

/// A running resolver. Dropping it stops it.
pub(crate) struct Authority {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    tasks: Vec<JoinHandle<()>>,
}

struct State {
    zone: Vec<Record>,
    behaviour: Behaviour,
    lost: AtomicUsize,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Authority {
    pub(crate) async fn start(address: SocketAddr, zone: &str, behaviour: Behaviour) -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind(address).await.expect("a UDP port");
            match TcpListener::bind(udp.local_addr().expect("an address")).await {
                Ok(tcp) => break (Arc::new(udp), tcp),
                // A port that is free for UDP may be in use for TCP.
                Err(_) if address.port() == 0 => {}
                Err(reason) => panic!("{address}: {reason}"),
            }
        };
        let address = udp.local_addr().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (zone, lost) = (parse_zone(zone), AtomicUsize::new(0));
        let state = Arc::new(State { zone, behaviour, lost, seen: Arc::clone(&seen) });
        let tasks = vec![
            tokio::spawn(serve_udp(udp, Arc::clone(&state))),
            tokio::spawn(serve_tcp(tcp, state)),
        ];
        Self { address, seen, tasks }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().expect("the list").clone()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn serve_udp(socket: Arc<UdpSocket>, state: Arc<State>) {
    let mut buffer = vec![0; 4096];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        let (wire, socket, state) = (buffer[..length].to_vec(), socket.clone(), state.clone());
        tokio::spawn(async move {
            let query = state.note(&wire, from, false);
            if state.lost.fetch_add(1, Ordering::SeqCst) < state.behaviour.loses {
                return;
            }
            state.wait().await;
            if state.behaviour.forges {
                let mut forged = state.answer(&query, false);
                forged[0] ^= 0x55;
                let _ = socket.send_to(&forged, from).await;
                let mut other = query.clone();
                other.queries[0].set_name(name("forged.test."));
                let _ = socket.send_to(&state.answer(&other, false), from).await;
                let _ = socket.send_to(b"short", from).await;
            }
            let _ = socket.send_to(&state.answer(&query, false), from).await;
        });
    }
}

async fn serve_tcp(socket: TcpListener, state: Arc<State>) {
    loop {
        let Ok((mut stream, from)) = socket.accept().await else { continue };
        let state = state.clone();
        tokio::spawn(async move {
            while let Ok(length) = stream.read_u16().await {
                let mut wire = vec![0; usize::from(length)];
                stream.read_exact(&mut wire).await.expect("the rest of a question");
                let query = state.note(&wire, from, true);
                state.wait().await;
                let answer = state.answer(&query, true);
                let length = u16::try_from(answer.len()).expect("a short answer");
                let _ =
                    stream.write_all(&[&length.to_be_bytes(), answer.as_slice()].concat()).await;
            }
        });
    }
}

impl State {
    async fn wait(&self) {
        // Even the shortest sleep takes a millisecond.
        if !self.behaviour.delay.is_zero() {
            tokio::time::sleep(self.behaviour.delay).await;
        }
    }

    fn note(&self, wire: &[u8], from: SocketAddr, by_tcp: bool) -> Message {
        let query = Message::from_vec(wire).expect("a question that can be parsed");
        let payload = query.edns.as_ref().map(|edns| edns.max_payload());
        let (id, name) = (query.metadata.id, query.queries[0].name().to_ascii());
        self.seen.lock().expect("the list").push(Seen { from, id, name, payload, by_tcp });
        query
    }

    fn answer(&self, query: &Message, by_tcp: bool) -> Vec<u8> {
        let asked = query.queries[0].clone();
        let mut answer = Message::response(query.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.edns = query.edns.clone();
        answer.add_query(asked.clone());
        if self.behaviour.lowers_case {
            answer.queries[0].set_name(asked.name().to_lowercase());
        }
        if let Some(garbage) = &self.behaviour.garbage {
            answer.edns = None;
            let mut wire = answer.to_vec().expect("a message");
            wire[7] = 1;
            wire.extend_from_slice(garbage);
            return wire;
        }
        if let Some(code) = self.behaviour.fails {
            answer.metadata.response_code = code;
        } else if !by_tcp && self.behaviour.truncates {
            answer.metadata.truncation = true;
        } else {
            self.look_up(asked.name(), asked.query_type(), &mut answer);
        }
        let limit = query.edns.as_ref().map_or(512, |edns| usize::from(edns.max_payload()));
        while !by_tcp && answer.to_vec().expect("a message").len() > limit {
            answer.metadata.truncation = true;
            answer.authorities.clear();
            answer.additionals.clear();
            answer.answers.pop();
        }
        answer.to_vec().expect("a message")
    }

    fn look_up(&self, asked: &Name, kind: RecordType, answer: &mut Message) {
        let mut name = asked.clone();
        for _ in 0..8 {
            let here = |record: &&Record| record.name == name;
            let wanted = |record: &&Record| kind == RecordType::ANY || record.record_type() == kind;
            let found: Vec<_> = self.zone.iter().filter(here).filter(wanted).cloned().collect();
            if !found.is_empty() {
                answer.answers.extend(found);
                break;
            }
            let alias =
                self.zone.iter().find(|r| r.name == name && r.record_type() == RecordType::CNAME);
            if let Some(alias) = alias {
                answer.answers.push(alias.clone());
                let RData::CNAME(target) = &alias.data else { return };
                name = target.0.clone();
                continue;
            }
            let above = |r: &&Record| {
                r.record_type() == RecordType::DNAME && r.name.zone_of(&name) && r.name != name
            };
            if let Some(dname) = self.zone.iter().find(above) {
                let RData::Unknown { rdata, .. } = &dname.data else { return };
                let target = Name::read_from(&rdata.anything);
                let kept = name.iter().len() - dname.name.iter().len();
                let labels = name.iter().take(kept).chain(target.iter());
                let next = Name::from_labels(labels).expect("a name");
                answer.answers.push(dname.clone());
                let cname = RData::CNAME(hickory_proto::rr::rdata::CNAME(next.clone()));
                answer.answers.push(Record::from_rdata(name, dname.ttl, cname));
                name = next;
                continue;
            }
            let exists = self.zone.iter().any(|r| name.zone_of(&r.name));
            if !exists {
                answer.metadata.response_code = ResponseCode::NXDomain;
            }
            let soa = self.zone.iter().find(|r| r.record_type() == RecordType::SOA);
            answer.authorities.extend(soa.cloned());
            break;
        }
        let targets: BTreeSet<Name> = answer.answers.iter().filter_map(target).collect();
        for target in targets {
            let addresses =
                self.zone.iter().filter(|r| r.name == target && r.data.ip_addr().is_some());
            answer.additionals.extend(addresses.cloned());
        }
    }
}

/// The name for which the response has additional records.
fn target(record: &Record) -> Option<Name> {
    match &record.data {
        RData::MX(mx) => Some(mx.exchange.clone()),
        RData::SRV(srv) => Some(srv.target.clone()),
        RData::NS(ns) => Some(ns.0.clone()),
        RData::HTTPS(https) => Some(https.0.target_name.clone()),
        _ => None,
    }
}

/// Parses records in lines of `name ttl TYPE data`. The data of other types is `#` and hexadecimal digits.
fn parse_zone(text: &str) -> Vec<Record> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(parse_record).collect()
}

fn parse_record(line: &str) -> Record {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("`{line}` is no record"));
    let (owner, ttl, kind, data) = (name(word()), word(), word(), word());
    let raw = |kind: RecordType, bytes| RData::Unknown { code: kind, rdata: NULL::with(bytes) };
    let data = match (kind, data.strip_prefix("# ")) {
        (number, Some(hex)) => {
            let digits: Vec<u8> = hex.bytes().filter(|b| *b != b' ').collect();
            let byte = |pair: &[u8]| {
                u8::from_str_radix(std::str::from_utf8(pair).expect("ASCII"), 16).expect("hex")
            };
            let kind: u16 = number.trim_start_matches("TYPE").parse().expect("a type");
            raw(kind.into(), digits.chunks(2).map(byte).collect())
        }
        ("DNAME", None) => raw(RecordType::DNAME, name(data).to_bytes().expect("a name")),
        (kind, None) => RData::try_from_str(kind.parse().expect("a type"), data)
            .unwrap_or_else(|reason| panic!("`{line}`: {reason}")),
    };
    Record::from_rdata(owner, ttl.parse().expect("a TTL"), data)
}

pub(crate) fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap_or_else(|reason| panic!("`{text}`: {reason}"));
    name.set_fqdn(true);
    name
}

trait ReadFrom {
    fn read_from(wire: &[u8]) -> Self;
}

impl ReadFrom for Name {
    fn read_from(wire: &[u8]) -> Self {
        use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
        Self::read(&mut BinDecoder::new(wire)).expect("a name")
    }
}
