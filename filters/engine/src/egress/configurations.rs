//! The configurations that Envoy has passed to the two filters, and the active one.

use std::sync::Arc;

use sandgate_policy::egress::config::{ConfigError, EgressConfig};

use crate::egress::decision::FilterKind;

/// The newest policy generation is active for both filters: the configuration comes in two files, and a restarted host may
/// receive them in any order. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Configurations {
    active: Option<Arc<ActiveConfig>>,
    /// The policy generation that each filter was last configured with.
    tcp_generation: Option<u64>,
    http_generation: Option<u64>,
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
    /// re-evaluated: see [`Engine::next_to_reevaluate`](crate::egress::Engine::next_to_reevaluate).
    Activated(u64),
    /// The configuration was already active.
    Unchanged,
    /// The configuration has this policy generation, and a later one is active.
    Outdated(u64),
}

impl Configurations {
    pub const EMPTY: Self = Self { active: None, tcp_generation: None, http_generation: None };

    /// Takes a configuration that Envoy passed to one of the filters.
    ///
    /// # Errors
    /// When the configuration is not valid. The state is unchanged then.
    pub fn configure(&mut self, kind: FilterKind, json: Vec<u8>) -> Result<Update, ConfigError> {
        if let Some(active) = &self.active
            && active.json == json
        {
            let generation = active.config.generation();
            self.set_generation(kind, generation);
            return Ok(Update::Unchanged);
        }
        let config = EgressConfig::from_json(&json)?;
        let generation = config.generation();
        self.set_generation(kind, generation);
        if self.active().is_some_and(|active| active.generation() > generation) {
            return Ok(Update::Outdated(generation));
        }
        self.active = Some(Arc::new(ActiveConfig { config, json }));
        Ok(Update::Activated(generation))
    }

    pub(crate) fn active(&self) -> Option<&EgressConfig> {
        self.active.as_ref().map(|active| &active.config)
    }

    /// Whether the same configuration is active in both.
    pub(crate) fn has_active_of(&self, other: &Self) -> bool {
        match (&self.active, &other.active) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        }
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

    /// The policy generation of the active configuration.
    #[must_use]
    pub fn active_generation(&self) -> Option<u64> {
        self.active().map(EgressConfig::generation)
    }
}
