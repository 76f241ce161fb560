//! Evaluates a resolver's response, and removes what the client may not see.
//!
//! A response from which nothing is removed is forwarded byte for byte, with all record types. Others are encoded
//! again.

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use sandgate_policy::egress::Rule;

use super::aliases;
use super::counters::Counters;
use super::edns::HEADER;
use super::generation::Generation;
use super::observed::Pair;
use super::query::{Query, question_of};
use super::svcb;

/// What a response may contain, depending on the client and the policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilterMode {
    /// For the sandbox: real addresses without guardrail addresses.
    Real,
    /// For the sandbox: the name's virtual address, if the name has a real address.
    Virtual,
    /// For Envoy: the addresses that Envoy may connect to.
    Envoy,
}

/// The client's response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Filtered {
    pub(super) wire: Vec<u8>,
    /// The names in it that are denied on some ports, with their real addresses. Empty unless the mode is
    /// [`FilterMode::Real`], because other responses show the sandbox no real addresses.
    pub(super) partly_denied: Vec<Pair>,
}

/// Why a client does not get the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Withheld {
    /// The response leads to a denied name with these addresses.
    Denied(Rule, Vec<Pair>),
    /// The response can't be parsed, and therefore not be evaluated.
    Unreadable,
}

/// Returns the client's response to a query, from a resolver's response in `wire`.
pub(super) fn filter(
    query: &Query,
    wire: &[u8],
    mode: FilterMode,
    generation: &Generation,
    counters: &Counters,
) -> Result<Filtered, Withheld> {
    let without_pairs = |wire| Filtered { wire, partly_denied: Vec::new() };
    let mut decoder = BinDecoder::new(wire);
    let message = Message::read(&mut decoder).map_err(|_| Withheld::Unreadable)?;
    // Bytes after the message were not evaluated, so they are not forwarded.
    let read = wire.get(..decoder.index()).ok_or(Withheld::Unreadable)?;
    if !matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Ok(without_pairs(query.error(message.metadata.response_code)));
    }
    if let Some(rule) = aliases::denied(&query.name, &message.answers, generation) {
        return Err(Withheld::Denied(rule, aliases::observed(&message.answers, generation)));
    }
    let context = Context { query, generation, counters };
    match (mode, query.kind) {
        (FilterMode::Virtual, RecordType::A | RecordType::AAAA) => {
            Ok(without_pairs(context.virtual_address(message)))
        }
        (FilterMode::Virtual, _) => Ok(without_pairs(context.without_addresses(message))),
        (FilterMode::Envoy, _) => Ok(without_pairs(context.for_envoy(message))),
        (FilterMode::Real, _) => {
            let partly_denied = aliases::partly_denied(&query.name, &message.answers, generation);
            Ok(Filtered { wire: context.real(message, read), partly_denied })
        }
    }
}

struct Context<'a> {
    query: &'a Query,
    generation: &'a Generation,
    counters: &'a Counters,
}

impl Context<'_> {
    /// The response without guardrail addresses and without records about denied names.
    fn real(&self, mut message: Message, read: &[u8]) -> Vec<u8> {
        let removes_ech = self.generation.has_domains();
        let changed = self.clean(
            &mut message,
            |_, address| self.generation.guardrail(address).is_none(),
            removes_ech,
            |name| self.generation.denied(name).is_none(),
        );
        // A resolver may use EDNS although the client does not, or the other way round.
        let same_edns = message.edns.is_some() == self.query.edns.is_some();
        match self.unchanged(read) {
            Some(wire) if !changed && same_edns => wire,
            _ => self.finish(message, changed),
        }
    }

    /// The virtual address, if the name has a real address of the same family that Envoy may connect to.
    fn virtual_address(&self, mut message: Message) -> Vec<u8> {
        if message.metadata.response_code == ResponseCode::NXDomain {
            return self.negative(message);
        }
        let before = message.answers.len();
        message.answers.retain(|record| {
            address_of(record)
                .is_none_or(|found| self.generation.allows_resolved(&self.query.name, found))
        });
        self.counters.stripped_addresses.add((before - message.answers.len()) as u64);
        let exists = message.answers.iter().any(|record| record.record_type() == self.query.kind);
        let ttl = message.answers.iter().map(|record| record.ttl).min().unwrap_or_default();
        let address: Option<IpAddr> = match self.query.kind {
            RecordType::A => self.generation.virtual_v4(&self.query.name).map(IpAddr::V4),
            _ => self.generation.virtual_v6(&self.query.name).map(IpAddr::V6),
        };
        match address {
            Some(address) if exists => {
                self.counters.virtual_answers.increment();
                self.query.encode(self.query.address(address, ttl))
            }
            _ => self.negative(message),
        }
    }

    /// The response without addresses in any section. The sandbox can't use the real ones.
    fn without_addresses(&self, mut message: Message) -> Vec<u8> {
        let resolves = |name: &Name| {
            !matches!(
                self.generation.decide_query(name, false),
                super::generation::QueryDecision::Deny(_)
            )
        };
        // A service binding is useless to the client if its target does not resolve.
        message.answers.retain_mut(|record| match svcb::binding(record) {
            Some(binding) if binding.target_name.is_root() => true,
            Some(binding) => resolves(&binding.target_name),
            None => true,
        });
        let not_denied = |name: &Name| self.generation.denied(name).is_none();
        self.clean(&mut message, |_, _| false, true, not_denied);
        self.finish(message, true)
    }

    /// The aliases, and the addresses that Envoy may connect to.
    fn for_envoy(&self, mut message: Message) -> Vec<u8> {
        if message.metadata.response_code == ResponseCode::NXDomain {
            return self.negative(message);
        }
        message.authorities.retain(|record| record.record_type() == RecordType::SOA);
        message.additionals.clear();
        message.answers.retain(|record| {
            let kind = record.record_type();
            kind == RecordType::CNAME || kind == self.query.kind
        });
        let name = &self.query.name;
        let reaches = |_: &Name, found| self.generation.allows_resolved(name, found);
        let not_denied = |name: &Name| self.generation.denied(name).is_none();
        self.clean(&mut message, reaches, true, not_denied);
        self.finish(message, true)
    }

    /// Removes from every section the records whose owner `allows_name` rejects, and the addresses that
    /// `allows_address` rejects for their owner. Also removes ECH if `removes_ech`. Returns whether it has removed
    /// anything.
    fn clean(
        &self,
        message: &mut Message,
        allows_address: impl Fn(&Name, IpAddr) -> bool,
        removes_ech: bool,
        allows_name: impl Fn(&Name) -> bool,
    ) -> bool {
        let mut changed: Vec<(Name, RecordType)> = Vec::new();
        for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            section.retain_mut(|record| {
                let (owner, kind) = (record.name.clone(), record.record_type());
                let mut stays = kind == RecordType::SOA || allows_name(&owner);
                if let Some(address) = address_of(record).filter(|_| stays) {
                    stays = allows_address(&owner, address);
                    self.counters.stripped_addresses.add(u64::from(!stays));
                }
                if let Some(binding) = svcb::binding(record).filter(|_| stays) {
                    stays = allows_name(svcb::target(&owner, binding));
                    let removed =
                        svcb::clean(binding, removes_ech, |hint| allows_address(&owner, hint));
                    self.counters.stripped_addresses.add(removed.addresses);
                    self.counters.stripped_ech.add(removed.ech);
                    if removed != svcb::Removed::default() {
                        changed.push((owner.clone(), kind));
                    }
                }
                if !stays {
                    changed.push((owner, kind));
                }
                stays
            });
        }
        for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            section.retain(|record| {
                signed(record).is_none_or(|kind| !changed.contains(&(record.name.clone(), kind)))
            });
        }
        !changed.is_empty()
    }

    /// The resolver's bytes with the client's id and question, if they fit.
    ///
    /// Compressed names in the response point into the question. Therefore the two questions may differ only in upper
    /// and lower case: otherwise the names would differ from those that were evaluated.
    fn unchanged(&self, read: &[u8]) -> Option<Vec<u8>> {
        let same = question_of(read)?.eq_ignore_ascii_case(&self.query.question);
        if !same || read.len() > self.query.limit() {
            return None;
        }
        let mut wire = read.to_vec();
        wire.get_mut(..2)?.copy_from_slice(&self.query.id.to_be_bytes());
        wire.get_mut(HEADER..HEADER + self.query.question.len())?
            .copy_from_slice(&self.query.question);
        Some(wire)
    }

    /// Encodes a response again.
    fn finish(&self, message: Message, changed: bool) -> Vec<u8> {
        let is_real = |record: &Record| {
            let kind = record.record_type();
            // A CNAME, DNAME or RRSIG record is an answer only to a query for its own type.
            kind == self.query.kind
                || (kind != RecordType::CNAME
                    && kind != RecordType::DNAME
                    && signed(record).is_none())
        };
        let empty = !message.answers.iter().any(is_real);
        if changed && empty && !message.metadata.truncation {
            return self.negative(message);
        }
        let mut answer = self.query.response(message.metadata.response_code);
        answer.metadata.authoritative = message.metadata.authoritative;
        answer.metadata.truncation = message.metadata.truncation;
        answer.metadata.recursion_available = message.metadata.recursion_available;
        answer.metadata.authentic_data = message.metadata.authentic_data && !changed;
        answer.answers = message.answers;
        answer.authorities = message.authorities;
        answer.additionals = message.additionals;
        self.query.encode(answer)
    }

    /// NXDOMAIN or NODATA, with the resolver's SOA record if it sent one.
    fn negative(&self, message: Message) -> Vec<u8> {
        let mut answer = self.query.no_data(self.generation.number());
        answer.metadata.response_code = message.metadata.response_code;
        answer.metadata.recursion_available = message.metadata.recursion_available;
        let soa =
            message.authorities.into_iter().find(|record| record.record_type() == RecordType::SOA);
        if let Some(soa) = soa {
            answer.authorities = vec![soa];
        }
        self.query.encode(answer)
    }
}

/// The address in an A or AAAA record. All classes are evaluated, because a client may ignore the class.
fn address_of(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

/// The record type that an RRSIG record signs (RFC 4034 §3.1.1).
fn signed(record: &Record) -> Option<RecordType> {
    match &record.data {
        RData::Unknown { code: RecordType::RRSIG, rdata } => {
            rdata.anything.first_chunk().map(|kind| u16::from_be_bytes(*kind).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
