//! Looks names up for the agent itself.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Asked, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::query::{LARGEST_DATAGRAM, Query, Transport};
use super::{Proxy, aliases};

/// How long an answer is good that does not say so.
const UNSAID: Duration = Duration::from_secs(60);

/// Which addresses of a name.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// Its A records.
    V4,
    /// Its AAAA records.
    V6,
}

/// What resolvers say of a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Addresses {
    /// The addresses, also by way of aliases. None, where the name has none or does not exist.
    pub addresses: BTreeSet<IpAddr>,
    /// How long that is good.
    pub good_for: Duration,
}

impl Proxy {
    /// Asks the agent's resolvers for a name's addresses. Nothing is judged, and no client hears of
    /// it. Never look a name up that a sandbox has chosen: what is denied would travel inside of it.
    ///
    /// None where no resolver answers, or none knows.
    pub async fn look_up(
        &self,
        name: &sandgate_policy::egress::Name,
        family: Family,
    ) -> Option<Addresses> {
        let query = question(name, family)?;
        let resolve = &self.resolve;
        let (whole, resolvers) = (true, resolve.resolvers.as_slice());
        let answer = resolve.upstream.ask(&query, resolvers, whole, &resolve.counters).await?;
        read(&query.name, &answer.wire)
    }
}

fn question(name: &sandgate_policy::egress::Name, family: Family) -> Option<Query> {
    let kind = match family {
        Family::V4 => RecordType::A,
        Family::V6 => RecordType::AAAA,
    };
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Asked::query(Name::from_ascii(format!("{name}.")).ok()?, kind));
    let mut edns = Edns::new();
    edns.set_max_payload(LARGEST_DATAGRAM);
    message.edns = Some(edns);
    Query::parse(&message.to_vec().ok()?, Transport::Udp).ok()
}

fn read(name: &Name, wire: &[u8]) -> Option<Addresses> {
    let message = Message::from_vec(wire).ok()?;
    if !matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return None;
    }
    let (addresses, ttl) = aliases::addresses(name, &message.answers);
    // How long it is good that there is nothing (RFC 2308, section 5).
    let negative = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    let ttl = if addresses.is_empty() { negative } else { ttl };
    let good_for = ttl.map_or(UNSAID, |ttl| Duration::from_secs(ttl.into()));
    Some(Addresses { addresses, good_for })
}
