//! Judges what a resolver answered, and makes of it what the client may see.
//!
//! An answer that policy does not touch goes on byte for byte, whatever types it holds. One that it
//! touches is encoded anew.

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use sandgate_policy::egress::Rule;

use super::aliases;
use super::counters::Counters;
use super::generation::Generation;
use super::query::{HEADER, Query, question_of};
use super::seen::Pair;
use super::svcb;

/// For whom an answer is, and so what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Treatment {
    /// The sandbox, which connects to what it is told.
    Real,
    /// The sandbox, which is told a virtual address, if there is a real one behind it.
    Virtual,
    /// Envoy, which dials what it finds.
    Dial,
}

/// Why a client does not get an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Withheld {
    /// It leads to a name that may not be reached, which has these addresses.
    Denied(Rule, Vec<Pair>),
    /// It can't be parsed, so it can't be judged.
    Unreadable,
}

/// Makes the client's answer out of a resolver's.
pub(super) fn treat(
    query: &Query,
    wire: &[u8],
    treatment: Treatment,
    generation: &Generation,
    counters: &Counters,
) -> Result<Vec<u8>, Withheld> {
    let mut decoder = BinDecoder::new(wire);
    let message = Message::read(&mut decoder).map_err(|_| Withheld::Unreadable)?;
    // What lies behind the message was not judged, and does not go on.
    let read = wire.get(..decoder.index()).ok_or(Withheld::Unreadable)?;
    if !matches!(message.metadata.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Ok(query.error(message.metadata.response_code));
    }
    if let Some(rule) = aliases::denied(&query.name, &message.answers, generation) {
        return Err(Withheld::Denied(rule, aliases::seen(&message.answers, generation)));
    }
    let context = Context { query, generation, counters };
    match (treatment, query.kind) {
        (Treatment::Virtual, RecordType::A | RecordType::AAAA) => {
            Ok(context.virtual_address(message))
        }
        (Treatment::Virtual, _) => Ok(context.without_addresses(message)),
        (Treatment::Dial, _) => Ok(context.dialled(message)),
        (Treatment::Real, _) => Ok(context.real(message, read)),
    }
}

struct Context<'a> {
    query: &'a Query,
    generation: &'a Generation,
    counters: &'a Counters,
}

impl Context<'_> {
    /// The answer, without guardrail addresses, without anything about denied names.
    fn real(&self, mut message: Message, read: &[u8]) -> Vec<u8> {
        let hides_names = self.generation.has_domains();
        let touched = self.clean(
            &mut message,
            |_, address| self.generation.guardrail(address).is_none(),
            hides_names,
            |name| self.generation.denied(name).is_none(),
        );
        // A resolver may leave EDNS out although the client uses it, or use it although the client does not.
        let same_edns = message.edns.is_some() == self.query.edns.is_some();
        match self.unchanged(read) {
            Some(wire) if !touched && same_edns => wire,
            _ => self.finish(message, touched),
        }
    }

    /// The virtual address, if the name has a real one of that family which could be dialled.
    fn virtual_address(&self, mut message: Message) -> Vec<u8> {
        if message.metadata.response_code == ResponseCode::NXDomain {
            return self.negative(message);
        }
        let before = message.answers.len();
        message.answers.retain(|record| {
            address_of(record).is_none_or(|found| self.generation.reaches(&self.query.name, found))
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
                self.counters.virtual_answers.one();
                self.query.encode(self.query.address(address, ttl))
            }
            _ => self.negative(message),
        }
    }

    /// Everything but addresses, wherever they are: the real ones are of no use to the sandbox.
    fn without_addresses(&self, mut message: Message) -> Vec<u8> {
        let allowed = |name: &Name| {
            !matches!(self.generation.judge(name, false), super::generation::Judgement::Refuse(_))
        };
        // A service binding that leads to a name which does not resolve is a dead end.
        message.answers.retain_mut(|record| match svcb::binding(record) {
            Some(binding) if binding.target_name.is_root() => true,
            Some(binding) => allowed(&binding.target_name),
            None => true,
        });
        let denied = |name: &Name| self.generation.denied(name).is_none();
        self.clean(&mut message, |_, _| false, true, denied);
        self.finish(message, true)
    }

    /// Aliases and the addresses that may be dialled, for Envoy.
    fn dialled(&self, mut message: Message) -> Vec<u8> {
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
        let reaches = |_: &Name, found| self.generation.reaches(name, found);
        let allowed = |name: &Name| self.generation.denied(name).is_none();
        self.clean(&mut message, reaches, true, allowed);
        self.finish(message, true)
    }

    /// Takes out what `keeps` (owner, address) and `speaks_of` (owner) do not want, in every section.
    /// True if anything was.
    fn clean(
        &self,
        message: &mut Message,
        keeps: impl Fn(&Name, IpAddr) -> bool,
        hides_names: bool,
        speaks_of: impl Fn(&Name) -> bool,
    ) -> bool {
        let mut touched: Vec<(Name, RecordType)> = Vec::new();
        for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            section.retain_mut(|record| {
                let (owner, kind) = (record.name.clone(), record.record_type());
                let mut stays = kind == RecordType::SOA || speaks_of(&owner);
                if let Some(address) = address_of(record).filter(|_| stays) {
                    stays = keeps(&owner, address);
                    self.counters.stripped_addresses.add(u64::from(!stays));
                }
                if let Some(binding) = svcb::binding(record).filter(|_| stays) {
                    stays = speaks_of(svcb::target(&owner, binding));
                    let taken = svcb::clean(binding, hides_names, |hint| keeps(&owner, hint));
                    self.counters.stripped_addresses.add(taken.addresses);
                    self.counters.stripped_ech.add(taken.ech);
                    if taken != svcb::Taken::default() {
                        touched.push((owner.clone(), kind));
                    }
                }
                if !stays {
                    touched.push((owner, kind));
                }
                stays
            });
        }
        for section in [&mut message.answers, &mut message.authorities, &mut message.additionals] {
            section.retain(|record| {
                signed(record).is_none_or(|kind| !touched.contains(&(record.name.clone(), kind)))
            });
        }
        !touched.is_empty()
    }

    /// The resolver's own bytes under the client's id and question, if they fit.
    ///
    /// Names in the answer point into the question: only the case of its letters may be another, or they
    /// would be other names than those that were judged.
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

    /// Encodes an answer that was changed.
    fn finish(&self, message: Message, touched: bool) -> Vec<u8> {
        let is_real = |record: &Record| {
            let kind = record.record_type();
            // A CNAME, DNAME or RRSIG record is an answer only to a query for its own type.
            kind == self.query.kind
                || (kind != RecordType::CNAME
                    && kind != RecordType::DNAME
                    && signed(record).is_none())
        };
        let empty = !message.answers.iter().any(is_real);
        if touched && empty && !message.metadata.truncation {
            return self.negative(message);
        }
        let mut answer = self.query.response(message.metadata.response_code);
        answer.metadata.authoritative = message.metadata.authoritative;
        answer.metadata.truncation = message.metadata.truncation;
        answer.metadata.recursion_available = message.metadata.recursion_available;
        answer.metadata.authentic_data = message.metadata.authentic_data && !touched;
        answer.answers = message.answers;
        answer.authorities = message.authorities;
        answer.additionals = message.additionals;
        self.query.encode(answer)
    }

    /// NXDOMAIN or NODATA with the SOA that the resolver sent, or else one of ours.
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

/// The address in an A or AAAA record of class IN (other classes have no such addresses, but a
/// client that does not look at the class would use them: all are judged).
fn address_of(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

/// The type that an RRSIG record signs (RFC 4034 §3.1.1).
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
