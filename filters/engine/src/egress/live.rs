//! Live streams: connections and requests that were permitted and have not ended.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use sandgate_policy::egress::config::EgressConfig;
use sandgate_policy::egress::{Permit, Route, Rule, ShownName, Verdict};

use crate::egress::decision::FilterKind;

/// The facts that a decision rests on.
#[derive(Clone, Debug)]
pub(crate) struct StreamFacts {
    pub(crate) destination: SocketAddr,
    /// The server name of the TLS handshake.
    pub(crate) sni: ShownName,
    /// The Host of the request.
    pub(crate) host: ShownName,
}

impl StreamFacts {
    pub(crate) fn decide(&self, config: &EgressConfig) -> Verdict {
        config.decide(self.destination, self.sni.clone(), self.host.clone())
    }
}

/// One connection or request that was permitted.
#[derive(Clone, Debug)]
pub(crate) struct LiveStream {
    pub(crate) kind: FilterKind,
    pub(crate) facts: StreamFacts,
    pub(crate) route: Route,
}

impl LiveStream {
    pub(crate) fn new(kind: FilterKind, facts: StreamFacts, permit: &Permit) -> Self {
        Self { kind, facts, route: permit.route().clone() }
    }

    /// The rule by which `config` denies this stream; `None` if the stream may continue. `peer` is the
    /// address that the stream is connected to upstream, if it is connected.
    ///
    /// A permit is for one upstream. If `config` allows the same facts by another route, the stream
    /// may continue only if `config` also allows the upstream that it is connected to.
    pub(crate) fn denied_by(&self, config: &EgressConfig, peer: Option<IpAddr>) -> Option<Rule> {
        match self.facts.decide(config) {
            Verdict::Deny(denial) => return Some(denial.rule().clone()),
            Verdict::Allow(permit) if *permit.route() == self.route && peer.is_none() => {
                return None;
            }
            Verdict::Allow(_) => {}
        }
        let port = Some(self.facts.destination.port());
        let mut verdicts = config.policies().members().map(|policy| match (&self.route, peer) {
            (Route::ByName(name), Some(peer)) => policy.evaluate_resolved(name, peer, port),
            (Route::ByName(name), None) => policy.evaluate_name(name, port),
            // `decide` has allowed the names that the stream shows.
            (Route::Original(address), _) => policy.evaluate_live_address(*address, port),
        });
        verdicts.find(|verdict| !verdict.is_allowed()).map(|verdict| verdict.rule().clone())
    }
}

/// All live streams of a worker, by the host's context id. Envoy's limits on connections and streams
/// bound their number.
#[derive(Debug, Default)]
pub(crate) struct LiveStreams {
    streams: BTreeMap<u32, LiveStream>,
    /// The streams that have to be re-evaluated.
    to_reevaluate: BTreeSet<u32>,
}

impl LiveStreams {
    pub(crate) fn insert(&mut self, id: u32, stream: LiveStream) {
        self.streams.insert(id, stream);
    }

    pub(crate) fn remove(&mut self, id: u32) {
        self.streams.remove(&id);
        self.to_reevaluate.remove(&id);
    }

    pub(crate) fn get(&self, id: u32) -> Option<&LiveStream> {
        self.streams.get(&id)
    }

    pub(crate) fn schedule_reevaluation(&mut self) {
        self.to_reevaluate = self.streams.keys().copied().collect();
    }

    pub(crate) fn next_to_reevaluate(&mut self) -> Option<u32> {
        self.to_reevaluate.pop_first()
    }

    pub(crate) fn is_reevaluating(&self) -> bool {
        !self.to_reevaluate.is_empty()
    }
}
