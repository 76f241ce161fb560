//! One connection of the sandbox.

use std::net::SocketAddr;

use sandgate_policy::egress::first_bytes::{FirstBytes, Inspection};
use sandgate_policy::egress::{Destination, Permit, ShownName, Verdict};

use crate::egress::decision::{Decision, FilterKind, Outcome};
use crate::egress::engine::Engine;
use crate::egress::live::{LiveStream, StreamFacts};

#[derive(Debug)]
pub struct Connection {
    id: u32,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    New,
    /// Permitted without a server name. The first bytes may still reveal one.
    Inspecting(StreamFacts, FirstBytes),
    /// Permitted. The bytes that follow can't change the decision.
    Permitted,
    /// Denied, or not decidable. No byte is forwarded.
    Denied,
}

/// What the host does with a new connection.
#[derive(Debug)]
pub enum NewConnectionEffect {
    /// Set the permit's upstream, with the port of `destination`, and continue.
    Connect {
        /// The permission, with the route to the upstream.
        permit: Permit,
        destination: SocketAddr,
        decision: Decision,
    },
    /// Report the decision and continue without an upstream: Envoy resets the connection.
    Deny(Decision),
    /// Close the connection, because no decision was possible.
    Fail,
}

/// What the host does with bytes of the client.
#[derive(Debug, Eq, PartialEq)]
pub enum DataEffect {
    Continue,
    /// Keep the bytes, and pass them again together with the bytes that follow.
    Hold,
    /// Report the decision and close the connection.
    Close(Decision),
    /// Close the connection, because no decision was possible.
    Fail,
}

impl Connection {
    /// `id` is the host's context id of the connection.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self { id, phase: Phase::New }
    }

    /// Whether the connection is permitted and no byte of the client can change the decision.
    #[must_use]
    pub fn is_judged(&self) -> bool {
        matches!(self.phase, Phase::Permitted)
    }

    /// Decides about a new connection. `destination` is its original destination, if the host knows
    /// it. `sni` is the server name that Envoy's listener filters saw, or empty.
    pub fn on_new_connection(
        &mut self,
        engine: &mut Engine,
        destination: Option<SocketAddr>,
        sni: &[u8],
    ) -> NewConnectionEffect {
        let (Some(config), Some(destination)) = (engine.active_config(), destination) else {
            return NewConnectionEffect::Fail;
        };
        let sni = ShownName::from_sni(sni);
        let facts = StreamFacts { destination, sni, host: ShownName::Absent };
        let verdict = facts.decide(config);
        let decision = Decision::of(FilterKind::Tcp, &verdict, config);
        let Verdict::Allow(permit) = verdict else {
            self.phase = Phase::Denied;
            return NewConnectionEffect::Deny(decision);
        };
        let live = LiveStream::new(FilterKind::Tcp, facts.clone(), &permit);
        engine.live.insert(self.id, live);
        self.phase = match facts.sni {
            ShownName::Absent => Phase::Inspecting(facts, FirstBytes::default()),
            _ => Phase::Permitted,
        };
        NewConnectionEffect::Connect { permit, destination, decision }
    }

    /// Inspects the first bytes of a connection that showed no server name in time. `available` is the
    /// number of bytes that the host holds; `read` returns them, or `None` if the host fails.
    pub fn on_data(
        &mut self,
        engine: &mut Engine,
        available: usize,
        end_of_stream: bool,
        read: impl FnOnce() -> Option<Vec<u8>>,
    ) -> DataEffect {
        let (facts, first_bytes) = match &mut self.phase {
            Phase::New | Phase::Denied => return DataEffect::Hold,
            Phase::Permitted => return DataEffect::Continue,
            Phase::Inspecting(facts, first_bytes) => (facts, first_bytes),
        };
        // The policy may have changed while the client was silent.
        let Some(config) = engine.active_config() else { return DataEffect::Fail };
        let needs_names = match config.destination(facts.destination.ip()) {
            Destination::Address(address) => {
                config.policies().needs_names(address, facts.destination.port())
            }
            Destination::Virtual(_) => true,
        };
        if !needs_names {
            self.phase = Phase::Permitted;
            return DataEffect::Continue;
        }
        if available < first_bytes.min_bytes() && !end_of_stream {
            return DataEffect::Hold;
        }
        let Some(bytes) = read() else { return DataEffect::Fail };
        let facts = match first_bytes.inspect(&bytes) {
            // The client ends before its bytes are a complete ClientHello or request line, so they show no
            // name.
            Inspection::Hold | Inspection::Pass if end_of_stream => {
                self.phase = Phase::Permitted;
                return DataEffect::Continue;
            }
            Inspection::Hold => return DataEffect::Hold,
            Inspection::Pass => return DataEffect::Continue,
            Inspection::Other => {
                self.phase = Phase::Permitted;
                return DataEffect::Continue;
            }
            Inspection::Tls(sni) => StreamFacts { sni, ..facts.clone() },
            // The HTTP filter does not see the requests of this connection, so its Host can't be
            // decided request by request.
            Inspection::Http => StreamFacts { host: ShownName::Unparsable, ..facts.clone() },
        };
        self.decide_by_late_name(engine, facts)
    }

    /// Decides by the name that the first bytes revealed. The connection already has its upstream.
    fn decide_by_late_name(&mut self, engine: &mut Engine, facts: StreamFacts) -> DataEffect {
        let (Some(config), Some(live)) = (engine.active_config(), engine.live.get(self.id)) else {
            return DataEffect::Fail;
        };
        let live = LiveStream { facts, ..live.clone() };
        if let Some(rule) = live.denied_by(config, None) {
            let generation = config.generation();
            self.abort(engine);
            let outcome = Outcome::Denied;
            return DataEffect::Close(Decision {
                kind: FilterKind::Tcp,
                outcome,
                rule,
                generation,
            });
        }
        engine.live.insert(self.id, live);
        self.phase = Phase::Permitted;
        DataEffect::Continue
    }

    /// Stops forwarding, when the host can't execute an effect or closes the connection.
    pub fn abort(&mut self, engine: &mut Engine) {
        engine.on_stream_end(self.id);
        self.phase = Phase::Denied;
    }
}
