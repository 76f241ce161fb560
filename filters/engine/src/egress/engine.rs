//! The state of one worker: the active configuration, and the streams that it permits.
//!
//! The two filters share one engine. Envoy configures them one after the other, and a connection may
//! still begin under the old filter after the new one has been configured. It must not be decided by
//! a policy that is no longer active.

use std::net::IpAddr;

use sandgate_policy::egress::config::{ConfigError, EgressConfig};

use crate::egress::configurations::{Configurations, Update};
use crate::egress::decision::{Decision, FilterKind, Outcome};
use crate::egress::live::LiveStreams;

/// The state that all streams of one worker share.
#[derive(Debug, Default)]
pub struct Engine {
    configurations: Configurations,
    pub(crate) live: LiveStreams,
}

impl Engine {
    /// Takes a configuration that Envoy passed to one of the filters, on this worker.
    ///
    /// # Errors
    /// When the configuration is not valid. The state is unchanged then.
    pub fn configure(&mut self, kind: FilterKind, json: Vec<u8>) -> Result<Update, ConfigError> {
        let update = self.configurations.configure(kind, json)?;
        if matches!(update, Update::Activated(_)) {
            self.live.schedule_reevaluation();
        }
        Ok(update)
    }

    /// Takes the configurations that another thread has received for all workers. If another one is active now, all live
    /// streams have to be re-evaluated.
    pub fn adopt(&mut self, configurations: &Configurations) {
        if !self.configurations.has_active_of(configurations) {
            self.live.schedule_reevaluation();
        }
        self.configurations = configurations.clone();
    }

    #[must_use]
    pub fn configurations(&self) -> &Configurations {
        &self.configurations
    }

    pub(crate) fn active_config(&self) -> Option<&EgressConfig> {
        self.configurations.active()
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
