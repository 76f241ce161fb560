//! Evaluates aliases (CNAME, RFC 1034 §3.6.2; DNAME, RFC 6672), so that no alias leads to a denied name.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use sandgate_policy::egress::Rule;

use super::generation::Generation;
use super::observed::Pair;

/// The maximum length of a chain of aliases. Resolvers have a lower maximum.
const MAX_CHAIN: usize = 16;

/// The rule that denies the target of an alias in the answer section, if any. All aliases are evaluated, in any order and
/// whether or not they belong to the chain of the queried name.
pub(super) fn denied(asked: &Name, answers: &[Record], generation: &Generation) -> Option<Rule> {
    answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) => generation.denied(target),
        RData::ANAME(target) => generation.denied(target),
        RData::Unknown { code: RecordType::DNAME, rdata } => {
            let Ok(target) = Name::read(&mut BinDecoder::new(&rdata.anything)) else {
                // The target is compressed or truncated, so it is unknown.
                return Some(Rule::Default);
            };
            let names = answers.iter().map(|other| &other.name).chain([asked]);
            let redirected_names = names.filter_map(|name| redirected(name, &record.name, &target));
            redirected_names.chain([target.clone()]).find_map(|name| generation.denied(&name))
        }
        _ => None,
    })
}

/// The addresses of a name in an answer section, also those of its aliases, and the minimum TTL of the records on the way,
/// in seconds.
pub(super) fn addresses(name: &Name, answers: &[Record]) -> (BTreeSet<IpAddr>, Option<u32>) {
    let mut ttl = None;
    let mut addresses = BTreeSet::new();
    for owner in chain(name, answers) {
        for record in answers.iter().filter(|record| record.name == *owner) {
            match &record.data {
                RData::A(v4) => drop(addresses.insert(v4.0.into())),
                RData::AAAA(v6) => drop(addresses.insert(v6.0.into())),
                RData::CNAME(_) => {}
                _ => continue,
            }
            ttl = Some(ttl.map_or(record.ttl, |least: u32| least.min(record.ttl)));
        }
    }
    (addresses, ttl)
}

/// The name, and the names that its aliases lead to.
fn chain<'a>(name: &'a Name, answers: &'a [Record]) -> impl Iterator<Item = &'a Name> {
    let target = move |owner: &&'a Name| {
        let records = answers.iter().filter(|record| record.name == **owner);
        let mut targets = records.filter_map(|record| match &record.data {
            RData::CNAME(target) => Some(&target.0),
            _ => None,
        });
        targets.next_back()
    };
    std::iter::successors(Some(name), target).take(MAX_CHAIN + 1)
}

/// The names of the chain of `asked` that are denied on at least one port, with their addresses in the answer section. A
/// name that is denied on some ports only resolves, so the sandbox learns its addresses from the answer.
pub(super) fn partly_denied(
    asked: &Name,
    answers: &[Record],
    generation: &Generation,
) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for owner in chain(asked, answers) {
        if let Some(name) = generation.denied_name(owner) {
            let (addresses, _) = addresses(owner, answers);
            pairs.extend(addresses.into_iter().map(|address| (name.clone(), address)));
        }
    }
    pairs
}

/// The denied name that an alias leads to, with its addresses in the answer section. Considers only CNAME records, because
/// a response with a DNAME record contains the resulting CNAME too (RFC 6672 §3.1).
pub(super) fn observed(answers: &[Record], generation: &Generation) -> Vec<Pair> {
    let denied = answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) => Some((generation.denied_name(target)?, &target.0)),
        _ => None,
    });
    let Some((name, target)) = denied else { return Vec::new() };
    let (addresses, _) = addresses(target, answers);
    addresses.into_iter().map(|address| (name.clone(), address)).collect()
}

/// The name to which a DNAME from `owner` to `target` redirects a name below the owner (RFC 6672 §2.2).
fn redirected(name: &Name, owner: &Name, target: &Name) -> Option<Name> {
    let kept = name.iter().len().checked_sub(owner.iter().len()).filter(|kept| *kept > 0)?;
    if !owner.zone_of(name) {
        return None;
    }
    let labels = name.iter().take(kept).chain(target.iter());
    Name::from_labels(labels).ok()
}

#[cfg(test)]
mod tests;
