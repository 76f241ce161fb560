//! Resolves names for the agent.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Asked, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::edns::LARGEST_DATAGRAM;
use super::query::{Query, Transport};
use super::{Proxy, aliases};

/// The validity of a response without a TTL.
const DEFAULT_VALIDITY: Duration = Duration::from_secs(60);

/// An address family.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

/// The response to a lookup.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Addresses {
    /// The addresses, also those of its aliases. Empty if the name has none or does not exist.
    pub addresses: BTreeSet<IpAddr>,
    /// How long the response is valid.
    pub valid_for: Duration,
}

impl Proxy {
    /// Queries the agent's resolvers for the addresses of a name, without evaluating the policy. Don't look up a name
    /// that the sandbox chose: the query could carry data to the name's servers.
    ///
    /// Returns `None` if no resolver responds, or all of them fail.
    pub async fn look_up(
        &self,
        name: &sandgate_policy::egress::Name,
        family: Family,
    ) -> Option<Addresses> {
        let query = question(name, family)?;
        let handler = &self.handler;
        let (needs_complete_response, resolvers) = (true, handler.resolvers.as_slice());
        let answer = handler
            .upstream
            .query(&query, resolvers, needs_complete_response, &handler.counters)
            .await?;
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
    // The validity of a negative response (RFC 2308, section 5).
    let negative = message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    });
    let ttl = if addresses.is_empty() { negative } else { ttl };
    let valid_for = ttl.map_or(DEFAULT_VALIDITY, |ttl| Duration::from_secs(ttl.into()));
    Some(Addresses { addresses, valid_for })
}
