//! What is known of the sandbox and the caller of a request: from the caches, or by a lookup.

use sandgate_policy::gateway_api::{Identity, Sandbox};
use sandgate_policy::ingress::slots::Client;
use sandgate_policy::ingress::{Lookup, SandboxRequest};

use crate::clock::Now;
use crate::crowding::client;
use crate::gateway::Gateway;
use crate::lookups::{Asker, Key};

impl Gateway {
    /// What is known of sandbox and caller; what is `None` was asked for.
    pub(crate) fn know(
        &mut self,
        request: &SandboxRequest,
        asks: &mut Asks<'_>,
        now: Now,
    ) -> (Option<Lookup<Sandbox>>, Option<Lookup<Identity>>) {
        let sandbox = match request.needs_sandbox() {
            true => self.know_sandbox(request, asks, now),
            false => Some(Lookup::NotFound),
        };
        let caller = match request.needs_caller(sandbox.as_ref()) {
            true => self.know_caller(request, asks, now),
            false => Some(Lookup::NotFound),
        };
        (sandbox, caller)
    }

    fn know_sandbox(
        &mut self,
        request: &SandboxRequest,
        asks: &mut Asks<'_>,
        now: Now,
    ) -> Option<Lookup<Sandbox>> {
        let name = request.sandbox().as_str().to_owned();
        let covered = self.feed.covered_since();
        if let Some(entry) = self.sandboxes.fresh(&name, now.ms, covered, asks.since) {
            return Some(
                entry.value().map_or(Lookup::NotFound, |sandbox| Lookup::Found(sandbox.clone())),
            );
        }
        if asks.may_ask && self.ask(Key::Sandbox(name.clone()), request, asks, now) {
            return None;
        }
        let stale = self.sandboxes.stale(&name, now.ms);
        Some(stale.map_or(Lookup::Unavailable, |sandbox| Lookup::Found(sandbox.clone())))
    }

    fn know_caller(
        &mut self,
        request: &SandboxRequest,
        asks: &mut Asks<'_>,
        now: Now,
    ) -> Option<Lookup<Identity>> {
        let Some(credential) = request.credential() else { return Some(Lookup::NotFound) };
        let key = credential.key();
        let covered = self.feed.covered_since();
        if let Some(entry) = self.callers.fresh(&key, now.ms, covered, asks.since) {
            return Some(
                entry.value().map_or(Lookup::NotFound, |caller| Lookup::Found(caller.clone())),
            );
        }
        if asks.may_ask && self.ask(Key::Caller(key), request, asks, now) {
            return None;
        }
        let stale = self.callers.stale(&key, now.ms);
        Some(stale.map_or(Lookup::Unavailable, |caller| Lookup::Found(caller.clone())))
    }

    pub(crate) fn ask(
        &mut self,
        key: Key,
        request: &SandboxRequest,
        asks: &mut Asks<'_>,
        now: Now,
    ) -> bool {
        let asker = match &mut asks.asker {
            // The first question of a request is asked while its stream is the effective one.
            AskerOf::Request(of) => Asker::Request(*of.get_or_insert_with(client)),
            AskerOf::LiveStream => Asker::LiveStream,
        };
        if !self.lookups.ask(&key, request.credential(), asks.id, asker, now.ms) {
            return false;
        }
        if !asks.missing.contains(&key) {
            asks.missing.push(key.clone());
        }
        asks.asked.push(key);
        true
    }
}

/// What one stream asks for.
pub(crate) struct Asks<'a> {
    pub(crate) id: u32,
    pub(crate) asker: AskerOf<'a>,
    /// An answer to a question asked since then is believed, however long it took.
    pub(crate) since: u64,
    pub(crate) may_ask: bool,
    pub(crate) missing: &'a mut Vec<Key>,
    pub(crate) asked: &'a mut Vec<Key>,
}

/// Who asks it.
pub(crate) enum AskerOf<'a> {
    /// A request, and its client once that is known.
    Request(&'a mut Option<Client>),
    LiveStream,
}
