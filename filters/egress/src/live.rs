//! Connections and requests that were let out and have not ended, and whether they still may be.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use sandgate_policy::egress::config::EgressConfig;
use sandgate_policy::egress::{NameFact, Permit, Route, Rule, Verdict};

use crate::vm::Protocol;

/// What a permit rested on.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Where the sandbox sent it.
    pub(crate) destination: SocketAddr,
    /// Server name of its TLS handshake.
    pub(crate) sni: NameFact,
    /// Host of the request.
    pub(crate) host: NameFact,
}

impl Facts {
    /// Decides.
    pub(crate) fn judge(&self, config: &EgressConfig) -> Verdict {
        config.decide(self.destination.ip(), self.sni.clone(), self.host.clone())
    }
}

/// One connection or request that was let out.
#[derive(Clone, Debug)]
pub(crate) struct LiveStream {
    pub(crate) protocol: Protocol,
    pub(crate) facts: Facts,
    pub(crate) route: Route,
}

impl LiveStream {
    pub(crate) fn new(protocol: Protocol, facts: Facts, permit: &Permit) -> Self {
        Self { protocol, facts, route: permit.route().clone() }
    }

    /// Why it may not go on, under another policy than the one that let it out. `peer` is the address
    /// that it is connected to, where that is known.
    ///
    /// A permit is for one place. A policy that allows the same facts by leading them elsewhere allows
    /// this stream only if it allows the place that it is connected to.
    pub(crate) fn no_longer_permitted(
        &self,
        config: &EgressConfig,
        peer: Option<IpAddr>,
    ) -> Option<Rule> {
        match self.facts.judge(config) {
            Verdict::Deny(denial) => return Some(denial.rule().clone()),
            Verdict::Allow(permit) if *permit.route() == self.route && peer.is_none() => {
                return None;
            }
            Verdict::Allow(_) => {}
        }
        let mut places = config.policies().members().map(|policy| match (&self.route, peer) {
            (Route::ByName(name), Some(peer)) => policy.judge_found(name, peer),
            (Route::ByName(name), None) => policy.judge_dial(name),
            // The facts have passed, and with them the names that it shows.
            (Route::Original(address), _) => policy.judge_place(*address),
        });
        places.find(|verdict| !verdict.is_allowed()).map(|verdict| verdict.rule().clone())
    }
}

/// All that is live in a VM, by context. Envoy's own limit on connections bounds it.
#[derive(Default)]
pub(crate) struct Live {
    streams: BTreeMap<u32, LiveStream>,
    /// Those that are to be judged again.
    suspects: BTreeSet<u32>,
}

impl Live {
    pub(crate) fn insert(&mut self, id: u32, stream: LiveStream) {
        self.streams.insert(id, stream);
    }

    pub(crate) fn remove(&mut self, id: u32) {
        self.streams.remove(&id);
        self.suspects.remove(&id);
    }

    pub(crate) fn get(&self, id: u32) -> Option<LiveStream> {
        self.streams.get(&id).cloned()
    }

    pub(crate) fn suspect_all(&mut self) {
        self.suspects = self.streams.keys().copied().collect();
    }

    /// Takes the next one that is to be judged again.
    pub(crate) fn next_suspect(&mut self) -> Option<(u32, LiveStream)> {
        let id = self.suspects.pop_first()?;
        self.streams.get(&id).map(|stream| (id, stream.clone()))
    }

    pub(crate) fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }
}
