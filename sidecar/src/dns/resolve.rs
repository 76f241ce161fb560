//! Resolves a query: parse, plan, forward, filter. Every query gets a response.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hickory_proto::op::ResponseCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Role;
use super::counters::Counters;
use super::denial_log::DenialLog;
use super::generation::Generation;
use super::observed::Observed;
use super::plan::Plan;
use super::query::{Query, Transport, Unanswerable};
use super::response_filter::{self, FilterMode, Withheld};
use super::upstream::Upstream;

/// The state that all listeners share.
#[derive(Debug)]
pub(super) struct QueryHandler {
    /// `None` until the agent has a policy. Until then, no name resolves.
    pub(super) generation: ArcSwapOption<Generation>,
    pub(super) resolvers: Vec<SocketAddr>,
    pub(super) upstream: Upstream,
    /// Limits the queries in flight to resolvers.
    pub(super) in_flight: Arc<Semaphore>,
    pub(super) counters: Counters,
    pub(super) denials: DenialLog,
    pub(super) observed: Observed,
}

/// The origin of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) client: SocketAddr,
    /// The original destination on a transparent listener.
    pub(super) destination: Option<SocketAddr>,
    pub(super) role: Role,
    pub(super) transport: Transport,
}

/// What the listener does with a message.
#[derive(Debug)]
pub(super) enum Action {
    /// Ignore it, because it is not a query.
    Ignore,
    /// Send this response.
    Respond(Vec<u8>),
    /// Call [`QueryHandler::forward`], which waits for a resolver.
    Forward(Box<PendingQuery>),
}

/// A query that must be forwarded. The permit limits their number.
#[derive(Debug)]
pub(super) struct PendingQuery {
    query: Query,
    origin: Origin,
    plan: Plan,
    _permit: OwnedSemaphorePermit,
}

impl QueryHandler {
    /// Handles a message without waiting for a resolver.
    pub(super) fn handle(&self, wire: &[u8], origin: Origin) -> Action {
        match origin.transport {
            Transport::Udp => self.counters.udp_messages.increment(),
            Transport::Tcp => self.counters.tcp_messages.increment(),
        }
        let query = match Query::parse(wire, origin.transport) {
            Ok(query) => query,
            Err(reason) => {
                self.counters.malformed.increment();
                return match reason {
                    Unanswerable::NotAQuery => Action::Ignore,
                    Unanswerable::Rejected(answer) => Action::Respond(answer),
                };
            }
        };
        let Some(generation) = self.generation.load_full() else {
            return Action::Respond(query.error(ResponseCode::ServFail));
        };
        let plan = Plan::new(&query, origin.role, origin.destination, &generation);
        if let Some(answer) = self.immediate_response(&query, &plan, &origin, &generation) {
            return Action::Respond(answer);
        }
        let Ok(permit) = Arc::clone(&self.in_flight).try_acquire_owned() else {
            self.counters.overloaded.increment();
            return Action::Respond(query.error(ResponseCode::ServFail));
        };
        Action::Forward(Box::new(PendingQuery { query, origin, plan, _permit: permit }))
    }

    /// Queries the resolvers. Evaluates the response with the generation that is current when the response arrives, so
    /// that the client does not get a name that an update has denied in the meantime.
    pub(super) async fn forward(&self, pending: &PendingQuery) -> Vec<u8> {
        let PendingQuery { query, origin, plan, .. } = pending;
        let Plan::Forward(mode, chosen) = plan else {
            return query.error(ResponseCode::ServFail);
        };
        self.counters.forwarded.increment();
        let chosen_resolver = chosen.map(|resolver| [resolver]);
        let resolvers =
            chosen_resolver.as_ref().map_or(self.resolvers.as_slice(), <[_; 1]>::as_slice);
        let needs_complete_response = *mode != FilterMode::Real;
        let answer =
            self.upstream.query(query, resolvers, needs_complete_response, &self.counters).await;
        let Some(answer) = answer else {
            self.counters.unanswered.increment();
            return query.error(ResponseCode::ServFail);
        };
        let Some(generation) = self.generation.load_full() else {
            return query.error(ResponseCode::ServFail);
        };
        let now = Plan::new(query, origin.role, origin.destination, &generation);
        if let Some(answer) = self.immediate_response(query, &now, origin, &generation) {
            return answer;
        }
        if now != *plan {
            // The query was forwarded by a plan that is no longer valid. The client will retry.
            return query.error(ResponseCode::ServFail);
        }
        match response_filter::filter(query, &answer.wire, *mode, &generation, &self.counters) {
            Ok(filtered) => {
                if chosen.is_none() {
                    self.observed.add(filtered.partly_denied);
                }
                filtered.wire
            }
            Err(Withheld::Denied(rule, addresses)) => {
                // Addresses from a resolver that the sandbox chose are not trusted.
                if chosen.is_none() {
                    self.observed.add(addresses);
                }
                self.counters.refused_answers.increment();
                self.denials.log(query, origin.client, &rule);
                query.denied(&rule.to_string(), generation.number())
            }
            Err(Withheld::Unreadable) => {
                self.counters.unreadable_answers.increment();
                query.error(ResponseCode::ServFail)
            }
        }
    }

    /// The response of a plan that does not need a resolver.
    fn immediate_response(
        &self,
        query: &Query,
        plan: &Plan,
        origin: &Origin,
        generation: &Generation,
    ) -> Option<Vec<u8>> {
        match plan {
            Plan::Forward(..) => None,
            Plan::Deny(rule) => {
                self.counters.refused_names.increment();
                self.denials.log(query, origin.client, rule);
                Some(query.denied(&rule.to_string(), generation.number()))
            }
            Plan::NoData => Some(query.encode(query.no_data(generation.number()))),
            Plan::Error(code) => Some(query.error(*code)),
        }
    }
}
