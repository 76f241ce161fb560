//! The state of one worker: the active configuration, and the streams that it permits.
//!
//! The two filters share one engine. Envoy configures them one after the other, and a connection may
//! still begin under the old filter after the new one has been configured. It must not be decided by
//! a policy that is no longer active.

use std::net::IpAddr;

use sandgate_policy::egress::config::{ConfigError, EgressConfig};

use crate::egress::decision::{Decision, FilterKind, Outcome};
use crate::egress::live::LiveStreams;

/// The state that all streams of one worker share.
#[derive(Debug, Default)]
pub struct Engine {
    active: Option<ActiveConfig>,
    /// The policy generation that each filter was last configured with.
    tcp_generation: Option<u64>,
    http_generation: Option<u64>,
    pub(crate) live: LiveStreams,
}

#[derive(Debug)]
struct ActiveConfig {
    config: EgressConfig,
    /// The text of `config`. Envoy passes the same text to both filters.
    json: Vec<u8>,
}

/// The effect of a configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Update {
    /// The configuration with this policy generation is active now. All live streams have to be
    /// re-evaluated: see [`Engine::next_to_reevaluate`].
    Activated(u64),
    /// The configuration was already active.
    Unchanged,
    /// The configuration has this policy generation, and a later one is active.
    Outdated(u64),
}

impl Engine {
    /// Takes a configuration that Envoy passed to one of the filters. The newest policy generation is
    /// active for both filters: the configuration comes in two files, and a restarted VM may receive
    /// them in any order.
    ///
    /// # Errors
    /// When the configuration is not valid. The state is unchanged then.
    pub fn configure(&mut self, kind: FilterKind, json: Vec<u8>) -> Result<Update, ConfigError> {
        if let Some(active) = &self.active
            && active.json == json
        {
            self.set_generation(kind, active.config.generation());
            return Ok(Update::Unchanged);
        }
        let config = EgressConfig::from_json(&json)?;
        let generation = config.generation();
        self.set_generation(kind, generation);
        if self.active_config().is_some_and(|active| active.generation() > generation) {
            return Ok(Update::Outdated(generation));
        }
        self.active = Some(ActiveConfig { config, json });
        self.live.schedule_reevaluation();
        Ok(Update::Activated(generation))
    }

    pub(crate) fn active_config(&self) -> Option<&EgressConfig> {
        self.active.as_ref().map(|active| &active.config)
    }

    fn set_generation(&mut self, kind: FilterKind, generation: u64) {
        match kind {
            FilterKind::Tcp => self.tcp_generation = Some(generation),
            FilterKind::Http => self.http_generation = Some(generation),
        }
    }

    /// The policy generation that one of the filters was last configured with.
    #[must_use]
    pub fn generation_of(&self, kind: FilterKind) -> Option<u64> {
        match kind {
            FilterKind::Tcp => self.tcp_generation,
            FilterKind::Http => self.http_generation,
        }
    }

    /// The policy generation that both filters have: the older one of the two. `None` until both have
    /// one.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        Some(self.tcp_generation?.min(self.http_generation?))
    }

    /// Takes the next live stream that has to be re-evaluated. The caller finds out the address
    /// that the stream is connected to, and calls [`Self::reevaluate`].
    pub fn next_to_reevaluate(&mut self) -> Option<u32> {
        self.live.next_to_reevaluate()
    }

    /// Whether live streams have to be re-evaluated.
    #[must_use]
    pub fn is_reevaluating(&self) -> bool {
        self.live.is_reevaluating()
    }

    /// Evaluates a live stream under the active configuration. `peer` is the address that the stream
    /// is connected to upstream, if it is connected. Returns a decision if the caller must end the
    /// stream.
    #[must_use]
    pub fn reevaluate(&self, stream: u32, peer: Option<IpAddr>) -> Option<Decision> {
        let (config, live) = (self.active_config()?, self.live.get(stream)?);
        let rule = live.denied_by(config, peer)?;
        let generation = config.generation();
        Some(Decision { kind: live.kind, outcome: Outcome::Closed, rule, generation })
    }

    /// Drops the state of a stream. The host calls this for every stream, whatever its outcome was.
    pub fn on_stream_end(&mut self, stream: u32) {
        self.live.remove(stream);
    }
}
