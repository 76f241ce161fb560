//! Aliases (CNAME, RFC 1034 §3.6.2; DNAME, RFC 6672): a denied name is not reached through another.

use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use sandgate_policy::egress::Rule;

use super::generation::Generation;

/// The rule that forbids an answer since an alias in it leads to a denied name. Every alias of the
/// answer counts, in the chain of the question or not, and in whatever order they come.
pub(super) fn denied(asked: &Name, answers: &[Record], generation: &Generation) -> Option<Rule> {
    answers.iter().find_map(|record| match &record.data {
        RData::CNAME(target) => generation.denied(target),
        RData::ANAME(target) => generation.denied(target),
        RData::Unknown { code: RecordType::DNAME, rdata } => {
            let Ok(target) = Name::read(&mut BinDecoder::new(&rdata.anything)) else {
                // Compressed or cut off: nobody knows where it leads.
                return Some(Rule::Default);
            };
            let names = answers.iter().map(|other| &other.name).chain([asked]);
            let led = names.filter_map(|name| redirected(name, &record.name, &target));
            led.chain([target.clone()]).find_map(|name| generation.denied(&name))
        }
        _ => None,
    })
}

/// The name that a DNAME from `owner` to `target` makes of one below the owner (RFC 6672 §2.2).
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
