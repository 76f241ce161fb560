//! The calls of the hub, and what the fleet behind the control plane responds.

use super::*;

impl Host {
    /// The calls in flight, without the change feed's and the reports of denials.
    pub(in super::super) fn lookups(&self) -> Vec<CallId> {
        let is_lookup =
            |call: &&Call| !call.path.contains("/changes") && !call.path.ends_with("/denials");
        self.calls.values().filter(is_lookup).map(|call| call.id).collect()
    }

    /// The reports of denials in flight.
    pub(in super::super) fn reports(&self) -> Vec<CallId> {
        let reports = self.calls.values().filter(|call| call.path.ends_with("/denials"));
        reports.map(|call| call.id).collect()
    }

    /// The call of the change feed, if it is in flight.
    pub(in super::super) fn feed_call(&self) -> Option<CallId> {
        self.calls.values().find(|call| call.path.contains("/changes")).map(|call| call.id)
    }

    /// Responds to the call of the change feed, if it is in flight.
    pub(in super::super) fn answer_feed(&mut self) {
        self.wake();
        self.feed_call().into_iter().for_each(|call| self.answer(call));
    }

    /// Responds to a call as the fleet does.
    pub(in super::super) fn answer(&mut self, call: CallId) {
        if let Some(response) = self.prepare(call) {
            self.deliver(call, response);
        }
    }

    /// The status and body with which the fleet responds to a call now.
    pub(in super::super) fn prepare(&mut self, call: CallId) -> Option<(u16, Vec<u8>)> {
        let call = self.calls.remove(&call)?;
        if call.path.contains("/changes") {
            self.feed_versions.insert(call.id, self.fleet.version());
        }
        Some(self.fleet.answer(&call))
    }

    /// Delivers a response that the fleet has prepared.
    pub(in super::super) fn deliver(&mut self, call: CallId, (status, body): (u16, Vec<u8>)) {
        if let Some(version) = self.feed_versions.remove(&call) {
            let first = self.reported.map_or_else(|| self.now(), |(_, first)| first);
            self.reported = Some((version, first));
        }
        let status = status.to_string();
        let headers: [Field<'_>; 2] = [(":status", status.as_bytes()), (MARKER_HEADER, b"v1")];
        self.respond(call, Some((&headers, &body)));
    }

    /// Ends a call as Envoy does if the control plane is down: by a 503 without the marker, or without a response.
    pub(in super::super) fn fail(&mut self, call: CallId, with_response: bool) {
        self.calls.remove(&call);
        let headers: [Field<'_>; 1] = [(":status", b"503")];
        self.respond(call, with_response.then_some((&headers, b"no healthy upstream")));
    }

    pub(super) fn respond(&mut self, call: CallId, response: Option<(&[Field<'_>], &[u8])>) {
        let now = self.now();
        let response =
            response.map(|(headers, body)| CallResponse { headers: Head::new(headers), body });
        self.hub.on_call_response(call, response.as_ref(), now);
        self.execute();
        // As a host with one thread does. Other threads run when they are woken.
        if !self.delays_notices {
            (0..self.workers.len()).for_each(|worker| self.wake_worker(worker));
        }
        self.run_hub();
    }

    /// Answers lookups until none is left.
    pub(in super::super) fn answer_all(&mut self) {
        for _ in 0..1_000 {
            self.wake();
            let lookups = self.lookups();
            if lookups.is_empty() {
                return;
            }
            lookups.into_iter().for_each(|call| self.answer(call));
        }
        panic!("the engine sends lookups for ever");
    }
}
