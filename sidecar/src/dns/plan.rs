//! Decides how a query is handled, by its name and before any resolver is queried.

use std::net::SocketAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RecordType};
use sandgate_policy::egress::Rule;

use super::Role;
use super::generation::{Generation, QueryDecision};
use super::query::Query;
use super::response_filter::FilterMode;

/// How a query is handled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Forward it, to the resolver that the sandbox chose, or else to those of the agent.
    Forward(FilterMode, Option<SocketAddr>),
    /// Respond that the name does not exist, because of this rule.
    Deny(Rule),
    /// Respond that the name has no records of this type. For names that describe the resolver itself.
    NoData,
    /// Respond with an error: the listener does not serve this query.
    Error(ResponseCode),
}

impl Plan {
    /// Evaluates the query with the policy of `generation`. `destination` is the address that the client sent the query
    /// to, if known.
    pub(super) fn new(
        query: &Query,
        role: Role,
        destination: Option<SocketAddr>,
        generation: &Generation,
    ) -> Self {
        match role {
            Role::Envoy => Self::for_envoy(query, generation),
            Role::Sandbox => Self::for_sandbox(query, destination, generation),
        }
    }

    fn for_sandbox(query: &Query, to: Option<SocketAddr>, generation: &Generation) -> Self {
        // A forwarder does not forward these queries (RFC 9462 §4): clients would otherwise switch to encrypted DNS
        // with a resolver that they are not configured to use.
        if is_about_the_resolver(&query.name) {
            return Self::NoData;
        }
        let chosen = to.filter(|to| generation.allows_resolver(to.ip()));
        match generation.decide_query(&query.name, chosen.is_some()) {
            QueryDecision::Forward => Self::Forward(FilterMode::Real, chosen),
            QueryDecision::Virtual => Self::Forward(FilterMode::Virtual, chosen),
            QueryDecision::Deny(rule) => Self::Deny(rule),
        }
    }

    fn for_envoy(query: &Query, generation: &Generation) -> Self {
        if !matches!(query.kind, RecordType::A | RecordType::AAAA) {
            return Self::Error(ResponseCode::Refused);
        }
        match generation.decide_envoy_query(&query.name) {
            Ok(()) => Self::Forward(FilterMode::Envoy, None),
            Err(rule) => Self::Deny(rule),
        }
    }
}

/// Whether the name is `resolver.arpa` or below it (RFC 9462 §4).
fn is_about_the_resolver(name: &Name) -> bool {
    let mut labels = name.iter().rev().map(<[u8]>::to_ascii_lowercase);
    labels.next().as_deref() == Some(b"arpa") && labels.next().as_deref() == Some(b"resolver")
}
