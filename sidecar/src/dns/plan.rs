//! Decides what becomes of a question, before anybody is asked.

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use sandgate_policy::egress::Rule;

use super::Role;
use super::answer::Treatment;
use super::generation::{Generation, Judgement};
use super::query::Query;

/// What becomes of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// A resolver is asked: the one that the sandbox chose, or those of the agent.
    Ask(Treatment, Option<SocketAddr>),
    /// The name does not resolve.
    Refuse(Rule),
    /// The name exists, without records: it is about us, and we have nothing to say.
    Nothing,
    /// Not a question for this listener.
    Fail(ResponseCode),
}

impl Plan {
    /// Plans by the policy of `generation`. `destination` is where the client sent the question, if
    /// that is known.
    pub(super) fn new(
        query: &Query,
        role: Role,
        destination: Option<SocketAddr>,
        generation: &Generation,
    ) -> Self {
        match role {
            Role::Inner => Self::for_envoy(query, generation),
            Role::Sandbox => Self::for_sandbox(query, destination, generation),
        }
    }

    fn for_sandbox(query: &Query, to: Option<SocketAddr>, generation: &Generation) -> Self {
        // A forwarder does not pass this on (RFC 9462 §4): clients would go on to encrypted DNS
        // with a resolver that they do not talk to.
        if is_about_the_resolver(&query.name) {
            return Self::Nothing;
        }
        let chosen = to.filter(|to| generation.allows_resolver(to.ip()));
        match generation.judge(&query.name, chosen.is_some()) {
            Judgement::Forward => Self::Ask(Treatment::Real, chosen),
            Judgement::Virtual => Self::Ask(Treatment::Virtual, chosen),
            Judgement::Refuse(rule) => Self::Refuse(rule),
        }
    }

    fn for_envoy(query: &Query, generation: &Generation) -> Self {
        if !matches!(query.kind, RecordType::A | RecordType::AAAA) {
            return Self::Fail(ResponseCode::Refused);
        }
        match generation.dials(&query.name) {
            Ok(()) => Self::Ask(Treatment::Dial, None),
            Err(rule) => Self::Refuse(rule),
        }
    }
}

/// `resolver.arpa` and what is below it (RFC 9462 §4): what the resolver says about itself.
fn is_about_the_resolver(name: &Name) -> bool {
    let mut labels = name.iter().rev().map(<[u8]>::to_ascii_lowercase);
    labels.next().as_deref() == Some(b"arpa") && labels.next().as_deref() == Some(b"resolver")
}
