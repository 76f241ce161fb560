//! The way of one question: parse, plan, ask, treat. Every way ends in an answer.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use hickory_proto::op::ResponseCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Role;
use super::answer::{self, Withheld};
use super::counters::Counters;
use super::denials::Denials;
use super::generation::Generation;
use super::plan::Plan;
use super::query::{Query, Transport, Unanswerable};
use super::seen::Seen;
use super::upstream::Upstream;

/// What all listeners share.
#[derive(Debug)]
pub(super) struct Resolve {
    /// None until the agent has a policy: until then nothing resolves.
    pub(super) generation: ArcSwapOption<Generation>,
    pub(super) resolvers: Vec<SocketAddr>,
    pub(super) upstream: Upstream,
    /// Questions that may be at a resolver at the same time.
    pub(super) in_flight: Arc<Semaphore>,
    pub(super) counters: Counters,
    pub(super) denials: Denials,
    pub(super) seen: Seen,
}

/// Where a message came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) client: SocketAddr,
    /// Where the client sent it, if that is not simply here.
    pub(super) destination: Option<SocketAddr>,
    pub(super) role: Role,
    pub(super) transport: Transport,
}

/// What to do about a message.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing: it was not a question.
    Silence,
    /// Send this.
    Answer(Vec<u8>),
    /// [`Resolve::ask`], which takes a while.
    Ask(Box<Question>),
}

/// A question that a resolver has to be asked. Its permit bounds how many there are.
#[derive(Debug)]
pub(super) struct Question {
    query: Query,
    origin: Origin,
    plan: Plan,
    _permit: OwnedSemaphorePermit,
}

impl Resolve {
    /// Answers what can be answered without asking anybody.
    pub(super) fn step(&self, wire: &[u8], origin: Origin) -> Step {
        match origin.transport {
            Transport::Udp => self.counters.udp_messages.one(),
            Transport::Tcp => self.counters.tcp_messages.one(),
        }
        let query = match Query::parse(wire, origin.transport) {
            Ok(query) => query,
            Err(reason) => {
                self.counters.malformed.one();
                return match reason {
                    Unanswerable::NotAQuery => Step::Silence,
                    Unanswerable::Rejected(answer) => Step::Answer(answer),
                };
            }
        };
        let Some(generation) = self.generation.load_full() else {
            return Step::Answer(query.error(ResponseCode::ServFail));
        };
        let plan = Plan::new(&query, origin.role, origin.destination, &generation);
        if let Some(answer) = self.settled(&query, &plan, &origin, &generation) {
            return Step::Answer(answer);
        }
        let Ok(permit) = Arc::clone(&self.in_flight).try_acquire_owned() else {
            self.counters.overloaded.one();
            return Step::Answer(query.error(ResponseCode::ServFail));
        };
        Step::Ask(Box::new(Question { query, origin, plan, _permit: permit }))
    }

    /// Asks resolvers. The answer is judged by the policy of the moment in which it arrives, so that
    /// nothing which was denied meanwhile still comes through.
    pub(super) async fn ask(&self, question: &Question) -> Vec<u8> {
        let Question { query, origin, plan, .. } = question;
        let Plan::Ask(treatment, chosen) = plan else {
            return query.error(ResponseCode::ServFail);
        };
        self.counters.forwarded.one();
        let own = chosen.map(|resolver| [resolver]);
        let resolvers = own.as_ref().map_or(self.resolvers.as_slice(), <[_; 1]>::as_slice);
        let whole = *treatment != answer::Treatment::Real;
        let answer = self.upstream.ask(query, resolvers, whole, &self.counters).await;
        let Some(answer) = answer else {
            self.counters.unanswered.one();
            return query.error(ResponseCode::ServFail);
        };
        let Some(generation) = self.generation.load_full() else {
            return query.error(ResponseCode::ServFail);
        };
        let now = Plan::new(query, origin.role, origin.destination, &generation);
        if let Some(answer) = self.settled(query, &now, origin, &generation) {
            return answer;
        }
        if now != *plan {
            // Asked in another way than it would be now. The client asks again.
            return query.error(ResponseCode::ServFail);
        }
        match answer::treat(query, &answer.wire, *treatment, &generation, &self.counters) {
            Ok(answer) => answer,
            Err(Withheld::Denied(rule, addresses)) => {
                // A resolver that the sandbox chose may say anything.
                if chosen.is_none() {
                    self.seen.add(addresses);
                }
                self.counters.refused_answers.one();
                self.denials.log(query, origin.client, &rule);
                query.refused(&rule.to_string(), generation.number())
            }
            Err(Withheld::Unreadable) => {
                self.counters.unreadable_answers.one();
                query.error(ResponseCode::ServFail)
            }
        }
    }

    /// The answer of a plan that needs nobody else.
    fn settled(
        &self,
        query: &Query,
        plan: &Plan,
        origin: &Origin,
        generation: &Generation,
    ) -> Option<Vec<u8>> {
        match plan {
            Plan::Ask(..) => None,
            Plan::Refuse(rule) => {
                self.counters.refused_names.one();
                self.denials.log(query, origin.client, rule);
                Some(query.refused(&rule.to_string(), generation.number()))
            }
            Plan::Nothing => Some(query.encode(query.no_data(generation.number()))),
            Plan::Fail(code) => Some(query.error(*code)),
        }
    }
}
